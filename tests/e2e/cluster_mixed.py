"""Two etcd members and one of cleat in one cluster: etcd's peer protocol from both sides. Each leads in turn; then one
of each kind is killed, falls behind and is caught up by a leader of the other kind, at full size by its snapshot."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster_lib
import lib

BEHIND_ENTRIES = 20000 if lib.FULL else 300  # at full size by far more than either keeps of its log
VALUE_BYTES = 12000 if lib.FULL else 200


def one_hash(cluster, checks, what):
    """All members end at one revision with one hash."""
    def hashes():
        out = cluster.ctl("endpoint", "hashkv", check=False)
        return {line.split(",")[-1].strip() for line in out.strip().splitlines()}
    try:
        lib.wait_until(lambda: len(hashes()) == 1, 30, "one hash")
        checks.check(True, what)
    except TimeoutError:
        checks.check(False, f"{what}: the members differ: {cluster.ctl('endpoint', 'hashkv', check=False)}")


def write(args, cluster, members, entries, what, checks):
    """The load through these members until that many entries were added; judged."""
    begin = cluster.status(members[0])["raftIndex"]
    load = cluster_lib.Load(args.load, members, "--clients", 16, "--seed", begin,
                            "--value-bytes", VALUE_BYTES)
    lib.wait_until(lambda: cluster.status(members[0])["raftIndex"] > begin + entries, 300, f"{entries} entries")
    report = load.end()
    checks.equal(report.get("code"), 0, f"{what}: the history ({report.get('why')}), read back: {report.get('read_back')}")
    print(f"{what}: {report.get('verdict')}, {report.get('writes_acked')} writes acknowledged", flush=True)


def lead(cluster, member, checks):
    """Hands leadership to one."""
    leader = cluster.wait_leader()
    if leader is not member:
        cluster.ctl("move-leader", cluster.member_ids()[member.name], members=[leader])
    lib.wait_until(lambda: cluster.leader() is member, 30, f"{member.name} leads")
    checks.check(True, f"{member.name} leads")


def fall_behind(args, cluster, member, leader, checks):
    """It is killed, misses more than the others keep, and is caught up by the leader's snapshot."""
    lead(cluster, leader, checks)
    member.kill()
    others = [m for m in cluster.members if m is not member]
    cluster.wait_leader(others)
    write(args, cluster, others, BEHIND_ENTRIES, f"{member.name} away, {leader.name} leads", checks)
    cluster.restart(member)
    one_hash(cluster, checks, f"{member.name} caught up by {leader.name}")
    if lib.FULL:
        checks.check(b"received and saved database snapshot" in member.log(), f"{member.name} took a snapshot")


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", load="build/release/tests/e2e/cluster_load",
                           etcd="etcd", etcdctl="etcdctl")
    args = parser.parse_args()
    etcdctl = lib.need_program(args.etcdctl)
    etcd = lib.need_program(args.etcd)
    checks = lib.Checks()
    cluster = cluster_lib.Cluster(etcd, lib.temp_dir("cluster-mixed"), 3, flags=["--snapshot-count=100"], etcdctl=etcdctl)
    ours, theirs = cluster.members[2], cluster.members[0]
    ours.binary = args.cleat
    cluster.start()
    checks.equal(cluster.ctl("member", "list").count("started"), 3, "three members are started")
    for leader in (theirs, ours):
        lead(cluster, leader, checks)
        write(args, cluster, cluster.members, 300, f"{leader.name} leads", checks)
        one_hash(cluster, checks, f"{leader.name} led")
    fall_behind(args, cluster, ours, theirs, checks)
    fall_behind(args, cluster, theirs, ours, checks)
    checks.check(all(m.stop() in (0, -15) for m in cluster.members), "all stop in order")
    checks.done()


main()
