#!/usr/bin/env python3
"""The JSON gateway and the HTTP endpoints: the same requests to cleat and to etcd get the same status, headers and
bodies, but for what a server may choose (ids, sizes, hashes, tokens).

    gateway.py --cleat PATH [--etcd PATH]     etcd 3.5 answers in full what etcd 3.4 does not know yet

Steps that Debian's etcd 3.4 answers otherwise than 3.5 are looked at with a 3.5 beside cleat only.
"""
import base64
import http.client
import json
import re
import socket
import sys
import threading
import time

import lib

CHOSEN = re.compile(
    r'"(cluster_id|member_id|ID|leader|memberID|raft_term|raftTerm|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse|hash|'
    r'token|remaining_bytes|grantedTTL)":("[^"]*"|\d+)')
HEADERS = ("content-type", "grpc-metadata-content-type", "access-control-allow-origin", "access-control-allow-methods",
           "access-control-allow-headers", "allow", "x-content-type-options", "transfer-encoding", "content-length")


def b64(text):
    return base64.b64encode(text.encode()).decode()


class Answer:
    """Status, headers and body of an answer."""

    def __init__(self, reply, body):
        self.status = reply.status
        self.headers = {name: reply.getheader(name) for name in HEADERS}
        self.body = body.decode("utf-8", "replace")

    def told(self):
        """What two servers must have in common."""
        headers = dict(self.headers)
        body = CHOSEN.sub(r'"\1":_', self.body)
        body = re.sub(r'"version":"3\.\d+\.\d+"', '"version":_', body)
        body = re.sub(r"http://127.0.0.1:\d+", "URL", body)
        if body != self.body:
            headers["content-length"] = None
        if body.startswith("[+]"):  # etcd's order is that of a map
            body = "".join(sorted(body.splitlines(keepends=True)))
        return self.status, headers, body


def ask(server, path, body=None, method="POST", headers=None, timeout_s=20):
    connection = http.client.HTTPConnection("127.0.0.1", server.client_port, timeout=timeout_s)
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
    connection.request(method, path, body=body, headers=headers or {})
    reply = connection.getresponse()
    answer = Answer(reply, reply.read())
    connection.close()
    return answer


class Stream:
    """A call whose answer comes in lines."""

    def __init__(self, server, path, body, headers=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.client_port, timeout=20)
        self.connection.request("POST", path, body=body, headers=headers or {})
        self.reply = self.connection.getresponse()

    def line(self):
        return CHOSEN.sub(r'"\1":_', self.reply.readline().decode())

    def close(self):
        self.connection.close()


# One after another on both; (path, body). A text is sent as it is.
ANY = [
    ("/v3/kv/put", {"key": b64("a"), "value": b64("1")}),
    ("/v3/kv/put", {"key": b64("a"), "value": b64("2"), "prev_kv": True}),
    ("/v3/kv/put", {"key": b64("b"), "value": b64("<&>"), "lease": "0"}),
    ("/v3/kv/put", {"key": b64("c")}),
    ("/v3/kv/range", {"key": b64("a")}),
    ("/v3/kv/range", {"key": b64("a"), "rangeEnd": b64("z"), "limit": 2, "sortOrder": "DESCEND", "sort_target": 0}),
    ("/v3/kv/range", {"key": b64("a"), "range_end": b64("z"), "count_only": True}),
    ("/v3/kv/range", {"key": b64("a"), "revision": "2"}),
    ("/v3/kv/range", {"key": b64("a"), "revision": "99"}),
    ("/v3/kv/range", {"key": b64("nothing")}),
    ("/v3/kv/range", '{"key":"YQ=="} and more'),
    ("/v3/kv/deleterange", {"key": b64("c"), "prev_kv": True}),
    ("/v3/kv/txn", {"compare": [{"key": b64("a"), "target": "VERSION", "version": "2", "result": "EQUAL"}],
                    "success": [{"request_range": {"key": b64("a")}}, {"requestPut": {"key": b64("d")}},
                                {"request_delete_range": {"key": b64("d2")}}],
                    "failure": []}),
    ("/v3/kv/txn", {"compare": [{"key": b64("a"), "target": "MOD", "mod_revision": 1, "result": "GREATER"}],
                    "failure": [{"request_put": {"key": b64("x")}}]}),
    ("/v3/kv/txn", {}),
    ("/v3/kv/put", ""),
    ("/v3/kv/put", "   "),
    ("/v3/kv/put", "null"),
    ("/v3/kv/put", '{"key":"YQ==","value":"Yg==","ignore_value":true}'),
    ("/v3/kv/compaction", {"revision": 3}),
    ("/v3/kv/compaction", {"revision": "3"}),
    ("/v3/kv/compaction", {"revision": 99, "physical": True}),
    ("/v3/maintenance/hash", {}),
    ("/v3/maintenance/status", {"unknown": [1, {"x": "]"}]}),
    ("/v3/maintenance/defragment", ""),
    ("/v3/maintenance/transfer-leadership", {"targetID": "7"}),
    ("/v3/cluster/member/list", {}),
    ("/v3/cluster/member/add", {"peerURLs": ["x"]}),
    ("/v3/cluster/member/add", {"peerURLs": [None]}),
    ("/v3/cluster/member/remove", {"ID": 7}),
    ("/v3/cluster/member/update", {"ID": "7", "peerURLs": ["http://127.0.0.1:9"]}),
    ("/v3/cluster/member/promote", {"ID": "7"}),
    ("/v3beta/kv/range", {"key": b64("a")}),
    ("/v3/unknown", {}),
    ("/v3/kv/range/", {}),
    ("/v3alpha/kv/range", {}),
    ("/v2/keys", {}),
    ("/nothing", ""),
]

