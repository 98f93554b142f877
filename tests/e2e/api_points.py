"""The twenty-five points where servers that mean to be etcd most often are not, and what proves each here. POINTS names
the proofs, in this driver and elsewhere; the driver sees that each is there and carries out its own, beside etcd where it
is 3.5 or does the same."""
import os
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import api
import cluster_lib
import lib

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SLOW_EVENTS = 3000 if lib.FULL else 600
SLOW_BYTES = 20000
UNREAD_REQUESTS = 100000 if lib.FULL else 15000
ENDS = {0, -15}  # etcd ends itself by the signal again

KV = ("e2e/differential.c", "answers_agree")  # every KV answer field by field, etcd beside it

# Each proof: a file under tests/ and a name in it.
POINTS = {
    "1 a Range's header, count and more": [
        KV, ("server_state/test_machine.c", "test_range_header_is_the_current_revision"),
        ("server_state/test_machine.c", "test_range_filters_leave_the_count")],
    "2 what is compacted, strictly": [
        KV, ("server_state/test_machine.c", "test_compact_follows_etcds_rules"), ("e2e/differential_api.py", "do_watch"),
        ("e2e/differential_api.py", "do_hash")],
    "3 headers within transactions": [KV, ("e2e/api_points.py", "headers_within")],
    "4 compares look at what was before": [
        KV, ("server_state/test_txn.c", "test_txn_nested_compares_look_at_the_state_before"),
        ("server_state/test_txn_model.c", "test_txn_agrees_with_a_naive_evaluator")],
    "5 what changes nothing takes no revision": [
        KV, ("server_state/test_txn.c", "test_txn_that_changes_nothing_takes_no_revision"), ("e2e/k8s.py", "bulk_delete")],
    "6 compares of absent keys and of ranges": [
        KV, ("server_state/test_txn.c", "test_compare_of_an_absent_key"),
        ("server_state/test_txn.c", "test_compare_over_a_range_holds_for_every_key")],
    "7 the limit of operations": [
        KV, ("server_state/test_check.c", "test_txn_within_a_txn_has_the_rest_of_the_budget")],
    "8 leases nobody knows": [("e2e/differential_api.py", "do_renew"), ("e2e/differential_api.py", "do_time_to_live")],
    "9 the shortest lease, a new leader, a revocation": [
        ("e2e/differential_api.py", "do_grant_short"), ("e2e/api_points.py", "lease_of_a_new_leader"),
        ("server_state/test_leases.c", "test_lease_revoke_deletes_its_keys_in_one_revision")],
    "10 ids of watchers": [("e2e/differential_api.py", "do_watch"), ("e2e/api_points.py", "ids_of_watchers")],
    "11 created comes first": [("e2e/k8s.py", "compaction"), ("e2e/differential_watch.py", "take_canceled")],
    "12 what a deletion shows": [("e2e/differential_watch.py", "settle"), ("e2e/k8s.py", "watches")],
    "13 one revision, one response": [
        ("e2e/differential_watch.py", "take_events"), ("e2e/differential_api.py", "do_fragments")],
    "14 progress on demand": [("e2e/api_points.py", "progress"), ("e2e/differential_watch.py", "ask_progress"),
                              ("e2e/watch_progress.py", "asked_under_load")],
    "15 a slow watcher loses nothing": [("e2e/api_points.py", "slow_watcher"), ("e2e/watch_fan.c", "take_event"),
                                        ("e2e/slow_client.py", "not_reading"), ("e2e/api_points.py", "unread_answers")],
    "16 answers without revision or header": [("e2e/api_points.py", "headers")],
    "17 the stream of a snapshot": [
        ("e2e/api_points.py", "snapshot"), ("server_services/test_upkeep.c", "test_snapshot_is_sent_as_etcd_does")],
    "18 errors that arrive as Unknown": [
        ("e2e/api_points.py", "unknown_errors"), ("e2e/differential_api.py", "do_defragment"),
        ("server_state/test_check.c", "test_errors_have_a_code_and_a_text")],
    "19 no space": [
        ("e2e/quota.py", "one_member"), ("e2e/differential_api.py", "do_alarm"), ("server_state/test_alarms.c", "test_nospace_refuses_puts"),
        ("server_services/test_services.c", "test_quota_refuses_what_costs")],
    "20 who insists on a leader": [("e2e/no_leader.py", "streams_end"), ("e2e/no_leader.py", "calls")],
    "21 users, roles and tokens": [
        ("e2e/differential_api.py", "do_users"), ("e2e/api_points.py", "users"),
        ("server_services/test_auth_simple.c", "test_simple_tokens_find_renews_what_is_used"),
        ("server_services/test_auth_jwt.c", "test_jwt_verify_looks_at_the_claims")],
    "22 members": [
        ("server_state/test_bootstrap.c", "test_ids_are_those_of_etcds_own_tests"),
        ("server_state/test_members.c", "test_ids_are_etcds"), ("server_state/test_reconfig.c", "test_add_is_checked_as_etcd_does"),
        ("server_services/test_cluster.c", "test_promote_waits_until_the_learner_follows"), ("e2e/cluster.py", "replace")],
    "23 applied once": [
        ("server_state/test_machine.c", "test_machine_applies_an_entry_once"),
        ("server_state/test_changes.c", "test_change_survives_a_restart"), ("e2e/crash.py", "main")],
    "24 the frames of etcd's log": [("e2e/utl_make.py", "main"), ("e2e/utl_look.py", "main")],
    "25 hashes": [("e2e/differential_api.py", "do_hash"), ("mvcc/test_mvcc.c", "test_mvcc_hash_is_etcds")],
}


