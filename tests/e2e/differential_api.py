#!/usr/bin/env python3
"""The differential test of all but the KV service: the same random watches, leases, users, alarms, locks and hashes, with
writes between them, to a fresh etcd and a fresh server under test. Every answer must be the same but for ids and times.

What etcd 3.4, Debian's, is known to do otherwise than 3.5 is not asked of it, and what Cleat refuses on purpose
(docs/auth.md) goes to the server under test alone and must be refused."""
import os
import random
import shlex
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import api
import cluster_lib
import lib
from differential_watch import Differs, StreamPair, text_of

BACKENDS = ("lmdb", "sqlite")
MAX_REQUEST_BYTES = 32768  # a response is cut into fragments half a megabyte above it
FLAGS = ["--bcrypt-cost=4", f"--max-request-bytes={MAX_REQUEST_BYTES}"]
KEYS = [b"%c" % c for c in b"abcdefgh"] + [b"a\0", b"ab", b"b\xff"]
ENDS = [b"", b"\0", b"b", b"c", b"e", b"i", b"a\0"]
USERS = ["ann", "bob", "cy", "root"]
ROLES = ["r1", "r2", "r3", "root"]
PASSWORDS = ["", "x", "long password"]
LEASES = [1, 2, 3, 4, 5, 0x7fffffffffffffff, -3]
ALARM_MEMBERS = [5, 77]
STREAMS_MAX = 4
WATCHERS_MAX = 12
TTL_SLACK_S = 5
NO_TOKEN = None


class Side:
    """One of the two servers, and its tokens by the names they have for both."""

    def __init__(self, name, server, messages):
        self.name = name
        self.server = server
        self.api = api.Api(server.endpoint, messages)
        self.tokens = {}
        self.version = tuple(map(int, self.api.Status().version.split("-")[0].split(".")[:2]))

    def token(self, name):
        if name is NO_TOKEN:
            return None
        return self.tokens.get(name, name)  # one nobody gave goes as it is