WITH_LEASES = [
    ("/v3/lease/grant", {"TTL": "600", "ID": "77"}),
    ("/v3/lease/grant", {"TTL": 600, "ID": 77}),
    ("/v3/kv/put", {"key": b64("leased"), "lease": 77}),
    ("/v3/kv/put", {"key": b64("leased"), "lease": 78}),
    ("/v3/lease/leases", {}),
    ("/v3/kv/lease/leases", {}),
    ("/v3/lease/revoke", {"ID": "78"}),
    ("/v3/kv/lease/revoke", {"ID": "77"}),
    ("/v3/lease/timetolive", {"ID": "77"}),
    ("/v3/kv/lease/timetolive", {"ID": 77, "keys": True}),
]
WITH_USERS = [
    ("/v3/auth/enable", {}),
    ("/v3/auth/disable", {}),
    ("/v3/auth/user/add", {"name": "u<\u2028>", "password": "p"}),
    ("/v3/auth/user/add", {"name": "u<\u2028>", "password": "p"}),
    ("/v3/auth/user/add", {"name": ""}),
    ("/v3/auth/user/list", {}),
    ("/v3/auth/user/get", {"name": "u<\u2028>"}),
    ("/v3/auth/user/get", {"name": "nobody"}),
    ("/v3/auth/user/changepw", {"name": "u<\u2028>", "password": "q"}),
    ("/v3/auth/role/add", {"name": "r"}),
    ("/v3/auth/role/grant", {"name": "r", "perm": {"permType": "READWRITE", "key": b64("a"), "range_end": b64("b")}}),
    ("/v3/auth/role/get", {"role": "r"}),
    ("/v3/auth/role/list", {}),
    ("/v3/auth/user/grant", {"user": "u<\u2028>", "role": "r"}),
    ("/v3/auth/user/revoke", {"name": "u<\u2028>", "role": "r"}),
    ("/v3/auth/role/revoke", {"role": "r", "key": b64("a"), "range_end": b64("b")}),
    ("/v3/auth/role/delete", {"role": "r"}),
    ("/v3/auth/user/delete", {"name": "u<\u2028>"}),
    ("/v3/auth/authenticate", {"name": "root", "password": "r"}),
]
WITH_LOCKS = [
    ("/v3/lock/lock", {"name": b64("l"), "lease": 9}),
    ("/v3/lock/unlock", {"key": b64("l/1")}),
    ("/v3/election/leader", {"name": b64("e")}),
    ("/v3/election/campaign", {"name": b64("e"), "lease": 9}),
    ("/v3/election/proclaim", {"leader": {"name": b64("e"), "key": b64("e/1")}, "value": b64("x")}),
    ("/v3/election/resign", {"leader": {"name": b64("e"), "key": b64("e/1")}}),
]

