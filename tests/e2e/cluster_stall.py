"""Three members on slow disks, and the leader's disk stalls: for 3 s nobody notices (no election, no failed call, no gap);
for long at most one change of leadership, calls through the others are neither failed nor slow, calls through the stalled
member are answered or refused soon, and nothing acknowledged is lost."""
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster_lib
import lib
from slow_disk import Disk

LONG_STALL_S = 60 if lib.FULL else 12
ENDS = {0, -15}  # etcd ends itself by the signal again


def judged(checks, report, what):
    print(f"{what}: {report.get('verdict')}, {report.get('writes_acked')} writes acknowledged in {report.get('seconds')} s, "
          f"{report.get('unknown')} without an answer, longest gap {report.get('gap_longest_ms')} ms, "
          f"endpoints {report.get('endpoints')}, {report.get('reasons')}, {report.get('watched', '')}",
          flush=True)
    checks.equal(report.get("code"), 0, f"{what}: the history ({report.get('why')})")


def term(cluster, member):
    status = cluster.status(member)
    return status["raftTerm"] if status else 0


def short_stall(args, checks, cluster, disks):
    """3 s, 256 clients: the two others commit, and the leader goes on sending."""
    load = cluster_lib.Load(args.load, cluster.members, "--clients", 256, "--keys", 2000, "--seed", args.seed, "--stay")
    time.sleep(1)
    leader = cluster.wait_leader()
    before = term(cluster, leader)
    disks[leader.name].stall(3000)
    moment = time.monotonic()
    time.sleep(5)
    after = term(cluster, leader)
    report = load.end()
    judged(checks, report, "3 s stall of the leader's disk, 256 clients")
    checks.equal(after, before, "no election")
    checks.equal(report.get("unknown"), 0, "no failed call")
    gap = cluster_lib.gap_after(report, moment + 1.5)
    gaps = [g["gap_ms"] for g in report["gaps"] if moment * 1000 - 100 <= g["at_ms"] <= moment * 1000 + 4000]
    print(f"  gaps during the stall: {gaps} ms")
    checks.check(max(gaps + [gap, 0]) < 300, "no gap of 300 ms without an acknowledged write")


def long_stall(args, checks, cluster, disks):
    load = cluster_lib.Load(args.load, cluster.members, "--clients", 64, "--keys", 2000, "--rate", 1000,
                            "--seed", args.seed + 1, "--stay", *cluster_lib.WATCHED)
    time.sleep(1)
    leader = cluster.wait_leader()
    others = [m for m in cluster.members if m is not leader]
    before = term(cluster, others[0])
    disks[leader.name].stall(LONG_STALL_S * 1000)
    time.sleep(LONG_STALL_S + 3)
    after = term(cluster, others[0])
    report = load.end()
    judged(checks, report, f"{LONG_STALL_S} s stall of the leader's disk, 64 clients at 1000/s")
    checks.check(after <= before + 1, f"at most one change of leadership: term {before} to {after}")
    for i, m in enumerate(cluster.members):
        stats = report["endpoints"][i]
        if m is leader:
            checks.check(stats["slowest_ms"] < (2000 if lib.FULL else 2500), f"calls through the stalled member end soon: {stats}")
        else:
            checks.check(stats["failed"] == 0 and stats["slowest_ms"] < 2000, f"calls through {m.name}: {stats}")


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", load="build/release/tests/e2e/cluster_load",
                           crashfs="build/release/tests/e2e/crashfs", etcdctl="etcdctl")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sync-us", type=int, default=10000)
    args = parser.parse_args()
    etcdctl = lib.need_program(args.etcdctl)
    if not os.access(args.crashfs, os.X_OK):
        lib.skip("crashfs was not built: FUSE is missing")
    checks = lib.Checks()
    folder = lib.temp_dir("cluster-stall")
    cluster = cluster_lib.Cluster(args.cleat, folder, 3, etcdctl=etcdctl)
    disks = {}
    for member in cluster.members:
        disks[member.name] = Disk(args.crashfs, os.path.join(folder, f"disk-{member.name}"), "--sync-us", str(args.sync_us))
        member.data_dir = os.path.join(disks[member.name].path, "data")
        member.log_path = os.path.join(folder, f"{member.name}.log")
    cluster.start()
    cluster.wait_leader()
    short_stall(args, checks, cluster, disks)
    long_stall(args, checks, cluster, disks)
    checks.check(set(cluster.stop()) <= ENDS, "all stop in order")
    checks.done()


main()
