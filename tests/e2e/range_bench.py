#!/usr/bin/env python3
"""What large ranges cost the others, as figures, beside etcd's where --etcd names one: latencies of 16 clients' puts, as many as
they can, alone and, in turns, while another client reads a range of 100 MB each second; and of gets at a rate while three clients
read such ranges again and again. Who reads the large ranges gives way to the rest: it stands for other machines. The short size is
held to what cannot be other work on the same processors."""
import collections
import json
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lib

BIG_KEYS = 1000 if lib.FULL else 200
BIG_BYTES = 100000
SECONDS = 5 if lib.FULL else 2
TURNS = 5 if lib.FULL else 1
# Calls of 16 clients, at a rate (0: as fast as they go), and the large ranges beside them.
Load = collections.namedtuple("Load", "op rate scanners scan_rate")
PUTS = Load("put", 0, 1, 1)
GETS = Load("range", 2000, 3, 0)
PUTS_MS_MAX = 5 if lib.FULL else 300
GETS_MS_MAX = 50 if lib.FULL else 300


def bench(args, server, *words):
    path = server.data_dir + ".json"
    subprocess.run([args.bench, "kv", "--endpoint", server.endpoint, *words, "--json", path], check=True, stdout=subprocess.DEVNULL,
                   timeout=300)
    with open(path, encoding="utf-8") as file:
        return json.loads(file.read().splitlines()[-1])


def small_calls(args, server, load):
    return bench(args, server, "--op", load.op, "--clients", "16", "--keys", "10000", "--value-bytes", "256", "--rate", str(load.rate),
                 "--seconds", str(SECONDS))


def beside_scans(args, checks, server, load):
    """One turn beside the large ranges, and how many of these were answered."""
    path = server.data_dir + ".scan.json"
    scan = lib.spawn(["nice", "-n", "19", args.bench, "kv", "--endpoint", server.endpoint, "--op", "scan", "--prefix", "/big/",
                      "--clients", str(load.scanners), "--connections", str(load.scanners), "--rate", str(load.scan_rate),
                      "--seconds", str(SECONDS + 1), "--json", path],
                     stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    time.sleep(0.5)
    row = small_calls(args, server, load)
    checks.equal(scan.wait(timeout=120), 0, f"{server.binary}: the scans are answered")
    with open(path, encoding="utf-8") as file:
        return row, json.loads(file.read().splitlines()[-1])["count"]


def measure(args, checks, server, name, load):
    """How much the 99th percentile rises, in ms."""
    alone, beside, scans = [], [], 0
    for _ in range(TURNS):
        alone.append(small_calls(args, server, load))
        row, count = beside_scans(args, checks, server, load)
        beside.append(row)
        scans += count
    p50, p99 = (tuple(statistics.median(row[key] for row in rows) / 1000 for rows in (alone, beside)) for key in ("p50_us", "p99_us"))
    rate = statistics.median(row["per_second"] for row in alone), statistics.median(row["per_second"] for row in beside)
    print(f"{name}: {load.op}s alone {rate[0]:.0f}/s, p50 {p50[0]:.1f} ms, p99 {p99[0]:.1f} ms; beside {load.scanners} reading "
          f"{BIG_KEYS * BIG_BYTES / 1e6:.0f} MB ({scans / TURNS / (SECONDS + 1):.1f}/s) {rate[1]:.0f}/s, p50 {p50[1]:.1f} ms, "
          f"p99 {p99[1]:.1f} ms", flush=True)
    return p99[1] - p99[0]


def measure_server(args, checks, program, folder, name):
    server = lib.Server(program, os.path.join(folder, name)).start()
    bench(args, server, "--keys", str(BIG_KEYS), "--value-bytes", str(BIG_BYTES), "--clients", "4", "--prefix", "/big/")
    puts_ms = measure(args, checks, server, name, PUTS)
    gets_ms = measure(args, checks, server, name, GETS)
    server.stop()
    return puts_ms, gets_ms


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", bench="build/release/bench/cleat-bench", etcd="")
    args = parser.parse_args()
    checks = lib.Checks()
    folder = lib.temp_dir("range-bench")
    puts_ms, gets_ms = measure_server(args, checks, args.cleat, folder, "cleat")
    checks.check(puts_ms <= PUTS_MS_MAX, f"a large range costs puts {puts_ms:.1f} ms at the 99th percentile")
    checks.check(gets_ms <= GETS_MS_MAX, f"large ranges cost gets {gets_ms:.1f} ms at the 99th percentile")
    if args.etcd:
        measure_server(args, checks, args.etcd, folder, "etcd")
    checks.done()


if __name__ == "__main__":
    main()
