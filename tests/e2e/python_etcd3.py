"""Debian's Python client of etcd, python3-etcd3, and all it offers, against a cluster of etcd and one of the server under
test: reads and writes, transactions, watches with callbacks and iterators, leases, locks with contention, members, alarms,
snapshot, compaction, users. The same script must see the same of both."""
import hashlib
import io
import logging
import os
import queue
import sys
import threading
import time
import types

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import api
import cluster_lib
import lib

try:
    import etcd3
    import etcd3.exceptions
    import etcd3.locks
    import grpc
    import tenacity
except ImportError as error:
    lib.skip(f"Debian's python3-etcd3 is needed: {error}")

WAIT_S = 10
ENDS = {0, -15}  # etcd ends itself by the signal again


def retry(wait, **options):
    """tenacity.retry as the client knew it: Debian's is newer and hands wait() one argument, which breaks contended locks."""
    return tenacity.retry(wait=lambda state: wait(state.attempt_number, state.seconds_since_start or 0), **options)


class Script:
    """One run against one cluster; what it sees is noted as text."""

    def __init__(self, name, cluster, messages):
        self.name = name
        self.cluster = cluster
        self.messages = messages
        self.notes = []
        self.clients = []
        self.c = self.client()

    def client(self, member=0, **options):
        m = self.cluster.members[member]
        client = etcd3.client(host=m.host, port=m.client_port, timeout=20, **options)
        # The token goes as metadata, too; as a credential Debian's gRPC refuses to send it without TLS.
        client.call_credentials = client.watcher._credentials = None  # pylint: disable=protected-access
        self.clients.append(client)
        return client

    def note(self, what, *seen):
        self.notes.append(f"{what}: {seen!r}")

    def raises(self, what, call, *arguments, **options):
        """Notes how a call fails."""
        try:
            self.note(what, "no error", call(*arguments, **options))
        except grpc.RpcError as error:
            self.note(what, error.code().name, error.details())
        except etcd3.exceptions.Etcd3Exception as error:
            self.note(what, type(error).__name__)

    def close(self):
        for client in self.clients:
            client.close()


def meta(m):
    """What a client sees of a key's history."""
    return m and (m.key, m.create_revision, m.mod_revision, m.version, m.lease_id, m.response_header.revision)


def pairs(found):
    return [(value, meta(m)) for value, m in found]


def event_text(event):
    return type(event).__name__, event.key, event.value, event.version, event.mod_revision, event.prev_value


def reads_and_writes(s):
    s.note("absent", *s.c.get("/thing"))
    put = s.c.put("/thing/a", "1")
    s.note("put", put.header.revision, put.HasField("prev_kv"))
    s.note("again", s.c.put("/thing/a", b"2\0\xff", prev_kv=True).prev_kv.value)
    value, m = s.c.get("/thing/a")
    s.note("get", value, meta(m))
    s.note("serializable", s.c.get("/thing/a", serializable=True)[0])
    for i in range(8):
        s.c.put(f"/thing/{'hgfedcba'[i]}", f"v{i}")
    s.note("prefix", pairs(s.c.get_prefix("/thing/")))
    s.note("keys", pairs(s.c.get_prefix("/thing/", keys_only=True)))
    for target in ("key", "version", "create", "mod", "value"):
        for order in ("ascend", "descend"):
            if target != "version":  # many are equal, and etcd leaves their order open
                s.note(f"sorted by {target} {order}",
                       pairs(s.c.get_prefix("/thing/", sort_order=order, sort_target=target)))
    s.note("range", pairs(s.c.get_range("/thing/c", "/thing/f")))
    s.note("all", pairs(s.c.get_all(sort_order="descend")))
    s.note("all keys", pairs(s.c.get_all(keys_only=True)))
    s.note("count", s.c.get_prefix_response("/thing/").count)
    s.note("response", s.c.get_response("/thing/a").kvs[0].value)
    s.note("new", s.c.put_if_not_exists("/new", "x"), s.c.put_if_not_exists("/new", "y"), s.c.get("/new")[0])
    s.note("replace", s.c.replace("/new", "x", "z"), s.c.replace("/new", "x", "q"), s.c.get("/new")[0])
    s.note("delete", s.c.delete("/new"), s.c.delete("/new"))
    gone = s.c.delete("/thing/b", prev_kv=True, return_response=True)
    s.note("delete with what was", gone.deleted, gone.prev_kvs[0].value, gone.header.revision)
    s.note("delete a prefix", s.c.delete_prefix("/thing/").deleted)
    s.raises("no key", s.c.put, "", "x")