class Subject:
    """One server under these tests; `is_34`: it is an etcd that does some of it otherwise."""

    def __init__(self, server, messages, checks):
        self.server = server
        self.api = api.Api(server.endpoint, messages)
        self.messages = messages
        self.ops = api.Ops(messages)
        self.checks = checks
        self.is_etcd = os.path.basename(server.binary) == "etcd"
        self.is_34 = self.api.Status().version.startswith("3.4.")

    def equal(self, got, expected, what):
        self.checks.equal(got, expected, f"{os.path.basename(self.server.binary)}: {what}")


def head(header):
    return header.cluster_id != 0, header.member_id != 0, header.revision, header.raft_term != 0


def headers_within(s):
    inner = s.ops.txn(success=[s.ops.put(b"h/b", b"2"), s.ops.range(b"h/a")])
    reply = s.api.Txn(success=[s.ops.range(b"h/a"), s.ops.put(b"h/a", b"1"), inner, s.ops.delete(b"h/none")])
    revision = reply.header.revision
    s.equal(head(reply.header), (True, True, revision, True), "the outer header is full")
    first, put, nested, deleted = reply.responses
    s.equal(head(first.response_range.header), (False, False, revision - 1, False), "a range before the first write")
    s.equal(head(put.response_put.header), (False, False, revision, False), "a put within")
    s.equal(nested.response_txn.HasField("header"), True, "a transaction within has a header,")
    s.equal(head(nested.response_txn.header), (False, False, 0, False), "an empty one")
    s.equal(head(nested.response_txn.responses[1].response_range.header), (False, False, revision, False), "a range within it")
    s.equal(head(deleted.response_delete_range.header), (False, False, revision, False), "a delete of nothing after a write")


def ids_of_watchers(s):
    w = s.api.watch()
    s.equal(w.created(key=b"w").watch_id, 0, "the first id is 0")
    s.equal(w.created(key=b"w", watch_id=2).watch_id, 2, "an id of one's own")
    s.equal(w.created(key=b"w").watch_id, 1, "the next")
    s.equal(w.created(key=b"w").watch_id, 3, "one that is taken is passed over")
    for fields, why in (({"watch_id": 2}, "mvcc: duplicate watch ID provided on the WatchStream"),
                        ({"range_end": b"a"}, "mvcc: watcher range is empty")):
        refused = w.created(key=b"w", **fields)
        s.equal((refused.created, refused.canceled, refused.watch_id, refused.cancel_reason), (True, True, -1, why), "refused")
    w.drop(1)
    s.equal((w.take().watch_id, w.created(key=b"w").watch_id), (1, 4), "an id is not given again")
    w.drop(99)
    s.api.Put(key=b"w", value=b"1")
    s.equal(sorted(w.take().watch_id for _ in range(4)), [0, 2, 3, 4], "all others live, and nobody is told of a stranger")
    w.cancel()


