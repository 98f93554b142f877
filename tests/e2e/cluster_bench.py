"""Three members under load, as figures: puts a second on three slow disks by sync time and clients, and
the CPU of all three for 100,000 puts on the fast disk, beside etcd's in turns when --etcd names one. The
short size is one point, held to a part of what is to be reached, since other work may share the processors."""
import json
import os
import re
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster_lib
import lib
from slow_disk import Disk

REACH = {10: 3000, 50: 1000, 200: 250}  # put/s with 64 clients, by sync in ms
SYNCS_MS = [10, 50, 200] if lib.FULL else [50]
CLIENTS = [64, 256] if lib.FULL else [64]
PART_OF_REACH = 1.0 if lib.FULL else 0.7
SECONDS = 10 if lib.FULL else 3
CPU_SECONDS = 5 if lib.FULL else 2
TURNS = 3 if lib.FULL else 1
CPU_PART_OF_ETCD = 0.5
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(members):
    total = 0
    for m in members:
        with open(f"/proc/{m.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_S


def puts(args, folder, leader, clients, seconds):
    """The row of cleat-bench kv against one member."""
    path = os.path.join(folder, "kv.json")
    done = subprocess.run([args.bench, "kv", "--endpoint", f"http://{leader.endpoint}", "--clients", str(clients),
                           "--keys", "10000", "--seconds", str(seconds), "--json", path],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(done.stdout)
    with open(path, encoding="utf-8") as lines:
        return [row for row in map(json.loads, lines) if "row" in row][-1]


def on_slow_disks(args, checks, folder, binary, name, sync_ms):
    """A cluster whose three disks take sync_ms for each sync, one at a time, and the rates of it."""
    folder = os.path.join(folder, f"{name}-{sync_ms}ms")
    cluster = cluster_lib.Cluster(binary, folder, 3, etcdctl=args.etcdctl)
    disks = []
    for member in cluster.members:
        disks.append(Disk(args.crashfs, os.path.join(folder, f"disk-{member.name}"), "--sync-us", str(sync_ms * 1000)))
        member.data_dir = os.path.join(disks[-1].path, "data")
        member.log_path = os.path.join(folder, f"{member.name}.log")
    cluster.start()
    leader = cluster.wait_leader()
    for clients in CLIENTS:
        puts(args, folder, leader, clients, 1)  # the first segments are written ahead meanwhile
        syncs = [d.syncs() for d in disks]
        row = puts(args, folder, leader, clients, SECONDS)
        syncs = [d.syncs() - before for d, before in zip(disks, syncs)]
        print(f"{name}: {sync_ms} ms, {clients} clients: {row['per_second']:.0f} put/s, "
              f"p50 {row['p50_us'] / 1000:.0f} ms, p99 {row['p99_us'] / 1000:.0f} ms, "
              f"failed {row['failed']}, syncs {syncs}", flush=True)
        if binary == args.cleat:
            checks.equal(row["failed"], 0, f"{sync_ms} ms, {clients} clients: no failed put")
            checks.check(row["per_second"] >= PART_OF_REACH * REACH[sync_ms],
                         f"{sync_ms} ms, {clients} clients: {row['per_second']:.0f} put/s, to reach "
                         f"{PART_OF_REACH * REACH[sync_ms]:.0f}")
    cluster.stop()
    for disk in disks:
        disk.close()


def h2load_puts(leader, body, seconds):
    """How many puts of one key h2load had answered by 16 connections of 16 streams."""
    out = subprocess.run(["h2load", "-D", str(seconds), "-c", "16", "-m", "16", "-t", "1", "-d", body,
                          "-Hcontent-type: application/grpc", "-Hte: trailers",
                          f"http://{leader.endpoint}/etcdserverpb.KV/Put"],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120).stdout
    return int(re.search(r"(\d+) succeeded", out).group(1))


def revision(cluster, member):
    return cluster.status(member)["header"]["revision"]


def cpu_of_puts(args, checks, folder):
    """The same load on both clusters in turns; only one has any."""
    lib.need_program("h2load")
    binaries = {"cleat": args.cleat}
    if args.etcd:
        binaries["etcd"] = args.etcd
    for name in binaries:
        os.mkdir(os.path.join(folder, f"fast-{name}"))
    clusters = {name: cluster_lib.Cluster(binary, os.path.join(folder, f"fast-{name}"), 3, etcdctl=args.etcdctl).start()
                for name, binary in binaries.items()}
    body = os.path.join(folder, "put.bin")
    with open(body, "wb") as file:  # gRPC's frame of PutRequest{key, value of 256 bytes}
        message = b"\x0a\x10bench/key0000000\x12\x80\x02" + bytes((i * 7 + 33) % 94 + 33 for i in range(256))
        file.write(b"\0" + len(message).to_bytes(4, "big") + message)
    costs = {name: [] for name in clusters}
    for _ in range(TURNS):
        for name, cluster in clusters.items():
            leader = cluster.wait_leader()
            h2load_puts(leader, body, 1)
            revision_before, before = revision(cluster, leader), cpu_s(cluster.members)
            answered = h2load_puts(leader, body, CPU_SECONDS)
            spent, stored = cpu_s(cluster.members) - before, revision(cluster, leader) - revision_before
            checks.check(stored >= answered, f"{name}: {answered} answers are {stored} puts")
            costs[name].append(spent / stored * 100000)
            print(f"{name}: 16x16, {stored / (CPU_SECONDS):.0f} put/s, CPU of all members {costs[name][-1]:.2f} s for "
                  "100,000", flush=True)
    for cluster in clusters.values():
        cluster.stop()
    if args.etcd:
        part = statistics.median(costs["cleat"]) / statistics.median(costs["etcd"])
        print(f"medians {statistics.median(costs['cleat']):.2f} and {statistics.median(costs['etcd']):.2f} s: "
              f"{part:.2f} of etcd's", flush=True)
        checks.check(part <= CPU_PART_OF_ETCD, f"CPU: {part:.2f} of etcd's, to reach {CPU_PART_OF_ETCD}")


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", bench="build/release/bench/cleat-bench",
                           crashfs="build/release/tests/e2e/crashfs", etcdctl="etcdctl")
    parser.add_argument("--etcd", metavar="PATH", help="an etcd 3.5 to set beside")
    parser.add_argument("--only", default="slow,cpu", help="parts, separated by commas")
    args = parser.parse_args()
    args.etcdctl = lib.need_program(args.etcdctl)
    parts = args.only.split(",")
    if "slow" in parts and not os.access(args.crashfs, os.X_OK):
        lib.skip("crashfs was not built: FUSE is missing")
    checks = lib.Checks()
    folder = lib.temp_dir("cluster-bench")
    if "slow" in parts:
        for sync_ms in SYNCS_MS:
            on_slow_disks(args, checks, folder, args.cleat, "cleat", sync_ms)
            if args.etcd:
                on_slow_disks(args, checks, folder, args.etcd, "etcd", sync_ms)
    if "cpu" in parts:
        cpu_of_puts(args, checks, folder)
    checks.done()


main()
