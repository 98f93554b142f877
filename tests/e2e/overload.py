#!/usr/bin/env python3
"""Many clients write more than a slow disk takes: what an operator asks for is answered within a second all the same, by a lone
member and by the leader and a follower of three. And while the disk hangs altogether what needs no disk is answered, and a
flood that is more than the member takes in is refused at once and counted."""
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster_lib
import lib
from slow_disk import Disk

SYNC_MS = 50
SECOND = 1.0
STALL_MS = 6000
CLIENTS = 2000
ROUNDS = 10 if lib.FULL else 3


def on_disk(args, folder, member):
    disk = Disk(args.crashfs, os.path.join(folder, f"disk-{member.name}"), "--sync-us", str(SYNC_MS * 1000))
    member.data_dir = os.path.join(disk.path, "data")
    member.log_path = os.path.join(folder, f"{member.name}.log")
    return disk


def flood(args, member, clients=CLIENTS):
    """More puts than the disk can take, for as long as it is not ended."""
    return lib.spawn([args.bench, "kv", "--endpoint", member.endpoint, "--clients", str(clients), "--connections", "16",
                      "--keys", "100000", "--value-bytes", "512", "--seconds", "600"],
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ask(args, member, *arguments):
    """How long etcd's client waits for it."""
    began = time.monotonic()
    done = subprocess.run([args.etcdctl, "--endpoints", member.endpoint, "--command-timeout=20s", *arguments], capture_output=True,
                          text=True, timeout=30, env=dict(os.environ, ETCDCTL_API="3"), check=False)
    return time.monotonic() - began, done.returncode, done.stdout + done.stderr


def metric(member, name):
    _, body = lib.http_get(f"http://{member.endpoint}/metrics")
    return sum(float(line.rsplit(" ", 1)[1]) for line in body.decode().splitlines() if line.startswith(name + " "))


def check_operator(args, checks, member, commands, what):
    slowest = {}
    for _ in range(ROUNDS):
        for arguments in commands:
            took, code, said = ask(args, member, *arguments)
            checks.equal(code, 0, f"{what}: {arguments}: {said}")
            slowest[arguments[0] + " " + arguments[1]] = max(took, slowest.get(arguments[0] + " " + arguments[1], 0))
        began = time.monotonic()
        status, _ = lib.http_get(f"http://{member.endpoint}/health")
        checks.equal(status, 200, f"{what}: /health")
        slowest["/health"] = max(time.monotonic() - began, slowest.get("/health", 0))
    print(f"{what}: slowest of {ROUNDS}: " + ", ".join(f"{name} {1000 * took:.0f} ms" for name, took in slowest.items()), flush=True)
    for name, took in slowest.items():
        checks.check(took < SECOND, f"{what}: {name} within a second: {took:.2f} s")


OPERATOR = [("endpoint", "status"), ("alarm", "list"), ("member", "list"), ("lease", "list")]


def one_member(args, checks, folder):
    member = lib.Server(args.cleat, "", name="lone")
    disk = on_disk(args, folder, member)
    member.start()
    load = flood(args, member)
    time.sleep(2)
    check_operator(args, checks, member, OPERATOR, f"one member, {CLIENTS} clients")
    took, code, said = ask(args, member, "compaction", "10")
    checks.check(code == 0 and took < SECOND, f"a compaction: {took:.2f} s, {said}")
    disk.stall(4000)
    time.sleep(0.5)
    check_operator(args, checks, member, [("endpoint", "status")], "its disk hangs")
    load.kill()
    member.kill()


def three_members(args, checks, folder):
    cluster = cluster_lib.Cluster(args.cleat, folder, 3, etcdctl=args.etcdctl)
    for member in cluster.members:
        on_disk(args, folder, member)
    cluster.start()
    leader = cluster.wait_leader()
    load = flood(args, leader)
    time.sleep(2)
    check_operator(args, checks, leader, OPERATOR, "the leader of three")
    check_operator(args, checks, cluster.followers()[0], OPERATOR, "a follower")
    load.kill()
    for member in cluster.members:
        member.kill()


def too_much(args, checks, folder):
    """12000 clients that a hanging disk lets nothing through for."""
    member = lib.Server(args.cleat, "", name="full")
    disk = on_disk(args, folder, member)
    member.start()
    disk.stall(STALL_MS)
    began = time.monotonic()
    load = flood(args, member, clients=12000)
    lib.wait_until(lambda: metric(member, "cleat_server_requests_refused_total") > 0, 30, "what is too much is refused")
    check_operator(args, checks, member, [("endpoint", "status")], "beyond what it takes in")
    disk.stall(int(1000 * (time.monotonic() - began)))  # or a slow machine meets a disk that writes again
    took, code, said = ask(args, member, "put", "key", "value")
    checks.check(code != 0 and "too many requests" in said and took < SECOND, f"a put is refused at once: {took:.2f} s, {said}")
    took, code, said = ask(args, member, "alarm", "list")
    checks.check(code == 0 and took < STALL_MS / 1000 + 2, f"an operator's call is let in, and done with the first write: {took:.2f} s, {said}")
    load.kill()
    member.kill()


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", bench="build/release/bench/cleat-bench",
                           crashfs="build/release/tests/e2e/crashfs", etcdctl="etcdctl")
    args = parser.parse_args()
    args.etcdctl = lib.need_program(args.etcdctl)
    if not os.access(args.crashfs, os.X_OK):
        lib.skip("crashfs was not built: FUSE is missing")
    checks = lib.Checks()
    folder = lib.temp_dir("overload")
    one_member(args, checks, folder)
    three_members(args, checks, folder)
    too_much(args, checks, folder)
    checks.done()


if __name__ == "__main__":
    main()
