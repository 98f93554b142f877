#!/usr/bin/env python3
"""cleatutl shows what is in snapshots and data directories, etcd's and Cleat's: the same that the server answered, at
every revision that is kept. It changes nothing, needs no server, and reads large files in little memory."""
import base64
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import threading
import time

import cluster_lib
import lib
import utl_make

KEYS = 1000000 if lib.FULL else 3000
PUTS = 300 if lib.FULL else 75  # a process each
VALUES = 10 if lib.FULL else 3  # compared one by one
RSS_KIB_MAX = 128 << 10  # while keys are listed, however many there are
LOOKS = 200 if lib.FULL else 5  # into a member that is being written to,
LOOKED_AT_BYTES = 20000 if lib.FULL else 300000  # by values of this size: many looks stay below its quota
LEASED_S = 0.5  # etcd's db is written every 0.1 s
REQUESTS = 50000 if lib.FULL else 4000
RECORDS = 5000000 if lib.FULL else 80000  # small ones
LIBRARY_FILES = ("-lock", "-shm")  # of LMDB and SQLite, for readers of a running member


def state_of(path):
    """A hash of every file below path, or of the file, but those that libraries keep for their readers."""
    found = {}
    for folder, _, names in os.walk(path) if os.path.isdir(path) else [(os.path.dirname(path), [], [os.path.basename(path)])]:
        for name in names:
            if not name.endswith(LIBRARY_FILES):
                with open(os.path.join(folder, name), "rb") as file:
                    found[os.path.join(folder, name)] = hashlib.sha256(file.read()).hexdigest()
    return found


class Look:
    """Calls cleatutl, and compares with what a server answered."""

    def __init__(self, checks, tools):
        self.checks = checks
        self.tools = tools

    def json(self, *words):
        return json.loads(self.tools.utl("-w", "json", *words).stdout)

    def keys(self, source, *flags):
        """As etcd's own JSON has them, without the values."""
        return [{"key": row["key"], "create_revision": row["create_revision"], "mod_revision": row["mod_revision"],
                 "version": row["version"], "lease": row["lease"]}
                for row in self.json("inspect", "keys", source, *flags)]

    def like(self, source, want, what):
        """want: of answers()."""
        checks = self.checks
        checks.equal(self.keys(source), want["keys"], f"{what}: keys")
        for revision, keys in want["past"].items():
            checks.equal(self.keys(source, "--rev", str(revision)), keys, f"{what}: keys at revision {revision}")
        got = self.json("hashkv", source)
        checks.equal((got["hash"], got["hashRevision"], got["compactRevision"]),
                     (want["hash"], want["revision"], want["compacted"]), f"{what}: HashKV")
        leases = {row["ID"]: (row["TTL"], row["keys"]) for row in self.json("inspect", "leases", source)}
        checks.equal(leases, want["leases"], f"{what}: leases")
        auth = {(row["what"], base64.b64decode(row["name"]).decode()): row["details"]
                for row in self.json("inspect", "auth", source)}
        checks.equal({name for what_it_is, name in auth if what_it_is == "user"}, want["users"], f"{what}: users")
        checks.equal({name for what_it_is, name in auth if what_it_is == "role"}, want["roles"], f"{what}: roles")
        alarms = sorted((row["memberID"], row["alarm"]) for row in self.json("inspect", "alarms", source))
        checks.equal(alarms, want["alarms"], f"{what}: alarms")
        for key, value in want["values"].items():
            done = subprocess.run([self.tools.args.cleatutl, "inspect", "get", source, key, "--raw"], capture_output=True,
                                  check=False, timeout=60)
            checks.equal(done.stdout, value, f"{what}: value of {key}")