def progress(s):
    if s.is_34:
        return  # it always answers
    w = s.api.watch()
    w.progress()
    s.equal(w.take(0.3), None, "no progress without watchers")
    w.created(key=b"p")
    now = s.api.Put(key=b"p", value=b"1").header.revision
    s.equal(w.take().watch_id, 0, "the one that began sees the event")
    s.equal(w.created(key=b"p", start_revision=now + 100).watch_id, 1, "another begins later")
    w.progress()
    told = w.take()
    s.equal((told.watch_id, told.header.revision), (-1, s.api.Range(key=b"p").header.revision), "one answer for both watchers")
    s.api.Compact(revision=s.api.Put(key=b"p", value=b"2").header.revision, physical=True)
    w.take()
    w.created(key=b"p", start_revision=1)
    ended = w.take()
    s.equal((ended.watch_id, ended.canceled), (2, True), "one begins at what is compacted")
    w.progress()
    s.equal(w.take(0.3), None, "no progress beside it")
    w.drop(2)
    s.equal(w.take().canceled, True, "until the client lets go of it")
    w.progress()
    s.equal(w.take().watch_id, -1, "then there is")
    w.cancel()


def slow_watcher(s):
    """Nobody reads one stream while its watcher is sent far more than a stream holds."""
    path, request, response = s.messages.methods["Watch"]
    create = s.messages.WatchCreateRequest(key=b"slow/", range_end=b"slow0", prev_kv=True)
    done = threading.Event()

    def requests():
        yield request(create_request=create)
        done.wait()
    slow_api = api.Api(s.server.endpoint, s.messages)
    slow = slow_api.channel.stream_stream(path, request.SerializeToString, response.FromString)(requests())
    s.equal(next(slow).created, True, "a watcher that will not read")
    quick = s.api.watch()
    quick.created(key=b"slow/", range_end=b"slow0")
    value = bytes(SLOW_BYTES)
    revisions = [s.api.Put(key=b"slow/%d" % (i % 10), value=value).header.revision for i in range(SLOW_EVENTS)]
    got = []
    while len(got) < SLOW_EVENTS:
        got.extend(e.kv.mod_revision for e in quick.take().events)
    s.equal(got == revisions, True, "the quick one has it all")
    got = []
    while len(got) < SLOW_EVENTS:
        got.extend(e.kv.mod_revision for e in next(slow).events)
    s.equal(got == revisions, True, "the slow one as well, in order, once")
    done.set()
    slow.cancel()
    quick.cancel()
    slow_api.close()
    s.api.DeleteRange(key=b"slow/", range_end=b"slow0")


def unread_answers(s):
    """Nobody reads the answers to very many requests of one stream: it waits, and answers them all."""
    lease = s.api.LeaseGrant(TTL=600).ID
    for method, fields in (("LeaseKeepAlive", {"ID": lease}),
                           ("Watch", {"create_request": s.messages.WatchCreateRequest(key=b"unread")})):
        path, request, response = s.messages.methods[method]
        message = request(**fields)
        done, all_sent = threading.Event(), threading.Event()

        def requests(message=message, done=done, all_sent=all_sent):
            for _ in range(UNREAD_REQUESTS):
                yield message
            all_sent.set()
            done.wait()
        other = api.Api(s.server.endpoint, s.messages)
        stream = other.channel.stream_stream(path, request.SerializeToString, response.FromString)(requests())
        all_sent.wait(3)  # or as many as there is room for
        s.equal(s.api.Put(key=b"unread", value=b"1").code, api.OK, f"{method}: others are served meanwhile")
        got = 0
        while got < UNREAD_REQUESTS:
            answer = next(stream)
            got += answer.created if method == "Watch" else answer.TTL > 0
        s.equal(got, UNREAD_REQUESTS, f"{method}: every request is answered")
        done.set()
        stream.cancel()
        other.close()
    s.api.LeaseRevoke(ID=lease)


