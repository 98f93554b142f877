#!/usr/bin/env python3
"""Clients that watch and do not read for some seconds, under load: some leave their streams unread, one is a process that is
stopped. None of them is dropped, and each gets everything later, in order, once. Meanwhile the member's memory does not grow
with what they have not taken, and calls and watches of others take no longer, even of a stream that shares its connection
with an unread one. One that falls behind a compaction is told so. etcd, where one is given, under the same rules but for
memory."""
import collections
import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import api
import lib

VALUE_BYTES = 32 * 1024
WRITES = 12000 if lib.FULL else 2000  # far more than connections hold
WRITE_S = 30 if lib.FULL else 4  # which they are spread over, where the disk is quick enough
IN_FLIGHT = 16
UNREAD = 4
GROWTH_BYTES_MAX = 32 << 20  # a message for each slow client, and what waits for all of them
PROBE_S = 0.02
PREFIX, PREFIX_END, LAST = b"load/", b"load0", b"load/last"
ENDS = {0, -15}  # etcd ends itself by the signal again


def taken(responses):
    """Reads to the last write: the number of events, and a hash of revisions and values."""
    digest, count, revision = hashlib.sha256(), 0, 0
    for response in responses:
        if response.canceled:
            return {"canceled": response.compact_revision, "count": count, "revision": revision}
        for event in response.events:
            if event.kv.mod_revision <= revision:
                return {"wrong": f"{event.kv.mod_revision} after {revision}"}
            revision = event.kv.mod_revision
            digest.update(b"%d %s" % (revision, event.kv.value[:20]))
            count += 1
            if event.kv.key == LAST:
                return {"count": count, "hash": digest.hexdigest()}
    return {"wrong": "the stream ended"}


class Unread:
    """A watch stream that nobody reads until all() is called."""

    def __init__(self, of, start_revision=0):
        path, request, response = of.messages.methods["Watch"]
        create = of.messages.WatchCreateRequest(key=PREFIX, range_end=PREFIX_END, start_revision=start_revision)
        self.done = threading.Event()

        def requests():
            yield request(create_request=create)
            self.done.wait()
        self.stream = of.channel.stream_stream(path, request.SerializeToString, response.FromString)(requests())
        self.created = next(self.stream).created

    def all(self):
        got = taken(self.stream)
        self.done.set()
        self.stream.cancel()
        return got


def be_client(endpoint, descriptors):
    """The process that is stopped."""
    unread = Unread(api.Api(endpoint, api.Messages(descriptors)))
    print("ready", flush=True)
    print(json.dumps(unread.all()), flush=True)


