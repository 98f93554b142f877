#!/usr/bin/env python3
"""What no well-behaved client sends: requests too large or too deep, broken frames, other protocols, connections that say
nothing. Each gets a clear error or is cut off; after each the server still answers a put; in the end it holds no more file
descriptors than before."""
import os
import random
import re
import socket
import struct
import subprocess
import sys

import lib

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, HEADERS, DATA, RST_STREAM, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 4, 1, 0, 3, 6, 7, 8, 9
GARBAGE_ROUNDS = 2000 if lib.FULL else 100
SILENT_CONNECTIONS = 200
NESTED_TXNS = 10000
# An answer before the whole request was read ends in RST_STREAM(NO_ERROR), as RFC 9113 section 8.1 wants it; curl 7.88
# now and then forgets the answer then, and says this.
CURL_STREAM_ERROR = 92
CURL_ATTEMPTS = 20
FDS_SLACK = 4  # of the health poll and the like


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number, data):
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def put_request(key, value):
    return field(1, key) + field(2, value)


def nested_txn(depth):
    """A TxnRequest that holds a TxnRequest, and so on; the innermost one puts."""
    body = field(2, field(2, put_request(b"deep", b"1")))
    for _ in range(depth):
        body = field(2, field(4, body))
    return body


def grpc_frame(body, flag=0, length=None):
    return struct.pack(">BI", flag, len(body) if length is None else length) + body


def h2_frame(kind, flags, stream, payload, length=None):
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header_block(pairs):
    """HPACK without compression: each a literal, new name, not indexed."""
    return b"".join(b"\0" + bytes([len(name)]) + name + b"\x7f" + varint(len(value) - 127) + value
                    if len(value) >= 127 else b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
                    for name, value in pairs)


def grpc_headers(path=b"/etcdserverpb.KV/Put", more=()):
    return header_block([(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x"),
                         (b"content-type", b"application/grpc"), (b"te", b"trailers"), *more])


class Victim:
    """The server and the ways to talk to it."""

    def __init__(self, args, checks):
        self.checks = checks
        self.folder = lib.temp_dir("bad-input")
        self.server = lib.Server(args.cleat, os.path.join(self.folder, "data"))
        self.url = None
        self.puts = 0

    def start(self):
        self.server.start()
        self.url = f"http://{self.server.endpoint}"
        self.lives("the start")  # what the first call opens is not a leak

    def call(self, body, path="/etcdserverpb.KV/Put", more=()):
        """POSTs the bytes as gRPC; (grpc-status or None, message)."""
        payload = os.path.join(self.folder, "payload")
        with open(payload, "wb") as file:
            file.write(body)
        command = ["curl", "-sS", "--max-time", "20", "--http2-prior-knowledge", "-D", "-", "-o", "/dev/null", "-H",
                   "te: trailers", "-H", "content-type: application/grpc", "-H", "expect:"]
        for header in more:
            command += ["-H", header]
        command += ["--data-binary", "@" + payload, self.url + path]
        for _ in range(CURL_ATTEMPTS):
            done = subprocess.run(command, capture_output=True, check=False)
            if done.returncode != CURL_STREAM_ERROR:
                break
        text = done.stdout.decode("utf-8", "replace")
        status = re.search(r"^grpc-status: (\d+)", text, re.M)
        message = re.search(r"^grpc-message: (.*?)\r?$", text, re.M)
        return int(status.group(1)) if status else None, message.group(1) if message else ""

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.server.client_port), timeout=20)
        return s

    def send_and_leave(self, data):
        """The bytes on a connection of their own, which goes away while the server may still answer."""
        with self.connect() as s:
            s.settimeout(0.05)
            try:
                s.sendall(data)
                s.recv(65536)
                s.recv(65536)
            except OSError:
                pass  # it hung up, or has no more to say

    def send(self, data):
        """The bytes on a connection of their own; what came back until the server hung up."""
        with self.connect() as s:
            answer = b""
            try:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                while True:
                    part = s.recv(65536)
                    if not part:
                        break
                    answer += part
            except TimeoutError:
                self.checks.check(False, f"hung up within 20 s after {data[:60]!r}")
            except OSError:
                pass  # the server hung up first: as good
            return answer

    def lives(self, after):
        self.puts += 1
        status, message = self.call(grpc_frame(put_request(b"alive", b"%d" % self.puts)))
        self.checks.check(status == 0 and self.server.is_alive(), f"a put after {after}: {status} {message}")

    def refuses(self, what, body, statuses, text="", **options):
        status, message = self.call(body, **options)
        self.checks.check(status in statuses and text in message and message != "",
                          f"{what}: grpc-status {status} '{message}', expected one of {statuses} with '{text}'")
        self.lives(what)

    def fds(self):
        return len(os.listdir(f"/proc/{self.server.pid}/fd"))