# What etcd 3.4, or its older JSON, says in other words.
ONLY_35 = [
    ("/v3/maintenance/alarm", {"action": "ACTIVATE", "alarm": "NOSPACE", "memberID": 1}),
    ("/v3/maintenance/alarm", {"action": 0}),
    ("/v3/maintenance/alarm", {"action": "DEACTIVATE", "alarm": 1, "memberID": 1}),
    ("/v3/maintenance/hashkv", {}),
    ("/v3/maintenance/downgrade", {}),
    ("/v3/kv/txn", {"success": [{"request_txn": {}}, {"request_txn": {"success": [{"request_range": {"key": b64("a")}}]}}]}),
    ("/v3/kv/txn", '{"success":[{"request_range":{"key":"YQ=="},"request_put":{"key":"YQ=="}}]}'),
    ("/v3/kv/range", '{"key":"YQ==","key":"Yg==","KEY":"x","rangeEnd":"AA==","range_end":"YQ=="}'),
    ("/v3/kv/range", '{"key":[97],"limit":null}'),
    ("/v3/kv/range", '{"key":"YQ==","limit":" 5 ","sort_order":7}'),
    ("/v3/kv/range", '{"x":' + "[" * 9999 + "]" * 9999 + "}"),
    ("/v3/kv/range", '{"x":' + "[" * 10000 + "]" * 10000 + "}"),
    ("/v3/kv/put", '{"key":"YQ==","value":"' + "YWFh" * 800000 + '"}'),
    ("/v3/kv/put", '{"key":"YQ==","value":"' + "YWFh" * 600000 + '"}'),
    ("/v3/watch", "{x"),
    ("/v3/watch", '{"create_request":{"key":1}}'),
    ("/v3/auth/status", {}),
] + [("/v3/kv/range", body) for body in (
    '{"key":"YQ=="', "{", "[]", "12", "true", '"abc"', '{"key":"Z"}', '{"key":"Zg"}', '{"key":"Zg="}', '{"key":"Z=g="}',
    '{"key":"Zg==Zg=="}', '{"key":"Zm9-"}', '{"key":1}', '{"key":[90,300]}', '{"key":{}}', '{"limit":"a"}',
    '{"limit":""}', '{"limit":"5x"}', '{"limit":1.5}', '{"limit":1e3}', '{"limit":99999999999999999999}', '{"limit":{}}',
    '{"limit":true}', '{"serializable":"true"}', '{"serializable":1}', '{"sort_order":"FOO"}', '{"sort_order":[]}',
    '{"sort_order":99999999999}', '{"key":"YQ==",}', '{"key" "YQ=="}', '{"key":"YQ==" 1}', '{"key":[1 2]}',
    '{"key":tru}', '{"key":"\\x"}', '{"key":"\\u12"}', '{"key":-}', '{"key":1.}', '{"key":1e}', '{"key":01}',
    '{"key":"a\nb"}', "'", "\u00ff", "]", "nul")] + [("/v3/kv/txn", body) for body in (
        '{"compare":{}}', '{"compare":[1]}', '{"compare":[null]}', '{"success":[{"request_put":1}]}')]

# (method, path, headers)
PAGES = [
    ("HEAD", "/health", {}),
    ("POST", "/health", {}),
    ("GET", "/version", {}),
    ("POST", "/version", {}),
    ("OPTIONS", "/version", {"Origin": "http://a.example"}),
    ("GET", "/v3/kv/range", {}),
    ("PUT", "/v3/kv/range", {}),
    ("OPTIONS", "/v3/kv/range", {}),
    ("GET", "/v3/nothing", {}),
    ("GET", "/", {}),
    ("GET", "/debug", {}),
    ("POST", "/debug/vars", {}),
]
PAGES_35 = [
    ("GET", "/health", {}),
    ("GET", "/health?serializable=true", {}),
    ("GET", "/health?exclude=NOSPACE&exclude=CORRUPT", {}),
] + [(method, path, {}) for method in ("GET", "POST", "HEAD") for path in (
    "/livez", "/readyz", "/livez?verbose", "/readyz?verbose", "/readyz?verbose&exclude=linearizable_read",
    "/readyz?exclude=nothing&verbose", "/readyz/data_corruption?verbose", "/livez/serializable_read",
    "/livez/linearizable_read", "/readyz/nothing", "/readyz/", "/livezz")]