def headers(s):
    listed = s.api.MemberList()
    s.equal(head(listed.header), (True, True, 0, True), "a member list has no revision")
    s.equal(s.api.Defragment().message.HasField("header"), False, "Defragment has no header")
    own = s.api.Status().header.member_id
    s.equal(s.api.MoveLeader(targetID=own).message.HasField("header"), False, "MoveLeader has no header")
    now = s.api.Range(key=b"x").header.revision
    for name in ("Status", "HashKV", "LeaseLeases") + (() if s.is_34 else ("Alarm",)):
        s.equal(head(s.api.call(name).header), (True, True, now, True), f"{name} has all of it")


def snapshot(s):
    chunks, end = s.api.read_stream("Snapshot")
    s.equal(end.code, api.OK, "a snapshot ends")
    s.equal({c.HasField("header") for c in chunks}, {False}, "without headers")
    total = sum(len(c.blob) for c in chunks) - 32
    sent = 0
    for chunk in chunks[:-1]:
        sent += len(chunk.blob)
        s.equal(chunk.remaining_bytes, total - sent, "what remains")
    s.equal((total % 512, chunks[-2].remaining_bytes, chunks[-1].remaining_bytes, len(chunks[-1].blob)), (0, 0, 0, 32),
            "nothing remains before the digest comes")


def users(s):
    """AuthEnable leaves the auth revision; what a transaction compares must be readable; tokens of nobody."""
    made = (("UserAdd", {"name": "root", "password": "r"}), ("UserGrantRole", {"user": "root", "role": "root"}),
            ("UserAdd", {"name": "ann", "password": "a"}), ("RoleAdd", {"name": "w"}),
            ("RoleGrantPermission", {"name": "w", "perm": s.messages.Permission(permType="WRITE", key=b"u")}),
            ("RoleGrantPermission", {"name": "w", "perm": s.messages.Permission(permType="READ", key=b"v", range_end=b"w")}),
            ("RoleGrantPermission", {"name": "w", "perm": s.messages.Permission(permType="READ", key=b"w", range_end=b"x")}),
            ("UserGrantRole", {"user": "ann", "role": "w"}))
    for name, fields in made:
        s.equal(s.api.call(name, **fields).code, api.OK, name)
    if not s.is_34:
        s.equal((s.api.AuthStatus().enabled, s.api.AuthStatus().authRevision), (False, 1 + len(made)), "changes are counted")
    s.equal(s.api.AuthEnable().code, api.OK, "users are on")
    root, ann = s.api.Authenticate(name="root", password="r").token, s.api.Authenticate(name="ann", password="a").token
    if not s.is_34:
        status = s.api.AuthStatus(token=root)
        s.equal((status.enabled, status.authRevision), (True, 1 + len(made)), "that is not counted")
    s.equal(s.api.Range(key=b"v", range_end=b"x", token=ann).code, api.OK, "two ranges beside each other are one")
    s.equal(s.api.Range(key=b"v", range_end=b"y", token=ann).code, "PERMISSION_DENIED", "and no more than that")
    put = [s.ops.put(b"u", b"1")]
    s.equal(s.api.Txn(compare=[s.ops.version(b"u", 0)], success=put, token=ann).code, "PERMISSION_DENIED",
            "what is compared must be readable")
    s.equal(s.api.Txn(compare=[s.ops.version(b"v", 0)], success=put, token=ann).code, api.OK, "and then may be")
    w = s.api.watch(token=ann)
    s.equal(w.created(key=b"v", range_end=b"x").canceled, False, "a watch of what may be read")
    if not s.is_etcd:  # which asks leave for the first key alone
        s.equal(w.created(key=b"v", range_end=b"\0").canceled, True, "a watch from there on is refused")
    w.cancel()
    for call in ("LeaseGrant", "Txn"):
        s.equal(s.api.call(call, token="nobody.1").code, "UNAUTHENTICATED", f"{call} by a token of nobody")
    if not s.is_34:
        s.equal(s.api.UserChangePassword(name="ann", password="", token=root).code, api.OK, "a password is taken away")
        s.equal(s.api.Authenticate(name="ann", password="").code, "INVALID_ARGUMENT", "nothing matches none")
    unknown_errors(s, root)
    disabled = s.api.AuthDisable(token=root)
    s.equal(head(disabled.header), (True, True, s.api.Range(key=b"x").header.revision, True), "AuthDisable has a full header")


