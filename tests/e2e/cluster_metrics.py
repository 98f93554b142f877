"""Three members tell what happens to them: each event is a change of the metrics that etcd's dashboards watch and one line in
the log. Change of leader, a disk that hangs, a snapshot for a new member, its promotion and removal, compaction and
defragmentation."""
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster_lib
import lib
from slow_disk import Disk

STALL_MS = 2500


def metrics(member):
    """name{labels} -> value of one member."""
    status, body = lib.http_get(f"http://{member.endpoint}/metrics")
    if status != 200:
        raise RuntimeError(f"{member.name} gives no metrics: {status}")
    rows = (line.rsplit(" ", 1) for line in body.decode().splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in rows}


def value(member, name):
    return metrics(member).get(name, 0)


def labelled(member, name, **labels):
    text = ",".join(f'{key}="{label}"' for key, label in labels.items())
    return value(member, f"{name}{{{text}}}")


def lines(member, text):
    """What the log says with these words in its message."""
    said = []
    for line in member.log().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if text in row.get("msg", ""):
            said.append(row)
    return said


def run(command, *arguments):
    result = subprocess.run([command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
                            env=dict(os.environ, ETCDCTL_API="3"))
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)}: {result.stdout}")


def restored_cluster(args, folder, disk):
    """Three members whose logs begin at a snapshot, so that a fourth needs one; the first on a disk that can hang."""
    first = lib.Server(args.cleat, os.path.join(folder, "before")).start()
    path = os.path.join(folder, "before.db")
    run(args.etcdctl, "--endpoints", first.endpoint, "put", "key", "value")
    run(args.etcdctl, "--endpoints", first.endpoint, "snapshot", "save", path)
    first.kill()
    cluster = cluster_lib.Cluster(args.cleat, folder, 3, etcdctl=args.etcdctl,
                                  flags=["--strict-reconfig-check=false"])  # which waits for 5 s of good connections
    if disk is not None:
        cluster.members[0].data_dir = os.path.join(disk.path, "data")
        cluster.members[0].log_path = os.path.join(folder, "m1.log")
    for member in cluster.members:
        run(args.cleatutl, "snapshot", "restore", path, "--data-dir", member.data_dir, "--name", member.name,
            "--initial-cluster", member.initial_cluster, "--initial-cluster-token", "cluster-under-test",
            "--initial-advertise-peer-urls", member.peer_url)
    return cluster.start()


def at_rest(checks, cluster):
    leader = cluster.wait_leader()
    ids = cluster.member_ids()
    cluster.ctl("put", "a", "b")
    for member in cluster.members:
        other = next(m for m in cluster.members if m is not member)
        lib.wait_until(lambda m=member: value(m, "etcd_server_proposals_committed_total") ==
                       value(m, "etcd_server_proposals_applied_total"), 30, f"{member.name} has applied all")
        lib.wait_until(lambda m=member, o=other: labelled(m, "etcd_network_peer_round_trip_time_seconds_count",
                                                          To=ids[o.name]) > 0, 30, f"{member.name} measured a round trip")
        lib.wait_until(lambda m=member: labelled(m, "etcd_cluster_version", cluster_version="3.5") == 1, 30,
                       f"{member.name} knows the cluster's version")
        now = metrics(member)
        for name, least in (("etcd_server_has_leader", 1), ("etcd_server_leader_changes_seen_total", 1),
                            ("etcd_server_proposals_committed_total", 4), ("etcd_disk_wal_fsync_duration_seconds_count", 1),
                            ("etcd_disk_wal_write_bytes_total", 4096), ("etcd_mvcc_db_total_size_in_bytes", 4096),
                            ("etcd_mvcc_db_total_size_in_use_in_bytes", 4096), ("etcd_debugging_mvcc_keys_total", 2),
                            ("etcd_debugging_mvcc_current_revision", 3), ("etcd_debugging_mvcc_total_put_size_in_bytes", 2),
                            ("etcd_mvcc_put_total", 1), ("etcd_server_quota_backend_bytes", 1)):
            checks.check(now[name] >= least, f"{member.name}: {name} is {now[name]}")
        for name in ("etcd_server_is_learner", "etcd_server_proposals_pending", "etcd_server_snapshot_apply_in_progress_total",
                     "cleat_server_is_quarantined", "cleat_disk_wal_stalled_seconds", "etcd_disk_defrag_inflight"):
            checks.equal(now[name], 0, f"{member.name}: {name}")
        checks.equal(now["etcd_server_is_leader"], float(member is leader), f"{member.name}: etcd_server_is_leader")
        for peer in cluster.members:
            if peer is member:
                continue
            sent = labelled(member, "etcd_network_peer_sent_bytes_total", To=ids[peer.name])
            got = labelled(member, "etcd_network_peer_received_bytes_total", From=ids[peer.name])
            if leader in (member, peer):  # two followers may have had nothing to say to each other
                checks.check(sent > 0 and got > 0, f"{member.name} and {peer.name}: {sent} bytes sent, {got} received")
            checks.equal(labelled(member, "etcd_network_active_peers", Local=ids[member.name], Remote=ids[peer.name]), 1,
                         f"{member.name}: active peers")