class Comparison:
    """cleat beside an etcd."""

    def __init__(self, cleat, etcd, checks, is_35):
        self.cleat, self.etcd, self.checks, self.is_35 = cleat, etcd, checks, is_35

    def equal(self, path, body, method="POST", headers=None):
        ours = ask(self.cleat, path, body, method, headers).told()
        theirs = ask(self.etcd, path, body, method, headers).told()
        shown = body if isinstance(body, dict) or len(body or "") < 200 else f"{len(body)} bytes"
        self.checks.equal(ours, theirs if self.is_35 else as_35(ours, theirs), f"{method} {path} {shown}")

    def all_equal(self, steps):
        for path, body in steps:
            self.equal(path, body)

    def streams_equal(self, path, body, lines, headers=None):
        """Both say the same in their heads and first lines; gives the open streams."""
        streams = [Stream(server, path, body, headers) for server in (self.cleat, self.etcd)]
        heads = [(s.reply.status, [s.reply.getheader(name) for name in HEADERS]) for s in streams]
        self.checks.equal(heads[0], heads[1], f"head of {path} {body}")
        for number in range(lines):
            ours, theirs = (s.line() for s in streams)
            self.checks.equal(ours, theirs, f"line {number} of {path} {body}")
        return streams


def as_35(ours, theirs):
    """etcd 3.4's answer where it differs from 3.5's by form alone: the order of an error's members, 412 for what was not
    in the right state."""
    status, headers, body = theirs
    if status == 412 and '"code":9' in body:
        status = 400
    try:
        if json.loads(body) == json.loads(ours[2]):
            return status, ours[1] if headers["content-type"] == ours[1]["content-type"] else headers, ours[2]
    except ValueError:
        pass
    return status, headers, body


def events_of(stream, count):
    """The next events, in however many messages they come."""
    events = []
    while len(events) < count:
        events += json.loads(stream.line().replace(":_", ":0"))["result"]["events"]
    return events


def compare_watch(both):
    key = b64("watched")
    create = json.dumps({"create_request": {"key": key, "watch_id": "5", "prev_kv": True}})
    streams = both.streams_equal("/v3/watch", create, lines=1)
    both.equal("/v3/kv/put", {"key": key, "value": b64("1")})
    both.equal("/v3/kv/put", {"key": key, "value": b64("2")})
    both.equal("/v3/kv/deleterange", {"key": key})
    ours, theirs = (events_of(stream, 3) for stream in streams)
    both.checks.equal(ours, theirs, "events")
    for stream in streams:
        stream.close()
    streams = both.streams_equal("/v3/watch", json.dumps({"create_request": {"key": key, "start_revision": 1}}), lines=2)
    for stream in streams:
        stream.close()
    if both.is_35:
        for stream in both.streams_equal("/v3/watch", create, lines=2, headers={"Grpc-Timeout": "300m"}):
            stream.close()


def compare_keepalive(both):
    both.equal("/v3/lease/grant", {"TTL": "600", "ID": "79"})
    for body in ('{"ID":79}', '{"ID":"79"}{"ID":80} {"ID":79}', '{"ID":79}{', ""):
        ours, theirs = (ask(server, "/v3/lease/keepalive", body) for server in (both.cleat, both.etcd))
        both.checks.equal(ours.told(), theirs.told(), f"keepalive {body}")
    both.equal("/v3/lease/revoke", {"ID": "79"})


