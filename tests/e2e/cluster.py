"""Three processes, and what an operator and bad luck do to them: bootstrap, status, leader killed under load, rolling
restart, replacement of members, learners, hand-over, a member that was away for long, a wiped one, mixed backends.
Nothing acknowledged is missing and the history is linearizable, every time."""
import os
import shutil
import statistics
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster_lib
import lib

ELECTION_MS = 1000
ENDS = {0, -15}  # etcd ends itself by the signal again
LEADER_KILLS = 30 if lib.FULL else 3
KILLED_GAP_MAX = 1.3  # election timeouts, the median; nobody waits for one: a dead process is noticed
AWAY_ENTRIES = 100000 if lib.FULL else 12000


def judged(checks, report, what):
    """One line on a load, and the checks that hold for every one."""
    print(f"{what}: {report.get('verdict')}, {report.get('operations')} operations, {report.get('writes_acked')} writes "
          f"acknowledged, {report.get('unknown')} without an answer, longest gap {report.get('gap_longest_ms')} ms, "
          f"{report.get('reasons')}, {report.get('watched', '')}", flush=True)
    checks.equal(report.get("code"), 0, f"{what}: the history ({report.get('why')}), read back: {report.get('read_back')}")
    checks.check(report.get("writes_acked", 0) > 0, f"{what}: something was acknowledged")


def bootstrap(args, checks, folder, cluster):
    """What the first commands of an operator show."""
    leader = cluster.wait_leader()
    table = cluster.ctl("member", "list", "-w", "table")
    checks.equal(table.count("started"), 3, f"three members are started:\n{table}")
    status = cluster.ctl("endpoint", "status", "--cluster", "-w", "table", members=[leader])
    checks.equal(status.count("true"), 1, f"one leader:\n{status}")
    for i, m in enumerate(cluster.members):
        cluster.ctl("put", f"from-{m.name}", str(i), members=[m])
    for m in cluster.members:
        for i, other in enumerate(cluster.members):
            got = cluster.ctl("get", f"from-{other.name}", "--print-value-only", members=[m]).strip()
            checks.equal(got, str(i), f"{m.name} reads what {other.name} wrote")
    health = cluster.ctl("endpoint", "health", "--cluster", members=[leader], both=True)
    checks.equal(health.count("is healthy"), 3, f"three are healthy: {health}")


def leader_killed(args, checks, folder, cluster):
    """kill -9 of the leader under load; the time to the next acknowledged write."""
    load = cluster_lib.Load(args.load, cluster.members, "--clients", 32, "--seed", args.seed, *cluster_lib.WATCHED)
    moments = []
    for _ in range(LEADER_KILLS):
        time.sleep(1.0)
        leader = cluster.wait_leader()
        moments.append(time.monotonic())
        leader.kill()
        cluster.wait_leader([m for m in cluster.members if m is not leader])
        time.sleep(0.5)
        cluster.restart(leader)
    report = load.end()
    judged(checks, report, f"{LEADER_KILLS} leaders killed")
    gaps = [cluster_lib.gap_after(report, m) for m in moments]
    median = statistics.median(gaps)
    print(f"  gaps {gaps} ms, median {median / ELECTION_MS:.2f} election timeouts")
    checks.check(median < KILLED_GAP_MAX * ELECTION_MS, f"median gap {median} ms under {KILLED_GAP_MAX} election timeouts")


def rolling_restart(args, checks, folder, cluster):
    load = cluster_lib.Load(args.load, cluster.members, "--clients", 32, "--seed", args.seed + 1, *cluster_lib.WATCHED)
    for m in list(cluster.members):
        time.sleep(0.5)
        checks.check(m.stop() in ENDS, f"{m.name} stops in order")
        cluster.restart(m)
    time.sleep(0.5)
    report = load.end()
    judged(checks, report, "rolling restart")
    checks.check(report.get("gap_longest_ms", 10**6) < 3 * ELECTION_MS, "a rolling restart stands still for short")


def hand_over(args, checks, folder, cluster):
    """move-leader under load: nobody waits for an election."""
    load = cluster_lib.Load(args.load, cluster.members, "--clients", 32, "--seed", args.seed + 2)
    for _ in range(3):
        time.sleep(0.5)
        leader = cluster.wait_leader()
        target = next(m for m in cluster.members if m is not leader)
        id_ = cluster.member_ids()[target.name]
        out = cluster.ctl("move-leader", id_, members=[leader])
        checks.check("Leadership transferred" in out, f"move-leader says so: {out}")
        lib.wait_until(lambda t=target: cluster.leader() is t, 30, f"{target.name} leads")
    report = load.end()
    judged(checks, report, "move-leader")
    checks.check(report.get("gap_longest_ms", 10**6) < ELECTION_MS, "a hand-over is quicker than an election")
    refused = cluster.ctl("move-leader", "1234", members=[cluster.wait_leader()], check=False)
    checks.check("bad leader transferee" in refused, f"a stranger cannot lead: {refused}")


