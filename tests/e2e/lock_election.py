#!/usr/bin/env python3
"""The Lock and the Election service, call by call, on a cleat and on an etcd: both must answer the same. Calls that wait
are made by curl, which is let go, cut off, or waits for its turn."""
import os
import re
import signal
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lib

LOCK, UNLOCK = "/v3lockpb.Lock/Lock", "/v3lockpb.Lock/Unlock"
ELECTION = "/v3electionpb.Election/"


# ---- messages ----

def varint(number):
    number &= (1 << 64) - 1
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7f | 0x80])
        number >>= 7
    return out + bytes([number])


def message(*fields):
    """Of (number, int or bytes); zero values are left out."""
    out = b""
    for number, value in fields:
        if isinstance(value, int) and value != 0:
            out += varint(number << 3) + varint(value)
        elif not isinstance(value, int) and value != b"":
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def fields(data):
    """{number: value}, the last of each; bytes stay bytes."""
    out, at = {}, 0

    def take():
        nonlocal at
        number = shift = 0
        while True:
            byte = data[at]
            at += 1
            number |= (byte & 0x7f) << shift
            shift += 7
            if byte < 0x80:
                return number
    while at < len(data):
        tag = take()
        if tag & 7 == 0:
            out[tag >> 3] = take()
        else:
            size = take()
            out[tag >> 3] = data[at:at + size]
            at += size
    return out


def frames(data):
    out = []
    while len(data) >= 5:
        size = struct.unpack(">I", data[1:5])[0]
        out.append(data[5:5 + size])
        data = data[5 + size:]
    return out


# ---- calls ----