def compare_observe(both):
    lease = {"TTL": "600", "ID": "81"}
    both.equal("/v3/lease/grant", lease)
    both.equal("/v3/election/campaign", {"name": b64("seen"), "lease": "81", "value": b64("v")})
    for stream in both.streams_equal("/v3/election/observe", json.dumps({"name": b64("seen")}), lines=1):
        stream.close()
    both.equal("/v3/lease/revoke", {"ID": "81"})
    # Who gives up waiting for a lock leaves no key behind.
    both.equal("/v3/lease/grant", {"TTL": "600", "ID": "82"})
    both.equal("/v3/lease/grant", {"TTL": "600", "ID": "83"})
    both.equal("/v3/lock/lock", {"name": b64("l"), "lease": "82"})
    both.equal("/v3/lock/lock", {"name": b64("l"), "lease": "83"}, headers={"Grpc-Timeout": "300m"})
    for server in (both.cleat, both.etcd):
        keys = {"key": b64("l/"), "range_end": b64("l0"), "keys_only": True}
        lib.wait_until(lambda s=server: json.loads(ask(s, "/v3/kv/range", keys).body)["count"] == "1", 30,
                       "the key of who waited is gone")
    both.equal("/v3/lock/unlock", {"key": b64("l/52")})
    both.equal("/v3/lease/revoke", {"ID": "82"})
    both.equal("/v3/lease/revoke", {"ID": "83"})


def compare_users(both):
    """With users a token is needed, in either header."""
    for path, body in (("user/add", {"name": "root", "password": "r"}), ("role/add", {"name": "root"}),
                       ("user/grant", {"user": "root", "role": "root"}), ("enable", {})):
        both.equal("/v3/auth/" + path, body)
    for headers in ({}, {"Authorization": "bad"}, {"Grpc-Metadata-Token": "bad"}):
        both.equal("/v3/kv/range", {"key": b64("a")}, headers=headers)
        both.equal("/v3/maintenance/snapshot", {}, headers=headers)
    both.equal("/v3/auth/authenticate", {"name": "root", "password": "wrong"})
    tokens = [json.loads(ask(server, "/v3/auth/authenticate", {"name": "root", "password": "r"}).body)["token"]
              for server in (both.cleat, both.etcd)]
    for name in ("Authorization", "Grpc-Metadata-Token"):
        ours, theirs = (ask(server, "/v3/kv/range", {"key": b64("a")}, headers={name: token}).told()
                        for server, token in zip((both.cleat, both.etcd), tokens))
        both.checks.equal(ours, theirs, f"range with {name}")
    for server, token in zip((both.cleat, both.etcd), tokens):
        both.checks.equal(ask(server, "/v3/auth/disable", {}, headers={"Authorization": token}).status, 200, "disable")


def compare_all(both):
    both.all_equal(ANY)
    for method, path, headers in PAGES + (PAGES_35 if both.is_35 else []):
        if path != "/version" or both.is_35 or method != "GET":
            both.equal(path, None, method, headers)
    if both.is_35:
        both.all_equal(ONLY_35)
        for timeout in ("1zz", "1n", "10S", "0S"):
            both.equal("/v3/kv/range", {"key": b64("a")}, headers={"Grpc-Timeout": timeout})
    both.all_equal(WITH_LEASES)
    compare_keepalive(both)
    both.all_equal(WITH_LOCKS)
    compare_observe(both)
    both.all_equal(WITH_USERS)
    compare_users(both)
    compare_watch(both)


# ---- cleat alone ----

def check_snapshot(server, checks):
    """The lines are etcd's db file in base64, and its checksum."""
    answer = ask(server, "/v3/maintenance/snapshot", "")
    parts = [json.loads(line)["result"] for line in answer.body.splitlines()]
    blob = b"".join(base64.b64decode(part["blob"]) for part in parts)
    checks.equal(len(blob) % 512, 32, "size of a snapshot and its checksum")
    left = [int(part.get("remaining_bytes", 0)) for part in parts]
    checks.equal(left, sorted(left, reverse=True), "remaining_bytes fall")


def metric(server, name):
    _, body = lib.http_get(f"http://{server.endpoint}/metrics")
    for line in body.decode().splitlines():
        if line.startswith(name + " "):
            return float(line.rsplit(" ", 1)[1])
    return None


def check_disconnect(server, checks):
    """A watcher that goes away is forgotten."""
    watchers = "etcd_debugging_mvcc_watcher_total"
    before = metric(server, watchers)
    streams = [Stream(server, "/v3/watch", '{"create_request":{"key":"Z29uZQ=="}}') for _ in range(20)]
    for stream in streams:
        stream.line()
    checks.equal(metric(server, watchers), before + 20, "watchers while they watch")
    for stream in streams:
        stream.reply.close()
        stream.close()
    lib.wait_until(lambda: metric(server, watchers) == before, 30, "watchers of clients that went away are forgotten")