def answers(tools, server, with_all):
    """What a server says of all that is compared; with_all: leases, users and alarms too."""
    def ask(*words):
        return json.loads(tools.etcdctl(server, *words, "-w", "json"))

    def plain(answer):
        return [{"key": kv["key"], "create_revision": kv["create_revision"], "mod_revision": kv["mod_revision"],
                 "version": kv["version"], "lease": kv.get("lease", 0)} for kv in answer.get("kvs", [])]

    everything = ask("get", "", "--prefix")
    hashed = ask("endpoint", "hashkv")[0]["HashKV"]
    revision = everything["header"]["revision"]
    compacted = hashed.get("compact_revision", -1)
    want = {"keys": plain(everything), "revision": revision, "hash": hashed["hash"], "compacted": compacted,
            "past": {}, "leases": {}, "users": set(), "roles": set(), "alarms": [], "values": {}}
    for past in sorted({max(compacted, 1) + (revision - max(compacted, 1)) * i // 4 for i in range(5)}):
        want["past"][past] = plain(ask("get", "", "--prefix", "--keys-only", f"--rev={past}"))
    for kv in everything.get("kvs", [])[::max(1, len(everything["kvs"]) // VALUES)]:
        want["values"][base64.b64decode(kv["key"]).decode()] = base64.b64decode(kv.get("value", ""))
    if with_all:
        for lease in ask("lease", "list").get("leases", []):
            answer = ask("lease", "timetolive", "--keys", f"{lease['id']:x}")
            want["leases"][lease["id"]] = (answer["granted-ttl"], len(answer.get("keys") or []))
        want["users"] = set(tools.etcdctl(server, "user", "list").split())
        want["roles"] = set(tools.etcdctl(server, "role", "list").split())
        want["alarms"] = sorted((alarm["memberID"], {1: "NOSPACE", 2: "CORRUPT"}[alarm["alarm"]])
                                for alarm in ask("alarm", "list").get("alarms", []))
    return want


def etcds(checks, tools, look, top):
    """A snapshot of etcd's and its directory, stopped and killed. Gives the snapshot's path."""
    server = lib.Server(tools.args.etcd, f"{top}/etcd").start()
    utl_make.fill(server, min(KEYS, 3000) if lib.FULL else 1000, seed=1)
    snapshot = f"{top}/etcd.db"
    tools.etcdctl(server, "snapshot", "save", snapshot)
    want = answers(tools, server, with_all=True)
    before = state_of(snapshot)
    look.like(snapshot, want, "snapshot")
    offline = tools.args.etcdutl or tools.args.etcdctl
    for form in ("simple", "table", "json"):
        ours = tools.utl("-w", form, "snapshot", "status", snapshot).stdout
        checks.equal(ours, tools.run([offline, "-w", form, "snapshot", "status", snapshot]).stdout, f"status, {form}")
    verified = tools.utl("snapshot", "verify", snapshot)
    checks.check("damaged" not in verified.stdout, f"verify: {verified.stdout}")
    checks.equal(state_of(snapshot), before, "snapshot: changed")
    busy = tools.utl("inspect", "keys", server.data_dir, ok=False)
    checks.check(busy.returncode == 1 and "running etcd" in busy.stderr, f"a running etcd's: {busy.stderr}")
    for how in ("killed", "stopped"):
        server.kill() if how == "killed" else server.stop()
        before = state_of(server.data_dir)
        look.like(server.data_dir, want, f"etcd, {how}")
        checked = tools.utl("check", "--data-dir", server.data_dir, ok=False)
        checks.check(checked.returncode == 0 and "damaged" not in checked.stdout, f"check of etcd's, {how}: {checked.stdout}")
        entries = look.json("inspect", "log", server.data_dir)
        checks.check(len(entries) > 10 and any(row["request"].startswith("compact at ") for row in entries),
                     f"etcd, {how}: {len(entries)} entries")
        checks.equal(state_of(server.data_dir), before, f"etcd, {how}: changed")
        if how == "killed":
            tools.serve(server)
            tools.etcdctl(server, "get", "none")
    return snapshot


def cleats(checks, tools, look, top):
    """A directory of Cleat's: beside its member, after a kill, after a stop."""
    for backend in ("lmdb", "sqlite"):
        server = lib.Server(tools.args.cleat, f"{top}/cleat-{backend}", flags=[f"--backend={backend}"]).start()
        for number in range(PUTS):
            tools.etcdctl(server, "put", f"/registry/pods/ns{number % 3}/p{number % 20}", f"value {number}")
            if number == PUTS // 2:
                tools.etcdctl(server, "compact", f"{PUTS // 3}")
                tools.etcdctl(server, "del", "/registry/pods/ns1/", "--prefix")
        want = answers(tools, server, with_all=False)
        for how in ("running", "killed", "stopped"):
            if how == "killed":
                server.kill()
            elif how == "stopped":
                server.start()
                server.stop()
            before = state_of(server.data_dir)
            look.like(server.data_dir, want, f"{backend}, {how}")
            checked = tools.utl("check", "--data-dir", server.data_dir, ok=False)
            checks.check(checked.returncode == 0 and "damaged" not in checked.stdout, f"{backend}, {how}: {checked.stdout}")
            space = look.json("inspect", "space", server.data_dir, "--depth", "3")
            checks.equal(sum(row["keys"] for row in space), len(want["keys"]), f"{backend}, {how}: keys in space")
            if how != "running":
                checks.equal(state_of(server.data_dir), before, f"{backend}, {how}: changed")


def beside(checks, tools, top):
    """A member that is being written to, its log rolling and its store committing: never called damaged, and what is
    shown only grows."""
    for backend in ("lmdb", "sqlite"):
        server = lib.Server(tools.args.cleat, f"{top}/busy-{backend}", flags=[f"--backend={backend}"]).start()
        stop = threading.Event()

        def write(number, server=server, stop=stop):
            env = dict(os.environ, ETCDCTL_API="3")
            for count in range(1 << 30):
                if stop.is_set():
                    return
                subprocess.run([tools.args.etcdctl, "--endpoints", server.endpoint, "put", f"k{number}-{count}"],
                               input=os.urandom(LOOKED_AT_BYTES), env=env, check=True, stdout=subprocess.DEVNULL, timeout=60)

        writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
        for writer in writers:
            writer.start()
        seen = 0
        try:
            for _ in range(LOOKS):
                checked = tools.utl("check", "--data-dir", server.data_dir, ok=False)
                checks.check(checked.returncode == 0 and "damaged" not in checked.stdout,
                             f"{backend}, busy: {checked.stdout}{checked.stderr}")
                keys = len(json.loads(tools.utl("-w", "json", "inspect", "keys", server.data_dir).stdout))
                checks.check(keys >= seen, f"{backend}, busy: {keys} keys after {seen}")
                seen = keys
        finally:
            stop.set()
            for writer in writers:
                writer.join()
        checks.check(seen > LOOKS, f"{backend}, busy: only {seen} keys were seen")
        server.stop()


def mixed(checks, tools, top):
    """The store of one member beside the log of another: each sound, but not together."""
    servers = [lib.Server(tools.args.etcd, f"{top}/mixed-{number}").start() for number in range(2)]
    for server in servers:
        for number in range(20):
            tools.etcdctl(server, "put", f"k{number % 7}", f"{server.data_dir} {number}")
    for server in servers:
        server.stop()
        checked = tools.utl("check", "--data-dir", server.data_dir, ok=False)
        checks.check(checked.returncode == 0 and "the store against the log, ok, 20," in checked.stdout,
                     f"not mixed: {checked.stdout}{checked.stderr}")
    shutil.copy(f"{servers[0].data_dir}/member/snap/db", f"{servers[1].data_dir}/member/snap/db")
    checked = tools.utl("check", "--data-dir", servers[1].data_dir, ok=False)
    checks.check(checked.returncode == 1 and "holds something else" in checked.stdout,
                 f"mixed: {checked.stdout}{checked.stderr}")


def lost_format(checks, tools, top):
    """A FORMAT that is damaged, missing or another member's: log and store are looked at all the same, by what they say of
    themselves, and a new cluster can be made of them."""
    made, keys = {}, {}
    for backend in ("lmdb", "sqlite"):
        server = lib.Server(tools.args.cleat, f"{top}/format-{backend}", flags=[f"--backend={backend}"]).start()
        for number in range(12):
            tools.etcdctl(server, "put", f"k{number % 5}", f"{backend} {number}")
            if (backend, number) == ("lmdb", 8):
                server.stop()  # so that its store has something
                server.start()
        server.kill()
        made[backend], keys[backend] = server.data_dir, tools.utl("-w", "json", "inspect", "keys", server.data_dir).stdout
    formats = {}
    for backend, path in made.items():
        with open(f"{path}/member/FORMAT", "rb") as file:
            formats[backend] = file.read()
    life = {backend: re.search(rb"life-id (\w+)", text).group(1).decode() for backend, text in formats.items()}
    for backend, other in (("lmdb", "sqlite"), ("sqlite", "lmdb")):
        good, others = formats[backend], formats[other]
        last = json.loads(tools.utl("-w", "json", "inspect", "log", made[backend]).stdout)[-1]["index"]
        for what, text, word in (("damaged", good.replace(b"life-id ", b"life-id 1", 1), "does not match its checksum"),
                                 ("missing", None, "has no FORMAT file"),
                                 ("another's", others, f"is of another member: its life id is {life[other]}")):
            where, copy = f"FORMAT of {backend}, {what}", f"{top}/lost-{backend}-{what.replace(' ', '-')}"
            shutil.copytree(made[backend], copy)
            os.remove(f"{copy}/member/FORMAT")
            if text is not None:
                with open(f"{copy}/member/FORMAT", "wb") as file:
                    file.write(text)
            before = state_of(copy)
            done, rows = checked_rows(tools, copy)
            checks.equal((done.returncode, rows["FORMAT"]["verdict"]), (1, "damaged"), f"{where}: {done.stdout}{done.stderr}")
            remark = rows["FORMAT"]["remark"]
            checks.check(word in remark and f"backend {backend}, store '0000000000000000.{backend}'" in remark and
                         f"life id {life[backend]}" in remark.split("By log and store")[-1], f"{where}: {remark}")
            checks.equal({row["verdict"] for row in rows.values() if row["check"] != "FORMAT"}, {"ok"}, f"{where}: {rows}")
            checks.check(f" to {last}" in rows["log"]["remark"] and f"up to entry {last}, with: cleatutl recover {copy} "
                         in done.stderr and "remove this member" in done.stderr, f"{where}: {rows['log']}, {done.stderr}")
            checks.equal("the store against the log" in rows, backend == "lmdb", f"{where}: {list(rows)}")
            shown = tools.utl("-w", "json", "inspect", "keys", copy)
            checks.equal(shown.stdout, keys[backend], f"{where}: keys")
            checks.check("FORMAT is not taken" in shown.stderr, f"{where}: {shown.stderr}")
            done = tools.utl("recover", copy, "--data-dir", f"{copy}-new", "--bump-revision", "0", "--yes", ok=False)
            checks.check(done.returncode == 0 and "DAMAGED, what log and store say" in done.stdout and word in done.stdout,
                         f"{where}: recover: {done.stdout}{done.stderr}")
            checks.equal(tools.utl("-w", "json", "inspect", "keys", f"{copy}-new").stdout, keys[backend],
                         f"{where}: keys of the new one")
            checks.equal(state_of(copy), before, f"{where}: changed")
    more_is_lost(checks, tools, made["lmdb"], made["sqlite"], f"{top}/more", life["sqlite"])


def checked_rows(tools, data_dir, *flags):
    done = tools.utl("-w", "json", "check", "--data-dir", data_dir, *flags, ok=False)
    return done, {row["check"]: row for row in json.loads(done.stdout or "[]")}


def more_is_lost(checks, tools, data_dir, other, top, others_life):
    """FORMAT, and something else."""
    def copy(name):
        shutil.copytree(data_dir, f"{top}-{name}")
        os.remove(f"{top}-{name}/member/FORMAT")
        return f"{top}-{name}/member"

    member = copy("log")
    with open(f"{member}/wal/0000000000000002.wal", "r+b") as file:
        file.seek(8 * 4096 + 100)  # in a batch with others behind it
        file.write(b"damage")
    done, rows = checked_rows(tools, f"{top}-log")
    good = re.search(r"the last good entry is (\d+)", rows["log"]["remark"])
    checks.check(done.returncode == 1 and rows["log"]["verdict"] == "damaged" and good and
                 "cleatutl recover" in done.stderr, f"and log: {rows['log']}, {done.stderr}")
    stands = re.search(r"stands at entry (\d+)", rows["store"]["remark"])
    reaches = max(int(good.group(1)), int(stands.group(1)))
    checks.check(f"up to entry {reaches}, with: " in done.stderr, f"and log: {rows['store']}, {done.stderr}")
    done = tools.utl("recover", f"{top}-log", "--data-dir", f"{top}-log-new", "--yes", ok=False)
    checks.check(done.returncode == 0 and f"entry {reaches} of term" in done.stdout and done.stdout.count("DAMAGED") == 2,
                 f"and log: recover: {done.stdout}{done.stderr}")

    member = copy("store")
    for name in os.listdir(f"{member}/store"):
        os.remove(f"{member}/store/{name}")
    done, rows = checked_rows(tools, f"{top}-store")
    checks.check(done.returncode == 1 and "there is no store" in rows["store"]["remark"] and rows["log"]["verdict"] == "ok" and
                 "cleatutl snapshot restore" in done.stderr, f"and store: {rows}, {done.stderr}")

    member = copy("two")
    shutil.rmtree(f"{member}/wal")
    shutil.copytree(f"{other}/member/wal", f"{member}/wal")
    done, rows = checked_rows(tools, f"{top}-two")
    checks.check(done.returncode == 1 and f"different members: the log's life id is {others_life}" in
                 rows["log and store"]["remark"] and rows["store"]["verdict"] == rows["log"]["verdict"] == "ok",
                 f"and the log is another's: {rows}, {done.stderr}")
    done = tools.utl("recover", f"{top}-two", ok=False)
    checks.check(done.returncode == 1 and "belongs to another log" in done.stdout, f"recover of two: {done.stdout}{done.stderr}")

    member = copy("apart")
    os.rename(f"{member}/wal", f"{top}-apart-wal")
    done, rows = checked_rows(tools, f"{top}-apart", "--wal-dir", f"{top}-apart-wal")
    checks.check(rows["log"]["verdict"] == "ok" and f"recover {top}-apart={top}-apart-wal " in done.stderr,
                 f"with its log apart: {rows}, {done.stderr}")

    member = copy("stores")
    for name in ("0000000000000002-1.lmdb", "0000000000000003-1.sqlite", "index.ckpt.part"):
        with open(f"{member}/store/{name}", "wb") as file:
            file.write(b"cut short")
    done, rows = checked_rows(tools, f"{top}-stores")
    checks.check("furthest of several" in rows["FORMAT"]["remark"] and
                 {row["verdict"] for row in rows.values() if row["check"] != "FORMAT"} == {"ok"}, f"several stores: {rows}")


def random_requests(checks, tools, top):
    """Requests of every kind, many of which change nothing: their log and their store go together. What the log has more
    than the store is listed the same by an index of the keys that it touches as by an index of all."""
    servers = [lib.Server(binary, f"{top}/random-{number}").start()
               for number, binary in enumerate((tools.args.etcd, tools.args.cleat))]
    tools.run([tools.args.differential, "--reference", servers[0].endpoint, "--subject", servers[1].endpoint,
               "--seed", "2", "--requests", str(REQUESTS)])
    for number, server in enumerate(servers):
        if server is servers[0]:
            lease = tools.etcdctl(server, "lease", "grant", "1000").split()[1]
            tools.etcdctl(server, "put", "leased", "1", f"--lease={lease}")
            time.sleep(LEASED_S)  # so that the store has it
            tools.etcdctl(server, "lease", "revoke", lease)
        server.kill()
        tools.utl("snapshot", "save", f"{top}/random-{number}.db", "--data-dir", server.data_dir)
        listed = [tools.utl("inspect", "keys", "--all-revisions", source).stdout
                  for source in (server.data_dir, f"{top}/random-{number}.db")]
        checks.check(listed[0] == listed[1] and len(listed[0]) > 1000, "random requests: the tail is listed otherwise")
        tools.serve(server)
        server.stop()
        checked = tools.utl("check", "--data-dir", server.data_dir, ok=False)
        checks.check(checked.returncode == 0 and "the store against the log, ok" in checked.stdout,
                     f"random requests: {checked.stdout}{checked.stderr}")


def by_id(members):
    """The same from etcdctl's JSON and ours."""
    return {m["ID"]: (m.get("name", ""), m.get("peerURLs", []), m.get("clientURLs", []), m.get("isLearner", False))
            for m in members}


def members_of(look, source):
    """What is shown: those who belong to it, and the ids of those who did; and what was said on the way."""
    done = look.tools.utl("-w", "json", "inspect", "members", source)
    rows = json.loads(done.stdout)
    for row in rows:
        for name in ("peerURLs", "clientURLs"):
            row[name] = row[name].split(",") if row[name] else []
    return (by_id([row for row in rows if row["status"] != "removed"]),
            [row["ID"] for row in rows if row["status"] == "removed"], done.stderr)


def members(checks, tools, look, top):
    """Who belongs to a cluster of etcds, by the directory of one of them: names, URLs and promotions that its db lacks are
    in its log and its snapshots of the v2 store, of which one is damaged."""
    os.mkdir(f"{top}/members")
    cluster = cluster_lib.Cluster(tools.args.etcd, f"{top}/members", 3, etcdctl=tools.args.etcdctl,
                                  flags=["--snapshot-count=15", "--strict-reconfig-check=false"]).start()
    first, second, third = cluster.members
    gone = cluster.id_of(third)
    cluster.ctl("member", "remove", f"{gone:x}", members=[first])
    third.kill()
    cluster.members.remove(third)
    newcomer = cluster.grow(learner=True)
    cluster.wait_healthy([newcomer])
    id_ = f"{cluster.id_of(newcomer):x}"
    lib.wait_until(lambda: "promoted" in cluster.ctl("member", "promote", id_, members=[first], check=False), 30,
                   "the newcomer is promoted")
    cluster.ctl("member", "update", f"{cluster.id_of(second):x}", f"--peer-urls={second.peer_url},http://127.0.0.1:1",
                members=[first])
    for number in range(40):
        cluster.ctl("put", "k", f"{number}", members=[first])
    want = by_id(json.loads(cluster.ctl("member", "list", "-w", "json", members=[first]))["members"])
    cluster.stop()
    checks.equal(len(want), 3, f"members: {want}")
    source, snap = first.data_dir, f"{first.data_dir}/member/snap"
    shown, removed, said = members_of(look, source)
    checks.equal((shown, removed), (want, [gone]), "members")
    checks.check("damaged" not in said, f"members: {said}")
    names = sorted(name for name in os.listdir(snap) if name.endswith(".snap"))
    checks.check(len(names) > 1, f"members: snapshots {names}")
    with open(f"{snap}/{names[-1]}", "r+b") as file:
        file.seek(50)
        file.write(b"damage")
    shown, removed, said = members_of(look, source)
    checks.equal((shown, removed), (want, [gone]), "members, a snapshot damaged")
    checks.check("is damaged and passed over" in said and names[-1] in said, f"members, a snapshot damaged: {said}")
    checked = tools.utl("check", "--data-dir", source, ok=False)
    checks.check(checked.returncode == 1 and names[-1] in checked.stdout, f"check, a snapshot damaged: {checked.stdout}")
    imported = f"{top}/members/imported"
    tools.utl("import", source, "--data-dir", imported)
    checks.equal(members_of(look, imported)[:2], (want, [gone]), "members, imported")
    for name in names:
        os.remove(f"{snap}/{name}")
    checks.equal(members_of(look, source)[:2], (want, [gone]), "members, by the log alone")


def kubernetes(checks, tools, top):
    """Objects of both forms are recognised."""
    server = lib.Server(tools.args.cleat, f"{top}/kube").start()
    meta = b"\x0a\x03web" + b"\x1a\x02ns" + b"\x5a\x08\x0a\x03app\x12\x01x"
    raw = b"\x0a" + bytes([len(meta)]) + meta
    pod = b"k8s\0" + b"\x0a\x09\x0a\x02v1\x12\x03Pod" + b"\x12" + bytes([len(raw)]) + raw
    subprocess.run([tools.args.etcdctl, "--endpoints", server.endpoint, "put", "/registry/pods/ns/web"], input=pod,
                   env=dict(os.environ, ETCDCTL_API="3"), check=True, stdout=subprocess.DEVNULL, timeout=30)
    tools.etcdctl(server, "put", "/registry/example.org/things/ns/one",
                  '{"apiVersion":"example.org/v1","kind":"Thing","metadata":{"name":"one","labels":{"a":"b"}}}')
    server.stop()
    shown = tools.utl("inspect", "get", server.data_dir, "/registry/pods/ns/web").stdout
    checks.check('kind: "Pod"' in shown and '"app": "x"' in shown and 'namespace: "ns"' in shown, f"a pod: {shown}")
    rows = json.loads(tools.utl("-w", "json", "inspect", "keys", "--kubernetes", server.data_dir).stdout)
    checks.equal([(row["type"], row["namespace"], row["name"], row["apiVersion"], row["kind"]) for row in rows],
                 [("things", "ns", "one", "example.org/v1", "Thing"), ("pods", "ns", "web", "v1", "Pod")],
                 "Kubernetes' objects")
    shown = tools.utl("inspect", "get", server.data_dir, "/registry/example.org/things/ns/one").stdout
    checks.check('kind: "Thing"' in shown and '"a": "b"' in shown, f"a thing: {shown}")


def refusals(checks, tools, snapshot, top):
    """What is no source of ours is told from one, by name."""
    os.mkdir(f"{top}/empty")
    with open(f"{top}/junk", "wb") as file:
        file.write(b"junk" * 5000)
    with open(snapshot, "rb") as whole, open(f"{top}/cut.db", "wb") as file:
        file.write(whole.read()[:-5000])
    for path, word in ((f"{top}/empty", "no data"), (f"{top}/junk", "foreign or damaged"),
                       (f"{top}/nothing", "No such file"), (f"{top}/cut.db", "cut off"),
                       (f"{top}/cleat-lmdb/member/store/0000000000000000.lmdb", "foreign or damaged")):
        for words in (("inspect", "keys", path), ("hashkv", path)):
            done = tools.utl(*words, ok=False)
            checks.check(done.returncode == 1 and word in done.stderr and path in done.stderr and not done.stdout,
                         f"{' '.join(words)}: {done.returncode}, {done.stderr}")
    for words, code in ((("inspect", "keys"), 128), (("inspect", "get", snapshot), 128), (("snapshot", "verify"), 128),
                        (("-w", "protobuf", "inspect", "keys", snapshot), 4), (("check",), 1)):
        done = tools.utl(*words, ok=False)
        checks.equal(done.returncode, code, f"{' '.join(words)}: {done.stderr}")


def memory(checks, tools, top):
    """Peak memory while keys are listed, from a file with many of them."""
    server = lib.Server(tools.args.etcd, f"{top}/large", flags=["--quota-backend-bytes=8000000000"]).start()
    for first in range(0, KEYS, 100):
        utl_make.call(server, "kv/txn", success=[
            {"requestPut": {"key": utl_make.b64(b"/registry/things/a-namespace/a-name-of-some-length-%09d" % (i * 7919 % KEYS)),
                            "value": utl_make.b64(b"%0100d" % i)}} for i in range(first, first + 100)])
    path = f"{top}/large.db"
    tools.run([tools.args.etcdctl, "--endpoints", server.endpoint, "--command-timeout=600s", "snapshot", "save", path])
    server.kill()
    for words in (("keys",), ("space",)):
        process = subprocess.Popen([tools.args.cleatutl, "inspect", *words, path], stdout=subprocess.PIPE)
        lines = sum(1 for _ in process.stdout)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        checks.equal(process.returncode, 0, f"{words[0]} of {KEYS} keys")
        checks.check(words[0] == "space" or lines == KEYS, f"{lines} lines of {KEYS} keys")
        checks.check(usage.ru_maxrss < RSS_KIB_MAX, f"{words[0]} of {KEYS} keys took {usage.ru_maxrss} KiB")


def on_terminal(command, wanted):
    """What it says on stderr when that is a terminal. The line is shown every 0.2 s: until it says what is wanted, the
    process is stopped that long again and again."""
    master, slave = pty.openpty()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=slave)
    os.close(slave)
    os.set_blocking(master, False)
    said = b""
    while process.poll() is None:
        if not re.search(wanted, said.decode()):
            time.sleep(0.004)
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.22)
            process.send_signal(signal.SIGCONT)
        else:
            time.sleep(0.01)
        try:
            said += os.read(master, 65536)
        except OSError:  # nothing yet
            pass
    try:
        said += os.read(master, 65536)
    except OSError:
        pass
    os.close(master)
    return process.returncode, said.decode()


def progress(checks, tools, top):
    """Long work shows how far it has come, on a terminal and nowhere else, and leaves nothing of that behind."""
    path, line = f"{top}/many.db", r"\r\x1b\[K%s: [\d.]+ \w+( of [\d.]+ \w+)?, [\d.]+ \w+/s(, \d+ s left)?"
    tools.run([tools.args.db_tool, "fill", path, str(RECORDS), "64"])
    tools.utl("snapshot", "restore", path, "--data-dir", f"{top}/many", "--skip-hash-check")
    tools.utl("snapshot", "restore", path, "--data-dir", f"{top}/many-sqlite", "--skip-hash-check", "--backend", "sqlite")
    for words, shown in ((("hashkv", path), "building the index"),
                         (("inspect", "leases", path), "building the index"),
                         (("inspect", "keys", path), "reading"),
                         (("check", "--data-dir", f"{top}/many"), "checking the store"),
                         (("check", "--data-dir", f"{top}/many-sqlite"), "checking the store")):
        code, said = on_terminal([tools.args.cleatutl, *words], line % shown)
        checks.equal(code, 0, f"{words[0]} on a terminal: {said[-300:]}")
        checks.check(re.search(line % shown, said), f"{' '.join(words)}: shows no '{shown}': {said[-300:]!r}")
        checks.check(said.endswith("\r\x1b[K"), f"{' '.join(words)}: the last line stays: {said[-300:]!r}")
        piped = subprocess.run([tools.args.cleatutl, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               check=False, timeout=60)
        checks.equal((piped.returncode, piped.stderr), (0, ""), f"{' '.join(words)}, into a pipe")


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", cleatutl="build/release/tools/utl/cleatutl",
                           db_tool="build/release/tests/dbfile/db_tool", differential="build/release/tests/e2e/differential",
                           etcd="etcd", etcdctl="etcdctl", etcdutl="")
    args = parser.parse_args()
    args.etcd, args.etcdctl = lib.need_program(args.etcd), lib.need_program(args.etcdctl)
    checks, tools, top = lib.Checks(), utl_make.Tools(args), lib.temp_dir("utl-look")
    look = Look(checks, tools)
    snapshot = etcds(checks, tools, look, top)
    cleats(checks, tools, look, top)
    beside(checks, tools, top)
    lost_format(checks, tools, top)
    random_requests(checks, tools, top)
    members(checks, tools, look, top)
    kubernetes(checks, tools, top)
    mixed(checks, tools, top)
    refusals(checks, tools, snapshot, top)
    progress(checks, tools, top)
    memory(checks, tools, top)
    checks.done()


if __name__ == "__main__":
    main()