class Call:
    """One call under way."""

    def __init__(self, server, path, body):
        self.headers = os.path.join(server.folder, f"headers-{server.calls}")
        payload = os.path.join(server.folder, f"payload-{server.calls}")
        server.calls += 1
        with open(payload, "wb") as file:
            file.write(b"\0" + struct.pack(">I", len(body)) + body)
        self.process = lib.spawn(
            ["curl", "-sS", "-N", "--max-time", "60", "--http2-prior-knowledge", "-D", self.headers, "-H", "te: trailers",
             "-H", "content-type: application/grpc", "-H", "expect:", "--data-binary", "@" + payload,
             f"http://{server.endpoint}{path}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def end(self):
        """(code, text, messages)"""
        out, _ = self.process.communicate(timeout=30)
        with open(self.headers, encoding="utf-8") as file:
            text = file.read()
        status = re.search(r"^grpc-status: (\d+)", text, re.M)
        told = re.search(r"^grpc-message: (.*?)\r?$", text, re.M)
        return int(status.group(1)) if status else None, told.group(1) if told else "", frames(out)

    def next(self):
        """The next message of a stream."""
        head = self.process.stdout.read(5)
        return self.process.stdout.read(struct.unpack(">I", head[1:5])[0])

    def waits(self, seconds=0.3):
        time.sleep(seconds)  # that nothing happens can only be waited for
        return self.process.poll() is None

    def cut(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Service(lib.Server):
    """A server and the calls it is asked."""

    def __init__(self, binary, folder):
        os.mkdir(folder)
        super().__init__(binary, os.path.join(folder, "data"))
        self.folder = folder
        self.calls = 0

    def call(self, path, *parts):
        return Call(self, path, message(*parts)).end()

    def start_call(self, path, *parts):
        return Call(self, path, message(*parts))

    def grant(self, id_, ttl=60):
        self.call("/etcdserverpb.Lease/LeaseGrant", (1, ttl), (2, id_))

    def revoke(self, id_):
        self.call("/etcdserverpb.Lease/LeaseRevoke", (1, id_))

    def keys(self, prefix):
        """[(key, value, create revision, mod revision, lease)] and the store's revision."""
        body = message((1, prefix), (2, prefix[:-1] + bytes([prefix[-1] + 1])))
        _, _, answers = Call(self, "/etcdserverpb.KV/Range", body).end()
        out, rest = [], answers[0]
        revision = fields(fields(rest)[1])[3]
        while rest:
            one = fields_once(rest)
            rest = one[2]
            if one[0] == 2:
                kv = fields(one[1])
                out.append((kv[1], kv.get(5, b""), kv[2], kv[3], kv.get(6, 0)))
        return out, revision


def fields_once(data):
    """(number, value, rest) of the first field, which is of bytes or a number."""
    at, size, shift = 1, 0, 0
    if data[0] & 7 == 0:
        while data[at] >= 0x80:
            at += 1
        return data[0] >> 3, 0, data[at + 1:]
    while True:
        byte = data[at]
        at += 1
        size |= (byte & 0x7f) << shift
        shift += 7
        if byte < 0x80:
            break
    return data[0] >> 3, data[at:at + size], data[at + size:]


def shown(answer):
    """An answer without what differs between two servers."""
    code, text, answers = answer
    out = []
    for one in answers:
        parts = fields(one)
        revision = fields(parts.get(1, b"")).get(3, 0)
        second = parts.get(2, b"")
        out.append((revision, second))
    return code, text, out


# ---- scripts: what each step gave ----

def locks(s):
    out = []
    s.grant(0x11)
    s.grant(0x22)
    s.grant(0x33)
    out.append(shown(s.call(LOCK, (1, b"l"), (2, 0x11))))
    out.append(shown(s.call(LOCK, (1, b"l"), (2, 0x11))))  # again: the same key, nothing is written
    out.append(s.keys(b"l/"))
    second = s.start_call(LOCK, (1, b"l"), (2, 0x22))
    out.append(("waits", second.waits()))
    third = s.start_call(LOCK, (1, b"l"), (2, 0x33))
    lib.wait_until(lambda: len(s.keys(b"l/")[0]) == 3, 30, "three keys")
    second.cut()  # its key goes, and nobody is let in
    lib.wait_until(lambda: len(s.keys(b"l/")[0]) == 2, 30, "two keys")
    out.append(("waits", third.waits(), s.keys(b"l/")))
    out.append(shown(s.call(UNLOCK, (1, b"l/11"))))
    out.append(shown(third.end()))
    out.append(s.keys(b"l/"))
    out.append(shown(s.call(UNLOCK, (1, b"l/11"))))
    out.append(shown(s.call(UNLOCK)))
    out.append(shown(s.call(LOCK, (1, b"l"), (2, 0x7777))))
    out.append(shown(s.call(LOCK, (1, b""), (2, 0x11))))
    late = s.start_call(LOCK, (1, b"l"), (2, 0x22))
    lib.wait_until(lambda: len(s.keys(b"l/")[0]) == 2, 30, "a waiter")
    s.revoke(0x22)  # its key goes while it waits: noticed when the wait ends
    out.append(("waits", late.waits()))
    s.revoke(0x33)
    out.append(shown(late.end()))
    code, text, answers = s.call(LOCK, (1, b"own"))
    key = fields(answers[0])[2]
    lease = int(key.split(b"/")[1], 16)
    _, _, answers = s.call("/etcdserverpb.Lease/LeaseTimeToLive", (1, lease))
    out.append((code, text, re.fullmatch(rb"own/[0-9a-f]+", key) is not None, fields(answers[0])[4]))
    return out


def campaigns(s):
    out = []
    s.grant(0x11)
    s.grant(0x22)
    s.grant(0x33)
    out.append(shown(s.call(ELECTION + "Leader", (1, b"e"))))
    first = s.call(ELECTION + "Campaign", (1, b"e"), (2, 0x11), (3, b"one"))
    out.append(shown(first))
    leader = fields(first[2][0])[2]
    out.append(shown(s.call(ELECTION + "Campaign", (1, b"e"), (2, 0x11), (3, b"one"))))
    out.append(shown(s.call(ELECTION + "Campaign", (1, b"e"), (2, 0x11), (3, b"other"))))
    out.append(shown(s.call(ELECTION + "Leader", (1, b"e"))))
    out.append(s.keys(b"e/"))
    second = s.start_call(ELECTION + "Campaign", (1, b"e"), (2, 0x22), (3, b"two"))
    lib.wait_until(lambda: len(s.keys(b"e/")[0]) == 2, 30, "a second candidate")
    third = s.start_call(ELECTION + "Campaign", (1, b"e"), (2, 0x33), (3, b"three"))
    lib.wait_until(lambda: len(s.keys(b"e/")[0]) == 3, 30, "a third candidate")
    out.append(("wait", second.waits(), third.waits()))
    third.cut()
    lib.wait_until(lambda: len(s.keys(b"e/")[0]) == 2, 30, "two candidates")
    out.append(shown(s.call(ELECTION + "Proclaim", (1, leader), (2, b"uno"))))
    out.append(shown(s.call(ELECTION + "Proclaim", (2, b"nobody"))))
    out.append(shown(s.call(ELECTION + "Resign")))
    out.append(shown(s.call(ELECTION + "Resign", (1, leader))))
    out.append(shown(second.end()))
    out.append(shown(s.call(ELECTION + "Leader", (1, b"e"))))
    out.append(shown(s.call(ELECTION + "Proclaim", (1, leader), (2, b"late"))))
    out.append(shown(s.call(ELECTION + "Resign", (1, leader))))
    out.append(shown(s.call(ELECTION + "Campaign", (1, b"e"), (2, 0x7777), (3, b"x"))))
    out.append(s.keys(b"e/"))
    return out


def observations(s):
    out = []
    s.grant(0x11)
    s.grant(0x22)
    seen = s.start_call(ELECTION + "Observe", (1, b"o"))
    out.append(("waits", seen.waits()))
    first = s.call(ELECTION + "Campaign", (1, b"o"), (2, 0x11), (3, b"one"))
    leader = fields(first[2][0])[2]
    out.append(shown((0, "", [seen.next()])))
    s.call(ELECTION + "Proclaim", (1, leader), (2, b"uno"))
    out.append(shown((0, "", [seen.next()])))
    late = s.start_call(ELECTION + "Observe", (1, b"o"))
    out.append(shown((0, "", [late.next()])))
    second = s.start_call(ELECTION + "Campaign", (1, b"o"), (2, 0x22), (3, b"two"))
    lib.wait_until(lambda: len(s.keys(b"o/")[0]) == 2, 30, "a second candidate")
    s.revoke(0x11)
    out.append(shown(second.end()))
    out.append(shown((0, "", [seen.next()])))
    out.append(shown((0, "", [late.next()])))
    out.append(("wait", seen.waits(0.1), late.waits(0.1)))
    seen.cut()
    late.cut()
    return out


def run(binary, folder, checks):
    server = Service(binary, folder)
    server.start()
    out = []
    for script in (locks, campaigns, observations):
        out.append(script(server))
        for id_ in (0x11, 0x22, 0x33):
            server.revoke(id_)
    checks.check(server.stop() in (0, -15), "it stops in order")
    return out


def is_let_in_by_old(one, other):
    """An etcd 3.4 lets in who waited for a lock although its own lease has been revoked, and its key with it."""
    return one[:2] == (2, "mutex: session is expired") and other == (0, "", [(10, b"l/22")])


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", etcd="etcd")
    args = parser.parse_args()
    lib.need_program("curl")
    checks = lib.Checks()
    top = lib.temp_dir("lock")
    ours = run(args.cleat, os.path.join(top, "cleat"), checks)
    etcd = lib.find_program(args.etcd)
    if etcd is not None:
        theirs = run(etcd, os.path.join(top, "etcd"), checks)
        for part, (here, there) in enumerate(zip(ours, theirs)):
            for step, (one, other) in enumerate(zip(here, there)):
                if not is_let_in_by_old(one, other):
                    checks.equal(one, other, f"part {part} step {step}")
    checks.done()


main()
