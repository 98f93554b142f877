"""Kubernetes' ways with etcd, one after another: guarded creates, updates and deletes, lists page by page, watches that
continue lists, bookmarks, the dance of two API servers around the compaction, leases that many objects share. The same
steps run against etcd and against the server under test: every answer must be the same but for ids, and be what the
API server relies on; once more through a follower of three members, whose leader is killed half way. Then three members
lose their leader while controllers count and fifty watchers look on."""
import os
import re
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import api
import cluster_lib
import lib

PREFIX = b"/registry/pods/default/"
END = api.prefix_end(PREFIX)
NOTIFY_MS = 300
FLAGS = [f"--experimental-watch-progress-notify-interval={NOTIFY_MS}ms"]
COMPACT_KEY = b"compact_rev_key"
LARGE_BYTES = 1400 * 1024
LARGE_COUNT = 60  # a list of some 80 MiB in one message
FAN_WATCHERS = 50
FAN_RATE = 5000 if lib.FULL else 1500
FAN_SECONDS = 10 if lib.FULL else 3
COUNTERS = 4
ENDS = {0, -15}  # etcd ends itself by the signal again


def without_ids(message):
    """Text of a message without what differs between two clusters."""
    if message is None:
        return "nothing"
    text = api.one_line(message)
    text = re.sub(r"\b(cluster_id|member_id|raft_term): \d+ ", "", text)
    return re.sub(r"\bkeys: \"[^\"]*\" ?", "", text) if "grantedTTL" in text else text


class Session:
    """Steps against one server. Each answer is noted, to be compared with what the other server said."""

    def __init__(self, server, messages, checks):
        self.server = server
        self.checks = checks
        self.api = api.Api(server.endpoint, messages)
        self.ops = api.Ops(messages)
        self.notes = []

    def note(self, what, message):
        """Takes down an answer (Reply or message of a stream) and returns it."""
        if isinstance(message, api.Reply):
            text = without_ids(message.message) if message.code == api.OK else str(message)
        else:
            text = without_ids(message)
        self.notes.append(f"{what}: {text}")
        return message

    def equal(self, got, expected, what):
        self.checks.equal(got, expected, f"{os.path.basename(self.server.binary)}: {what}")

    # -- the API server's calls

    def create(self, key, value, lease=0):
        return self.note("create", self.api.Txn(
            compare=[self.ops.mod(key, 0)], success=[self.ops.put(key, value, lease=lease)]))

    def update(self, key, value, revision, lease=0):
        return self.note("update", self.api.Txn(
            compare=[self.ops.mod(key, revision)], success=[self.ops.put(key, value, lease=lease)],
            failure=[self.ops.range(key)]))

    def delete(self, key, revision):
        return self.note("delete", self.api.Txn(
            compare=[self.ops.mod(key, revision)], success=[self.ops.delete(key)], failure=[self.ops.range(key)]))

    def get(self, key, **options):
        return self.note("get", self.api.Range(key=key, **options))

    def revision(self):
        return self.api.Range(key=b"/").header.revision


def objects(s):
    """Create, update, delete, each guarded by the revision the client knows."""
    key = PREFIX + b"web-0"
    made = s.create(key, b"v1")
    kv = s.get(key, limit=1).kvs[0]
    s.equal((made.succeeded, kv.mod_revision, kv.create_revision, kv.version),
            (True, made.header.revision, made.header.revision, 1), "a create's revision is its object's")
    again = s.create(key, b"v1 of another")
    s.equal((again.succeeded, len(again.responses), again.header.revision), (False, 0, made.header.revision),
            "a create of what exists changes nothing")
    updated = s.update(key, b"v2", made.header.revision)
    s.equal((updated.succeeded, updated.header.revision), (True, made.header.revision + 1), "an update takes one revision")
    stale = s.update(key, b"v2 of another", made.header.revision)
    found = stale.responses[0].response_range.kvs[0]
    s.equal((stale.succeeded, found.value, found.mod_revision), (False, b"v2", updated.header.revision),
            "a stale update is told what is there")
    s.delete(key, made.header.revision)  # stale as well
    gone = s.delete(key, updated.header.revision)
    s.equal((gone.succeeded, gone.responses[0].response_delete_range.deleted), (True, 1), "a guarded delete")
    late = s.update(key, b"v3", updated.header.revision)
    s.equal((late.succeeded, len(late.responses[0].response_range.kvs)), (False, 0), "an update of what is gone finds nothing")
    old = s.get(key, revision=updated.header.revision)
    s.equal(old.kvs[0].value, b"v2", "the past can be read")
    s.equal(old.header.revision, gone.header.revision, "the header tells of now")
    s.get(key, revision=gone.header.revision + 1)
    s.get(b"/registry/health")
    s.note("dry", s.api.Txn(compare=[s.ops.mod(key, 0)], failure=[s.ops.range(key)]))