def replace(args, checks, folder, cluster):
    """One removed, a fourth added with --initial-cluster-state existing, a learner added and promoted."""
    load = cluster_lib.Load(args.load, cluster.members[:2], "--clients", 16, "--seed", args.seed + 3)
    gone = cluster.members[2]
    cluster.remove(gone)
    lib.wait_until(lambda: not gone.is_alive(), 30, "the removed member ends")
    checks.check(b"removed" in gone.log(), "a removed member says why it ends")
    added = cluster.grow()
    cluster.wait_healthy([added])
    checks.equal(cluster.ctl("member", "list").count("started"), 3, "the new member is one of three")
    learner = cluster.grow(learner=True)
    lib.wait_until(lambda: learner.is_alive() and cluster.status(learner) is not None, 30, "the learner answers")
    refused = cluster.ctl("put", "a", "b", members=[learner], check=False)
    checks.check("rpc not supported for learner" in refused, f"a learner refuses clients: {refused}")
    learner_id = cluster.member_ids()[learner.name]
    voters = [m for m in cluster.members if m is not learner]

    def promote():
        return "promoted" in cluster.ctl("member", "promote", learner_id, members=voters, check=False)
    lib.wait_until(promote, 30, "the learner is promoted")
    cluster.wait_healthy([learner])
    cluster.remove(learner)
    lib.wait_until(lambda: not learner.is_alive(), 30, "the removed learner ends")
    judged(checks, load.end(), "remove, add, learner, promote")


def long_away(args, checks, folder, cluster):
    """A follower that misses more than the log keeps comes back by a snapshot."""
    away = cluster.followers()[0]
    away.kill()
    others = [m for m in cluster.members if m is not away]
    load = cluster_lib.Load(args.load, others, "--clients", 128, "--value-bytes", 2000, "--seed", args.seed + 4)
    index = [cluster.status(others[0])["raftIndex"]]
    lib.wait_until(lambda: cluster.status(others[0])["raftIndex"] > index[0] + AWAY_ENTRIES, 300, "the others went on")
    judged(checks, load.end(), f"{AWAY_ENTRIES} entries without one member")
    began = time.monotonic()
    cluster.restart(away, timeout_s=60)
    same_state(checks, cluster, "after a long absence")
    print(f"  caught up in {time.monotonic() - began:.1f} s", flush=True)
    if lib.FULL:  # less than this the others still have in their logs
        checks.check(b"received and saved database snapshot" in away.log(), "it came back by a snapshot")


def wiped(args, checks, folder, cluster):
    """A member that lost its disk is removed and added again under the same name, and takes a snapshot."""
    lost = cluster.followers()[0]
    lost.kill()
    shutil.rmtree(lost.data_dir)
    load = cluster_lib.Load(args.load, [m for m in cluster.members if m is not lost], "--clients", 16,
                            "--seed", args.seed + 5)
    cluster.remove(lost)
    back = cluster.grow()
    cluster.wait_healthy([back])
    judged(checks, load.end(), "a wiped member replaced")
    same_state(checks, cluster, "after a replacement")


def same_state(checks, cluster, what):
    """Every member ends at one revision with one hash."""
    def hashes():
        out = cluster.ctl("endpoint", "hashkv", check=False)
        return {line.split(",")[-1].strip() for line in out.strip().splitlines()}
    try:
        lib.wait_until(lambda: len(hashes()) == 1, 30, "one hash")
        checks.check(True, what)
    except TimeoutError:
        checks.check(False, f"{what}: the members differ: {hashes()}")


SCENARIOS = [bootstrap, leader_killed, rolling_restart, hand_over, replace, long_away, wiped]


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", load="build/release/tests/e2e/cluster_load",
                           etcdctl="etcdctl")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backends", default="lmdb,sqlite,lmdb", help="of the members; none: plain flags, for etcd")
    parser.add_argument("--only", help="scenarios by name, separated by commas")
    args = parser.parse_args()
    etcdctl = lib.need_program(args.etcdctl)
    checks = lib.Checks()
    folder = lib.temp_dir("cluster")
    flags_of = [[] if args.backends == "none" else [f"--backend={b}"] for b in (args.backends + ",none,none").split(",")[:3]]
    cluster = cluster_lib.Cluster(args.cleat, folder, 3, flags_of=flags_of, etcdctl=etcdctl).start()
    for scenario in SCENARIOS:
        if args.only and scenario.__name__ not in args.only.split(","):
            continue
        print(f"== {scenario.__name__}", flush=True)
        scenario(args, checks, folder, cluster)
        same_state(checks, cluster, f"{scenario.__name__}: one state at the end")
    checks.check(set(cluster.stop()) <= ENDS, "all stop in order")
    checks.done()


main()
