#!/usr/bin/env python3
"""Damage of every kind to snapshots, stores, logs and etcd's files: bits flipped, files cut, blocks zeroed, moved and
swapped. cleatutl either names what is wrong, or what it shows is still right; it never crashes, hangs, or changes
what it reads. One seed, printed, makes the same damage again."""
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time

import lib
import utl_make

MUTATIONS = 5000 if lib.FULL else 120
BLOCK = 512
KEYS = 2000
ENDS_S = 30


def files_below(path):
    if os.path.isfile(path):
        return [path]
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names
                  if not name.endswith(("-lock", "-shm", "probe")) and os.path.getsize(os.path.join(folder, name)) > 0)


def hash_of(path):
    whole = hashlib.sha256()
    for name in files_below(path):
        with open(name, "rb") as file:
            whole.update(name.encode() + file.read())
    return whole.digest()


def used_block(rng, file, size):
    """The offset of a block that is not all zeros, if one is soon found: stores and logs are made ahead of need."""
    for _ in range(60):
        at = rng.randrange(max(1, size // BLOCK)) * BLOCK
        file.seek(at)
        if file.read(BLOCK).strip(b"\0"):
            return at
    return 0


def mutate(rng, path):
    """Damages one file below path; says how."""
    name = rng.choice(files_below(path))
    size = os.path.getsize(name)
    kind = rng.choice(("flip", "flip", "flip", "zero", "noise", "cut", "move", "swap", "empty", "remove"))
    with open(name, "r+b") as file:
        at = used_block(rng, file, size)
        file.seek(at)
        block = file.read(BLOCK)
        where = at + rng.randrange(max(1, len(block)))
        if kind == "flip":
            for _ in range(rng.choice((1, 1, 1, 8))):
                file.seek(where)
                byte = file.read(1)
                if byte:
                    file.seek(where)
                    file.write(bytes([byte[0] ^ 1 << rng.randrange(8)]))
                where = at + rng.randrange(max(1, len(block)))
        elif kind in ("zero", "noise"):
            file.seek(at)
            file.write(bytes(len(block)) if kind == "zero" else rng.randbytes(len(block)))
        elif kind == "cut":
            where = rng.choice((where, at, size - rng.randrange(min(size, 5000)) - 1))
            file.truncate(where)
        elif kind in ("move", "swap"):
            other = used_block(rng, file, size)
            file.seek(other)
            others = file.read(BLOCK)
            file.seek(other)
            file.write(block[:len(others)])
            if kind == "swap":
                file.seek(at)
                file.write(others[:len(block)])
            where = (at, other)
        elif kind == "empty":
            file.truncate(0)
    if kind == "remove" and name != path:
        os.remove(name)
    elif kind == "swap" and name != path and rng.random() < 0.3:
        others = [other for other in files_below(path) if other != name]
        if others:
            other = rng.choice(others)
            shutil.copyfile(other, name)
            where = other
    return f"{kind} {os.path.relpath(name, os.path.dirname(path))} at {where} of {size}"


class Damage:
    def __init__(self, args, checks, top):
        self.args, self.checks, self.top = args, checks, top
        self.detected = self.harmless = 0

    def run(self, *words):
        """(exit code, stdout, stderr); a signal and a hang are failures."""
        begin = time.monotonic()
        try:
            done = subprocess.run([self.args.cleatutl, *words], capture_output=True, timeout=ENDS_S, check=False)
        except subprocess.TimeoutExpired:
            return None, b"", b"hangs"
        return done.returncode, done.stdout, done.stderr + (b"slow" if time.monotonic() - begin > ENDS_S / 2 else b"")

    def commands(self, kind, path):
        first = ("snapshot", "verify", path) if kind == "snapshot" else ("check", "--data-dir", path)
        return [first, ("inspect", "keys", path), ("hashkv", path), ("inspect", "log", path),
                ("inspect", "members", path), ("snapshot", "status", path)]

    def one(self, kind, original, want, rng, number):
        path = f"{self.top}/damaged"
        shutil.copytree(original, path) if os.path.isdir(original) else shutil.copyfile(original, path)
        how = mutate(rng, path)
        what = f"{kind}, {number}: {how}"
        before = hash_of(path)
        commands = self.commands(kind, path)
        results = {}
        for words in commands[:3] + rng.sample(commands[3:], 1):
            code, out, err = results[words] = self.run(*words)
            self.checks.check(code in (0, 1, 6), f"{what}: {' '.join(words)}: ends with {code}: {err[-2000:]!r}")
            self.checks.check(code == 0 or (err.count(b"Error: ") == 1 and len(err) > 30),
                              f"{what}: {' '.join(words)}: {err!r}")
        code, out, _ = results[commands[0]]
        if code == 0:
            self.harmless += 1
            shown = tuple(results[words][1] for words in commands[1:3])
            # bbolt has no checksums: of a directory of etcd's a changed value is as good as the old one.
            right = kind == "etcd" or shown == want
            self.checks.check(right or b"torn tail" in out, f"{what}: taken for sound, but shows something else")
        else:
            self.detected += 1
        self.checks.check(hash_of(path) == before, f"{what}: changed")
        shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)

    def all(self, kind, original, seed, count):
        commands = self.commands(kind, original)
        for words in commands[:3]:
            code, _, err = self.run(*words)
            if not self.checks.equal(code, 0, f"{kind}, undamaged: {' '.join(words)}: {err}"):
                return
        want = tuple(self.run(*words)[1].replace(original.encode(), f"{self.top}/damaged".encode())
                     for words in commands[1:3])
        rng = random.Random(f"{seed} {kind}")
        self.detected = self.harmless = 0
        for number in range(count):
            self.one(kind, original, want, rng, number)
        print(f"{kind}: {self.detected} detected, {self.harmless} harmless", flush=True)
        self.checks.check(self.detected > count // 4, f"{kind}: only {self.detected} of {count} detected")


def make_etcd(tools, top):
    server = lib.Server(tools.args.etcd, f"{top}/etcd").start()
    utl_make.fill(server, KEYS, seed=2)
    tools.etcdctl(server, "snapshot", "save", f"{top}/snapshot.db")
    server.kill()
    for name in os.listdir(f"{server.data_dir}/member/wal"):
        path = f"{server.data_dir}/member/wal/{name}"
        os.remove(path) if name.endswith(".tmp") else os.truncate(path, 4 << 20)
    shrink(tools, server.data_dir, "member/snap/db")
    return server.data_dir


def shrink(tools, data_dir, name):
    """Cuts off what a store's file has been given ahead of need."""
    rows = json.loads(tools.utl("-w", "json", "check", "--data-dir", data_dir).stdout)
    os.truncate(f"{data_dir}/{name}", next(row["count"] for row in rows if row["check"] == "store"))


def make_cleat(tools, top, backend):
    server = lib.Server(tools.args.cleat, f"{top}/{backend}", flags=[f"--backend={backend}"]).start()
    for number in range(200):
        tools.etcdctl(server, "put", f"k{number % 50}", f"value {number} " * 20)
    tools.etcdctl(server, "compact", "90")
    server.stop()
    for folder, _, names in os.walk(server.data_dir):
        for name in names:
            if name.startswith("spare") or name == "probe":
                os.remove(os.path.join(folder, name))
    if backend == "lmdb":
        shrink(tools, server.data_dir, "member/store/0000000000000000.lmdb")
        os.remove(f"{server.data_dir}/member/store/0000000000000000.lmdb-lock")
    return server.data_dir


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", cleatutl="build/release/tools/utl/cleatutl",
                           etcd="etcd", etcdctl="etcdctl")
    parser.add_argument("--seed", default=None)
    parser.add_argument("--count", type=int, default=MUTATIONS)
    args = parser.parse_args()
    args.etcd, args.etcdctl = lib.need_program(args.etcd), lib.need_program(args.etcdctl)
    seed = args.seed or ("1" if not lib.FULL else str(random.randrange(1 << 32)))
    print(f"seed {seed}")
    checks, tools, top = lib.Checks(), utl_make.Tools(args), lib.temp_dir("utl-damage")
    damage = Damage(args, checks, top)
    etcd = make_etcd(tools, top)
    sources = [("snapshot", f"{top}/snapshot.db"), ("etcd", etcd)]
    sources += [(backend, make_cleat(tools, top, backend)) for backend in ("lmdb", "sqlite")]
    for kind, path in sources:
        damage.all(kind, path, seed, args.count // len(sources))
    checks.done()


if __name__ == "__main__":
    sys.exit(main())
