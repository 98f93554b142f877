"""Many keys deleted by one request under watchers: of all of them (with and without the values before, and in fragments), of
single ones, and of others. Each must get exactly its events, of one revision and in one response unless it asked for fragments;
whoever watches and writes elsewhere, from a process of its own, is not held up for long; and the memory comes back, a second
time too. Figures are printed; with --etcd those of an etcd, too."""
import argparse
import json
import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import api
import lib

KEYS = 100_000 if lib.FULL else 10_000
SINGLES = 50
PUTS_IN_TXN = 100
PREFIX, OTHER = b"/many/", b"/other/"
END = api.prefix_end(PREFIX)
DELETE = 1
HELD_UP_S_MAX = 5.0
TAKE_S_MAX = 150.0
# Above what it was, once all is over. The log's window of entries, which fills meanwhile, takes half of it; were the events of
# both rounds kept, it would be more.
MEMORY_MIB_MAX = 90 if lib.FULL else 16
ENDS = {0, -15}  # etcd ends itself by the signal again


def key_of(i):
    return PREFIX + b"%06d" % i


def value_of(i):
    return b"%06d" % i * 32


# ---- elsewhere: a process that watches and writes other keys ----

def elsewhere(endpoint, descriptors):
    """Puts one after another, each when the events of the one before have come, until its input ends."""
    a = api.Api(endpoint, api.Messages(descriptors))
    watches = {"plain": a.watch(), "with values": a.watch()}
    for what, w in watches.items():
        w.created(key=OTHER, range_end=api.prefix_end(OTHER), prev_kv=what != "plain")
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    print("ready", flush=True)
    put_s, event_s, wrong = [], {what: [] for what in watches}, ""
    while not ended.is_set() and not wrong:
        value = b"%d" % len(put_s)
        began = time.monotonic()
        put = a.Put(key=OTHER + b"key", value=value, timeout_s=TAKE_S_MAX)
        put_s.append(time.monotonic() - began)
        for what, w in watches.items():
            came = w.take(TAKE_S_MAX)
            event_s[what].append(time.monotonic() - began)
            events = [] if came is None else [(e.type, e.kv.value, e.kv.mod_revision) for e in came.events]
            if put.code != api.OK or events != [(0, value, put.header.revision)]:
                wrong = f"put {len(put_s)}: {put}, then {what} {events}"
        time.sleep(0.002)
    print(json.dumps({"wrong": wrong, "puts": len(put_s), "put_ms": figures(put_s),
                      **{f"event_ms, {what}": figures(s) for what, s in event_s.items()}}))