def lists(s):
    """Pages of a list stay at the revision of its first, whatever happens meanwhile."""
    for i in range(25):
        s.create(PREFIX + b"list-%03d" % i, b"x%d" % i)
    first = s.note("page", s.api.Range(key=PREFIX, range_end=END, limit=10))
    at, count = first.header.revision, first.count
    s.equal((len(first.kvs), first.more, count), (10, True, 25), "a first page and how many there are")
    s.api.DeleteRange(key=PREFIX + b"list-012")
    s.create(PREFIX + b"list-0055", b"in between")
    got = list(first.kvs)
    page = first
    while page.more:
        page = s.note("page", s.api.Range(key=got[-1].key + b"\0", range_end=END, limit=10, revision=at))
        s.equal(page.count, count - len(got), "what remains counts from the page's key")
        got.extend(page.kvs)
    s.equal([kv.key for kv in got], [PREFIX + b"list-%03d" % i for i in range(25)], "all pages are one snapshot")
    s.note("count", s.api.Range(key=PREFIX, range_end=END, count_only=True))
    s.note("keys", s.api.Range(key=PREFIX, range_end=END, keys_only=True, limit=3))
    s.note("ahead", s.api.Range(key=PREFIX, range_end=END, revision=s.revision() + 1000))
    s.note("local", s.api.Range(key=PREFIX, range_end=END, serializable=True, limit=1))


def watches(s):
    """A watch continues a list: everything after it, once, in order; progress never overtakes events."""
    listed = s.note("list", s.api.Range(key=PREFIX, range_end=END, limit=1))
    at = listed.header.revision
    first = s.create(PREFIX + b"w-before", b"written before the watch")
    w = s.api.watch(require_leader=True)
    made = s.note("created", w.created(key=PREFIX, range_end=END, start_revision=at + 1, prev_kv=True, progress_notify=True))
    s.equal((made.created, made.watch_id), (True, 0), "the first watcher is number 0")
    came = s.note("event", w.take())
    s.equal(came.events[0].kv.mod_revision, first.header.revision, "what was written in between comes first")
    future = s.note("created", w.created(key=PREFIX, range_end=END, start_revision=s.revision() + 3))
    s.equal(future.watch_id, 1, "a second watcher, which begins later")
    updated = s.update(PREFIX + b"w-before", b"again", first.header.revision)
    came = s.note("event", w.take())
    s.equal(came.events[0].prev_kv.value, b"written before the watch", "an update shows what was there")
    s.delete(PREFIX + b"w-before", updated.header.revision)
    came = s.note("event", w.take())
    event = came.events[0]
    s.equal((event.type, event.kv.mod_revision, event.kv.value, event.prev_kv.value),
            (1, came.header.revision, b"", b"again"), "a delete shows its revision and what was there")
    s.api.Put(key=PREFIX + b"w-third", value=b"both see it")
    both = sorted((w.take() for _ in range(2)), key=lambda r: r.watch_id)
    for response in both:
        s.note("event of both", response)
    for i in range(3):
        s.api.Put(key=b"/registry/secrets/s", value=b"%d" % i)  # nobody watches it
    now = s.revision()
    w.progress()
    response = w.take()
    while response is not None and response.watch_id != -1:  # a notification of the interval may come before
        response = w.take()
    s.note("progress", response)
    s.equal((response.watch_id, response.header.revision >= now, len(response.events)), (-1, True, 0),
            "progress on demand is of the whole stream, and not older than a read before it")
    w.drop(0)
    response = w.take()
    while not response.canceled:
        response = w.take()
    s.note("dropped", response)
    w.cancel()


