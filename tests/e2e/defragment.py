"""defrag by etcd's own tool, on each backend: the file shrinks, clients that write meanwhile notice nothing, what is there is
the same before and after a crash right behind it, a member without quorum does it too, and where there is nothing to gain
the answer comes at once."""
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster_lib
import lib

KEYS = 300000 if lib.FULL else 20000
VALUE_BYTES = 1000
GAP_MS_MAX = 100
TRIES = 3  # of what is measured: the machine may have had something else to do


class Member:
    """One member and the operator's tool."""

    def __init__(self, args, folder, name, flags=()):
        self.args = args
        self.server = lib.Server(args.cleat, os.path.join(folder, name), flags=list(flags))

    def ctl(self, *arguments, timeout_s=120):
        command = [self.args.etcdctl, "--endpoints", self.server.endpoint, "--command-timeout=60s", *arguments]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout_s,
                                env=dict(os.environ, ETCDCTL_API="3"))
        if result.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)}: {result.stdout}{result.stderr}")
        return result.stdout

    def status(self):
        return json.loads(self.ctl("endpoint", "status", "-w", "json"))[0]["Status"]

    def hash(self, revision):
        return json.loads(self.ctl("endpoint", "hashkv", f"--rev={revision}", "-w", "json"))[0]["HashKV"]["hash"]

    def fill(self):
        subprocess.run([self.args.bench, "kv", "--endpoint", self.server.endpoint, "--keys", str(KEYS), "--clients", "64",
                        "--value-bytes", str(VALUE_BYTES), "--prefix", "/fill/"],
                       check=True, stdout=subprocess.DEVNULL, timeout=300)

    def make_holes(self):
        """Most of the file is free afterwards."""
        self.fill()
        self.ctl("del", "", "--prefix")  # everything: a load that judges what it reads finds nothing of an earlier one
        self.ctl("put", "last", "one")  # compaction keeps deletions of its own revision
        revision = self.status()["header"]["revision"]
        self.ctl("compaction", str(revision))


def defragment(checks, member, what):
    before = member.status()["dbSize"]
    began = time.monotonic()
    said = member.ctl("defrag")
    took = time.monotonic() - began
    after = member.status()["dbSize"]
    print(f"{what}: {before} to {after} bytes in {took:.2f} s", flush=True)
    checks.check("Finished defragmenting etcd member" in said, f"{what}: {said}")
    checks.check(after < before / 2, f"{what}: {before} to {after} bytes")
    return took


def nothing_to_gain(checks, member, what):
    files = os.listdir(os.path.join(member.server.data_dir, "member/store"))
    began = time.monotonic()
    member.ctl("defrag")
    checks.check(time.monotonic() - began < 1, f"{what}: nothing to gain, and the answer comes at once")
    checks.equal(os.listdir(os.path.join(member.server.data_dir, "member/store")), files, f"{what}: the files stay")


def gaps(checks, args, member, what):
    """The longest time without an acknowledged write, while the store is copied and before."""
    member.make_holes()
    load = cluster_lib.Load(args.load, [member.server], "--clients", 32, "--keys", 1000,
                            "--rate", 3000, "--seed", args.seed)
    time.sleep(1)
    began = time.monotonic()
    defragment(checks, member, what)
    ended = time.monotonic()
    time.sleep(0.3)
    report = load.end()
    checks.equal(report.get("code"), 0, f"{what}: the history ({report.get('why')})")
    checks.equal(report.get("unknown"), 0, f"{what}: no failed call")
    longest = {"before": 0, "during": 0}
    for gap in report["gaps"]:
        at_s, end_s = gap["at_ms"] / 1000, (gap["at_ms"] + gap["gap_ms"]) / 1000
        if end_s >= began and at_s <= ended:
            longest["during"] = max(longest["during"], gap["gap_ms"])
        elif end_s < began:
            longest["before"] = max(longest["before"], gap["gap_ms"])
    print(f"{what}: longest gap {longest['during']} ms, {longest['before']} ms before it", flush=True)
    return longest


def writes_go_on(checks, args, member, what):
    for _ in range(TRIES):
        longest = gaps(checks, args, member, what)
        if longest["during"] < max(GAP_MS_MAX, 2 * longest["before"]):
            return
    checks.check(False, f"{what}: no gap of {GAP_MS_MAX} ms without an acknowledged write: {longest}")


def one_member(checks, args, folder, backend):
    member = Member(args, folder, backend, [f"--backend={backend}"])
    member.server.start()
    writes_go_on(checks, args, member, backend)
    revision = member.status()["header"]["revision"]
    before = member.hash(revision)
    nothing_to_gain(checks, member, backend)
    member.server.kill()
    member.server.start()
    checks.equal(member.hash(revision), before, f"{backend}: the same after a crash")
    files = [name for name in os.listdir(os.path.join(member.server.data_dir, "member/store")) if name.endswith("." + backend)]
    checks.equal(len(files), 1, f"{backend}: one file is left: {files}")
    checks.check(member.server.stop() in (0, -15), f"{backend}: it stops in order")


def no_quorum(checks, args, folder):
    cluster = cluster_lib.Cluster(args.cleat, folder, 3, etcdctl=args.etcdctl).start()
    cluster.wait_leader()
    member = Member(args, folder, "unused")
    member.server = cluster.members[0]
    member.make_holes()
    lib.wait_until(lambda: applied_alike(cluster), 30, "all have applied the same")
    for other in cluster.members[1:]:
        other.kill()
    defragment(checks, member, "without a quorum")
    for other in cluster.members[1:]:
        cluster.restart(other)
    cluster.ctl("put", "after", "it")
    hashes = {json.dumps(row["HashKV"]["hash"]) for row in
              json.loads(cluster.ctl("endpoint", "hashkv", "-w", "json"))}
    checks.equal(len(hashes), 1, "all members are alike afterwards")
    cluster.stop()


def applied_alike(cluster):
    return len({(cluster.status(m) or {}).get("raftAppliedIndex") for m in cluster.members}) == 1


def stops_at_once(checks, args, folder):
    """A copy under way does not keep the member from stopping, and leaves nothing behind."""
    member = Member(args, folder, "stop")
    member.server.start()
    member.make_holes()
    member.fill()
    client = lib.spawn([args.etcdctl, "--endpoints", member.server.endpoint, "--command-timeout=60s", "defrag"],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ, ETCDCTL_API="3"))
    lib.wait_until(lambda: b"starting defragment" in member.server.log(), 30, "it begins")
    began = time.monotonic()
    checks.check(member.server.stop() in (0, -15), "it stops in order while it copies")
    checks.check(time.monotonic() - began < 3, f"it stops soon: {time.monotonic() - began} s")
    client.kill()
    member.server.start()
    checks.equal(len(json.loads(member.ctl("get", "/fill/", "--prefix", "--limit=5", "-w", "json"))["kvs"]), 5,
                 "what was there is there")
    member.server.stop()


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", bench="build/release/bench/cleat-bench",
                           load="build/release/tests/e2e/cluster_load", etcdctl="etcdctl")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parts", default="gaps,rest", help="gaps: how long writes stand still is judged")
    args = parser.parse_args()
    args.etcdctl = lib.need_program(args.etcdctl)
    checks = lib.Checks()
    folder = lib.temp_dir("defragment")
    if "gaps" in args.parts.split(","):
        for backend in ("lmdb", "sqlite"):
            one_member(checks, args, folder, backend)
    if "rest" in args.parts.split(","):
        no_quorum(checks, args, folder)
        stops_at_once(checks, args, folder)
    checks.done()


main()
