#!/usr/bin/env python3
"""cleatutl makes members of snapshots and directories, etcd's and Cleat's: what was in them is served, with the same
revisions and the same HashKV, whatever the way."""
import base64
import glob
import json
import os
import random
import re
import subprocess
import sys
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster_lib
import lib

KEYS = 200000 if lib.FULL else 5000
LARGE = 1400000 if lib.FULL else 200000  # bytes of the largest values
KEYS_A_TXN = 100
BLOCK = 4096


def b64(data):
    return base64.b64encode(data).decode()


def call(server, path, **fields):
    """One request to the JSON gateway of an etcd."""
    request = urllib.request.Request(f"http://{server.endpoint}/v3/{path}", json.dumps(fields).encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


class Tools:
    """The programs, and how they are called."""

    def __init__(self, args):
        self.args = args

    @staticmethod
    def run(command, ok=True):
        done = subprocess.run(command, env=dict(os.environ, ETCDCTL_API="3"), text=True, capture_output=True,
                              check=False, timeout=600)
        if ok and done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr}")
        return done

    def utl(self, *words, ok=True):
        return self.run([self.args.cleatutl, *words], ok)

    def etcdctl(self, server, *words, ok=True):
        return self.run([self.args.etcdctl, "--endpoints", server.endpoint, *words], ok).stdout

    def etcd_restore(self, path, server, *flags):
        """By etcd's own tool, old or new."""
        peer = f"http://127.0.0.1:{server.peer_port}"
        offline = self.args.etcdutl or self.args.etcdctl
        self.run([offline, "snapshot", "restore", path, "--data-dir", server.data_dir, "--name", server.name,
                  "--initial-cluster", f"{server.name}={peer}", "--initial-advertise-peer-urls", peer, *flags])

    def serve(self, server):
        """Starts it and waits for an answer: with an alarm in it, it never calls itself healthy."""
        server.launch()
        self.wait_for(server)
        return server

    def wait_for(self, server):
        lib.wait_until(lambda: not server.is_alive() or '"leader":' in self.etcdctl(
            server, "--command-timeout=1s", "endpoint", "status", "-w", "json", ok=False), 30,
            f"{server.data_dir} serves; its log ends:\n{server.log_tail()}")
        if not server.is_alive():
            raise RuntimeError(f"{server.data_dir} ended:\n{server.log_tail()}")
        self.etcdctl(server, "get", "none")

    def content(self, server):
        """Every key with its revisions, and the hash of the whole history."""
        keys = json.loads(self.etcdctl(server, "get", "", "--prefix", "-w", "json"))
        answer = json.loads(self.etcdctl(server, "endpoint", "hashkv", "-w", "json"))[0]["HashKV"]
        return {"keys": keys.get("kvs"), "revision": keys["header"]["revision"], "hash": answer["hash"],
                "compacted": answer["compact_revision"]}

    def small(self, server):
        """What else a store holds: only of servers that answer all of it."""
        leases = sorted(json.loads(self.etcdctl(server, "lease", "list", "-w", "json")).get("leases", []),
                        key=lambda lease: lease["id"])
        return {"leases": leases, "users": self.etcdctl(server, "user", "list"),
                "roles": self.etcdctl(server, "role", "list"), "role": self.etcdctl(server, "role", "get", "reader"),
                "alarms": self.etcdctl(server, "alarm", "list")}


def founding(server):
    peer = f"http://127.0.0.1:{server.peer_port}"
    return ["--name", server.name, "--initial-cluster", f"{server.name}={peer}", "--initial-advertise-peer-urls", peer]