def figures(seconds):
    in_order = sorted(seconds)
    return {"p50": round(1e3 * in_order[len(in_order) // 2], 1), "max": round(1e3 * in_order[-1], 1)}


class Elsewhere:
    def __init__(self, args, server):
        self.process = lib.spawn([sys.executable, os.path.abspath(__file__), "--descriptors", args.descriptors,
                                  "--elsewhere", server.endpoint], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def end(self):
        out, _ = self.process.communicate(timeout=2 * TAKE_S_MAX)
        return json.loads(out)


# ---- the deletion ----

def fill(a):
    ops = api.Ops(a.messages)
    calls = [a.start("Txn", success=[ops.put(key_of(i), value_of(i)) for i in range(first, first + PUTS_IN_TXN)],
                     timeout_s=TAKE_S_MAX) for first in range(0, KEYS, PUTS_IN_TXN)]
    return all(a.finish(call).code == api.OK for call in calls)


def anonymous_mib(server):
    with open(f"/proc/{server.pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon:")) // 1024


def take_all(w, revision):
    """The responses of one revision to a watcher of everything."""
    responses, events = [], 0
    while events < KEYS:
        came = w.take(TAKE_S_MAX)
        if came is None:
            break
        responses.append(came)
        events += len(came.events)
        if came.header.revision < revision or not came.events:
            break
    return responses


def check_all(check, what, responses, revision, prev_kv, fragment):
    check(len(responses) > 1 if fragment else len(responses) == 1, f"{what}: {len(responses)} responses")
    check([r.fragment for r in responses] == [True] * (len(responses) - 1) + [False], f"{what}: all but the last are fragments")
    events = [e for r in responses for e in r.events]
    check([e.kv.key for e in events] == [key_of(i) for i in range(KEYS)], f"{what}: {len(events)} events, each key once, in order")
    check({(e.type, e.kv.mod_revision) for e in events} == {(DELETE, revision)}, f"{what}: deletions of one revision")
    values = [e.prev_kv.value if e.HasField("prev_kv") else None for e in events]
    check(values == [value_of(i) if prev_kv else None for i in range(KEYS)], f"{what}: the values before")


def check_singles(check, w, revision):
    got = {}
    for _ in range(SINGLES):
        came = w.take(TAKE_S_MAX)
        if came is not None:
            got.setdefault(came.watch_id, []).append([(e.type, e.kv.key, e.kv.mod_revision, e.prev_kv.value) for e in came.events])
    expected = {i + 1: [[(DELETE, single(i), revision, value_of(single_number(i)) if i % 2 else b"")]] for i in range(SINGLES)}
    check(got == expected, f"each of {SINGLES} watchers of single keys gets its event")


def single_number(i):
    return i * KEYS // SINGLES


def single(i):
    return key_of(single_number(i))


def play(args, checks, messages, server, name):
    """One round; returns the figures."""
    def check(ok, what):
        checks.check(ok, f"{name}: {what}")

    a = api.Api(server.endpoint, messages)
    check(fill(a), "it takes the keys")
    time.sleep(2)  # the values are in the store on disk by then, not in what waits for it
    forms = {"plain": {}, "with values": {"prev_kv": True}, "in fragments": {"prev_kv": True, "fragment": True}}
    streams = {what: a.watch() for what in forms}
    for what, fields in forms.items():
        check(streams[what].created(key=PREFIX, range_end=END, **fields).created, f"{what}: a watcher")
    singles = a.watch()
    for i in range(SINGLES):
        singles.created(key=single(i), watch_id=i + 1, prev_kv=i % 2 == 1)
    others = Elsewhere(args, server)
    time.sleep(0.5)
    before = anonymous_mib(server)
    began = time.monotonic()
    deleted = a.DeleteRange(key=PREFIX, range_end=END, timeout_s=TAKE_S_MAX)
    answered = time.monotonic()
    check(deleted.code == api.OK and deleted.deleted == KEYS, f"{KEYS} keys deleted")
    revision = deleted.header.revision
    responses = {what: take_all(w, revision) for what, w in streams.items()}
    came = time.monotonic()
    time.sleep(0.5)
    told = others.end()
    for what, fields in forms.items():
        check_all(check, what, responses[what], revision, "prev_kv" in fields, "fragment" in fields)
    check_singles(check, singles, revision)
    responses.clear()
    after = a.Put(key=single(0), value=b"again").header.revision
    for what, w in list(streams.items()) + [("a single key", singles)]:
        events = [(e.type, e.kv.key, e.kv.mod_revision) for e in w.take().events]
        check(events == [(0, single(0), after)], f"{what}: nothing else until the next put: {events}")
    check(told.pop("wrong") == "", f"elsewhere: {told}")
    check(a.Compact(revision=after, physical=True, timeout_s=TAKE_S_MAX).code == api.OK, "what is gone is compacted")
    a.close()
    time.sleep(1)
    told = {"answer_ms": round(1e3 * (answered - began)), "all_events_ms": round(1e3 * (came - began)), "elsewhere": told,
            "anonymous_mib": [before, anonymous_mib(server)]}
    print(f"{name}: {told}", flush=True)
    return told


def main():
    parser = lib.arguments(__doc__, etcd=None, cleat="build/release/server/cleat", descriptors="build/release/tests/e2e/api.pb")
    parser.add_argument("--elsewhere", metavar="ENDPOINT", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.elsewhere:
        elsewhere(args.elsewhere, args.descriptors)
        return
    api.fail_after(600, "the whole")
    checks = lib.Checks()
    messages = api.Messages(args.descriptors)
    folder = lib.temp_dir("watch-delete")
    if args.etcd:
        etcd = lib.Server(args.etcd, folder + "/etcd", flags=["--log-level=error"]).start()
        play(args, checks, messages, etcd, "etcd")
        checks.check(etcd.stop() in ENDS, "etcd stops")
    cleat = lib.Server(args.cleat, folder + "/cleat").start()
    rounds = [play(args, checks, messages, cleat, f"cleat, round {i}") for i in (1, 2)]
    for told in rounds:
        slowest = {what: told["elsewhere"][what]["max"] for what in told["elsewhere"] if what != "puts"}
        checks.check(max(slowest.values()) < 1e3 * HELD_UP_S_MAX, f"held up elsewhere, ms: {slowest}")
    bound = rounds[0]["anonymous_mib"][0] + MEMORY_MIB_MAX
    lib.wait_until(lambda: anonymous_mib(cleat) <= bound, 30, f"{bound} MiB or less again")
    print(f"cleat at last: {anonymous_mib(cleat)} MiB", flush=True)
    checks.equal(cleat.stop(), 0, "exit code")
    checks.done()


main()