def bookmarks(s):
    """An idle watcher is told how far it is; whoever resumes from there misses nothing."""
    w = s.api.watch()
    made = w.created(key=PREFIX, range_end=END, progress_notify=True)
    s.api.Put(key=b"/registry/secrets/s", value=b"unseen")
    now = s.revision()
    end = time.monotonic() + api.ANSWER_TIMEOUT_S
    mark = w.take()
    while mark.header.revision < now and time.monotonic() < end:
        s.equal((mark.watch_id, len(mark.events)), (made.watch_id, 0), "a bookmark names its watcher")
        mark = w.take()
    s.note("bookmark", mark)
    again = s.note("the same again on an idle store", w.take())
    s.equal(again.header.revision, mark.header.revision, "an idle store's bookmark")
    w.cancel()
    for i in range(3):
        s.api.Put(key=PREFIX + b"b-%d" % i, value=b"%d" % i)
    w = s.api.watch()
    w.created(key=PREFIX, range_end=END, start_revision=mark.header.revision + 1)
    got = []
    while len(got) < 3:
        got.extend(w.take().events)
    s.equal([e.kv.value for e in got], [b"0", b"1", b"2"], "resumed after a bookmark")
    s.equal(w.take(0.3), None, "and nothing else")
    w.cancel()


def bulk_delete(s):
    """All events of one revision come in one response."""
    for i in range(40):
        s.create(PREFIX + b"bulk-%02d" % i, b"%d" % i)
    w = s.api.watch()
    w.created(key=PREFIX, range_end=END, prev_kv=True)
    s.note("delete", s.api.DeleteRange(key=PREFIX + b"bulk-", range_end=api.prefix_end(PREFIX + b"bulk-")))
    came = s.note("events", w.take())
    s.equal(len(came.events), 40, "one response for one revision")
    s.equal({e.kv.mod_revision for e in came.events}, {came.header.revision}, "of that revision")
    s.equal([e.prev_kv.value for e in came.events], [b"%d" % i for i in range(40)], "in order, each with what was there")
    w.cancel()


def dance(s, name, known):
    """One API server's turn: `known` is {version, revision} of its last one; returns the next."""
    version, revision = known
    now = s.revision()
    turn = s.note(f"{name}'s turn", s.api.Txn(
        compare=[s.ops.version(COMPACT_KEY, version)], success=[s.ops.put(COMPACT_KEY, b"%d" % now)],
        failure=[s.ops.range(COMPACT_KEY)]))
    if not turn.succeeded:
        return turn.responses[0].response_range.kvs[0].version, turn.header.revision
    if revision != 0:
        s.note(f"{name} compacts", s.api.Compact(revision=revision))
    return version + 1, turn.header.revision


def compaction(s):
    """Two API servers dance around one key: whoever wins a turn compacts to the turn before."""
    one, other = (0, 0), (0, 0)
    key = PREFIX + b"compacted"
    revisions = []
    for turn in range(4):
        revisions.append(s.api.Put(key=key, value=b"%d" % turn).header.revision)
        one = dance(s, "one", one)
        other = dance(s, "other", other)
        s.equal(other[0], one[0], "the loser learns the version")
    compacted = s.note("again", s.api.Compact(revision=revisions[0]))
    s.equal((compacted.code, compacted.text), ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted"),
            "what is compacted stays so")
    s.get(key, revision=revisions[0])
    s.get(key, revision=revisions[-1])
    s.get(COMPACT_KEY)
    w = s.api.watch()
    made = s.note("created", w.created(key=PREFIX, range_end=END, start_revision=revisions[0]))
    ended = s.note("compacted", w.take())
    s.equal((made.created, made.canceled, ended.canceled, ended.compact_revision > revisions[0]), (True, False, True, True),
            "a watch from what is compacted is made, then ended")
    alive = s.note("created", w.created(key=PREFIX, range_end=END, start_revision=ended.compact_revision + 1))
    s.equal(alive.created, True, "its stream goes on")
    w.cancel()