def check_slow_reader(server, checks):
    """One that reads nothing holds up nobody."""
    value = b64("x" * 900000)
    for number in range(8):
        ask(server, "/v3/kv/put", {"key": b64(f"large{number}"), "value": value})
    slow = []
    for _ in range(4):
        sock = socket.create_connection(("127.0.0.1", server.client_port))
        body = json.dumps({"key": b64("large"), "range_end": b64("largf")})
        sock.sendall(f"POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        slow.append(sock)
    longest_s = 0.0
    for _ in range(50):
        begin = time.monotonic()
        checks.equal(ask(server, "/v3/kv/range", {"key": b64("a")}).status, 200, "a read beside slow readers")
        longest_s = max(longest_s, time.monotonic() - begin)
    checks.check(longest_s < 5, f"a read beside slow readers took {longest_s:.1f} s")
    print(f"the longest read beside slow readers took {longest_s * 1000:.0f} ms")
    for sock in slow:
        sock.close()
    body = ask(server, "/v3/kv/range", {"key": b64("large"), "range_end": b64("largf")}).body
    checks.equal(len(json.loads(body)["kvs"]), 8, "values of a large answer")


def check_pipelined(server, checks):
    """Several requests on one connection, in chunks and pieces."""
    sock = socket.create_connection(("127.0.0.1", server.client_port))
    sock.settimeout(10)
    for piece in ("POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "8\r\n{\"key\":\"",
                  "\r\n6\r\nYQ==\"}\r\n0\r\n\r\n", "POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n",
                  "{\"key\":\"YQ==\"}"):
        sock.sendall(piece.encode())
        time.sleep(0.02)
    got = b""
    while got.count(b'"count":"1"}') < 2:
        more = sock.recv(65536)
        if not more:
            break
        got += more
    checks.equal(got.count(b"HTTP/1.1 200 OK"), 2, "two answers on one connection")
    sock.close()


def check_many(server, checks):
    """More clients at once than there are threads."""
    failed = []

    def work(number):
        try:
            for i in range(10):
                key = b64(f"many/{number}/{i}")
                if ask(server, "/v3/kv/put", {"key": key, "value": key}).status != 200:
                    failed.append(key)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    checks.equal(failed, [], "puts of many clients")
    answer = ask(server, "/v3/kv/range", {"key": b64("many/"), "range_end": b64("many0"), "count_only": True})
    checks.equal(json.loads(answer.body)["count"], "320", "keys of many clients")


def check_garbage(server, checks):
    for data in (b"POST /v3/kv/put HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
                 b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                 b"POST /v3/%00/put HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nGrpc-Timeout: \xff\r\n\r\n",
                 b"POST /v3/watch HTTP/1.0\r\n\r\n", b"POST /v3/kv/put HTTP/1.1\r\n" + b"A: b\r\n" * 3000 + b"\r\n"):
        with socket.create_connection(("127.0.0.1", server.client_port)) as sock:
            sock.sendall(data)
            sock.settimeout(0.2)
            try:
                sock.recv(4096)
            except OSError:
                pass
    checks.check(server.is_healthy(), "healthy after garbage")


def check_stop(server, checks):
    """Open streams are no reason to go on."""
    streams = [Stream(server, "/v3/watch", '{"create_request":{"key":"YQ=="}}') for _ in range(5)]
    begin = time.monotonic()
    checks.equal(server.stop(), 0, "exit code with streams open")
    checks.check(time.monotonic() - begin < 5, "a stop with streams open takes long")
    for stream in streams:
        stream.close()


def check_flags(binary, checks):
    """Ports of their own, origins, hosts, and no gateway."""
    http_port, metrics_port = lib.free_ports(2)
    server = lib.Server(binary, lib.temp_dir("gateway") + "/flags", flags=[
        "--listen-client-http-urls", f"http://127.0.0.1:{http_port}", "--listen-metrics-urls",
        f"http://127.0.0.1:{metrics_port}", "--cors", "http://127.0.0.1:8000", "--host-whitelist", "a.example,127.0.0.1",
        "--enable-grpc-gateway=false"])
    server.launch()
    server.client_port = http_port
    lib.wait_until(server.is_healthy, 30, "healthy on the port for HTTP alone")
    checks.equal(ask(server, "/v3/kv/range", "{}").status, 404, "no gateway")
    for headers, origin in (({}, None), ({"Origin": "http://127.0.0.1:8000"}, "http://127.0.0.1:8000"),
                            ({"Origin": "http://b.example"}, None)):
        answer = ask(server, "/version", None, "GET", headers)
        checks.equal((answer.status, answer.headers["access-control-allow-origin"]), (200, origin), f"CORS {headers}")
    for host, status in (("a.example:99", 200), ("127.0.0.1", 200), ("b.example", 421), ("[::1]:99", 421)):
        checks.equal(ask(server, "/version", None, "GET", {"Host": host}).status, status, f"host {host}")
    checks.check("b.example" in server.log().decode(), "a foreign host is logged")
    threads = json.loads(ask(server, "/debug/vars", None, "GET", {"Host": "127.0.0.1"}).body)["threads"]
    checks.check({"consensus", "apply", "backend"} <= {thread["name"] for thread in threads}, f"threads {threads}")
    checks.check(all(thread["cpu_seconds"] >= 0 and thread["state"] for thread in threads), f"their facts {threads}")
    server.client_port = metrics_port
    for path, status in (("/health", 200), ("/metrics", 200), ("/readyz", 200), ("/version", 404), ("/debug/vars", 404)):
        answer = ask(server, path, None, "GET", {"Host": "b.example"})
        checks.equal((answer.status, answer.headers["access-control-allow-origin"]), (status, None), f"metrics {path}")
    checks.equal(server.stop(), 0, "exit code")


def check_waiting_member(binary, checks):
    """One of two, alone: no client is served, and whoever watches it is told."""
    other, metrics_port = lib.free_ports(2)
    server = lib.Server(binary, lib.temp_dir("gateway") + "/alone")
    server.flags = ["--listen-metrics-urls", f"http://127.0.0.1:{metrics_port}", "--initial-cluster",
                    f"default=http://127.0.0.1:{server.peer_port},other=http://127.0.0.1:{other}"]
    server.launch()
    server.client_port = metrics_port
    lib.wait_until(lambda: lib.http_get(f"http://127.0.0.1:{metrics_port}/livez")[0] == 200, 30, "alive while it waits")
    answer = ask(server, "/health", None, "GET")
    checks.equal((answer.status, answer.body), (503, '{"health":"false","reason":"RAFT NO LEADER"}\n'), "health alone")
    checks.equal(ask(server, "/health?serializable=true", None, "GET").status, 200, "serializable health alone")
    checks.check("etcd_server_has_leader 0\n" in ask(server, "/metrics", None, "GET").body, "metrics alone")
    checks.check(server.stop() in (0, -15), "a member that waits ends by a signal")


def main():
    parser = lib.arguments(__doc__.splitlines()[0], cleat=None, etcd="etcd")
    args = parser.parse_args()
    etcd = lib.need_program(args.etcd)
    checks = lib.Checks()
    folder = lib.temp_dir("gateway")
    servers = [lib.Server(args.cleat, folder + "/cleat").start(), lib.Server(etcd, folder + "/etcd").start()]
    version = json.loads(lib.http_get(f"http://{servers[1].endpoint}/version")[1])["etcdserver"]
    compare_all(Comparison(servers[0], servers[1], checks, is_35=version.startswith("3.5.")))
    servers[1].stop()
    check_snapshot(servers[0], checks)
    check_pipelined(servers[0], checks)
    check_disconnect(servers[0], checks)
    check_slow_reader(servers[0], checks)
    check_many(servers[0], checks)
    check_garbage(servers[0], checks)
    check_stop(servers[0], checks)
    check_flags(args.cleat, checks)
    check_waiting_member(args.cleat, checks)
    checks.done()


if __name__ == "__main__":
    sys.exit(main())
