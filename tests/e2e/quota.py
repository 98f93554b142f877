#!/usr/bin/env python3
"""A small quota is reached: the alarm comes by itself and everybody sees it (alarm list, status, /health, metrics, the log), puts
are refused and what leads out of it is not, a compaction makes room, the alarm stays until it is disarmed with the right
member, and with --quota-alarm-clear-percent it goes by itself. In a cluster the member with the smallest quota raises it
for all. On each backend."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster_lib
import lib

QUOTA = 12 << 20
NO_SPACE = "etcdserver: mvcc: database space exceeded"
VALUE_BYTES = 20000


class Tool:
    """etcd's own client against one member."""

    def __init__(self, etcdctl, endpoint):
        self.command = [etcdctl, "--endpoints", endpoint, "--command-timeout=20s"]

    def run(self, *arguments, stdin=None):
        done = subprocess.run([*self.command, *arguments], input=stdin, capture_output=True, text=True, timeout=60,
                              env=dict(os.environ, ETCDCTL_API="3"), check=False)
        return done.returncode, done.stdout, done.stderr

    def ok(self, *arguments, stdin=None):
        code, out, err = self.run(*arguments, stdin=stdin)
        if code != 0:
            raise RuntimeError(f"{' '.join(arguments)}: {out}{err}")
        return out

    def json(self, *arguments):
        return json.loads(self.ok(*arguments, "-w", "json"))

    def alarms(self):
        return self.ok("alarm", "list").strip()

    def status(self):
        return self.json("endpoint", "status")[0]["Status"]


def metric(member, name):
    _, body = lib.http_get(f"http://{member.endpoint}/metrics")
    for line in body.decode().splitlines():
        if line.startswith(name + " "):
            return float(line.rsplit(" ", 1)[1])
    return None


def said(member, msg):
    return any(f'"msg":"{msg}' in line for line in member.log().decode().splitlines())