def try_requests(v):
    megabytes = b"v" * (10 << 20)
    v.refuses("10 MiB", grpc_frame(put_request(b"k", megabytes)), (8, 3), "larger than max")
    v.refuses("10 MiB of zeros", grpc_frame(bytes(10 << 20)), (8, 3), "larger than max")
    v.refuses("just over the limit", grpc_frame(put_request(b"k", b"v" * 1572864)), (3,),
              "etcdserver: request is too large")
    v.refuses("a length of 4 GiB", grpc_frame(b"", length=0xFFFFFFFF), (8, 13), "")
    v.refuses("a frame that ends early", grpc_frame(b"xx", length=5), (3, 13), "")
    v.refuses("no frame", b"", (3, 12, 13), "")
    v.refuses("an empty message", grpc_frame(b""), (3,), "etcdserver: key is not provided")
    v.refuses("half a frame header", b"\0\0", (3, 12, 13), "")
    v.refuses("an undecodable message", grpc_frame(b"\xff\xff"), (3, 13), "")
    v.refuses("a wrong wire type", grpc_frame(b"\x0d\1\2\3\4"), (3, 13), "")
    v.refuses("a length beyond the end", grpc_frame(b"\x0a\x7fab"), (3, 13), "")
    v.refuses("compressed, not said how", grpc_frame(b"x", flag=1), (3, 12, 13), "")
    v.refuses("compressed", grpc_frame(b"x", flag=1), (12, 13), "", more=["grpc-encoding: gzip"])
    v.refuses("an unknown compression", grpc_frame(b"x", flag=1), (12, 13), "", more=["grpc-encoding: lzw"])
    v.refuses("an unknown flag", grpc_frame(put_request(b"k", b"v"), flag=254), (3, 12, 13), "")
    v.refuses("a field twice, then garbage", grpc_frame(put_request(b"a", b"b") * 2 + b"\x07"), (3, 13), "")
    v.refuses("an unknown service", grpc_frame(b""), (12,), "unknown service", path="/no.Such/Thing")
    v.refuses("an unknown method", grpc_frame(b""), (12,), "Nope", path="/etcdserverpb.KV/Nope")
    v.refuses("a method of later versions", grpc_frame(b""), (12,), "RangeStream", path="/etcdserverpb.KV/RangeStream")
    v.refuses("no method", grpc_frame(b""), (12,), "", path="/")
    v.refuses("a long path", grpc_frame(b""), (12,), "", path="/" + "x" * 4000)
    v.refuses("a path of odd bytes", grpc_frame(b""), (12,), "", path="/%00/%ff%0a")


def try_deep_txns(v):
    txn = "/etcdserverpb.KV/Txn"
    v.refuses("a txn nested 10,000 deep", grpc_frame(nested_txn(NESTED_TXNS)), (3, 8, 13), "", path=txn)
    v.refuses("a txn nested 200 deep", grpc_frame(nested_txn(200)), (3, 8, 13), "", path=txn)
    status, message = v.call(grpc_frame(nested_txn(8)), path=txn)
    v.checks.equal((status, message), (0, ""), "a txn nested 8 deep is served")
    wide = field(2, field(2, put_request(b"same", b"1"))) * 200
    v.refuses("a txn of 200 operations", grpc_frame(wide), (3,), "etcdserver: too many operations in txn request", path=txn)


