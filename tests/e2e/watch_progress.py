#!/usr/bin/env python3
"""What a watch is told of the store's progress, by a member of one and by a follower of three, with etcd beside them.

Watchers that ask for notifications (--experimental-watch-progress-notify-interval) get one at each tick, each by its own id
and with the store's revision: not after events, not while they are behind. Who asks by a request of his own gets one answer
for all watchers of the stream. Whichever it is: of what it covers nothing comes later."""
import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import api
import cluster_lib
import lib

INTERVAL_S = 0.5  # a stream's own is up to a tenth longer
LATE_S = 2.0  # what a busy machine may add to a tick
SHORTEST_S = 0.1  # shorter intervals are raised to it
FLAG = "--experimental-watch-progress-notify-interval"
HISTORY_EVENTS, HISTORY_BYTES = 80, 120 * 1024  # far more than a connection holds
ENDS = {0, -15}  # etcd ends itself by the signal again


class Subject:
    """A server that is watched, and one that is written to: the same, or the leader of three."""

    def __init__(self, what, watched, written, messages, checks):
        self.what = what
        self.checks = checks
        self.messages = messages
        self.api = api.Api(watched.endpoint, messages)
        self.writer = api.Api(written.endpoint, messages)
        self.watched = watched

    def check(self, ok, what):
        return self.checks.check(ok, f"{self.what}: {what}")

    def equal(self, got, expected, what):
        return self.checks.equal(got, expected, f"{self.what}: {what}")

    def put(self, key, value=b"v"):
        """The revision it got."""
        return self.writer.Put(key=key, value=value).header.revision

    def revision(self):
        """The store's, as who asks the watched one to be up to date is told it."""
        return self.api.Range(key=b"nothing").header.revision