def leases(s):
    """Events share a lease; expiry takes all of its keys in one revision."""
    s.note("grant", s.api.LeaseGrant(ID=7001, TTL=3660))
    for i in range(20):
        s.create(b"/registry/events/e-%02d" % i, b"%d" % i, lease=7001)
    left = s.api.LeaseTimeToLive(ID=7001, keys=True)
    s.equal(sorted(left.keys), [b"/registry/events/e-%02d" % i for i in range(20)], "a lease knows its keys")
    s.equal((left.grantedTTL, 3600 <= left.TTL < 3660), (3660, True), "and its time")
    s.create(b"/registry/events/lost", b"x", lease=7999)
    s.note("grant", s.api.LeaseGrant(ID=7002, TTL=2))
    began = time.monotonic()
    for i in range(3):
        s.create(b"/registry/short/%d" % i, b"v%d" % i, lease=7002)
    s.note("grant", s.api.LeaseGrant(ID=7003, TTL=2))
    lease_key = b"/registry/masterleases/10.0.0.1"
    made = s.create(lease_key, b"1", lease=7003)
    s.note("grant", s.api.LeaseGrant(ID=7004, TTL=600))
    s.update(lease_key, b"2", made.header.revision, lease=7004)
    w = s.api.watch()
    w.created(key=b"/registry/", range_end=api.prefix_end(b"/registry/"), prev_kv=True)
    came = s.note("expired", w.take())
    took = time.monotonic() - began
    s.equal((len(came.events), {e.type for e in came.events}, {e.kv.mod_revision for e in came.events}),
            (3, {1}, {came.header.revision}), "an expiry is one revision")
    s.equal([e.prev_kv.value for e in came.events], [b"v0", b"v1", b"v2"], "in the order of the keys, with what was there")
    s.equal(1.9 <= took <= 6, True, f"expired after {took:.1f} s of 2")
    s.equal(w.take(1.5), None, "a lease whose key was given to another takes nothing with it")
    s.note("its key", s.api.Range(key=lease_key))
    s.note("gone", s.api.LeaseTimeToLive(ID=7002))
    s.note("reused after its end", s.create(b"/registry/short/again", b"x", lease=7002))
    s.note("revoked", s.api.LeaseRevoke(ID=7001))
    s.equal(len(w.take().events), 20, "a revoke is one revision, too")
    w.cancel()


def large(s):
    """Objects of more than a megabyte, and a list of all of them in one message."""
    value = os.urandom(LARGE_BYTES)
    for i in range(LARGE_COUNT):
        s.equal(s.api.Put(key=b"/registry/large/%03d" % i, value=value).code, api.OK, "a large object")
    listed = s.api.Range(key=b"/registry/large/", range_end=b"/registry/large0")
    s.equal([len(kv.value) for kv in listed.kvs], [LARGE_BYTES] * LARGE_COUNT, "a list of them all")
    s.note("too large", s.api.Put(key=b"/registry/large/too", value=bytes(1536 * 1024 + 1)))
    s.note("deleted", s.api.DeleteRange(key=b"/registry/large/", range_end=b"/registry/large0"))


def status(s):
    """What the API server sniffs, and the numbers of its metrics."""
    told = s.api.Status()
    version = tuple(map(int, re.match(r"(\d+)\.(\d+)\.(\d+)", told.version).groups()))
    has_progress = version >= (3, 4, 31) and not (3, 5, 0) <= version < (3, 5, 13)
    s.equal(has_progress or "etcd" in s.server.binary, True, f"version {told.version} has progress on demand")
    s.equal(told.dbSize > 0 and not told.isLearner, True, "size and role")


SCENARIOS = [objects, lists, watches, bookmarks, bulk_delete, compaction, leases, large, status]