def leader_changes(checks, cluster):
    old, new = cluster.wait_leader(), cluster.followers()[-1]
    before = {m.name: value(m, "etcd_server_leader_changes_seen_total") for m in cluster.members}
    ids = cluster.member_ids()
    cluster.ctl("move-leader", ids[new.name], members=[old])
    lib.wait_until(lambda: value(new, "etcd_server_is_leader") == 1, 30, "the new leader says that it leads")
    checks.equal(value(old, "etcd_server_is_leader"), 0, "the old one no more")
    for member in cluster.members:
        lib.wait_until(lambda m=member: value(m, "etcd_server_leader_changes_seen_total") == before[m.name] + 1, 30,
                       f"{member.name} counts one change of leader")
        lib.wait_until(lambda m=member: any(f"leader {ids[new.name]}" in row["msg"] or f"to {ids[new.name]}" in row["msg"]
                                            for row in lines(m, "raft.node")), 30, f"{member.name} logs who leads now")


def disk_hangs(checks, cluster, disk):
    if disk is None:
        print("the stalled disk is left out: FUSE is missing", flush=True)
        return
    member = cluster.members[0]
    checks.equal(value(member, "cleat_disk_wal_stalls_total"), 0, "no stall so far")
    disk.stall(STALL_MS)
    others = [m for m in cluster.members if m is not member]
    cluster.ctl("put", "during", "a stall", members=others)
    lib.wait_until(lambda: value(member, "cleat_disk_wal_stalled_seconds") >= 1, 30, "the metric shows the stall")
    lib.wait_until(lambda: value(member, "cleat_disk_wal_stalled_seconds") == 0, 30, "and its end")
    lib.wait_until(lambda: lines(member, "the disk of the log answers again"), 30, "the log tells the end")
    checks.equal(value(member, "cleat_disk_wal_stalls_total"), 1, "one stall")
    checks.equal(len(lines(member, "the disk of the log hangs")), 1, "one line when it begins")
    checks.equal(len(lines(member, "the disk of the log answers again")), 1, "one line when it ends")
    checks.equal(value(others[0], "cleat_disk_wal_stalls_total"), 0, "the others had none")


