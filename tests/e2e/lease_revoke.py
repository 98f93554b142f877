#!/usr/bin/env python3
"""Very many leases are kept alive over many streams: none ends, no stream stands still. A lease with very many keys is
revoked while clients write: no put waits long for it, and the keys go in one revision."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lib

KEYS = 100000 if lib.FULL else 10000
KEYS_PER_TXN = 5000
PUT_MS_MAX = 300


def keep_alive(args, checks, server):
    done = subprocess.run([args.bench, "lease", "--endpoint", server.endpoint, "--leases", "2000", "--connections", "10",
                           "--streams", "20", "--seconds", "20" if lib.FULL else "3"], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=120, check=False)
    print(done.stdout.decode(), flush=True)
    checks.equal(done.returncode, 0, "leases are kept alive: " + done.stdout.decode())


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", bench="build/release/bench/cleat-bench",
                           etcdctl="etcdctl")
    args = parser.parse_args()
    etcdctl = lib.need_program(args.etcdctl)
    checks = lib.Checks()
    top = lib.temp_dir("lease-revoke")
    server = lib.Server(args.cleat, os.path.join(top, "data"), flags=[f"--max-txn-ops={KEYS_PER_TXN}"])
    server.start()
    keep_alive(args, checks, server)

    def ctl(*words, stdin=""):
        done = subprocess.run([etcdctl, "--endpoints", server.endpoint, "--command-timeout=30s", *words], input=stdin,
                              capture_output=True, text=True, env=dict(os.environ, ETCDCTL_API="3"), check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{words}: {done.stdout}{done.stderr}")
        return done.stdout

    lease = ctl("lease", "grant", "600").split()[1]
    for first in range(0, KEYS, KEYS_PER_TXN):
        puts = "".join(f"put held/{i:07} value --lease={lease}\n" for i in range(first, first + KEYS_PER_TXN))
        ctl("txn", stdin=f"\n{puts}\n\n")
    checks.equal(json.loads(ctl("get", "held/", "--prefix", "--limit=1", "-w", "json"))["count"], KEYS, "keys")
    figures = os.path.join(top, "figures")
    bench = lib.spawn([args.bench, "kv", "--endpoint", server.endpoint, "--clients", "8", "--keys", "1000", "--total",
                       "100000000", "--seconds", "4", "--json", figures], stdout=subprocess.DEVNULL)
    lib.wait_until(lambda: int(json.loads(ctl("endpoint", "status", "-w", "json"))[0]["Status"]["raftIndex"]) > 500, 30,
                   "puts")
    ctl("lease", "revoke", lease)
    left = json.loads(ctl("get", "held/", "--prefix", "--limit=1", "-w", "json"))
    checks.equal(left.get("count", 0), 0, "no key is left")
    checks.equal(bench.wait(timeout=60), 0, "the writers")
    with open(figures, encoding="utf-8") as file:
        puts = [json.loads(line) for line in file if '"max_us"' in line]
    worst_ms = max(p["max_us"] for p in puts) / 1000
    print(f"a lease with {KEYS} keys was revoked; the slowest put took {worst_ms:.0f} ms", flush=True)
    checks.check(worst_ms < PUT_MS_MAX, f"the slowest put took {worst_ms:.0f} ms")
    checks.check(server.stop() in (0, -15), "it stops in order")
    checks.done()


main()
