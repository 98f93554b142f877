#!/usr/bin/env python3
"""What a large range costs those who write: put latencies of 16 clients alone and, in turns, while another client reads a range
of 100 MB again and again; as figures, beside etcd's where --etcd names one. The short size is held to what cannot be other
work on the same processors."""
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
TURNS = 5 if lib.FULL else 2
MORE_MS_MAX = 5 if lib.FULL else 100


def bench(args, server, *words):
    path = server.data_dir + ".json"
    subprocess.run([args.bench, "kv", "--endpoint", server.endpoint, *words, "--json", path], check=True, stdout=subprocess.DEVNULL,
                   timeout=300)
    with open(path, encoding="utf-8") as file:
        return json.loads(file.read().splitlines()[-1])


def puts(args, server):
    return bench(args, server, "--clients", "16", "--keys", "10000", "--value-bytes", "256", "--seconds", str(SECONDS))


def measure(args, checks, program, folder, name):
    server = lib.Server(program, os.path.join(folder, name)).start()
    bench(args, server, "--keys", str(BIG_KEYS), "--value-bytes", str(BIG_BYTES), "--clients", "4", "--prefix", "/big/")
    alone, beside, scans = [], [], 0
    for _ in range(TURNS):
        alone.append(puts(args, server))
        path = os.path.join(folder, "scan.json")
        scan = lib.spawn([args.bench, "kv", "--endpoint", server.endpoint, "--op", "scan", "--prefix", "/big/", "--clients", "1",
                          "--seconds", str(SECONDS + 1), "--json", path], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        time.sleep(0.5)
        beside.append(puts(args, server))
        checks.equal(scan.wait(timeout=120), 0, f"{name}: the scans are answered")
        with open(path, encoding="utf-8") as file:
            scans += json.loads(file.read().splitlines()[-1])["count"]
    p50, p99 = (tuple(statistics.median(row[key] for row in rows) / 1000 for rows in (alone, beside)) for key in ("p50_us", "p99_us"))
    rate = tuple(statistics.median(row["per_second"] for row in rows) for rows in (alone, beside))
    print(f"{name}: puts of 16 clients alone {rate[0]:.0f}/s, p50 {p50[0]:.1f} ms, p99 {p99[0]:.1f} ms; beside a range of "
          f"{BIG_KEYS * BIG_BYTES / 1e6:.0f} MB ({scans / TURNS / (SECONDS + 1):.1f}/s) {rate[1]:.0f}/s, p50 {p50[1]:.1f} ms, "
          f"p99 {p99[1]:.1f} ms", flush=True)
    server.stop()
    return p99[1] - p99[0]


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", bench="build/release/bench/cleat-bench", etcd="")
    args = parser.parse_args()
    checks = lib.Checks()
    folder = lib.temp_dir("range-bench")
    more_ms = measure(args, checks, args.cleat, folder, "cleat")
    checks.check(more_ms <= MORE_MS_MAX, f"a large range costs puts {more_ms:.1f} ms at the 99th percentile")
    if args.etcd:
        measure(args, checks, args.etcd, folder, "etcd")
    checks.done()


if __name__ == "__main__":
    main()
