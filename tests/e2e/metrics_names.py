#!/usr/bin/env python3
"""After the same work an etcd and a cleat show the same metrics: names, types, labels and buckets, and as many calls of each
method. What only etcd has is listed in docs/metrics.md with the reason, what only cleat has begins with its own name or is of a
later etcd. With --metrics=extensive, and once more without."""
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lib

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/metrics.md")
LATER = {  # than the etcd 3.4 that a Debian has
    "etcd_debugging_mvcc_db_compaction_last", "etcd_server_apply_duration_seconds", "etcd_server_healthcheck",
    "etcd_server_healthchecks_total", "etcd_debugging_auth_revision",
}
MORE_LABELS = {"etcd_network_peer_received_bytes_total"}  # an etcd that is alone has it or not, by its version


def families(endpoint):
    """name -> (type, sets of labels, bounds of its buckets)"""
    _, body = lib.http_get(f"http://{endpoint}/metrics")
    kinds, labels, bounds = {}, {}, {}
    for line in body.decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            kinds[name] = kind
        elif line and not line.startswith("#"):
            name, text = re.fullmatch(r"(\w+)(?:\{(.*)\})? \S+", line).groups()
            if name not in kinds:
                name = re.sub("_(bucket|sum|count)$", "", name)
            pairs = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', text or ""))
            if "le" in pairs and pairs["le"] != "+Inf":
                bounds.setdefault(name, set()).add(round(float(pairs["le"]), 6))
            labels.setdefault(name, set()).add(tuple(sorted(set(pairs) - {"le"})))
    return {name: (kind, labels.get(name, set()), bounds.get(name, set())) for name, kind in kinds.items()}


def handled(endpoint):
    """(service, method) -> number of its calls whose time is shown."""
    _, body = lib.http_get(f"http://{endpoint}/metrics")
    rows = re.findall(r'^grpc_server_handling_seconds_count\{grpc_method="(\w+)",grpc_service="([\w.]+)",grpc_type="\w+"\} (\d+)$',
                      body.decode(), re.M)
    return {(service, method): int(count) for method, service, count in rows}


def applied(endpoint):
    """(operation, success, version) of what was applied; of an etcd before 3.5 nothing."""
    _, body = lib.http_get(f"http://{endpoint}/metrics")
    return set(re.findall(r'^etcd_server_apply_duration_seconds_count\{op="(\w+)",success="(\w+)",version="(\w+)"\}',
                          body.decode(), re.M))


def gateway(server, path, body):
    """One call through the JSON gateway, whatever comes of it; of a stream the first line."""
    request = urllib.request.Request(f"http://{server.endpoint}{path}", data=body.encode())
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            answer.readline()
    except urllib.error.HTTPError:
        pass


def work(etcdctl, server, folder):
    snapshot = os.path.join(folder, f"{server.client_port}.db")
    for path, body in (("/v3/kv/put", '{"key":"YQ==","value":"Yg=="}'), ("/v3/kv/range", '{"key":"YQ=="}'),
                       ("/v3/kv/range", '{"key":"YQ==","revision":"99"}'), ("/v3/kv/range", '{"key":'),
                       ("/v3/watch", '{"create_request":{"key":"YQ=="}}'), ("/v3/lease/keepalive", '{"ID":"7"}')):
        gateway(server, path, body)
    for arguments in (("put", "a", "b"), ("get", "a"), ("del", "a"), ("put", "c", "d"), ("compaction", "3"), ("defrag",),
                      ("snapshot", "save", snapshot), ("endpoint", "hashkv"), ("alarm", "list"), ("member", "list"),
                      ("lease", "grant", "100")):
        done = subprocess.run([etcdctl, "--endpoints", server.endpoint, *arguments], capture_output=True, text=True, timeout=60,
                              env=dict(os.environ, ETCDCTL_API="3"), check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{arguments}: {done.stderr}")
    for path in ("health", "readyz", "livez"):
        lib.http_get(f"http://{server.endpoint}/{path}")
    watch = ("etcdserverpb.Watch", "Watch")  # its client has gone
    lib.wait_until(lambda: handled(server.endpoint).get(watch) == 1, 30, f"{server.binary} counts the watch that has ended")
    return families(server.endpoint)


def same_calls(checks, theirs, ours):
    """What etcd does not show yet nobody has called."""
    for call, count in sorted(theirs.items()):
        checks.equal(ours.get(call), count, f"calls of {call}")
    for call in sorted(set(ours) - set(theirs)):
        checks.equal(ours[call], 0, f"calls of {call}, which etcd does not show")
    for call, least in ((("etcdserverpb.KV", "Range"), 3), (("etcdserverpb.Lease", "LeaseKeepAlive"), 1)):
        checks.check(theirs.get(call, 0) >= least, f"etcd counts the calls of {call} through its gateway")


def basic(checks, servers):
    for server in servers:
        server.stop()
        server.flags = []
        server.start()
        gateway(server, "/v3/kv/put", '{"key":"YQ==","value":"Yg=="}')
        checks.check("grpc_server_handling_seconds" not in families(server.endpoint),
                     f"{server.binary} shows no times of calls without --metrics=extensive")


def not_here():
    """Patterns of the names that the page says are etcd's alone."""
    with open(PAGE, encoding="utf-8") as file:
        part = file.read().split("## Names of etcd's that are not here", 1)[1]
    rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    return [name.replace("*", ".*") for row in rows for name in re.findall(r"`([\w*]+)`", row)]


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", etcd="etcd", etcdctl="etcdctl")
    args = parser.parse_args()
    etcdctl = lib.need_program(args.etcdctl)
    etcd = lib.need_program(args.etcd)
    checks = lib.Checks()
    folder = lib.temp_dir("metrics-names")
    servers = [lib.Server(program, os.path.join(folder, name), flags=["--metrics=extensive"]).start()
               for name, program in (("etcd", etcd), ("cleat", args.cleat))]
    theirs, ours = [work(etcdctl, server, folder) for server in servers]
    absent = not_here()
    for name, facts in sorted(theirs.items()):
        if any(re.fullmatch(pattern, name) for pattern in absent):
            checks.check(name not in ours, f"docs/metrics.md says that {name} is not here")
        elif checks.check(name in ours, f"{name} {facts} is missing"):
            checks.equal(ours[name][0], facts[0], f"type of {name}")
            checks.equal(ours[name][2], facts[2], f"buckets of {name}")
            if name not in MORE_LABELS:
                checks.equal(ours[name][1], facts[1], f"labels of {name}")
    for name in sorted(ours):
        checks.check(name in theirs or name.startswith("cleat_") or name in LATER or name in MORE_LABELS, f"{name} is nobody's")
    operations = [applied(server.endpoint) for server in servers]
    if operations[0]:
        checks.equal(operations[1], operations[0], "operations that were applied")
    same_calls(checks, *[handled(server.endpoint) for server in servers])
    both = len(set(ours) & set(theirs))
    print(f"{both} names are the same, {len(set(theirs) - set(ours))} are etcd's alone, {len(set(ours) - set(theirs))} ours")
    basic(checks, servers)
    for server in servers:
        server.stop()
    checks.done()


if __name__ == "__main__":
    main()