def transactions(s):
    t = s.c.transactions
    s.c.put("/t/a", "1")
    s.c.put("/t/a", "2")
    revision = s.c.get("/t/a")[1].mod_revision
    for what, compare in (
            ("value", [t.value("/t/a") == "2"]), ("value differs", [t.value("/t/a") != "2"]),
            ("value more", [t.value("/t/a") > "1"]), ("value less", [t.value("/t/a") < "2"]),
            ("version", [t.version("/t/a") == 2]), ("version more", [t.version("/t/a") > 2]),
            ("absent", [t.version("/t/b") == 0, t.create("/t/b") == 0]), ("absent value", [t.value("/t/b") != "x"]),
            ("create", [t.create("/t/a") == revision - 1]), ("mod", [t.mod("/t/a") == revision, t.mod("/t/a") > 1])):
        ok, responses = s.c.transaction(compare=compare, success=[t.get("/t/a")], failure=[t.get("/t/none")])
        s.note(what, ok, [pairs(r) for r in responses])
    ok, responses = s.c.transaction(
        compare=[t.value("/t/a") == "2"],
        success=[t.put("/t/c", "3"), t.get("/t/c"), t.delete("/t/a"), t.get("/t/a"),
                 t.txn(compare=[t.version("/t/c") == 0], success=[t.put("/t/d", "4")], failure=[t.put("/t/e", "5")])],
        failure=[t.put("/t/never", "")])
    s.note("several", ok, [pairs(r) if isinstance(r, list) else api.one_line(r) for r in responses])
    s.note("after it", pairs(s.c.get_prefix("/t/")))
    s.raises("one key twice", s.c.transaction, compare=[], success=[t.put("/t/x", "1"), t.put("/t/x", "2")], failure=[])
    s.raises("too many", s.c.transaction, compare=[], success=[t.put(f"/t/{i}", "") for i in range(129)], failure=[])


def watches(s):
    seen = queue.Queue()
    one = s.c.add_watch_callback("/w/a", seen.put)
    many = s.c.add_watch_prefix_callback("/w/", seen.put, prev_kv=True)
    s.c.put("/w/a", "1")
    both = sorted(([event_text(e) for e in seen.get(timeout=WAIT_S).events] for _ in range(2)), key=repr)
    s.note("both callbacks", both)
    s.c.cancel_watch(one)
    s.c.put("/w/a", "2")
    s.note("one is cancelled", [event_text(e) for e in seen.get(timeout=WAIT_S).events])
    s.c.delete_prefix("/w/")
    s.note("delete", [event_text(e) for e in seen.get(timeout=WAIT_S).events])
    s.c.cancel_watch(many)
    s.c.put("/w/a", "3")
    time.sleep(0.3)
    s.note("nobody is left", seen.qsize())
    first = s.c.put("/w/b", "0").header.revision
    for i in range(1, 5):
        s.c.put("/w/b", str(i))
    events, cancel = s.c.watch("/w/b", start_revision=first)
    s.note("history", [event_text(next(events)) for _ in range(5)])
    cancel()
    responses, cancel = s.c.watch_prefix_response("/w/", start_revision=first + 3, prev_kv=True)
    got = []
    while len(got) < 2:
        got.extend(event_text(e) for e in next(responses).events)
    s.note("from a revision on", got)
    cancel()
    events, cancel = s.c.watch_prefix("/w/")
    s.c.transaction(compare=[], success=[s.c.transactions.put(f"/w/{c}", c) for c in "xyz"], failure=[])
    s.note("one transaction", [event_text(next(events)) for _ in range(3)])
    cancel()
    for call, key in ((s.c.watch_once, "/w/once"), (s.c.watch_prefix_once, "/w/on")):
        timer = threading.Timer(0.3, s.c.put, ("/w/once", "!"))
        timer.start()
        s.note("once", event_text(call(key, timeout=WAIT_S)))
        timer.join()
    s.raises("nothing happens", s.c.watch_once, "/w/quiet", timeout=0.2)
    s.c.compact(first + 2)
    events, cancel = s.c.watch("/w/b", start_revision=first)
    s.raises("compacted", next, events)


