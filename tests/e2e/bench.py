#!/usr/bin/env python3
"""cleat-bench against a real server: what it counts is what happened, and its files compare."""
import json
import subprocess

import lib


def run(args, *words):
    """(exit code, everything it printed)"""
    done = subprocess.run([args.bench, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False, timeout=120)
    return done.returncode, done.stdout.decode()


def rows(path):
    with open(path, encoding="utf-8") as lines:
        return [row for row in map(json.loads, lines) if "row" in row]


def check_kv(args, checks, server, top):
    kv = ["kv", "--endpoint", "http://" + server.endpoint, "--clients", "8", "--keys", "50",
          "--pid", str(server.pid)]
    code, text = run(args, *kv, "--total", "500", "--seed", "3", "--json", top + "/put.json")
    checks.equal(code, 0, "kv put: " + text)
    put = rows(top + "/put.json")[0]
    checks.equal((put["count"], put["failed"]), (500, 0), "puts")
    checks.check(0 < put["p50_us"] <= put["p99_us"] <= put["p999_us"] <= put["max_us"],
                 f"percentiles in order: {put}")
    checks.check(put["process_bytes_per_op"] > 256, f"bytes of the server: {put}")

    code, text = run(args, *kv, "--op", "mixed", "--total", "100", "--json", top + "/mixed.json")
    checks.equal(code, 0, "kv mixed: " + text)
    checks.equal([row["count"] for row in rows(top + "/mixed.json")], [50, 50, 100], "mixed rows")

    code, text = run(args, *kv, "--rate", "200", "--total", "400", "--json", top + "/paced.json")
    checks.equal(code, 0, "kv with a rate: " + text)
    paced = rows(top + "/paced.json")[0]
    checks.check(paced["count"] == 400 and paced["per_second"] < 210, f"none before it is due: {paced}")
    code, text = run(args, *kv, "--rate", "200", "--seconds", "1", "--json", top + "/paced.json")
    checks.equal(code, 0, "kv with a rate, by time: " + text)
    checks.check(0 < rows(top + "/paced.json")[0]["count"] <= 200, "no more than were due: " + text)

    code, text = run(args, *kv, "--total", "3", "--value-bytes", "3000000")
    checks.check(code == 1 and "first error: ResourceExhausted" in text,
                 "a refused put is told: " + text)

    code, text = run(args, "compare", top + "/put.json", top + "/put.json")
    checks.check(code == 0 and "equal" in text and "worse" not in text,
                 "a file is equal to itself: " + text)
    code, text = run(args, "compare", top + "/put.json", top + "/mixed.json")
    checks.equal(code, 0, "rows of one name are found: " + text)


def check_watch(args, checks, server, top):
    watch = ["watch", "--endpoint", "http://" + server.endpoint, "--streams", "20", "--connections", "2", "--pid", str(server.pid),
             "--json", top + "/watch.json"]
    code, text = run(args, *watch, "--op", "put", "--rate", "200", "--seconds", "2")
    checks.equal(code, 0, "watch put: " + text)
    put = rows(top + "/watch.json")[0]
    checks.equal((put["count"], put["failed"]), (400, 0), "puts under watch")
    checks.check(0 < put["event_p50_us"] <= put["event_p99_us"] <= put["event_max_us"], f"times of events: {put}")
    checks.check(0 < put["cpu_percent"] < 200 and put["messages_per_event"] > 0, f"costs of events: {put}")
    code, text = run(args, *watch, "--op", "fanout", "--events", "11", "--rate", "10")
    checks.equal(code, 0, "watch fanout: " + text)
    fanout = rows(top + "/watch.json")[0]
    checks.equal(fanout["count"], 220, "events of a fanout")
    checks.check(fanout["per_second"] <= 220, f"ten puts a second: {fanout}")


def check_lease(args, checks, server, top):
    lease = ["lease", "--endpoint", "http://" + server.endpoint, "--leases", "200", "--connections", "2", "--streams",
             "5", "--pid", str(server.pid), "--json", top + "/lease.json"]
    for words in ([], ["--rate", "300"]):  # each one is renewed more than once a second
        code, text = run(args, *lease, "--ttl", "3", "--seconds", "4", *words)
        checks.equal(code, 0, f"lease {words}: " + text)
        grant, kept, revoke = rows(top + "/lease.json")
        checks.equal((grant["count"], revoke["count"]), (200, 200), "grants and revocations")
        checks.check(kept["count"] > 400 and revoke["expired"] == 0 and kept["cpu_us_per_op"] > 0, f"renewals: {kept}")
    code, text = run(args, *lease, "--ttl", "2", "--seconds", "5", "--rate", "10")
    checks.check(code == 1 and "times a lease had ended" in text, "leases that are not kept alive end: " + text)


def main():
    parser = lib.arguments(__doc__, etcd="etcd", bench=None)
    args = parser.parse_args()
    args.etcd = lib.need_program(args.etcd)
    top = lib.temp_dir("bench")
    checks = lib.Checks()
    server = lib.Server(args.etcd, top + "/server").start()
    check_kv(args, checks, server, top)
    check_watch(args, checks, server, top)
    check_lease(args, checks, server, top)
    server.stop()
    code, text = run(args, "kv", "--endpoint", "127.0.0.1:1", "--total", "1")
    checks.check(code == 1 and "does not answer" in text, "nobody there: " + text)
    code, text = run(args, "disk", "--dir", top, "--seconds", "1", "--json", top + "/disk.json")
    checks.check(code == 0 and len(rows(top + "/disk.json")) >= 1, "disk: " + text)
    code, text = run(args, "wal", "--dir", top, "--seconds", "1", "--json", top + "/wal.json")
    checks.check(code == 0 and rows(top + "/wal.json")[1]["ratio_to_bare"] > 0, "wal: " + text)
    code, text = run(args, "backend", "--dir", top, "--records", "5000", "--gets", "1000")
    checks.check(code == 0 and "sqlite" in text and "lmdb" in text, "backend: " + text)
    code, text = run(args, "mvcc", "--dir", top, "--keys", "2000", "--puts", "5000", "--reads",
                     "1000")
    checks.check(code == 0 and "restart, with checkpoint" in text, "mvcc: " + text)
    for command in ("kv", "disk", "wal", "backend", "mvcc", "watch", "lease", "compare"):
        code, text = run(args, command, "--help")
        checks.check(code == 0 and "usage: cleat-bench " + command in text, command + " --help")
        code, text = run(args, command, "--no-such-option")
        checks.equal(code, 2, f"{command} with an unknown option")
    checks.done()


if __name__ == "__main__":
    main()