def one_member(args, checks, messages, folder):
    """The same steps with both, side by side."""
    reference = lib.Server(args.etcd, os.path.join(folder, "reference"), flags=FLAGS + ["--log-level=error"])
    subject = lib.Server(args.cleat, os.path.join(folder, "one"), flags=FLAGS + args.flags.split())
    sessions = [Session(s.start(), messages, checks) for s in (reference, subject)]
    run_steps(args, checks, sessions, SCENARIOS)
    checks.check({reference.stop(), subject.stop()} <= ENDS, "both stop in order")


def through_follower(args, checks, messages, folder):
    """The same steps through a follower of three, whose leader is killed half way."""
    reference = lib.Server(args.etcd, os.path.join(folder, "reference-2"), flags=FLAGS + ["--log-level=error"])
    os.mkdir(os.path.join(folder, "follower"))
    cluster = cluster_lib.Cluster(args.cleat, os.path.join(folder, "follower"), 3, flags=FLAGS + args.flags.split(),
                                  etcdctl=args.etcdctl).start()
    leader = cluster.wait_leader()
    follower = next(m for m in cluster.members if m is not leader)
    sessions = [Session(s, messages, checks) for s in (reference.start(), follower)]
    scenarios = [s for s in SCENARIOS if s is not large]
    run_steps(args, checks, sessions, scenarios[:4])
    leader.kill()
    cluster.wait_leader([m for m in cluster.members if m is not leader])
    run_steps(args, checks, sessions, scenarios[4:])
    checks.check(reference.stop() in ENDS and set(cluster.stop()) <= ENDS, "all stop in order")


