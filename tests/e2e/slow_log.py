#!/usr/bin/env python3
"""A slow call is one line of the log that says where its time went: the log of a lone member on a slow disk; the quorum, who
made it and who is behind, where two of three members have slow disks; the read of a large range. The same figures are in the
metrics, lines are limited, and quick calls leave none."""
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster_lib
import lib
from slow_disk import Disk

SLOW_S = 0.3  # of a call, to be told


def lines(member, msg="request stats"):
    found = []
    for line in member.log().decode("utf-8", "replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row.get("msg") == msg:
            found.append(row)
    return found


def seconds(text):
    """Go's durations below a minute."""
    for unit, factor in (("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9), ("s", 1)):
        if text.endswith(unit):
            return float(text[:-len(unit)]) * factor
    raise ValueError(text)


def phase_sum(member, kind, phase):
    _, body = lib.http_get(f"http://{member.endpoint}/metrics")
    name = f'cleat_request_phase_duration_seconds_sum{{kind="{kind}",phase="{phase}"}} '
    return sum(float(line.rsplit(" ", 1)[1]) for line in body.decode().splitlines() if line.startswith(name))


def on_disk(args, folder, member):
    """Puts the member, not started yet, on a disk that can hang."""
    disk = Disk(args.crashfs, os.path.join(folder, f"disk-{member.name}"), "--sync-us", "1000")
    member.data_dir = os.path.join(disk.path, "data")
    member.log_path = os.path.join(folder, f"{member.name}.log")
    return disk


def put(args, member, key, value="value"):
    subprocess.run([args.etcdctl, "--endpoints", member.endpoint, "--command-timeout=20s", "put", key, value], check=True,
                   stdout=subprocess.DEVNULL, timeout=30, env=dict(os.environ, ETCDCTL_API="3"))


def check_line(checks, row, took_s, phase, what):
    checks.equal(row["slowest-phase"], phase, f"{what}: {row}")
    checks.check(took_s * 0.5 < seconds(row[phase]) < took_s * 2, f"{what}: about {took_s} s in {phase}: {row}")
    parts = sum(seconds(row[name]) for name in ("queue", "log", "quorum", "apply-wait", "store", "apply", "send"))
    checks.check(abs(parts - seconds(row["time spent"])) < 0.01, f"{what}: the phases make up the whole: {row}")
    checks.equal(row["response type"], "/etcdserverpb.KV/Put", what)
    checks.equal(row["request content"], 'key:"/a\\\\key" value_size:5 '.replace("\\\\key", "\\134key"), f"{what}: what it was")
    checks.check(row["remote"].startswith("127.0.0.1:"), f"{what}: who sent it: {row}")


def lone_member(args, checks, folder):
    member = lib.Server(args.cleat, os.path.join(folder, "lone"), name="lone")
    disk = on_disk(args, folder, member)
    member.start()
    before = len(lines(member))
    disk.stall(2000)
    put(args, member, "/a\\key")
    lib.wait_until(lambda: len(lines(member)) > before, 30, "a line for the slow put")
    check_line(checks, lines(member)[-1], 2, "log", "one member")
    checks.check(phase_sum(member, "write", "log") >= 1, "the log's time is in the metrics")
    member.stop()


def three_members(args, checks, folder):
    cluster = cluster_lib.Cluster(args.cleat, folder, 3, etcdctl=args.etcdctl)
    fast, slow, slower = cluster.members
    disks = [on_disk(args, folder, member) for member in (slow, slower)]
    cluster.start()
    leader = cluster.wait_leader()
    if leader is not fast:
        cluster.ctl("move-leader", f"{cluster.id_of(fast):x}", members=[leader])
        lib.wait_until(lambda: cluster.leader() is fast, 30, "the member with the fast disk leads")
    time.sleep(1)
    before = len(lines(fast))
    disks[1].stall(4000)
    disks[0].stall(2000)
    put(args, fast, "/a\\key")
    lib.wait_until(lambda: len(lines(fast)) > before, 30, "a line for the slow put")
    row = lines(fast)[-1]
    check_line(checks, row, 2, "quorum", "three members")
    checks.equal(row["quorum-by"], f"{cluster.id_of(slow):x}", f"whose acknowledgement made the quorum: {row}")
    checks.equal(row["slowest-peer"], f"{cluster.id_of(slower):x}", f"who is behind: {row}")
    checks.equal(row["slowest-peer-name"], slower.name, f"its name: {row}")
    checks.check(row["slowest-peer-behind"] >= 1, f"by how much: {row}")
    time.sleep(2.2)  # until neither disk stands still
    before = len(lines(slow))

    def told():  # a call through a member whose disk hangs for longer fails, so its client may come when that is over
        for disk in disks:
            disk.stall(1000)
        put(args, slow, "/a\\key")
        return len(lines(slow)) > before
    lib.wait_until(told, 60, "a line where the put came in")
    row = lines(slow)[-1]
    checks.check(row["slowest-phase"] in ("log", "quorum") and row["quorum-by"] == f"{cluster.id_of(fast):x}",
                 f"through another member it waited for the leader, or for the log of that one: {row}")
    cluster.stop()


def reads_and_limits(args, checks, folder):
    member = lib.Server(args.cleat, os.path.join(folder, "reads"), flags=["--experimental-warning-apply-duration=1ns"]).start()
    began = time.monotonic()
    put(args, member, "/a\\key")
    checks.check(lines(member) == [] or time.monotonic() - began > SLOW_S, f"quick calls leave no line: {lines(member)}")
    rows = lines(member, "apply request took too long")
    checks.check(len(rows) == 1 and rows[0]["prefix"] == "" and rows[0]["expected-duration"] == "1ns", f"what etcd says of an apply: {rows}")
    subprocess.run([args.etcdctl, "--endpoints", member.endpoint, "get", "/", "--prefix"], check=True, stdout=subprocess.DEVNULL,
                   timeout=30, env=dict(os.environ, ETCDCTL_API="3"))
    row = lines(member, "apply request took too long")[-1]
    checks.check(row["prefix"] == "read-only range " and row["request"] == 'key:"/" range_end:"0" ', f"and of a read: {row}")
    began = time.monotonic()
    subprocess.run([args.bench, "kv", "--endpoint", member.endpoint, "--keys", "2000", "--clients", "16"], check=True,
                   stdout=subprocess.DEVNULL, timeout=60)
    put(args, member, "/a\\key")
    time.sleep(1.1)
    put(args, member, "/a\\key")
    rows = lines(member, "apply request took too long")
    allowed = 10 * (time.monotonic() - began + 2)
    checks.check(len(rows) <= allowed, f"at most 10 lines a second: {len(rows)}")
    told = len(rows) + sum(row["not-told"] for row in rows)
    checks.check(told >= 2004, f"what was left out is counted: {told}")
    member.stop()


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", bench="build/release/bench/cleat-bench",
                           crashfs="build/release/tests/e2e/crashfs", etcdctl="etcdctl")
    args = parser.parse_args()
    args.etcdctl = lib.need_program(args.etcdctl)
    checks = lib.Checks()
    folder = lib.temp_dir("slow-log")
    reads_and_limits(args, checks, folder)
    if not os.access(args.crashfs, os.X_OK):
        lib.skip("crashfs was not built: FUSE is missing")
    lone_member(args, checks, folder)
    three_members(args, checks, folder)
    checks.done()


if __name__ == "__main__":
    main()