class Frozen:
    """A client that is stopped with all its threads, so that its connection takes nothing either."""

    def __init__(self, args, endpoint):
        self.process = lib.spawn([sys.executable, os.path.abspath(__file__), "--descriptors", args.descriptors, "--be-client",
                                  endpoint], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"
        self.process.send_signal(signal.SIGSTOP)

    def all(self):
        self.process.send_signal(signal.SIGCONT)
        out, _ = self.process.communicate(timeout=300)
        return json.loads(out)


class Probe(threading.Thread):
    """One that writes and watches a key now and then: how long its puts take, and their events."""

    def __init__(self, of):
        super().__init__(daemon=True)
        self.api = of
        self.watch = of.watch()
        self.watch.created(key=b"probe")
        self.put_s, self.event_s = [], []
        self.stop = threading.Event()
        self.start()

    def run(self):
        while not self.stop.wait(PROBE_S):
            began = time.monotonic()
            revision = self.api.Put(key=b"probe", value=b"v").header.revision
            self.put_s.append(time.monotonic() - began)
            came = self.watch.take()
            assert came.events[0].kv.mod_revision == revision
            self.event_s.append(time.monotonic() - began)

    def end(self):
        self.stop.set()
        self.join(20)
        self.watch.cancel()
        return {"puts": len(self.put_s), "put_ms": 1000 * statistics.median(self.put_s),
                "event_ms": 1000 * statistics.median(self.event_s), "slowest_ms": 1000 * max(self.event_s)}


class Memory(threading.Thread):
    """The most anonymous memory that a process has while it is looked at."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid = pid
        self.most = 0
        self.stop = threading.Event()
        self.start()

    def run(self):
        while True:
            with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
                self.most = max(self.most, *(1024 * int(line.split()[1]) for line in status if line.startswith("RssAnon")))
            if self.stop.wait(0.02):
                return

    def end(self):
        self.stop.set()
        self.join()
        return self.most


def write(of, count=WRITES):
    """Many at a time, at a steady rate; what a watcher of all of it takes."""
    began, open_calls, acked = time.monotonic(), collections.deque(), []

    def finish():
        number, future = open_calls.popleft()
        acked.append((of.finish(future).header.revision, b"%020d" % number))
    for number in range(count):
        value = (b"%020d" % number).ljust(VALUE_BYTES, b".")
        open_calls.append((number, of.start("Put", key=PREFIX + b"%d" % (number % 100), value=value)))
        if len(open_calls) == IN_FLIGHT:
            finish()
        time.sleep(max(0, began + WRITE_S * number / WRITES - time.monotonic()))
    while open_calls:
        finish()
    acked.append((of.Put(key=LAST, value=b"%020d" % count).header.revision, b"%020d" % count))
    digest = hashlib.sha256()
    for revision, value in sorted(acked):
        digest.update(b"%d %s" % (revision, value))
    return {"count": len(acked), "hash": digest.hexdigest()}


def under_load(server, messages, probing):
    """What a watcher must see of a load, how the probe fared and the most memory meanwhile."""
    writer = api.Api(server.endpoint, messages)
    memory, probe = Memory(server.pid), Probe(probing)
    expected = write(writer)
    told = probe.end()
    writer.close()
    return expected, told, memory.end()


def metric(server, name):
    _, body = lib.http_get(f"http://{server.endpoint}/metrics")
    return sum(float(line.rsplit(" ", 1)[1]) for line in body.decode().splitlines() if line.startswith(name + " "))


class Subject:
    def __init__(self, args, checks, messages, server):
        self.args, self.checks, self.messages, self.server = args, checks, messages, server
        self.what = os.path.basename(server.binary)

    def check(self, ok, what):
        return self.checks.check(ok, f"{self.what}: {what}")

    def equal(self, got, expected, what):
        return self.checks.equal(got, expected, f"{self.what}: {what}")

    def api(self):
        """A connection of its own."""
        return api.Api(self.server.endpoint, self.messages)

    def not_reading(self):
        shared = self.api()
        _, alone, memory_alone = under_load(self.server, self.messages, shared)
        slow = [Unread(each) for each in [shared] + [self.api() for _ in range(UNREAD - 1)]]
        self.equal([each.created for each in slow], [True] * UNREAD, "watchers that will not read")
        frozen = Frozen(self.args, self.server.endpoint)
        expected, beside, memory_beside = under_load(self.server, self.messages, shared)
        behind = metric(self.server, "etcd_debugging_mvcc_slow_watcher_total")
        print(f"{self.what}: {WRITES * VALUE_BYTES >> 20} MiB written. Alone: {alone}, {memory_alone >> 20} MiB at most; beside "
              f"{UNREAD + 1} that do not read: {beside}, {memory_beside >> 20} MiB", flush=True)
        self.check(behind > 0, f"{behind} watchers are behind")
        self.others_are_not_delayed(alone, beside)
        if self.what != "etcd":
            self.check(memory_beside - memory_alone < GROWTH_BYTES_MAX, f"memory grew from {memory_alone} to {memory_beside}")
        for number, each in enumerate(slow):
            self.equal(each.all(), expected, f"unread watcher {number} takes everything, in order, once")
        self.equal(frozen.all(), expected, "so does the one that was stopped")
        lib.wait_until(lambda: metric(self.server, "etcd_debugging_mvcc_slow_watcher_total") == 0, 30, "nobody is behind any more")

    def others_are_not_delayed(self, alone, beside):
        for name in ("put_ms", "event_ms"):
            self.check(beside[name] < 3 * alone[name] + 20, f"{name}: {beside[name]:.1f} beside slow clients, {alone[name]:.1f} alone")
        self.check(beside["slowest_ms"] < max(1000, 3 * alone["slowest_ms"]), f"slowest: {beside['slowest_ms']:.0f} ms")

    def behind_a_compaction(self):
        """What it was sent already comes, then why no more does; its neighbours go on."""
        own = self.api()
        slow = Unread(own)
        first = own.Range(key=b"x").header.revision + 1
        write(own, WRITES // 3)
        last = own.Range(key=LAST).kvs[0].mod_revision
        self.equal(own.Compact(revision=last, physical=True).code, api.OK, "what it has not taken is compacted")
        late = Unread(own, start_revision=last)
        got = slow.all()
        self.check(got.get("canceled") == last and first <= got["count"] + first < last, f"it is told so: {got}, compacted {last}")
        self.equal(late.all()["count"], 1, "a new one begins there")
        own.close()


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", etcd="", descriptors="build/release/tests/e2e/api.pb")
    parser.add_argument("--be-client", metavar="ENDPOINT", help="for the driver itself")
    args = parser.parse_args()
    if args.be_client:
        be_client(args.be_client, args.descriptors)
        return
    messages, checks = api.Messages(args.descriptors), lib.Checks()
    folder = lib.temp_dir("slow-client")
    for program in [args.cleat] + ([args.etcd] if args.etcd else []):
        server = lib.Server(program, os.path.join(folder, os.path.basename(program))).start()
        subject = Subject(args, checks, messages, server)
        subject.not_reading()
        subject.behind_a_compaction()
        checks.check(server.stop() in ENDS, f"{subject.what}: it stops in order")
    checks.done()


if __name__ == "__main__":
    main()