def fill(server, count, seed):
    """Puts, deletions, rewritten keys, leases, users and roles, large values, and a compaction in the middle."""
    rng = random.Random(seed)
    lease = call(server, "lease/grant", TTL=100000)["ID"]
    call(server, "lease/grant", TTL=50000)
    call(server, "auth/role/add", name="reader")
    call(server, "auth/role/grant", name="reader", perm={"permType": "READ", "key": b64(b"a"), "range_end": b64(b"b")})
    call(server, "auth/user/add", name="bob", password="secret")
    call(server, "auth/user/grant", user="bob", role="reader")
    for i in range(0, count, KEYS_A_TXN):
        ops = []
        for j in range(i, i + KEYS_A_TXN):
            put = {"key": b64(b"/registry/%07d" % j), "value": b64(rng.randbytes(rng.randrange(200)))}
            ops.append({"requestPut": dict(put, lease=lease) if j % 5 == 0 else put})
        answer = call(server, "kv/txn", success=ops)
        call(server, "kv/put", key=b64(b"/again"), value=b64(b"%d" % i))
        if i % (count // 5) == 0:
            call(server, "kv/put", key=b64(b"/large/%d" % i), value=b64(rng.randbytes(LARGE)))
            call(server, "kv/deleterange", key=b64(b"/registry/%07d" % i), range_end=b64(b"/registry/%07d" % (i + 7)))
        if i == count // 2:
            call(server, "kv/compaction", revision=int(answer["header"]["revision"]) - 10, physical=True)
    call(server, "maintenance/alarm", action="ACTIVATE", memberID="77", alarm="NOSPACE")


def restored_here(checks, tools, snapshot, want, top):
    """A snapshot of etcd's, restored by cleatutl into each backend and served by Cleat."""
    for backend in ("lmdb", "sqlite"):
        server = lib.Server(tools.args.cleat, f"{top}/restored-{backend}")
        done = tools.utl("snapshot", "restore", snapshot, "--data-dir", server.data_dir, "--backend", backend,
                         *founding(server))
        checks.check("--bump-revision" in done.stderr, "restore: warns of revisions that are given out again")
        checks.equal(done.stdout, "", "restore: stdout")
        tools.serve(server)
        checks.equal(tools.content(server), want, f"restored into {backend}: content")
        server.stop()


def jumped(checks, tools, snapshot, want, top):
    """The same jump of the revision by etcd's tool and ours."""
    ours, theirs = lib.Server(tools.args.cleat, f"{top}/jumped"), lib.Server(tools.args.etcd, f"{top}/their-jump")
    flags = ["--bump-revision", "1000000", "--mark-compacted"]
    tools.utl("snapshot", "restore", snapshot, "--data-dir", ours.data_dir, *founding(ours), *flags)
    got = tools.content(tools.serve(ours))
    checks.equal(got["revision"], want["revision"] + 1000000, "with a jump: revision")
    checks.equal(got["compacted"], got["revision"], "with a jump: compacted")
    checks.equal(got["keys"], want["keys"], "with a jump: keys")
    if tools.args.etcdutl:
        tools.etcd_restore(snapshot, theirs, *flags)
        checks.equal(got, tools.content(tools.serve(theirs)), "with a jump: as etcdutl's")
        theirs.stop()
    ours.stop()


def three(checks, tools, snapshot, want, top):
    """Three members restored with one --initial-cluster find each other."""
    servers = [lib.Server(tools.args.cleat, f"{top}/three-{i}", name=f"m{i}") for i in range(3)]
    cluster = ",".join(f"{s.name}=http://127.0.0.1:{s.peer_port}" for s in servers)
    for server in servers:
        tools.utl("snapshot", "restore", snapshot, "--data-dir", server.data_dir, "--name", server.name,
                  "--initial-cluster", cluster, "--initial-advertise-peer-urls", f"http://127.0.0.1:{server.peer_port}",
                  "--initial-cluster-token", "again")
        server.flags = ["--initial-cluster", cluster]
        server.launch()
    for server in servers:
        tools.wait_for(server)
    for server in servers:
        checks.equal(tools.content(server), want, f"three members: {server.name}")
    tools.etcdctl(servers[0], "alarm", "disarm", ok=False)
    members = tools.etcdctl(servers[1], "member", "list")
    checks.equal(members.count("started"), 3, f"three members: {members}")
    for server in servers:
        server.stop()


def saved(checks, tools, directory, want, small, top, what):
    """A stopped member's files as a snapshot that etcd's tools take; nothing in it is lost on the way."""
    path = f"{top}/saved-{what}.db"
    done = tools.utl("snapshot", "save", path, "--data-dir", directory)
    checks.equal(done.stdout, f"Snapshot saved at {path}\n", f"save, {what}: stdout")
    again = tools.utl("snapshot", "save", path, "--data-dir", directory, ok=False)
    checks.check(again.returncode == 1 and "exists already" in again.stderr, f"save, {what}: overwrites")
    server = lib.Server(tools.args.etcd, f"{top}/saved-{what}")
    tools.etcd_restore(path, server)
    checks.equal(tools.content(tools.serve(server)), want, f"save, {what}: content")
    if small:
        checks.equal(tools.small(server), small, f"save, {what}: leases, users, roles and alarms")
    server.stop()
    exported = f"{top}/exported-{what}.db"
    tools.utl("export", exported, "--to", "etcd-db", "--data-dir", directory)
    with open(path, "rb") as one, open(exported, "rb") as other:
        checks.check(one.read()[:-32] == other.read(), f"export, {what}: as the snapshot, without its digest")


def saves(checks, tools, etcd_dir, tail, want, small, top):
    saved(checks, tools, etcd_dir, tail, small, top, "etcd")
    for backend in ("lmdb", "sqlite"):
        saved(checks, tools, f"{top}/restored-{backend}", want, small, top, backend)
    server = lib.Server(tools.args.cleat, f"{top}/killed").start()
    for number in range(50):
        tools.etcdctl(server, "put", f"k{number % 20}", f"{number}")
    tools.etcdctl(server, "del", "k3")
    busy = tools.utl("snapshot", "save", f"{top}/busy.db", "--data-dir", server.data_dir, ok=False)
    checks.check(busy.returncode == 1 and "in use" in busy.stderr, f"save beside the server: {busy.stderr}")
    want = tools.content(server)
    server.kill()
    saved(checks, tools, server.data_dir, want, None, top, "killed")


def imports(checks, tools, etcd, tail, snapshot, want, top):
    """An etcd that was killed goes on as Cleat: as who it was, or as the first of a new cluster."""
    for backend in ("lmdb", "sqlite"):
        server = lib.Server(tools.args.cleat, f"{top}/imported-{backend}")
        server.client_port, server.peer_port = etcd.client_port, etcd.peer_port
        words = ["import", etcd.data_dir, "--data-dir", server.data_dir, "--backend", backend]
        tools.utl(*words, "--dry-run")
        checks.check(not os.path.exists(server.data_dir), "import: a try made something")
        done = tools.utl(*words)
        checks.check('"ids": "kept"' in done.stderr, f"import: {done.stderr}")
        checks.equal(tools.content(tools.serve(server)), tail, f"imported into {backend}: content")
        status = json.loads(tools.etcdctl(server, "endpoint", "status", "-w", "json"))[0]["Status"]["header"]
        checks.equal((status["cluster_id"], status["member_id"]), etcd.ids, f"imported into {backend}: ids")
        server.stop()
    server = lib.Server(tools.args.cleat, f"{top}/imported-new")
    tools.utl("import", etcd.data_dir, "--data-dir", server.data_dir, *founding(server))
    checks.equal(tools.content(tools.serve(server)), tail, "imported as a new cluster: content")
    server.stop()
    unknown = tools.utl("import", snapshot, "--data-dir", f"{top}/unmade-import", ok=False)
    checks.check(unknown.returncode == 1 and "--initial-cluster" in unknown.stderr, f"a file's ids: {unknown.stderr}")
    server = lib.Server(tools.args.cleat, f"{top}/imported-file")
    tools.utl("import", snapshot, "--data-dir", server.data_dir, *founding(server))
    checks.equal(tools.content(tools.serve(server)), want, "imported from a file: content")
    server.stop()


def among_etcds(checks, tools, top):
    """One of three etcds is killed under way, imported, and takes its place again as Cleat: the others need not know."""
    os.mkdir(f"{top}/mixed")
    cluster = cluster_lib.Cluster(tools.args.etcd, f"{top}/mixed", 3, etcdctl=tools.args.etcdctl).start()
    for number in range(30):
        cluster.ctl("put", f"k{number}", "before")
    leader = cluster.wait_leader()
    member = cluster.followers()[0]
    id_ = cluster.id_of(member)
    member.kill()
    others = [m for m in cluster.members if m is not member]
    for number in range(30):
        cluster.ctl("put", f"k{number}", "meanwhile", members=others)
    tools.utl("import", member.data_dir, "--data-dir", f"{top}/mixed/imported")
    member.binary, member.data_dir = tools.args.cleat, f"{top}/mixed/imported"
    cluster.restart(member)
    cluster.ctl("put", "after", "all", members=[member])
    checks.equal(cluster.id_of(member), id_, "among etcds: the member's id")
    for m in cluster.members:
        checks.equal(cluster.ctl("get", "after", "--print-value-only", members=[m]).strip(), "all", f"among etcds: {m.name}")
        checks.equal(cluster.ctl("get", "k7", "--print-value-only", members=[m]).strip(), "meanwhile",
                     f"among etcds: {m.name}")
    hashes = {json.loads(cluster.ctl("endpoint", "hashkv", "-w", "json", members=[m]))[0]["HashKV"]["hash"]
              for m in cluster.members}
    checks.equal(len(hashes), 1, "among etcds: one hash")
    leader.stop()
    cluster.ctl("put", "without", "the leader", members=[member])
    checks.equal(cluster.ctl("member", "list", members=[member]).count("started"), 3, "among etcds: members")
    cluster.stop()


def rewritten(checks, tools, snapshot, want, top):
    """LMDB to SQLite and back, and each written anew."""
    server = lib.Server(tools.args.cleat, f"{top}/rewritten")
    tools.utl("snapshot", "restore", snapshot, "--data-dir", server.data_dir, *founding(server))
    tools.etcdctl(tools.serve(server), "alarm", "disarm", ok=False)
    tools.etcdctl(server, "put", "after", "the restore", ok=False)
    want = tools.content(server)
    for number, words in enumerate((("defrag",), ("convert", "--backend", "sqlite"), ("defrag",),
                                    ("convert", "--backend", "lmdb"))):
        what = f"{number}, {' '.join(words)}"
        busy = tools.utl(*words, "--data-dir", server.data_dir, ok=False)
        checks.check(busy.returncode == 1 and "in use" in busy.stderr, f"{what}: not refused beside its member")
        server.stop()
        before = sorted(os.listdir(f"{server.data_dir}/member/store"))
        tools.utl(*words, "--data-dir", server.data_dir, "--dry-run")
        checks.equal(sorted(os.listdir(f"{server.data_dir}/member/store")), before, f"{what}: a try changed something")
        done = tools.utl(*words, "--data-dir", server.data_dir)
        checks.check("finished defragmenting" in done.stderr or "converted" in done.stderr, f"{what}: {done.stderr}")
        checks.equal(tools.content(tools.serve(server)), want, f"{what}: content")
    server.stop()
    again = tools.utl("convert", "--backend", "lmdb", "--data-dir", server.data_dir, ok=False)
    checks.check(again.returncode == 1 and "already" in again.stderr, f"convert to the same: {again.stderr}")


def log_apart(checks, tools, snapshot, want, top):
    """A member whose log lies in a directory of its own."""
    wal_dir = f"{top}/the-log"
    server = lib.Server(tools.args.cleat, f"{top}/deep/down/apart", flags=["--wal-dir", wal_dir])
    os.makedirs(f"{top}/deep/down")
    tools.utl("snapshot", "restore", snapshot, "--data-dir", server.data_dir, "--wal-dir", wal_dir, *founding(server))
    checks.equal(tools.content(tools.serve(server)), want, "a log apart: content")
    server.stop()
    lost = tools.utl("defrag", "--data-dir", server.data_dir, ok=False)
    checks.check(lost.returncode == 1 and "--wal-dir" in lost.stderr, f"a log apart: not told of it: {lost.stderr}")
    tools.utl("defrag", "--data-dir", server.data_dir, "--wal-dir", wal_dir)
    tools.utl("snapshot", "save", f"{top}/apart.db", "--data-dir", server.data_dir, "--wal-dir", wal_dir)
    done = tools.utl("recover", f"{server.data_dir}={wal_dir}", snapshot)
    checks.check("The best is" in done.stdout, f"a log apart: recover: {done.stdout}")
    checks.equal(tools.content(tools.serve(server)), want, "a log apart: content, written anew")
    server.stop()


def is_written(path, offset):
    with open(path, "rb") as file:
        file.seek(offset)
        return any(file.read(BLOCK))


def cut_log(checks, tools, top):
    """A bit flips in the middle of the only member's log: it refuses, is cut before the damage, and goes on."""
    server = lib.Server(tools.args.cleat, f"{top}/damaged").start()
    for number in range(20):
        tools.etcdctl(server, "put", f"k{number}", "v" * 100)
    server.kill()
    directory = ["--data-dir", server.data_dir]
    sound = tools.utl("log", "truncate", *directory, "--after", "10", "--dry-run")
    checks.check('"readable-entries-lost": ' in sound.stderr, f"a try on a sound log: {sound.stderr}")
    wal_dir = f"{server.data_dir}/member/wal"
    path = next(path for path in glob.glob(f"{wal_dir}/*.wal") if is_written(path, 8 * BLOCK))
    with open(path, "r+b") as file:
        file.seek(8 * BLOCK + 140)
        byte = file.read(1)
        file.seek(8 * BLOCK + 140)
        file.write(bytes([byte[0] ^ 1]))
    server.launch()
    lib.wait_until(lambda: not server.is_alive(), 30, "refuses its damaged log")
    log = server.log_tail()
    checks.check("cleatutl log truncate" in log, f"the refusal names the way out: {log}")
    first = int(re.search(r"Entr(?:y|ies) (\d+)", log).group(1))
    cut = ["log", "truncate", *directory, "--after", str(first - 1)]
    beyond = tools.utl("log", "truncate", *directory, "--after", str(first), "--yes", ok=False)
    checks.check("can be trusted up to" in beyond.stderr, f"behind the damage: {beyond.stderr}")
    hesitant = tools.utl(*cut, ok=False)
    checks.check(hesitant.returncode == 1 and "--yes" in hesitant.stderr and "is damaged" in hesitant.stderr,
                 f"without --yes: {hesitant.stderr}")
    checks.check(not any("cut" in name for name in os.listdir(f"{server.data_dir}/member")), "without --yes: changed")
    tools.utl(*cut, "--yes")
    server.start()
    keys = tools.etcdctl(server, "get", "k", "--prefix", "--keys-only").split()
    checks.check(0 < len(keys) < 20 and "k0" in keys, f"after the cut: {keys}")
    tools.etcdctl(server, "put", "after", "the cut")
    server.kill()
    server.start()
    checks.equal(tools.etcdctl(server, "get", "after"), "after\nthe cut\n", "after the cut and a crash")
    server.stop()
    checks.check(os.path.isdir(f"{server.data_dir}/member/wal.cut-1"), "the damaged log is kept")


def refusals(checks, tools, snapshot, top):
    def refused(what, word, *words):
        done = tools.utl(*words, ok=False)
        checks.check(done.returncode == 1 and word in done.stderr, f"{what}: {done.returncode}, {done.stderr!r}")

    os.mkdir(f"{top}/used")
    with open(f"{top}/used/file", "w", encoding="ascii") as file:
        file.write("x")
    restore = ["snapshot", "restore", snapshot, "--data-dir"]
    refused("a used directory", "not empty", *restore, f"{top}/used")
    refused("a used log directory", "exists", *restore, f"{top}/unmade", "--wal-dir", f"{top}/used")
    refused("a wrong name", "couldn't find local name", *restore, f"{top}/unmade", "--name", "other")
    with open(snapshot, "rb") as file:
        damaged = bytearray(file.read())
    damaged[len(damaged) // 2] ^= 1
    with open(f"{top}/damaged.db", "wb") as file:
        file.write(damaged)
    refused("a damaged snapshot", "expected sha256 ", "snapshot", "restore", f"{top}/damaged.db", "--data-dir", f"{top}/unmade")
    refused("no snapshot", "no such file", "snapshot", "restore", f"{top}/none", "--data-dir", f"{top}/unmade")
    tools.utl(*restore, f"{top}/unmade", "--dry-run")
    checks.check(not os.path.exists(f"{top}/unmade"), "what was refused, or only tried, made a directory")


def main():
    parser = lib.arguments(__doc__, etcd="etcd", etcdctl="etcdctl", etcdutl=None, cleat=None, cleatutl=None)
    args = parser.parse_args()
    args.etcd = lib.need_program(args.etcd)
    args.etcdctl = lib.need_program(args.etcdctl)
    checks = lib.Checks()
    tools = Tools(args)
    top = lib.temp_dir("utl-make")
    etcd = lib.Server(args.etcd, f"{top}/etcd").start()
    fill(etcd, KEYS, seed=1)
    want = tools.content(etcd)
    small = tools.small(etcd)
    snapshot = f"{top}/snapshot.db"
    tools.etcdctl(etcd, "snapshot", "save", snapshot)
    for number in range(30):  # with the alarm no put is let in; these are in the log alone when it is killed
        call(etcd, "kv/deleterange", key=b64(b"/registry/%07d" % (number * 20 + 10)))
    tail = tools.content(etcd)
    header = json.loads(tools.etcdctl(etcd, "endpoint", "status", "-w", "json"))[0]["Status"]["header"]
    etcd.ids = header["cluster_id"], header["member_id"]
    etcd.kill()
    restored_here(checks, tools, snapshot, want, top)
    saves(checks, tools, etcd.data_dir, tail, want, small, top)
    imports(checks, tools, etcd, tail, snapshot, want, top)
    among_etcds(checks, tools, top)
    jumped(checks, tools, snapshot, want, top)
    three(checks, tools, snapshot, want, top)
    rewritten(checks, tools, snapshot, want, top)
    log_apart(checks, tools, snapshot, want, top)
    cut_log(checks, tools, top)
    refusals(checks, tools, snapshot, top)
    checks.done()


if __name__ == "__main__":
    main()
