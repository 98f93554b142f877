"""Watch streams of two servers side by side, for differential_api.py: the same creates, cancels and questions on both, and
for each watcher the same events in the same order.

Events come when they come. What a watcher must get is known from the log, which a watcher of everything on the reference
writes; settle() waits until both sides have that much and compares it, with what was there before and all."""
import queue
import time

import api

WAIT_S = 20
SURELY_SYNCED_S = 3  # after which a watcher that began in the past is no longer looking back
PUT, DELETE = 0, 1


class Differs(Exception):
    """The two sides, or a side and the rules, disagree."""


def text_of(message):
    """A message without what differs between two clusters."""
    copy = type(message)()
    copy.CopyFrom(message)
    strip_ids(copy)
    return api.one_line(copy)


def strip_ids(message):
    """Of the header, at the top alone: deeper ones have none."""
    if "header" in message.DESCRIPTOR.fields_by_name and message.HasField("header"):
        for name in ("cluster_id", "member_id", "raft_term"):
            setattr(message.header, name, 0)
        message.header.SetInParent()


class Watcher:
    """One watcher on both sides."""

    def __init__(self, fields, first, log_from):
        self.key = fields["key"] or b"\0"
        self.end = fields["range_end"] if fields["key"] or fields["range_end"] else b""
        self.filters = set(fields["filters"])
        self.first = first  # revision
        self.log_at = log_from
        self.skip_delete_at = None  # a revision whose deletions may be compacted away; etcd keeps them from 3.5.16 on
        self.is_dead = False  # cancelled for what is compacted
        self.expected = []  # (revision, type, key) not settled yet
        self.looks_back_until = 0.0  # time.monotonic()

    def wants(self, event):
        kv = event.kv
        if kv.mod_revision < self.first or event.type in self.filters:
            return False
        if event.type == DELETE and kv.mod_revision == self.skip_delete_at:
            return False
        if self.end == b"":
            return kv.key == self.key
        return kv.key >= self.key and (self.end == b"\0" or kv.key < self.end)

    def catch_up(self, log):
        if not self.is_dead:
            self.expected.extend((e.kv.mod_revision, e.type, e.kv.key) for e in log[self.log_at:] if self.wants(e))
        self.log_at = len(log)


class Received:
    """What one side sent for one watcher and is not settled yet."""

    def __init__(self):
        self.events = []
        self.last_revision = 0
        self.is_open = False  # the last response was a fragment with more to come
        self.shapes = []  # events in each response


class HalfStream:
    """One side of a stream: takes responses apart."""

    def __init__(self, side, token, watchers):
        self.side = side
        self.watchers = watchers  # the pair's
        self.stream = side.api.watch(token=token)
        self.of = {}  # watch id -> Received
        self.created, self.canceled, self.progress = [], [], []

    def fail(self, what, response):
        raise Differs(f"{self.side.name}: {what}: {api.one_line(response)}")

    def pump(self, timeout_s=0.0):
        """Takes one response if there is one in time."""
        try:
            response = self.stream._came.get(timeout=timeout_s) if timeout_s > 0 else self.stream._came.get_nowait()
        except queue.Empty:
            return False
        if response is None:
            raise Differs(f"{self.side.name} ended a Watch stream: {self.stream.end}")
        if response.created:
            self.created.append(response)
        elif response.canceled:
            self.canceled.append(response)
        elif len(response.events) == 0:
            self.progress.append(response)
            if response.watch_id != -1:  # the interval of notifications is ten minutes
                self.fail("a response of nothing", response)
            late = [r for r in self.of.values() if r.last_revision > response.header.revision]
            if late:
                self.fail("progress behind what was sent", response)
        else:
            self.take_events(response)
        return True

    def take_events(self, response):
        received = self.of.get(response.watch_id)
        if received is None:
            self.fail("events of no watcher", response)
        first, last = response.events[0].kv.mod_revision, response.events[-1].kv.mod_revision
        if first < received.last_revision or (first == received.last_revision and not received.is_open):
            self.fail(f"events of revision {first} after {received.last_revision}", response)
        if response.header.revision < last or response.compact_revision != 0 or response.cancel_reason:
            self.fail("a head that does not fit its events", response)
        skip = self.watchers[response.watch_id].skip_delete_at if response.watch_id in self.watchers else None
        received.events.extend(e for e in response.events if e.type == PUT or e.kv.mod_revision != skip)
        received.shapes.append((len(response.events), response.fragment))
        received.last_revision, received.is_open = last, response.fragment

    def wait(self, condition, what):
        end = time.monotonic() + WAIT_S
        while not condition():
            if not self.pump(0.02) and time.monotonic() > end:
                raise Differs(f"{self.side.name}: after {WAIT_S} s still not: {what}")