def snapshot_promotion_removal(checks, cluster):
    new = cluster.grow(learner=True)
    lib.wait_until(lambda: new.is_healthy() or cluster.status(new) is not None, 30, "the learner answers")
    ids = cluster.member_ids()
    old = [m for m in cluster.members if m is not new]
    leader = cluster.wait_leader(old)
    lib.wait_until(lambda: labelled(leader, "etcd_network_snapshot_send_success", To=ids[new.name]) == 1, 30,
                   "the leader counts a snapshot")
    checks.equal(labelled(leader, "etcd_network_snapshot_send_total_duration_seconds_count", To=ids[new.name]), 1,
                 "and how long it took")
    checks.equal(labelled(leader, "etcd_network_snapshot_send_inflights_total", To=ids[new.name]), 0, "none is under way")
    checks.equal(labelled(new, "etcd_network_snapshot_receive_success", From=ids[leader.name]), 1, "the learner counts it too")
    checks.equal(labelled(new, "etcd_network_snapshot_receive_total_duration_seconds_count", From=ids[leader.name]), 1,
                 "and how long it took there")
    checks.equal(value(new, "etcd_server_snapshot_apply_in_progress_total"), 0, "it is applied")
    checks.equal(len(lines(leader, "sent database snapshot")), 1, "one line of the sender")
    checks.equal(len(lines(new, "received and saved database snapshot")), 1, "one line of the receiver")
    checks.equal(value(new, "etcd_server_is_learner"), 1, "it is a learner")

    def promote():
        return "promoted" in cluster.ctl("member", "promote", ids[new.name], members=[leader], check=False)
    lib.wait_until(promote, 30, "the learner is promoted")
    checks.equal(value(leader, "etcd_server_learner_promote_successes"), 1, "the leader counts the promotion")
    lib.wait_until(lambda: value(new, "etcd_server_is_learner") == 0, 30, "it is a voter")
    cluster.remove(new)
    lib.wait_until(lambda: not new.is_alive(), 30, "the removed member ends")
    said = [row for row in lines(new, "server error") if "permanently removed" in row.get("error", "")]
    checks.equal(len(said), 1, "one line of the removed member says why it ends")


def upkeep(checks, cluster):
    member = cluster.wait_leader()
    for i in range(20):
        cluster.ctl("put", "again", str(i), members=[member])
    revision = cluster.status(member)["header"]["revision"]
    cluster.ctl("compaction", str(revision), "--physical", members=[member])
    lib.wait_until(lambda: value(member, "etcd_debugging_mvcc_db_compaction_keys_total") >= 19, 30, "what was compacted counts")
    checks.equal(value(member, "etcd_debugging_mvcc_compact_revision"), revision, "the compact revision")
    checks.equal(value(member, "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count"), 1, "its time")
    checks.check(abs(value(member, "etcd_debugging_mvcc_db_compaction_last") - time.time()) < 60, "its moment")
    cluster.ctl("defrag", members=[member])
    run(cluster.etcdctl, "--endpoints", member.endpoint, "snapshot", "save", os.path.join(cluster.folder, "a.db"))
    checks.equal(value(member, "etcd_disk_backend_snapshot_duration_seconds_count"), 1, "a snapshot for a client")
    lib.wait_until(lambda: value(member, "etcd_disk_backend_commit_duration_seconds_count") > 0, 30, "commits of the store")


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", cleatutl="build/release/tools/utl/cleatutl",
                           crashfs="build/release/tests/e2e/crashfs", etcdctl="etcdctl")
    args = parser.parse_args()
    args.etcdctl = lib.need_program(args.etcdctl)
    checks = lib.Checks()
    folder = lib.temp_dir("cluster-metrics")
    disk = None
    if os.access(args.crashfs, os.X_OK) and os.path.exists("/dev/fuse"):
        disk = Disk(args.crashfs, os.path.join(folder, "hanging"))
    cluster = restored_cluster(args, folder, disk)
    for look in (at_rest, leader_changes, disk_hangs, snapshot_promotion_removal, upkeep):
        began = time.monotonic()
        look(checks, cluster, *([disk] if look is disk_hangs else []))
        print(f"{look.__name__}: {time.monotonic() - began:.1f} s", flush=True)
    cluster.stop()
    checks.done()


main()