def unknown_errors(s, root):
    for call in ("Defragment", "Hash", "HashKV"):
        reply = s.api.call(call)
        s.equal((reply.code, reply.text), ("UNKNOWN", "auth: user name is empty"), f"{call} by nobody")
    _, end = s.api.read_stream("Snapshot")
    s.equal((end.code, end.text), ("UNKNOWN", "auth: user name is empty"), "Snapshot by nobody")
    s.equal(s.api.HashKV(token=root).code, api.OK, "HashKV by root")


ONE_MEMBER = [headers_within, ids_of_watchers, progress, slow_watcher, unread_answers, headers, snapshot, users]


def lease_of_a_new_leader(checks, cluster, apis):
    """A new leader gives a lease its whole time again."""
    leader = cluster.wait_leader()
    other = next(apis[m.name] for m in cluster.members if m is not leader)
    checks.equal(other.LeaseGrant(ID=11, TTL=4).TTL, 4, "a lease of 4 s")
    checks.equal(other.Put(key=b"leased", value=b"1", lease=11).code, api.OK, "its key")
    began = time.monotonic()
    time.sleep(2.5)
    leader.kill()
    killed = time.monotonic()
    while time.monotonic() - began < 5.5:
        time.sleep(0.2)
    reply = other.Range(key=b"leased", timeout_s=10)
    checks.check(reply.count == 1 or time.monotonic() - killed > 4, "it outlives its time when the leader changes")
    lib.wait_until(lambda: other.Range(key=b"leased").count == 0, 30, "the key goes in the end")
    cluster.restart(leader)


THREE_MEMBERS = [lease_of_a_new_leader]


def proofs_are_there(checks):
    checks.equal([int(point.split()[0]) for point in POINTS], list(range(1, 26)), "every point")
    for point, proofs in POINTS.items():
        for file, name in proofs:
            path = os.path.join(TESTS, file)
            text = open(path, encoding="utf-8").read() if os.path.exists(path) else ""
            checks.check(name in text, f"point {point}: there is {name} in {file}")


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", etcd="etcd", etcdctl="etcdctl",
                           descriptors="build/release/tests/e2e/api.pb")
    parser.add_argument("--leave-out", default="", help="proofs of this driver by name, separated by commas")
    args = parser.parse_args()
    args.etcd, etcdctl = lib.need_program(args.etcd), lib.need_program(args.etcdctl)
    messages = api.Messages(args.descriptors)
    checks = lib.Checks()
    proofs_are_there(checks)
    folder = lib.temp_dir("api-points")
    left_out = args.leave_out.split(",")
    for name, binary, flags in (("etcd", args.etcd, ["--log-level=error"]), ("cleat", args.cleat, [])):
        server = lib.Server(binary, os.path.join(folder, name), flags=flags + ["--bcrypt-cost=4"]).start()
        subject = Subject(server, messages, checks)
        for proof in ONE_MEMBER:
            if proof.__name__ not in left_out:
                proof(subject)
        checks.check(server.stop() in ENDS, "it stops in order")
    cluster = cluster_lib.Cluster(args.cleat, folder, 3, etcdctl=etcdctl).start()
    apis = {m.name: api.Api(m.endpoint, messages) for m in cluster.members}
    for proof in THREE_MEMBERS:
        if proof.__name__ not in left_out:
            proof(checks, cluster, apis)
    checks.check(set(cluster.stop()) <= ENDS, "all stop in order")
    checks.done()


main()