class StreamPair:
    """The same stream on both sides."""

    def __init__(self, run, token_name=None):
        self.run = run
        self.token_name = token_name
        self.watchers = {}
        self.halves = [HalfStream(side, side.token(token_name), self.watchers) for side in run.sides]

    def both(self, what, of):
        """The same text on both sides, or it differs."""
        expected, got = (of(half) for half in self.halves)
        if expected != got:
            raise Differs(f"{what}\n  {self.run.sides[0].name}: {expected}\n  {self.run.sides[1].name}: {got}")
        return expected

    def create(self, fields, is_witness=False):
        """Creates a watcher; the Watcher, or None when both refused."""
        compacted = self.run.compact_revision
        for half in self.halves:
            half.stream.create(**fields)
            half.wait(lambda h=half: h.created, f"an answer to the creation of {fields}")
        self.both(f"creation of {fields}", lambda h: text_of(h.created[0]))
        answer = self.halves[0].created[0]
        for half in self.halves:
            half.created.clear()
        if answer.canceled:
            return None
        start = fields["start_revision"]
        watcher = Watcher(fields, answer.header.revision + 1 if start == 0 else start, 0)
        if start != 0 and start <= answer.header.revision:
            watcher.looks_back_until = time.monotonic() + SURELY_SYNCED_S
        if is_witness:
            watcher.log_at = 0
        elif start == 0:
            watcher.log_at = len(self.run.log)
        for half in self.halves:
            half.of[answer.watch_id] = Received()
        self.watchers[answer.watch_id] = watcher
        if start == compacted:
            watcher.skip_delete_at = start
        if start != 0 and start < compacted:
            self.take_canceled("what is compacted")
            watcher.is_dead = True
        return watcher

    def take_canceled(self, why):
        for half in self.halves:
            half.wait(lambda h=half: h.canceled, f"cancelled for {why}")
        self.both(f"cancelled for {why}", lambda h: text_of(h.canceled[0]))
        for half in self.halves:
            half.canceled.clear()

    def cancel(self, watch_id):
        """Of a watcher or of nobody; of nobody nothing comes."""
        if watch_id in self.watchers:
            self.settle()
        for half in self.halves:
            half.stream.drop(watch_id)
        if watch_id in self.watchers:
            self.take_canceled("the client asked for it")
            del self.watchers[watch_id]
            for half in self.halves:
                del half.of[watch_id]

    def settle(self):
        """Waits for what each watcher must have got, and compares it."""
        for watcher in self.watchers.values():
            watcher.catch_up(self.run.log)
        for half in self.halves:
            for id_, watcher in self.watchers.items():
                half.wait(lambda r=half.of[id_], w=watcher: len(r.events) >= len(w.expected),
                          f"{len(watcher.expected)} events of watcher {id_}, key {watcher.key} end {watcher.end}, from "
                          f"{watcher.first}: {watcher.expected[:5]}")
        for id_, watcher in self.watchers.items():
            for half in self.halves:
                got = [(e.kv.mod_revision, e.type, e.kv.key) for e in half.of[id_].events]
                if got != watcher.expected:
                    raise Differs(f"{half.side.name}: watcher {id_}, key {watcher.key} end {watcher.end}, from "
                                  f"{watcher.first}: got {got}, expected {watcher.expected}")
            self.both(f"events of watcher {id_}", lambda h, i=id_: [api.one_line(e) for e in h.of[i].events])
            if watcher.expected:
                watcher.looks_back_until = 0
            watcher.expected = []
            self.run.events_count += len(self.halves[0].of[id_].events)
            for half in self.halves:
                half.of[id_].events = []
                half.of[id_].shapes = []

    def ask_progress(self):
        """Both tell when all is sent; asked again while a new watcher is still looking back, for then nothing is said."""
        self.settle()
        if not self.watchers or any(w.is_dead for w in self.watchers.values()):
            return
        for half in self.halves:
            end = time.monotonic() + WAIT_S
            while not half.progress and time.monotonic() < end:
                half.stream.progress()
                half.pump(0.2)
            if not half.progress or half.progress[-1].watch_id != -1:
                raise Differs(f"{half.side.name}: no progress on demand: {half.progress}")
        self.both("progress on demand", lambda h: text_of(h.progress[-1]))
        for half in self.halves:  # answers to what was asked more than once
            while half.pump(0.005):
                pass
            half.progress.clear()

    def close(self):
        for half in self.halves:
            half.stream.cancel()