class Heard:
    """Takes all that comes on a stream, with the time, and judges each response as it comes: a notification covers its
    watcher, an answer (id -1) all of them."""

    def __init__(self, subject, stream):
        self.s = subject
        self.stream = stream
        self.events = {}  # watch id -> [(time, revision)]
        self.told = {}  # watch id, or -1 -> [(time, revision)]
        self.covered = {}  # watch id -> revision up to which nothing may come any more
        self.canceled = set()

    def take(self, timeout_s):
        """False when nothing came in time."""
        response = self.stream.take(timeout_s)
        if response is None:
            return False
        now, revision = time.monotonic(), response.header.revision
        covered = max(self.covered.get(response.watch_id, 0), self.covered.get(-1, 0))
        if response.events:
            revisions = [event.kv.mod_revision for event in response.events]
            if covered >= revisions[0]:
                self.s.check(False, f"watcher {response.watch_id} was told of {covered}, then comes {revisions[0]}")
            self.events.setdefault(response.watch_id, []).extend((now, revision) for revision in revisions)
            return True
        if response.canceled:
            self.canceled.add(response.watch_id)
            return True
        head = response.header
        whole = head.cluster_id and head.member_id and head.raft_term and not response.created
        if not whole or revision < covered:
            self.s.check(False, f"after {covered} watcher {response.watch_id} is told: {api.one_line(response)}")
        self.told.setdefault(response.watch_id, []).append((now, revision))
        self.covered[response.watch_id] = revision
        return True

    def take_for(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.take(max(0.001, end - time.monotonic()))

    def take_until(self, condition, what, timeout_s=api.ANSWER_TIMEOUT_S):
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end or self.stream.end is not None:
                raise TimeoutError(f"{what}; the stream's end: {self.stream.end}")
            self.take(0.1)

    def forget(self):
        self.events.clear()
        self.told.clear()


def gaps(told):
    return [later - earlier for (earlier, _), (later, _) in zip(told, told[1:])]


# ---- told now and then ----

def idle(s, heard, eager):
    """An idle store's revision comes again at each tick, for each watcher that wants it."""
    now = s.revision()
    heard.take_for(0.1)
    heard.forget()
    heard.take_for(5.5 * INTERVAL_S)
    s.equal(sorted(heard.told), eager, "those who asked for it are told, and nobody else")
    for watcher, told in sorted(heard.told.items()):
        s.equal({revision for _, revision in told}, {now}, f"watcher {watcher} of an idle store is told its revision")
        s.check(2 <= len(told) <= 6, f"watcher {watcher} was told {len(told)} times in five intervals and a half")
        mean_s = sum(gaps(told)) / max(1, len(gaps(told)))
        s.check(0.6 * INTERVAL_S <= mean_s <= 1.1 * INTERVAL_S + LATE_S / 2, f"watcher {watcher} every {mean_s:.3f} s")


def written_elsewhere(s, heard, eager):
    """What nobody of them watches moves their revision."""
    for _ in range(10):
        now = s.put(b"elsewhere")
    s.revision()  # the watched one has it
    heard.take_for(0.1)  # a tick may have been on its way
    heard.forget()
    heard.take_for(1.1 * INTERVAL_S + LATE_S)
    told = {watcher: told[0][1] for watcher, told in heard.told.items()}
    s.equal(told, {watcher: now for watcher in eager}, "the next tick tells of what is written elsewhere")


def busy(s, heard, often, seldom):
    """A tick passes over who has got events since the one before; the other watchers are told as ever."""
    heard.forget()
    end = time.monotonic() + 4 * INTERVAL_S
    next_seldom_s = time.monotonic() + INTERVAL_S
    last = {}
    while time.monotonic() < end:
        last[often] = s.put(b"often/k")
        if time.monotonic() >= next_seldom_s:
            last[seldom] = s.put(b"seldom/k")
            next_seldom_s += 2.5 * INTERVAL_S
        heard.take_for(0.05)
    heard.take_until(lambda: all(heard.events.get(w, [(0, 0)])[-1][1] == last[w] for w in last), "all events come")
    for watcher in (often, seldom):
        for told_s, _ in heard.told.get(watcher, []):
            before = [event_s for event_s, _ in heard.events[watcher] if event_s <= told_s]
            s.check(not before or told_s - before[-1] > INTERVAL_S / 2,
                    f"watcher {watcher} is told {told_s - (before or [0])[-1]:.3f} s after an event")
    s.check(len(heard.told.get(seldom, [])) > 0, "who seldom gets something is told in between")
    heard.take_until(lambda: heard.told.get(often, [(0, 0)])[-1][1] >= last[often], "then it is told again", 3 * INTERVAL_S + LATE_S)


def behind(s):
    """Who begins in the past, and reads late, is told nothing before it has everything."""
    value = os.urandom(HISTORY_BYTES)
    written = [s.put(b"history/%d" % (i % 10), value) for i in range(HISTORY_EVENTS)]
    path, request, response = s.messages.methods["Watch"]
    create = s.messages.WatchCreateRequest(key=b"history/", range_end=b"history0", start_revision=written[0], progress_notify=True)
    done = threading.Event()

    def requests():
        yield request(create_request=create)
        done.wait()
    s.revision()
    other = api.Api(s.watched.endpoint, s.messages)
    stream = other.channel.stream_stream(path, request.SerializeToString, response.FromString)(requests())
    s.equal(next(stream).created, True, "a watcher that begins in the past")
    time.sleep(2.5 * INTERVAL_S)
    got, told = [], []
    while not told:
        came = next(stream)
        got.extend(event.kv.mod_revision for event in came.events)
        told += [] if came.events else [came.header.revision]
    s.equal((got == written, told), (True, [written[-1]]), f"all events first ({len(got)} of {len(written)}), then the revision")
    done.set()
    stream.cancel()
    other.close()
    s.writer.DeleteRange(key=b"history/", range_end=b"history0")


def notified(s):
    stream = s.api.watch()
    watched = ((b"often/", True), (b"never/", False), (b"seldom/", True), (b"never/", True))
    for number, (key, progress) in enumerate(watched):
        stream.create(key=key, range_end=api.prefix_end(key), progress_notify=progress)
        made = stream.take()
        while not made.created:  # a watcher before it may be told already
            made = stream.take()
        s.equal((made.created, made.watch_id), (True, number), "a watcher")
    heard = Heard(s, stream)
    idle(s, heard, eager=[0, 2, 3])
    stream.drop(3)
    heard.take_until(lambda: heard.canceled == {3}, "it goes")
    written_elsewhere(s, heard, eager=[0, 2])
    busy(s, heard, often=0, seldom=2)
    s.equal((1 in heard.told, 3 in heard.told), (False, False), "who did not ask, or went, is not told")
    s.equal(stream.end, None, "the stream lives")
    stream.cancel()


# ---- asked for ----

def asked(s):
    """One answer for each request, for all watchers of the stream; none without watchers, none while one is behind."""
    stream = s.api.watch()
    stream.progress()
    s.equal(stream.take(0.3), None, "nobody watches, nobody is answered")
    now = s.put(b"asked/a")
    s.revision()  # the watched one has it
    for number, start in enumerate((0, now + 1000, now)):
        s.equal(stream.created(key=b"asked/", range_end=b"asked0", start_revision=start).watch_id, number, "a watcher")
    s.equal(stream.take().events[0].kv.mod_revision, now, "what lies before comes")
    time.sleep(0.3)  # etcd may take it for behind a little longer
    for _ in range(3):
        stream.progress()
    answers = [(told.watch_id, told.header.revision, len(told.events)) for told in (stream.take(), stream.take(), stream.take())]
    s.equal(answers, [(-1, now, 0)] * 3, "three questions, three answers")
    s.equal(stream.take(0.2), None, "and no more")
    for _ in range(5):  # through a follower the events are on their way from the leader
        now = s.put(b"elsewhere")
        s.equal(s.revision() >= now, True, "who reads is up to date")
        stream.progress()
        told = stream.take()
        s.check(told.watch_id == -1 and told.header.revision >= now, f"so is the answer: {now}, {api.one_line(told)}")
    for number in range(3):
        stream.drop(number)
        s.equal(stream.take().canceled, True, "a watcher goes")
    stream.progress()
    s.equal(stream.take(0.3), None, "nobody is left, nobody is answered")
    stream.cancel()


def asked_under_load(s):
    """While it is written: of what an answer covers nothing comes later on any watcher of its stream."""
    stream = s.api.watch()
    for key in (b"load/1", b"load/2", b"load/"):
        stream.created(key=key, range_end=api.prefix_end(key))
    heard = Heard(s, stream)
    last, stop = [0], threading.Event()

    def write():
        while not stop.is_set():
            last[0] = s.put(b"load/%d" % (1 + last[0] % 3))
    def under_load():
        return len(heard.told.get(-1, [])) > 10 and len(heard.events.get(2, [])) > 50
    writer = threading.Thread(target=write)
    writer.start()
    asked, end = 0, time.monotonic() + 60
    while asked < 40 or not under_load() and time.monotonic() < end:
        stream.progress()
        asked += 1
        heard.take_for(0.05)
    stop.set()
    writer.join()
    heard.take_until(lambda: heard.events[2][-1][1] == last[0], "all events come")
    answers = heard.told.get(-1, [])
    s.check(under_load(), f"{len(answers)} of {asked} questions are answered, {len(heard.events[2])} events meanwhile")
    print(f"{s.what}: {len(answers)} of {asked} questions answered between {len(heard.events[2])} events", flush=True)
    stream.cancel()


# ---- all of it ----

def shortest(args, checks, messages, folder):
    """An interval that is too short is raised, with a word in the log."""
    server = lib.Server(args.cleat, os.path.join(folder, "shortest"), flags=[f"{FLAG}=10ms"]).start()
    s = Subject("shortest", server, server, messages, checks)
    stream = s.api.watch()
    stream.created(key=b"a", progress_notify=True)
    heard = Heard(s, stream)
    heard.take_until(lambda: len(heard.told.get(0, [])) == 11, "eleven notifications")
    took_s = heard.told[0][-1][0] - heard.told[0][0][0]
    s.check(3 * SHORTEST_S <= took_s <= 11 * SHORTEST_S + 2 * LATE_S, f"ten intervals take {took_s:.2f} s")
    s.check(b"adjusting watch progress notify interval to minimum period" in server.log(), "the log says so")
    stream.cancel()
    s.equal(server.stop(), 0, "it stops in order")


class Run(lib.Scenario):
    """All of it with a cluster of its own."""

    def __init__(self, args, program, size, messages, checks, folder):
        name = os.path.basename(program)
        super().__init__(checks, f"{name}, " + ("one member" if size == 1 else "a follower"))
        self.messages = messages
        version = subprocess.run([program, "--version"], stdout=subprocess.PIPE, text=True, check=False).stdout
        self.is_34 = "Version: 3.4" in version
        where = os.path.join(folder, f"{name}-{size}")
        os.mkdir(where)
        self.cluster = cluster_lib.Cluster(program, where, size, flags=[f"{FLAG}={INTERVAL_S}s"], etcdctl=args.etcdctl)

    def steps(self):
        leader = self.cluster.start().wait_leader()
        watched = next((m for m in self.cluster.members if m is not leader), leader)
        subject = Subject(self.what, watched, leader, self.messages, self.checks)
        for part in (notified, behind) + (() if self.is_34 else (asked, asked_under_load)):  # 3.4 answers always
            began = time.monotonic()
            part(subject)
            print(f"{self.what}: {part.__name__} took {time.monotonic() - began:.1f} s", flush=True)
        self.checks.check(set(self.cluster.stop()) <= ENDS, f"{self.what}: all stop in order")


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", etcd="etcd", etcdctl="etcdctl",
                           descriptors="build/release/tests/e2e/api.pb")
    args = parser.parse_args()
    args.etcd, args.etcdctl = lib.find_program(args.etcd), lib.need_program(args.etcdctl)
    messages, checks = api.Messages(args.descriptors), lib.Checks()
    folder = lib.temp_dir("watch-progress")
    programs = [args.cleat] + ([args.etcd] if args.etcd else [])
    runs = [Run(args, program, size, messages, checks, folder) for program in programs for size in (1, 3)]
    for each in runs:
        each.start()
    shortest(args, checks, messages, folder)
    for each in runs:
        each.finish()
    checks.done()


if __name__ == "__main__":
    main()