def leases(s):
    lease = s.c.lease(100, lease_id=4242)
    s.note("lease", lease.id, lease.ttl, lease.granted_ttl, 95 <= lease.remaining_ttl < 100, list(lease.keys))
    s.c.put("/l/a", "1", lease=lease)
    s.c.put("/l/b", "2", lease=lease.id)
    s.note("keys", sorted(lease.keys), s.c.get("/l/a")[1].lease_id)
    s.note("refresh", [(r.ID, r.TTL) for r in lease.refresh()])
    s.raises("the same id", s.c.lease, 10, lease_id=4242)
    lease.revoke()
    s.note("revoked", s.c.get("/l/a"), lease.remaining_ttl, [(r.ID, r.TTL) for r in lease.refresh()])
    s.raises("revoked twice", lease.revoke)
    s.raises("put on it", s.c.put, "/l/a", "1", lease=lease)
    short = s.c.lease(1)
    s.note("the shortest", short.ttl)
    s.c.put("/l/short", "x", lease=short)
    began = time.monotonic()
    gone = s.c.watch_once("/l/short", timeout=WAIT_S)
    s.note("expired", type(gone).__name__, gone.key, 1 < time.monotonic() - began < 8)


def locks(s):
    other = s.client(member=1)
    mine, theirs = s.c.lock("toot", ttl=20), other.lock("toot", ttl=20)
    s.note("acquire", mine.acquire(), mine.is_acquired(), theirs.is_acquired(), theirs.acquire(timeout=0.3))
    s.note("refresh", [r.TTL for r in mine.refresh()])
    got = queue.Queue()
    thread = threading.Thread(target=lambda: got.put(theirs.acquire(timeout=WAIT_S)))
    thread.start()
    time.sleep(0.3)
    s.note("release", mine.release(), got.get(timeout=WAIT_S), mine.is_acquired(), theirs.is_acquired(), mine.release())
    thread.join()
    s.note("theirs", theirs.release())
    with s.c.lock("within", ttl=10) as held:
        s.note("with", held.is_acquired())
    s.note("after it", held.is_acquired())
    short, after = s.c.lock("short", ttl=2), other.lock("short", ttl=20)
    s.note("expires", short.acquire(), after.acquire(timeout=WAIT_S), short.is_acquired(), after.release())
    holders, overlap = [], []

    def contend(member):
        client = s.client(member=member)
        for _ in range(3):
            with client.lock("busy", ttl=30) as lock:
                holders.append(member)
                if len(holders) > 1 or not lock.is_acquired():
                    overlap.append(holders[:])
                time.sleep(0.01)
                holders.pop()
    threads = [threading.Thread(target=contend, args=(m,)) for m in (0, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    s.note("contention", overlap, [t.is_alive() for t in threads])


def members(s):
    urls = [m.peer_url for m in s.cluster.members]
    found = sorted(s.c.members, key=lambda m: m.name)
    s.note("members", [(m.name, [u in urls for u in m.peer_urls], len(m.client_urls)) for m in found])
    s.note("alarms of members", [list(m.active_alarms) for m in found])
    status = s.c.status()
    s.note("status", status.leader.name in {m.name for m in found}, status.db_size > 0, status.raft_index > 0,
           status.raft_term > 1, len(status.version.split(".")))
    port = lib.free_ports(1)[0]
    end = time.monotonic() + 2 * WAIT_S
    while True:  # refused until all have been heard of for five seconds
        try:
            added = s.c.add_member([f"http://127.0.0.1:{port}"])
            break
        except (grpc.RpcError, etcd3.exceptions.Etcd3Exception):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
    s.note("added", added.name, list(added.peer_urls) == [f"http://127.0.0.1:{port}"], len(list(s.c.members)))
    s.c.update_member(added.id, [f"http://127.0.0.1:{port}", f"http://localhost:{port}"])
    s.note("updated", [len(m.peer_urls) for m in s.c.members if m.id == added.id])
    s.c.remove_member(added.id)
    s.note("removed", len(list(s.c.members)))
    s.raises("removed twice", s.c.remove_member, added.id)
    s.raises("no URL", s.c.add_member, ["garbage"])


def maintenance(s):
    s.note("hash", isinstance(s.c.hash(), int))
    revision = s.c.put("/m/a", "1").header.revision
    s.c.put("/m/a", "2")
    s.c.compact(revision + 1, physical=True)
    s.raises("compacted", s.c.compact, revision)
    s.raises("ahead", s.c.compact, revision + 1000)
    s.note("defragment", s.c.defragment(), s.c.get("/m/a")[0])
    file = io.BytesIO()
    s.c.snapshot(file)
    body = file.getvalue()
    s.note("snapshot", len(body) % 512, hashlib.sha256(body[:-32]).digest() == body[-32:],
           body[16:20] == b"\xed\xda\x0c\xed")
    member = next(s.c.members).id
    s.note("alarm", [(a.alarm_type, a.member_id == member) for a in s.c.create_alarm(member_id=member)])
    s.raises("no space", s.c.put, "/m/b", "x")
    s.note("delete all the same", s.c.delete("/m/a"))
    s.note("alarms", [(a.alarm_type, a.member_id == member) for a in s.c.list_alarms()])
    s.note("of one kind", len(list(s.c.list_alarms(alarm_type="no space"))))
    s.note("disarm", [(a.alarm_type, a.member_id == member) for a in s.c.disarm_alarm(member_id=member)])
    s.note("quiet", list(s.c.list_alarms()), s.c.put("/m/b", "x").header.revision)


def users(s):
    """The client has a user, and nothing to make one by."""
    raw = api.Api(s.cluster.members[0].endpoint, s.messages)
    for call, fields in (
            ("UserAdd", {"name": "root", "password": "top"}), ("UserGrantRole", {"user": "root", "role": "root"}),
            ("UserAdd", {"name": "ann", "password": "secret"}), ("RoleAdd", {"name": "some"}),
            ("RoleGrantPermission", {"name": "some", "perm": s.messages.Permission(
                permType="READWRITE", key=b"/ann/", range_end=b"/ann0")}),
            ("UserGrantRole", {"user": "ann", "role": "some"}), ("AuthEnable", {})):
        s.note(call, raw.call(call, **fields).code)
    root, ann = s.client(user="root", password="top"), s.client(member=1, user="ann", password="secret")
    s.raises("wrong password", s.client, user="ann", password="guess")
    s.raises("nobody", s.client().get, "/ann/a")
    s.note("root", root.put("/ann/a", "1").header.revision)
    s.note("ann", ann.get("/ann/a")[0], ann.put("/ann/b", "2").header.revision, len(list(ann.get_prefix("/ann/"))))
    s.raises("ann elsewhere", ann.put, "/bob", "x")
    s.raises("ann reads all", lambda: list(ann.get_all()))
    s.raises("ann defragments", ann.defragment)
    events, cancel = ann.watch_prefix("/ann/")
    root.put("/ann/c", "3")
    s.note("ann watches", event_text(next(events)))
    cancel()
    lock = ann.lock("x")
    s.raises("ann locks elsewhere", lock.acquire, timeout=1)
    token = raw.call("Authenticate", name="root", password="top").token
    s.note("AuthDisable", raw.call("AuthDisable", token=token).code)
    s.note("without users", s.c.put("/bob", "x").header.revision)


SCENARIOS = [reads_and_writes, transactions, watches, leases, locks, members, maintenance, users]


def run(script, scenarios, failures):
    for scenario in scenarios:
        script.note("== " + scenario.__name__)
        try:
            scenario(script)
        except Exception as error:  # told by the check of all
            failures.append(f"{script.name}, {scenario.__name__}: {type(error).__name__} {str(error)[:300]}")
            script.note("failed")


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", etcd="etcd", etcdctl="etcdctl",
                           descriptors="build/release/tests/e2e/api.pb")
    parser.add_argument("--only", help="scenarios by name, separated by commas")
    parser.add_argument("--leave-out", default="", help="the same, of those not wanted")
    args = parser.parse_args()
    args.etcd, etcdctl = lib.need_program(args.etcd), lib.need_program(args.etcdctl)
    etcd3.locks.tenacity = types.SimpleNamespace(**dict(vars(tenacity), retry=retry))
    logging.disable(logging.CRITICAL)  # of callbacks
    threading.excepthook = lambda hook: None  # of the client's watchers, when their connection is closed
    messages = api.Messages(args.descriptors)
    checks = lib.Checks()
    folder = lib.temp_dir("python-etcd3")
    scripts = []
    for name, binary, flags in (("reference", args.etcd, ["--log-level=error"]), ("subject", args.cleat, [])):
        os.mkdir(os.path.join(folder, name))
        cluster = cluster_lib.Cluster(binary, os.path.join(folder, name), 3, flags=flags, etcdctl=etcdctl).start()
        cluster.wait_leader()
        scripts.append(Script(name, cluster, messages))
    scenarios = [s for s in SCENARIOS if s.__name__ not in args.leave_out.split(",") and (
        not args.only or s.__name__ in args.only.split(","))]
    failures = []
    threads = [threading.Thread(target=run, args=(s, scenarios, failures), daemon=True) for s in scripts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        checks.check(not thread.is_alive(), "the script ends")
    checks.equal(failures, [], "everything works")
    expected, got = scripts[0].notes, scripts[1].notes
    checks.equal(len(got), len(expected), "as much was seen")
    for i in range(min(len(expected), len(got))):
        checks.equal(got[i], expected[i], "the same is seen")
    for script in scripts:
        script.close()
        checks.check(set(script.cluster.stop()) <= ENDS, "all stop in order")
    checks.done()


main()