def h2_cases():
    """(name, bytes after the preface) of connections that break HTTP/2."""
    settings = h2_frame(SETTINGS, 0, 0, b"")
    headers = h2_frame(HEADERS, 4, 1, grpc_headers())
    return [
        ("nothing after the preface", b""),
        ("garbage", b"\xde\xad\xbe\xef" * 64),
        ("HTTP/1.1 after the preface", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("a frame of 16 MiB announced", settings + h2_frame(DATA, 0, 1, b"x", length=0xFFFFFF)),
        ("DATA on stream 0", settings + h2_frame(DATA, 0, 0, b"x")),
        ("DATA on an idle stream", settings + h2_frame(DATA, 0, 5, b"x")),
        ("HEADERS on stream 0", settings + h2_frame(HEADERS, 4, 0, grpc_headers())),
        ("HEADERS on an even stream", settings + h2_frame(HEADERS, 4, 2, grpc_headers())),
        ("a broken header block", settings + h2_frame(HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff\xff")),
        ("CONTINUATION without HEADERS", settings + h2_frame(CONTINUATION, 4, 1, b"")),
        ("HEADERS, never ended", settings + h2_frame(HEADERS, 0, 1, grpc_headers())),
        ("SETTINGS of 5 bytes", h2_frame(SETTINGS, 0, 0, b"12345")),
        ("SETTINGS that make no sense", h2_frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0xFFFFFFFF))),
        ("WINDOW_UPDATE of 0", settings + h2_frame(WINDOW_UPDATE, 0, 0, bytes(4))),
        ("WINDOW_UPDATE past the end", settings + h2_frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 3),
        ("PING of 3 bytes", settings + h2_frame(PING, 0, 0, b"123")),
        ("RST_STREAM at once", settings + headers + h2_frame(RST_STREAM, 0, 1, bytes(4))),
        ("GOAWAY at once", settings + headers + h2_frame(GOAWAY, 0, 0, bytes(8))),
        ("an unknown frame", settings + h2_frame(99, 255, 0, b"x" * 100)),
        ("a call without its message", settings + headers),
        ("half a message", settings + headers + h2_frame(DATA, 0, 1, b"\0\0\0\0\x50half")),
        ("headers without a path", settings + h2_frame(HEADERS, 5, 1, header_block([(b":method", b"POST")]))),
        ("a header of 60 KiB", settings + h2_frame(HEADERS, 4, 1, grpc_headers()[:1] * 16000)),
        ("a thousand resets", settings + b"".join(
            h2_frame(HEADERS, 4, n, grpc_headers()) + h2_frame(RST_STREAM, 0, n, bytes(4)) for n in range(1, 2001, 2))),
    ]


def try_broken_http2(v):
    for name, data in h2_cases():
        v.send(PREFACE + data)
        v.send_and_leave(PREFACE + data)
        v.lives(f"HTTP/2: {name}")
    rng = random.Random(5)
    good = h2_frame(SETTINGS, 0, 0, b"") + h2_frame(HEADERS, 4, 1, grpc_headers()) + h2_frame(
        DATA, 1, 1, grpc_frame(put_request(b"k", b"v")))
    for number in range(GARBAGE_ROUNDS):
        data = bytearray(good)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        send = v.send_and_leave if number % 4 == 0 else v.send
        send(PREFACE + bytes(data[:rng.randint(1, len(data))] if rng.random() < 0.3 else data))
        if number % 50 == 49:
            v.lives(f"{number + 1} mangled connections")


def try_wrong_http(v):
    big = b"a" * (1 << 20)
    for name, data, starts in (
            ("a line of noise", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n", b""),  # a TLS hello
            ("a verb that is none", b"FOO /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"HTTP/1.1 405"),
            ("a POST to /version", b"POST /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
             b"HTTP/1.1 405"),
            ("an unknown path", b"GET /nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"HTTP/1.1 404"),
            ("a header of 1 MiB", b"GET /health HTTP/1.1\r\nHost: x\r\nA: " + big + b"\r\n\r\n", b""),
            ("a path of 1 MiB", b"GET /" + big + b" HTTP/1.1\r\nHost: x\r\n\r\n", b""),
            ("10,000 headers", b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 10000 + b"\r\n", b""),
            ("no version", b"GET /health\r\n\r\n", b""),
            ("HTTP/9.9", b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n", b""),
            ("a negative length", b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b""),
            ("a broken chunk", b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b""),
            ("half a request", b"GET /health HT", b""),
            ("half a preface", PREFACE[:11], b""),
            ("zeros", bytes(4096), b"")):
        answer = v.send(data)
        v.checks.check(answer.startswith(starts), f"HTTP: {name}: got {answer[:80]!r}, expected {starts!r}")
        v.lives(f"HTTP: {name}")


def try_silence(v):
    """Connections that say nothing, or a byte now and then, do not keep the others out."""
    silent = [v.connect() for _ in range(SILENT_CONNECTIONS)]
    slow = [v.connect() for _ in range(SILENT_CONNECTIONS)]
    request = b"GET /health HTTP/1.1\r\nHost: x\r\n"
    for at in range(len(request)):
        for s in slow:
            try:
                s.send(request[at:at + 1])
            except OSError:
                pass  # cut off: as good
        if at % 10 == 0:
            v.lives(f"{at + 1} bytes on {SILENT_CONNECTIONS} slow connections")
    stuck = [v.connect() for _ in range(50)]
    for s in stuck:
        s.sendall(PREFACE + h2_frame(SETTINGS, 0, 0, b"") + h2_frame(HEADERS, 4, 1, grpc_headers()))
    v.lives("50 calls that never send their message")
    for s in silent + slow + stuck:
        s.close()
    v.lives("they are gone")


def main():
    args = lib.arguments(__doc__, cleat="build/release/server/cleat").parse_args()
    lib.need_program("curl")
    checks = lib.Checks()
    v = Victim(args, checks)
    v.start()
    fds = v.fds()
    for part in (try_requests, try_deep_txns, try_broken_http2, try_wrong_http, try_silence):
        part(v)
        try:
            lib.wait_until(lambda: v.fds() <= fds + FDS_SLACK, 30, "")
        except TimeoutError:
            checks.check(False, f"{part.__name__}: {v.fds()} file descriptors, {fds} at the start")
    checks.equal(v.server.stop(), 0, "exit code")
    checks.done()


if __name__ == "__main__":
    sys.exit(main())