def fill(args, member, value_bytes=VALUE_BYTES):
    """Until puts are refused; what became of them."""
    path = member.data_dir + ".json"
    subprocess.run([args.bench, "kv", "--endpoint", member.endpoint, "--keys", str(2 * QUOTA // value_bytes), "--clients", "8",
                    "--value-bytes", str(value_bytes), "--prefix", "/fill/", "--json", path],
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120, check=False)
    with open(path, encoding="utf-8") as file:
        row = json.loads(file.read().splitlines()[-1])
    return row


def check_alarmed(checks, member, tool):
    member_id = tool.status()["header"]["member_id"]
    alarm = f"memberID:{member_id} alarm:NOSPACE"
    checks.equal(tool.alarms(), alarm, "alarm list")
    checks.equal([error.strip() for error in tool.status().get("errors", [])], [alarm], "errors of the status")
    status, body = lib.http_get(f"http://{member.endpoint}/health")
    checks.equal((status, json.loads(body)), (503, {"health": "false", "reason": "ALARM NOSPACE"}), "/health")
    checks.equal(lib.http_get(f"http://{member.endpoint}/health?exclude=NOSPACE")[0], 200, "/health without the alarm")
    checks.equal(lib.http_get(f"http://{member.endpoint}/livez")[0], 200, "/livez")
    checks.equal(lib.http_get(f"http://{member.endpoint}/readyz")[0], 200, "/readyz")
    lib.wait_until(lambda: said(member, "alarm raised"), 30, "the log tells of the alarm")
    lib.wait_until(lambda: metric(member, "cleat_server_alarms") == 1, 30, "the metrics show the alarm")
    return member_id


def check_refused(checks, tool, what):
    for arguments in (("put", "key", "value"), ("put", "key", "")):
        code, _, err = tool.run(*arguments)
        checks.check(code != 0 and NO_SPACE in err, f"{what}: {arguments} is refused: {err!r}")
    code, _, err = tool.run("txn", stdin="\n\nput key value\n\n\n")
    checks.check(code != 0 and NO_SPACE in err, f"{what}: a txn that puts is refused: {err!r}")


def check_way_out(checks, member, tool):
    """What frees space is let through, and the alarm outlives it."""
    checks.check(tool.ok("get", "/fill/", "--prefix", "--limit=1", "--keys-only").startswith("/fill/"), "reads go on")
    tool.ok("del", "/fill/", "--prefix")
    tool.ok("txn", stdin="\n\ndel nothing\n\n\n")
    revision = tool.status()["header"]["revision"]
    tool.ok("compaction", "--physical", str(revision))
    tool.ok("defrag")
    checks.check(tool.status()["dbSizeInUse"] < QUOTA // 4, f"the store is small again: {tool.status()}")
    check_refused(checks, tool, "before the alarm is disarmed")


def one_member(args, checks, folder, backend):
    member = lib.Server(args.cleat, os.path.join(folder, backend),
                        flags=[f"--backend={backend}", f"--quota-backend-bytes={QUOTA}"]).start()
    tool = Tool(args.etcdctl, member.endpoint)
    row = fill(args, member)
    checks.check(row["failed"] > 0, f"{backend}: the quota is reached: {row}")
    # The store is looked at now and then, and a fast disk is full in between.
    lib.wait_until(lambda: said(member, "the store comes near its quota"), 30, f"{backend}: a warning")
    checks.equal(metric(member, "etcd_server_quota_backend_bytes"), QUOTA, "quota in the metrics")
    lib.wait_until(lambda: metric(member, "cleat_server_quota_warning") == 1, 30, f"{backend}: the warning in the metrics")
    size = tool.status()["dbSize"]
    checks.check(size < 2 * QUOTA, f"{backend}: the file is not much larger than the quota: {size}")
    member_id = check_alarmed(checks, member, tool)
    check_refused(checks, tool, backend)
    member.kill()
    member.launch()
    lib.wait_until(lambda: lib.http_get(f"http://{member.endpoint}/health?exclude=NOSPACE")[0] == 200, 30, "healthy again")
    checks.equal(check_alarmed(checks, member, tool), member_id, f"{backend}: the alarm outlives a crash")
    check_way_out(checks, member, tool)
    checks.equal(tool.alarms(), f"memberID:{member_id} alarm:NOSPACE", f"{backend}: the alarm stays")
    tool.ok("alarm", "disarm")
    checks.equal(tool.alarms(), "", f"{backend}: disarmed")
    tool.ok("put", "key", "value")
    lib.wait_until(lambda: said(member, "alarm disarmed"), 30, "the log tells that it went")
    checks.equal(lib.http_get(f"http://{member.endpoint}/health")[0], 200, "/health again")
    checks.check(member.stop() in (0, -15), "clean stop")


def clears_itself(args, checks, folder):
    member = lib.Server(args.cleat, os.path.join(folder, "clears"),
                        flags=[f"--quota-backend-bytes={QUOTA}", "--quota-alarm-clear-percent=70"]).start()
    tool = Tool(args.etcdctl, member.endpoint)
    fill(args, member)
    check_alarmed(checks, member, tool)
    tool.ok("del", "/fill/", "--prefix")
    tool.ok("compaction", "--physical", str(tool.status()["header"]["revision"]))
    lib.wait_until(lambda: tool.alarms() == "", 30, "the alarm goes by itself")
    tool.ok("put", "key", "value")
    member.stop()


def smallest_quota(args, checks, folder):
    """A follower's own quota is reached by what goes through the leader."""
    cluster = cluster_lib.Cluster(args.cleat, folder, 3, etcdctl=args.etcdctl,
                                  flags_of=[[], [f"--quota-backend-bytes={QUOTA}"], []])
    cluster.start()
    leader = cluster.wait_leader()
    small = cluster.members[1]
    through = leader if leader is not small else cluster.members[0]
    row = fill(args, through)
    tool = Tool(args.etcdctl, through.endpoint)
    checks.check(row["failed"] > 0, f"the smallest quota holds for all: {row}")
    checks.equal(tool.alarms(), f"memberID:{cluster.id_of(small)} alarm:NOSPACE", "and its member raised the alarm")
    check_refused(checks, tool, "through another member")
    cluster.stop()


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", bench="build/release/bench/cleat-bench", etcdctl="etcdctl")
    args = parser.parse_args()
    args.etcdctl = lib.need_program(args.etcdctl)
    checks = lib.Checks()
    folder = lib.temp_dir("quota")
    for backend in ("lmdb", "sqlite"):
        one_member(args, checks, folder, backend)
    clears_itself(args, checks, folder)
    smallest_quota(args, checks, folder)
    checks.done()


if __name__ == "__main__":
    main()
