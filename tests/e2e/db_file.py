#!/usr/bin/env python3
"""etcd's db file both ways, against etcd's own programs: what we write they accept, restore and serve; what they write
we read. Content is compared by etcd's hashes, of the file (snapshot status) and of the keys (HashKV)."""
import base64
import json
import os
import random
import subprocess
import urllib.request

import lib

WRITES = 1500


class Tools:
    """etcd's command line, old and new: with etcdutl, or all of it in etcdctl."""

    def __init__(self, args):
        self.etcdctl = args.etcdctl
        self.offline = args.etcdutl or args.etcdctl

    @staticmethod
    def run(command):
        done = subprocess.run(command, env=dict(os.environ, ETCDCTL_API="3"), text=True, capture_output=True,
                              check=False, timeout=120)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr}")
        return done.stdout

    def status(self, path):
        return json.loads(self.run([self.offline, "snapshot", "status", path, "-w", "json"]))

    def restore(self, path, server):
        peer = f"http://127.0.0.1:{server.peer_port}"
        self.run([self.offline, "snapshot", "restore", path, "--data-dir", server.data_dir, "--name", server.name,
                  "--initial-cluster", f"{server.name}={peer}", "--initial-advertise-peer-urls", peer])

    def save(self, server, path):
        self.run([self.etcdctl, "--endpoints", server.endpoint, "snapshot", "save", path])

    def hash_kv(self, server):
        answer = json.loads(self.run([self.etcdctl, "--endpoints", server.endpoint, "endpoint", "hashkv", "-w", "json"]))
        return answer[0]["HashKV"]


def db_tool(args, *words):
    done = subprocess.run([args.db_tool, *words], text=True, capture_output=True, check=False, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"db_tool {' '.join(words)}: exit code {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def call(server, path, **fields):
    """One request to the JSON gateway."""
    request = urllib.request.Request(f"http://{server.endpoint}/v3/{path}", json.dumps(fields).encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def b64(data):
    return base64.b64encode(data).decode()


def write(server, seed):
    """Puts, deletes, transactions, leases, values larger than a page, and compactions."""
    rng = random.Random(seed)
    lease = call(server, "lease/grant", TTL=10000)["ID"]
    for i in range(WRITES):
        key = b64(b"/registry/%03d" % rng.randrange(300))
        size = rng.randrange(300000) if rng.randrange(100) == 0 else rng.randrange(300)
        put = {"key": key, "value": b64(rng.randbytes(size)), "lease": lease if rng.randrange(3) == 0 else 0}
        kind = rng.randrange(10)
        if kind == 0:
            call(server, "kv/deleterange", key=key)
        elif kind == 1:
            other = dict(put, key=b64(b"/other/%d" % i))
            answer = call(server, "kv/txn", success=[{"requestPut": put}, {"requestPut": other}])
        else:
            answer = call(server, "kv/put", **put)
        if i % (WRITES // 3) == WRITES // 4:
            revision = int(answer["header"]["revision"]) - 100
            call(server, "kv/compaction", revision=revision, physical=True)


def expect_agreement(checks, tools, args, path, hash_kv, what):
    """The file at path, by our reader and loader and by etcd's."""
    ours = db_tool(args, "read", path)
    theirs = tools.status(path)
    for field in ("hash", "totalKey", "totalSize"):
        checks.equal(ours[field], theirs[field], f"{what}: {field} of the file")
    checks.equal(ours["revision"], theirs["revision"], f"{what}: revision")
    checks.equal(ours["hash_kv"], hash_kv["hash"], f"{what}: HashKV")
    checks.equal(ours["compact_revision"], hash_kv["compact_revision"], f"{what}: compact revision")
    return ours


def our_file_in_etcd(checks, tools, args, top):
    for seed in (1, 2):
        path = f"{top}/ours-{seed}.db"
        made = db_tool(args, "make", path, str(seed))
        what = f"our file {seed}"
        read = expect_agreement(checks, tools, args, path,
                                {"hash": made["hash_kv"], "compact_revision": made["compact_revision"]}, what)
        checks.equal(read["digest"], "ok", f"{what}: digest")
        checks.equal(read["index"], made["index"], f"{what}: index")
        server = lib.Server(args.etcd, f"{top}/restored-{seed}")
        tools.restore(path, server)
        server.start()
        checks.equal(tools.hash_kv(server)["hash"], made["hash_kv"], f"{what}: HashKV when restored and served")
        write(server, seed)  # into the pages we made
        hash_kv = tools.hash_kv(server)
        saved = f"{top}/restored-{seed}.db"
        tools.save(server, saved)
        expect_agreement(checks, tools, args, saved, hash_kv, f"{what}, written to by etcd")
        server.stop()


def etcds_file_here(checks, tools, args, top):
    server = lib.Server(args.etcd, f"{top}/etcd").start()
    write(server, seed=3)
    hash_kv = tools.hash_kv(server)
    path = f"{top}/theirs.db"
    tools.save(server, path)
    read = expect_agreement(checks, tools, args, path, hash_kv, "etcd's snapshot")
    checks.equal(read["digest"], "ok", "etcd's snapshot: digest")
    checks.equal(read["metas"], 2, "etcd's snapshot: valid metas")
    checks.check(read["index"] > WRITES, "etcd's snapshot: its entries are counted")
    server.stop()
    live = f"{top}/etcd/member/snap/db"  # free pages, a tail
    expect_agreement(checks, tools, args, live, hash_kv, "etcd's own db file")


def main():
    parser = lib.arguments(__doc__, etcd="etcd", etcdctl="etcdctl", etcdutl=None, db_tool=None)
    args = parser.parse_args()
    args.etcd = lib.need_program(args.etcd)
    args.etcdctl = lib.need_program(args.etcdctl)
    checks = lib.Checks()
    tools = Tools(args)
    top = lib.temp_dir("db-file")
    our_file_in_etcd(checks, tools, args, top)
    etcds_file_here(checks, tools, args, top)
    checks.done()


if __name__ == "__main__":
    main()