class Run:
    """A sequence of requests."""

    def __init__(self, reference, subject, messages, seed, with_users):
        self.sides = [reference, subject]
        self.is_34 = reference.version < (3, 5)
        self.m = messages
        self.ops = api.Ops(messages)
        self.rng = random.Random(seed)
        self.with_users = with_users
        self.log = []  # every event of the store
        self.revision, self.compact_revision = 1, -1
        self.is_loosely_compacted = False  # what is compacted may still be there
        self.auth_on = False
        self.passwords = {}  # of users, as far as the answers tell
        self.tokens = []  # names
        self.token_names = {}  # name -> user
        self.alarms = set()
        self.streams = []
        self.counts = {}
        self.codes = {}
        self.events_count = 0
        self.last = ""
        self.witness = StreamPair(self)
        self.witness.create(self.watch_fields(key=b"\0", range_end=b"\0", start_revision=1, prev_kv=True), is_witness=True)

    # ---- calls ----

    def both(self, method, token=NO_TOKEN, settle=text_of, **fields):
        """The same call to both; the reference's reply. Differs when they do."""
        self.last = f"{method} {fields} by {token}"
        futures = [side.api.start(method, token=side.token(token), request=side.api.messages_of(method)(**fields))
                   for side in self.sides]
        replies = [side.api.finish(future) for side, future in zip(self.sides, futures)]
        texts = [settle(r.message) if r.code == api.OK else f"{r.code} {r.text}" for r in replies]
        if texts[0] != texts[1]:
            raise Differs(f"{self.last}\n  {self.sides[0].name}: {texts[0]}\n  {self.sides[1].name}: {texts[1]}")
        if replies[0].code == "UNAUTHENTICATED" and token in self.tokens:
            self.tokens.remove(token)
        self.codes[replies[0].code] = self.codes.get(replies[0].code, 0) + 1
        return replies

    def refused(self, method, token=NO_TOKEN, **fields):
        """To the server under test alone, which must refuse it."""
        reply = self.sides[1].api.call(method, self.m.methods[method][1](**fields), token=self.sides[1].token(token))
        if reply.code not in ("PERMISSION_DENIED", "INVALID_ARGUMENT", "UNAUTHENTICATED"):
            raise Differs(f"{method} {fields} by {token} is not refused: {reply}")

    def write(self, method, token=NO_TOKEN, **fields):
        """A call that may change the store: the log follows."""
        replies = self.both(method, token, **fields)
        if replies[0].code == api.OK:
            self.follow(replies[0].message.header.revision)
        return replies

    def follow(self, revision):
        if revision <= self.revision:
            return
        half = self.witness.halves[0]
        received = half.of[0]
        half.wait(lambda: received.last_revision >= revision, f"revision {revision} at the witness")
        fresh = [e for e in received.events if e.kv.mod_revision > self.revision]
        self.log.extend(fresh)
        self.revision = revision

    def settle_all(self):
        self.witness.settle()
        for stream in self.streams:
            stream.settle()

    # ---- choices ----

    def pick(self, choices):
        return self.rng.choice(choices)

    def chance(self, one_in):
        return self.rng.randrange(one_in) == 0

    def any_token(self):
        """Mostly a good one while users are on; while they are off mostly none, and none that 3.4 would mind."""
        if not self.auth_on:
            return NO_TOKEN if self.is_34 or not self.chance(10) else self.pick(["garbage", "bad.1"])
        kind = self.rng.randrange(12)
        if kind == 0:
            return NO_TOKEN
        if kind == 1:
            return self.pick(["garbage", "bad.1"])
        if self.root_token() is NO_TOKEN:
            return self.fresh_root()
        return self.pick(self.tokens) if kind < 7 else self.root_token()

    def root_token(self):
        return next((t for t in reversed(self.tokens) if self.token_names[t] == "root"), NO_TOKEN)

    def fresh_root(self):
        """A token that is good for certain."""
        self.do_authenticate("root", self.passwords["root"])
        return self.root_token()

    def is_root(self, token):
        return self.token_names.get(token) == "root"

    def key_range(self):
        return self.pick(KEYS), self.pick(ENDS) if self.chance(2) else b""

    # ---- KV, as far as the rest needs it ----

    def do_put(self):
        lease = self.pick(LEASES + [99]) if self.chance(3) else 0
        self.write("Put", self.any_token(), key=self.pick(KEYS), value=b"%d" % self.rng.randrange(1000), lease=lease,
                   prev_kv=self.chance(4), ignore_value=False, ignore_lease=lease == 0 and self.chance(10))

    def do_delete(self):
        key, end = self.key_range()
        self.write("DeleteRange", self.any_token(), key=key, range_end=end, prev_kv=self.chance(3))

    def do_txn(self):
        token = self.any_token()
        is_free = not self.auth_on or self.is_root(token)
        keys = self.rng.sample(KEYS, 3)
        lease = self.pick(LEASES) if is_free and self.chance(3) else 0
        success = [self.ops.put(keys[0], b"t%d" % self.rng.randrange(100), lease=lease, prev_kv=is_free and self.chance(3)),
                   self.ops.range(keys[1], range_end=self.pick(ENDS)), self.ops.delete(keys[2], prev_kv=self.chance(3))]
        if is_free and self.chance(3):
            success.append(self.ops.txn(success=[self.ops.put(self.pick(KEYS[:4]) + b"-nested", b"n")]))
        self.write("Txn", token, compare=[self.ops.version(keys[0], 0, self.pick(["EQUAL", "GREATER"]))], success=success,
                   failure=[self.ops.put(keys[1], b"f")])

    def do_range(self):
        key, end = self.key_range()
        self.both("Range", self.any_token(), key=key, range_end=end, limit=self.rng.randrange(4),
                  serializable=False, count_only=self.chance(5))

    def do_compact(self):
        self.settle_all()
        revision = self.revision - self.rng.randrange(15) if self.chance(2) else self.compact_revision + self.rng.randrange(-1, 10)
        if revision == 0 or (revision < 0 and self.compact_revision < 0):
            return  # on a fresh store etcd takes 0 and later tells odd hashes
        looking_back = [w.first for stream in self.streams for w in stream.watchers.values()
                        if not w.is_dead and w.looks_back_until > time.monotonic()]
        if any(revision > first for first in looking_back):
            return  # whether it is done before would decide
        physical = not self.chance(3)
        token = self.any_token() if not self.auth_on else self.fresh_root()
        replies = self.both("Compact", token, revision=revision, physical=physical)
        if replies[0].code == api.OK:
            self.compact_revision = revision
            self.is_loosely_compacted = not physical

    # ---- watches ----

    def watch_fields(self, **given):
        fields = {"key": b"", "range_end": b"", "start_revision": 0, "progress_notify": False, "filters": [],
                  "prev_kv": False, "watch_id": 0, "fragment": False}
        fields.update(given)
        return fields

    def start_revision(self):
        kind = self.rng.randrange(8)
        if kind < 3:
            return 0
        if kind == 3:
            return self.revision + self.rng.randrange(1, 6)
        if kind == 4:
            return max(self.compact_revision, -2) + self.rng.randrange(-3, 3)
        return max(1, self.revision - self.rng.randrange(40))

    def do_watch(self):
        if not self.streams or (len(self.streams) < STREAMS_MAX and self.chance(10)):
            self.streams.append(StreamPair(self, self.any_token()))
        stream = self.pick(self.streams)
        if len(stream.watchers) >= WATCHERS_MAX:
            return self.cancel_one(stream)
        key, end = self.key_range()
        if self.auth_on and end == b"\0" and not self.is_root(stream.token_name):
            end = b""  # to etcd that is a watch of one key, until it is permitted
        start = self.start_revision()
        if start == self.compact_revision and self.is_loosely_compacted:
            start += 1
        if start == self.compact_revision == -1:
            start = 1  # etcd makes a watcher that misses some of what comes next
        fields = self.watch_fields(
            key=b"" if self.chance(20) else key, range_end=end, start_revision=start, progress_notify=self.chance(2),
            filters=self.pick([[], [], [], [0], [1], [0, 1], [1, 1]]), prev_kv=self.chance(2),
            watch_id=self.pick([0, 0, 0, 7, 8, -4, 1]), fragment=self.chance(3))
        self.last = f"watch {fields}"
        stream.create(fields)

    def cancel_one(self, stream):
        known = sorted(stream.watchers)
        self.last = "cancel"
        stream.cancel(self.pick(known) if known and not self.chance(8) else 12345)

    def do_cancel(self):
        if self.streams:
            self.cancel_one(self.pick(self.streams))

    def do_progress(self):
        if self.streams:
            self.last = "progress"
            self.pick(self.streams).ask_progress()

    def do_close_stream(self):
        if self.streams:
            self.close_stream(self.pick(self.streams))

    def close_stream(self, stream):
        stream.settle()
        stream.close()
        self.streams.remove(stream)

    def do_settle(self):
        self.last = "settle"
        self.settle_all()

    def do_fragments(self):
        """One revision's events beyond the limit of a response: both cut at the same places."""
        if self.alarms or self.auth_on:
            return
        for i in range(30):
            self.write("Put", key=b"large/%02d" % i, value=b"%02d" % i * 12000)
        self.settle_all()
        stream = StreamPair(self)
        for fragment in (True, False):
            stream.create(self.watch_fields(key=b"large/", range_end=b"large0", prev_kv=True, fragment=fragment))
        stream.ask_progress()
        self.write("DeleteRange", key=b"large/", range_end=b"large0")
        for watcher in stream.watchers.values():
            watcher.catch_up(self.log)
        for half in stream.halves:
            for id_ in (0, 1):
                half.wait(lambda r=half.of[id_], w=stream.watchers[id_]: len(r.events) >= len(w.expected), "large events")
        stream.both("fragments", lambda h: [h.of[i].shapes for i in (0, 1)])
        if len(stream.halves[0].of[0].shapes) < 2:
            raise Differs("nothing was cut into fragments")
        stream.settle()
        stream.close()

    # ---- leases ----

    def do_grant(self):
        ttl = self.pick([1000, 2000, 5000, 9000000000, 9000000001, 100000])
        self.both("LeaseGrant", self.any_token(), ID=self.pick(LEASES), TTL=ttl)

    def do_grant_short(self):
        """The shortest time there is, and revoked before it ends."""
        token = self.root_token() if self.auth_on else NO_TOKEN
        self.both("LeaseGrant", token, ID=4000, TTL=self.pick([-5, 0, 1, 2]))
        self.write("LeaseRevoke", token, ID=4000)

    def do_grant_any(self):
        """The server chooses the id."""
        def settle(message):
            if message.ID <= 0:
                raise Differs(f"chosen: {message}")
            message.ID = 1
            return text_of(message)
        token = self.root_token() if self.auth_on else NO_TOKEN
        for side, reply in zip(self.sides, self.both("LeaseGrant", token, settle=lambda m: settle(clone(m)), TTL=600)):
            if reply.code == api.OK:
                revoked = side.api.call("LeaseRevoke", self.m.LeaseRevokeRequest(ID=reply.ID), token=side.token(token))
                if revoked.code != api.OK:
                    raise Differs(f"{side.name} does not revoke what it granted: {revoked}")

    def do_revoke(self):
        self.write("LeaseRevoke", self.any_token(), ID=self.pick(LEASES + [99, 0]))

    def do_renew(self):
        ids = [self.pick(LEASES + [99, 0]) for _ in range(self.rng.randrange(1, 4))]
        got = []
        for side in self.sides:
            answers, end = side.api.keep_alive(*ids)
            got.append([text_of(a) if a is not None else "nothing" for a in answers] + [end.code])
        if got[0] != got[1]:
            raise Differs(f"renewal of {ids}\n  {got[0]}\n  {got[1]}")

    def do_time_to_live(self):
        keys = self.chance(2) and not (self.auth_on and self.is_34)
        left = []

        def settle(message):
            message = clone(message)
            left.append(message.TTL)
            message.TTL = min(message.TTL, 0)
            found = sorted(message.keys)
            del message.keys[:]
            message.keys.extend(found)
            return text_of(message)
        self.both("LeaseTimeToLive", self.any_token(), settle=settle, ID=self.pick(LEASES + [99, 0]), keys=keys)
        if len(left) == 2 and abs(left[0] - left[1]) > TTL_SLACK_S:
            raise Differs(f"time left: {left}")

    def do_leases(self):
        def settle(message):
            message = clone(message)
            ids = sorted(l.ID for l in message.leases)
            del message.leases[:]
            return text_of(message) + str(ids)
        self.both("LeaseLeases", self.any_token(), settle=settle)

    def do_expire(self):
        """A lease runs out by itself on both: one revision, the same events."""
        if self.alarms or self.auth_on:
            return
        replies = self.both("LeaseGrant", ID=5000, TTL=1)
        for key in self.rng.sample(KEYS, 3):
            self.write("Put", key=key, value=b"short", lease=5000)
        self.follow(self.revision + 1)
        for side in self.sides:
            lib.wait_until(lambda s=side: s.api.LeaseTimeToLive(ID=5000).TTL == -1, 30, f"{side.name}'s lease is gone")
            if side.api.Range(key=b"a").header.revision != self.revision:
                raise Differs(f"{side.name}: an expiry is not one revision")
        self.both("Range", key=b"\0", range_end=b"\0")
        return replies

    # ---- users and roles ----

    def do_users(self):
        calls = [
            lambda: ("UserAdd", {"name": self.pick(USERS + [""]), "password": self.pick(PASSWORDS),
                                 "options": self.m.UserAddOptions(no_password=self.chance(6))}),
            lambda: ("UserGet", {"name": self.pick(USERS + ["nobody"])}), lambda: ("UserList", {}),
            lambda: ("UserDelete", {"name": self.pick(USERS[:3] + ["nobody", "root"])}),
            self.change_password,
            lambda: ("UserGrantRole", {"user": self.pick(USERS), "role": self.pick(ROLES + ["norole"])}),
            lambda: ("UserRevokeRole", {"name": self.pick(USERS[:3]), "role": self.pick(ROLES)}),
            lambda: ("RoleAdd", {"name": self.pick(ROLES + [""])}), lambda: ("RoleGet", {"role": self.pick(ROLES)}),
            lambda: ("RoleList", {}), lambda: ("RoleDelete", {"role": self.pick(ROLES[:3])}),
            self.grant_permission, self.grant_permission, self.grant_permission,
            lambda: ("RoleRevokePermission", dict(zip(("role", "key", "range_end"),
                                                      (self.pick(ROLES[:3]), *self.key_range()))))]
        method, fields = self.pick(calls)()
        replies = self.both(method, self.any_token(), **fields)
        if replies[0].code == api.OK and method in ("UserAdd", "UserChangePassword"):
            self.passwords[fields["name"]] = fields["password"]
        if replies[0].code == api.OK and method == "UserDelete":
            self.passwords.pop(fields["name"], None)

    def change_password(self):
        """To an empty one: 3.5 then lets nobody in, 3.4 whoever gives it."""
        name = self.pick(USERS)
        return "UserChangePassword", {"name": name, "password": self.pick(PASSWORDS[self.is_34 or name == "root":])}

    def grant_permission(self, role=None):
        key, end = self.key_range()
        while self.is_34 and end not in (b"", b"\0") and key >= end:
            key, end = self.key_range()  # 3.4 takes whatever it is given
        return "RoleGrantPermission", {"name": role or self.pick(ROLES), "perm": self.m.Permission(
            permType=self.rng.randrange(3), key=b"" if self.chance(15) and not self.is_34 else key,
            range_end=end)}

    def do_authenticate(self, name=None, password=None):
        if name is None:
            name = self.pick(USERS + ["nobody", ""])
            password = self.passwords.get(name, "x") if not self.chance(5) else self.pick(PASSWORDS)

        def settle(message):
            message = clone(message)
            message.token = "some" if message.token else ""
            return text_of(message)
        replies = self.both("Authenticate", settle=settle, name=name, password=password)
        if replies[0].code == api.OK:
            token = f"{name}.{len(self.token_names)}"
            self.tokens.append(token)
            self.tokens = self.tokens[-20:]
            self.token_names[token] = name
            for side, reply in zip(self.sides, replies):
                side.tokens[token] = reply.token

    def do_switch_auth(self):
        if not self.with_users:
            return
        if self.auth_on:
            self.disable_auth(self.any_token())
        elif "root" not in self.passwords and self.chance(3):
            self.both("AuthEnable")  # refused
        else:
            for side_call, fields in (("UserDelete", {"name": "root"}), ("UserAdd", {"name": "root", "password": "top"}),
                                      ("UserGrantRole", {"user": "root", "role": "root"}),
                                      ("UserAdd", {"name": "ann", "password": "x"}), ("RoleAdd", {"name": "r1"}),
                                      self.grant_permission("r1"), self.grant_permission("r1"),
                                      ("UserGrantRole", {"user": "ann", "role": "r1"})):
                if self.both(side_call, **fields)[0].code == api.OK and side_call == "UserAdd":
                    self.passwords[fields["name"]] = fields["password"]
            for member in sorted(self.alarms):
                self.disarm(member)
            self.auth_on = self.both("AuthEnable")[0].code == api.OK
        if self.auth_on:
            for name in ("root", "ann", "bob"):
                self.do_authenticate(name, self.passwords.get(name, "x"))
            if self.root_token() is NO_TOKEN:
                raise Differs("root has no token")

    def disable_auth(self, token):
        if self.both("AuthDisable", token)[0].code == api.OK:
            self.auth_on = False
            self.tokens = []
            for stream in [s for s in self.streams if s.token_name is not NO_TOKEN]:
                self.close_stream(stream)

    def users_and_roles(self):
        """As each side has them, to see why a permission differs."""
        told = []
        for side in self.sides:
            password = {"name": "root", "password": self.passwords.get("root", "")}
            token = side.api.call("Authenticate", self.m.AuthenticateRequest(**password))
            by = token.message.token if token.code == api.OK else None
            users = {u: str(side.api.call("UserGet", self.m.AuthUserGetRequest(name=u), token=by)) for u in USERS}
            roles = {r: str(side.api.call("RoleGet", self.m.AuthRoleGetRequest(role=r), token=by)) for r in ROLES}
            told.append(f"{side.name}: {users} {roles}")
        return "\n".join(told)

    def do_auth_status(self):
        if not self.is_34:
            self.both("AuthStatus", self.any_token())

    def do_holes(self):
        """What etcd lets anybody do although users are on."""
        if not self.auth_on:
            return
        nested = self.ops.txn(success=[self.ops.put(b"hole", b"x")])
        self.refused("Txn", success=[nested])
        self.refused("Txn", compare=[], failure=[self.ops.txn(success=[nested])])
        self.refused("Txn", success=[self.ops.txn(compare=[self.ops.version(b"a", 0)])])
        self.refused("Compact", revision=self.revision)
        self.refused("Alarm", action=1, memberID=5, alarm=1)
        self.refused("Alarm")
        self.refused("MemberList")
        self.refused("MoveLeader", targetID=1)

    # ---- maintenance ----

    def do_alarm(self):
        if self.auth_on:
            return  # once one is raised, etcd asks nobody who it is
        member, alarm = self.pick(ALARM_MEMBERS), self.pick([1, 1, 2])
        action = self.rng.randrange(5)
        if action == 0:
            self.alarm(0, 0, self.pick([0, 1, 2]))
        elif action == 1 and not self.alarms and self.chance(3):  # of two at once etcd heeds the last, then none
            self.alarm(1, member, alarm)
            self.alarms.add((member, alarm))
        else:
            for known in sorted(self.alarms) or [(member, alarm)]:
                self.disarm(known)

    def disarm(self, known):
        self.alarm(2, *known)
        self.alarms.discard(known)

    def alarm(self, action, member, alarm):
        self.both("Alarm", settle=lambda m: str(sorted((a.memberID, a.alarm) for a in m.alarms)),
                  action=action, memberID=member, alarm=alarm)

    def do_status(self):
        self.both("Status", self.any_token(), settle=lambda m: str((m.header.revision, sorted(m.errors), m.isLearner,
                                                                    m.leader != 0, m.dbSize > 0)))

    def do_hash(self):
        revision = self.pick([0, self.revision, self.revision + 2, self.rng.randrange(max(1, self.compact_revision) + 1,
                                                                                        self.revision + 2)])
        if self.is_34 and (0 < revision <= self.compact_revision or self.is_loosely_compacted):
            return  # of what is compacted there it is an error; where no key is left, of what is still to be deleted as well
        self.last = "HashKV"
        try:
            self.both("HashKV", self.any_token(), revision=revision)
        except Differs as error:
            raise Differs(f"{error}\n{self.hashes()}") from error

    def hashes(self):
        """Of the revisions that are left, as each side has them, and what they did."""
        token = self.fresh_root() if self.auth_on else NO_TOKEN
        told = [f"{e.kv.mod_revision} {e.type} {e.kv.key}" for e in self.log if e.kv.mod_revision >= self.compact_revision]
        for side in self.sides:
            told.append(side.name + ": " + ", ".join(
                str(side.api.call("HashKV", self.m.HashKVRequest(revision=r), token=side.token(token)).message)
                for r in range(max(self.compact_revision, 0), self.revision + 1)).replace("\n", " "))
        return "\n".join(told)

    def do_defragment(self):
        if self.chance(10):
            self.both("Defragment", self.any_token())

    # ---- locks and elections ----

    def do_lock(self):
        """Nobody waits: each name is one lease's."""
        number = self.rng.randrange(3)
        name, lease = b"lock%d" % number, LEASES[number]
        token = self.root_token() if self.auth_on else NO_TOKEN
        reply = self.write("Lock", token, name=name, lease=lease)[0]
        if reply.code == api.OK and not self.chance(3):
            self.write("Unlock", token, key=reply.key if not self.chance(8) else b"")

    def do_election(self):
        number = self.rng.randrange(3)
        name, lease = b"vote%d" % number, LEASES[number]
        token = self.root_token() if self.auth_on else NO_TOKEN
        reply = self.write("Campaign", token, name=name, lease=lease, value=b"v%d" % self.rng.randrange(5))[0]
        self.both("Leader", token, name=self.pick([name, b"novote"]))
        if reply.code != api.OK:
            return
        leader = clone(reply.message.leader)
        if self.chance(4):
            leader.rev += 1
        self.write("Proclaim", token, leader=leader, value=b"p%d" % self.rng.randrange(5))
        if self.chance(2):
            self.write("Resign", token, leader=leader)

    # ---- a run ----

    WEIGHTS = {"put": 20, "delete": 5, "txn": 8, "range": 4, "compact": 2, "watch": 12, "cancel": 6, "progress": 2,
               "close_stream": 1, "settle": 2, "grant": 5, "grant_short": 1, "grant_any": 1, "revoke": 3, "renew": 1,
               "time_to_live": 4, "leases": 2, "users": 10, "authenticate": 2, "switch_auth": 2, "auth_status": 1, "holes": 1,
               "alarm": 2, "status": 1, "hash": 2, "defragment": 0.2, "lock": 1, "election": 1}

    def step(self, number, requests, leave_out):
        names = [n for n in self.WEIGHTS if n not in leave_out and (
            self.with_users or n not in ("users", "authenticate", "switch_auth", "holes"))]
        name = self.rng.choices(names, [self.WEIGHTS[n] for n in names])[0]
        if number in (requests // 3, 2 * requests // 3):
            name = "fragments" if number == requests // 3 else "expire"
            if name in leave_out:
                return
            if self.auth_on:
                self.disable_auth(self.fresh_root())
            for known in sorted(self.alarms):
                self.disarm(known)
        self.last = name
        self.counts[name] = self.counts.get(name, 0) + 1
        getattr(self, "do_" + name)()


def clone(message):
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def start_subject(args, top, backend, members):
    """The servers under test, and the one of them that is asked: a follower if there are several."""
    flags = FLAGS + ([] if backend == "none" else [f"--backend={backend}"])
    if members == 1:
        server = lib.Server(args.cleat, top + "/cleat", flags=flags).start()
        return [server], server
    cluster = cluster_lib.Cluster(args.cleat, top, members, flags=flags, etcdctl=args.etcdctl).start()
    leader = cluster.wait_leader()
    return cluster.members, next(m for m in cluster.members if m is not leader)


def run_seed(args, messages, seed, backend, members):
    """None, or what differed."""
    top = lib.temp_dir(f"differential-api-{seed}")
    reference = lib.Server(args.etcd, top + "/etcd", flags=["--log-level=error"] + FLAGS).start()
    subjects, subject = start_subject(args, top, backend, members)
    sides = [Side("reference", reference, messages), Side("subject", subject, messages)]
    run, number = None, 0
    try:
        run = Run(*sides, messages, seed, with_users=seed % 2 == 0 or args.users)
        for number in range(args.requests):
            run.step(number, args.requests, args.leave_out.split(","))
        run.settle_all()
        print(f"seed {seed} on {backend}, members {members}: {number + 1} steps, revision {run.revision}, {run.events_count} events at watchers; "
              f"{' '.join(f'{k} {v}' for k, v in sorted(run.codes.items()))}", flush=True)
        return None
    except (Differs, TimeoutError, RuntimeError, AttributeError, ValueError) as error:
        if run and run.auth_on:
            print(run.users_and_roles())
        where = traceback.format_exc().splitlines()[-4:] if not isinstance(error, Differs) else ""
        return f"step {number}, revision {run and run.revision}, compacted {run and run.compact_revision}, users " \
               f"{'on' if run and run.auth_on else 'off'}, {run and run.last}: {type(error).__name__} {error} {where}"
    finally:
        for server in (reference, *subjects):
            if server.is_alive():
                server.stop()
            else:
                print(f"{server.binary} ended by itself, its log ends:\n{server.log_tail()}")


def main():
    parser = lib.arguments(__doc__, etcd="etcd", etcdctl="etcdctl", cleat="build/release/server/cleat",
                           descriptors="build/release/tests/e2e/api.pb")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--seeds", type=int, default=10 if lib.FULL else 2)
    parser.add_argument("--requests", type=int, default=20000 if lib.FULL else 1000)
    parser.add_argument("--backend", choices=BACKENDS + ("none",), help="of every seed; none: the subject has no such flag")
    parser.add_argument("--members", type=int, choices=(1, 3), help="under test, of every seed; 3: through a follower")
    parser.add_argument("--users", action="store_true", help="users and roles in seeds of odd numbers, too")
    parser.add_argument("--leave-out", default="", metavar="KIND,...", help="steps that are not made")
    args = parser.parse_args()
    args.etcd, args.etcdctl = lib.need_program(args.etcd), lib.need_program(args.etcdctl)
    messages = api.Messages(args.descriptors)
    checks = lib.Checks()
    for seed in [args.seed] if args.seed is not None else range(1, args.seeds + 1):
        backend = args.backend or BACKENDS[seed // 2 % len(BACKENDS)]
        members = args.members or (3 if seed % 4 >= 2 else 1)
        began = time.monotonic()
        failed = run_seed(args, messages, seed, backend, members)
        checks.check(failed is None, f"seed {seed} on {backend}, members {members}: {failed}")
        print(f"  {time.monotonic() - began:.1f} s", flush=True)
        if failed:
            print("reproduce: " + shlex.join([sys.executable, *sys.argv, "--seed", str(seed), "--backend", backend,
                                               "--members", str(members)]))
    checks.done()


if __name__ == "__main__":
    main()