def run_steps(args, checks, sessions, scenarios):
    for scenario in scenarios:
        if scenario.__name__ in args.leave_out.split(",") or args.only and scenario.__name__ not in args.only.split(","):
            continue
        failures = []
        threads = [threading.Thread(target=attempt, args=(scenario, s, failures)) for s in sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        checks.equal(failures, [], f"{scenario.__name__} runs to its end")
        compare(checks, scenario.__name__, *sessions)


def attempt(scenario, session, failures):
    try:
        scenario(session)
    except Exception as error:  # told by the check of all
        failures.append(f"{session.server.binary}: {type(error).__name__} {error}")


def compare(checks, name, reference, subject):
    """What both noted in one scenario."""
    checks.check(len(reference.notes) > 0 or name in ("bulk_delete", "status"), f"{name} noted something")
    for i in range(max(len(reference.notes), len(subject.notes))):
        expected, got = (s.notes[i] if i < len(s.notes) else "nothing" for s in (reference, subject))
        if not checks.equal(got, expected, f"{name}, answer {i}"):
            break
    reference.notes.clear()
    subject.notes.clear()


# ---- three members ----

class Counter(threading.Thread):
    """A controller that counts in an object which others count in as well, whatever the cluster does."""

    def __init__(self, members, messages, number, stop):
        super().__init__(daemon=True)
        self.apis = [api.Api(m.endpoint, messages) for m in members]
        self.ops = api.Ops(messages)
        self.number = number
        self.stop_event = stop
        self.acked = self.conflicts = self.unknown = 0
        self.key = b"/registry/counters/one"

    def call(self, name, **fields):
        """Asks one member after another until one answers."""
        while True:
            reply = self.apis[self.number % len(self.apis)].call(name, timeout_s=3, **fields)
            if reply.code == api.OK or name == "Txn":
                return reply
            self.number += 1
            time.sleep(0.02)

    def run(self):
        serial = 0
        while not self.stop_event.is_set():
            kvs = self.call("Range", key=self.key).kvs
            count, revision = (int(kvs[0].value.split()[0]), kvs[0].mod_revision) if kvs else (0, 0)
            serial += 1
            mine = b"%d %s %d" % (count + 1, self.name.encode(), serial)
            reply = self.call("Txn", compare=[self.ops.mod(self.key, revision)], success=[self.ops.put(self.key, mine)],
                              failure=[self.ops.range(self.key)])
            if reply.code != api.OK:
                self.unknown += 1
                self.number += 1
            elif reply.succeeded:
                self.acked += 1
            else:
                self.conflicts += 1


def reconnect(checks, apis, dead):
    """Watches that an API server had on the leader which died: no other member turns them away until there is the next."""
    answers = []
    while any(one.Status().leader in (0, dead) for one in apis):
        for one in apis:
            w = one.watch(require_leader=True)
            made = w.created(key=PREFIX, range_end=END)
            answers.append("made" if made is not None and made.created else str(w.end))
            w.cancel()
    checks.equal(set(answers) - {"made"}, set(), f"{len(answers)} watches between two leaders")


def three_members(args, checks, messages, folder):
    """A leader is killed while controllers count and watchers look on."""
    flags = [] if args.flags == "" else args.flags.split()
    cluster = cluster_lib.Cluster(args.cleat, os.path.join(folder, "three"), 3, flags=FLAGS + flags, etcdctl=args.etcdctl)
    os.mkdir(os.path.join(folder, "three"))
    cluster.start()
    cluster.wait_leader()
    stop = threading.Event()
    counters = [Counter(cluster.members, messages, i, stop) for i in range(COUNTERS)]
    for counter in counters:
        counter.start()
    fan = cluster_lib.Load(args.fan, cluster.members, "--watchers", FAN_WATCHERS, "--rate", FAN_RATE // 5, "--seconds",
                           FAN_SECONDS + 4)
    time.sleep(2)
    leader = cluster.wait_leader()
    apis = [api.Api(m.endpoint, messages) for m in cluster.members if m is not leader]
    dead = apis[0].Status().leader
    leader.kill()
    reconnect(checks, apis, dead)
    time.sleep(2)
    cluster.restart(leader)
    told_fan(checks, fan.wait(), f"{FAN_WATCHERS} watchers of three members, the leader killed")
    lib.wait_until(lambda: sum(c.acked for c in counters) > 100, 60, "they count")
    stop.set()
    for counter in counters:
        counter.join(20)
    acked = sum(c.acked for c in counters)
    unknown = sum(c.unknown for c in counters)
    final = counters[0].call("Range", key=counters[0].key).kvs[0]
    print(f"counted {acked}, {sum(c.conflicts for c in counters)} conflicts, {unknown} without an answer", flush=True)
    checks.check(acked <= int(final.value.split()[0]) <= acked + unknown and final.version == int(final.value.split()[0]),
                 f"nobody counted twice: {final.value} of version {final.version}, acknowledged {acked}, unknown {unknown}")
    checks.check(set(cluster.stop()) <= ENDS, "all stop in order")


def told_fan(checks, report, what):
    print(f"{what}: {report}", flush=True)
    checks.equal(report.get("code"), 0, f"{what}: {report.get('why')}")
    checks.check(report.get("events", 0) > 0, f"{what}: something came")


def fan(args, checks, messages, folder):
    """Fifty watchers of one prefix, thousands of writes a second: each sees every event, in order, once."""
    server = lib.Server(args.cleat, os.path.join(folder, "fan"), flags=args.flags.split()).start()
    load = cluster_lib.Load(args.fan, [server], "--watchers", FAN_WATCHERS, "--rate", FAN_RATE, "--seconds", FAN_SECONDS)
    told_fan(checks, load.wait(), f"{FAN_WATCHERS} watchers of one member")
    checks.check(server.stop() in ENDS, "it stops in order")


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", etcd="etcd", etcdctl="etcdctl",
                           descriptors="build/release/tests/e2e/api.pb", fan="build/release/tests/e2e/watch_fan")
    parser.add_argument("--flags", default="", help="of the server under test")
    parser.add_argument("--parts", default="one,fan,follower,three")
    parser.add_argument("--only", help="scenarios of one member by name, separated by commas")
    parser.add_argument("--leave-out", default="", help="the same, of those not wanted")
    args = parser.parse_args()
    args.etcd, args.etcdctl = lib.need_program(args.etcd), lib.need_program(args.etcdctl)
    messages = api.Messages(args.descriptors)
    checks = lib.Checks()
    folder = lib.temp_dir("k8s")
    for name, part in (("one", one_member), ("fan", fan), ("follower", through_follower), ("three", three_members)):
        if name in args.parts.split(","):
            print(f"== {name}", flush=True)
            part(args, checks, messages, folder)
    checks.done()


main()
