#!/usr/bin/env python3
"""Users and roles in a cluster of two etcds and a cleat: they are changed and used through every member, by tokens that
another one gave out. In the end all hold the same, down to the order of permissions, and the same keys."""
import base64
import json
import os
import random
import subprocess
import sys
import urllib.error
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster_lib
import lib

ROUNDS = 1500 if lib.FULL else 150
USERS, ROLES = ("ann", "bob", "eve"), ("r1", "r2", "r3")


def b64(data):
    return base64.b64encode(data).decode()


def call(member, path, token=None, **fields):
    """One request to a member's JSON gateway; its answer, or the text of the error."""
    request = urllib.request.Request(f"http://{member.endpoint}/v3/{path}", json.dumps(fields).encode(),
                                     {"Authorization": token} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return json.loads(error.read())["error"]


def applied(member):
    return int(call(member, "maintenance/status")["raftAppliedIndex"])


class Run:
    def __init__(self, cluster, seed):
        self.cluster, self.rng = cluster, random.Random(seed)
        self.tokens = {}
        self.said = {}

    def any(self):
        return self.rng.choice(self.cluster.members)

    def login(self, user, password):
        """The others know the token once they have applied as much as its giver."""
        giver = self.any()
        answer = call(giver, "auth/authenticate", name=user, password=password)
        if isinstance(answer, str):
            return
        self.tokens[user] = answer["token"]
        index = applied(giver)
        lib.wait_until(lambda: all(applied(m) >= index for m in self.cluster.members), 30, "all know the token")

    def do(self, caller, path, **fields):
        answer = call(self.any(), path, self.tokens.get(caller), **fields)
        word = answer if isinstance(answer, str) else "ok"
        self.said[word] = self.said.get(word, 0) + 1

    def range(self, reversed_too=True):
        key = bytes([self.rng.choice(b"abcd")])
        end = self.rng.choice((b"", b"", b"\0", bytes([self.rng.choice(b"bcde")])))
        if not reversed_too and end > b"\0":  # 3.4 would take it as a permission
            end = max(end, bytes([key[0] + 1]))
        return {"key": b64(key), "range_end": b64(end)}

    def change(self):
        """By root: what changes users and roles."""
        rng = self.rng
        user, role = rng.choice(USERS), rng.choice(ROLES)
        path, fields = rng.choice((
            ("user/add", {"name": user, "password": "pw"}), ("user/delete", {"name": user}),
            ("user/changepw", {"name": user, "password": "pw"}), ("user/grant", {"user": user, "role": role}),
            ("user/grant", {"user": user, "role": role}), ("user/revoke", {"name": user, "role": role}),
            ("role/add", {"name": role}), ("role/delete", {"name": role}),
            ("role/grant", {"name": role, "perm": dict(self.range(False), permType=rng.choice(("READ", "WRITE", "READWRITE")))}),
            ("role/grant", {"name": role, "perm": dict(self.range(False), permType="READWRITE")}),
            ("role/revoke", dict(self.range(), role=role))))
        self.do("root", f"auth/{path}", **fields)

    def use(self):
        """By anybody, or with the token of somebody who is no more: what is judged when it is applied."""
        user = self.rng.choice(USERS + ("nobody",))
        what, where = self.rng.randrange(3), self.range()
        if what == 0:
            self.do(user, "kv/put", key=where["key"], value=b64(b"v"), prev_kv=self.rng.random() < 0.3)
        elif what == 1:
            self.do(user, "kv/deleterange", **where)
        else:
            self.do(user, "kv/txn", compare=[dict(self.range(), target="VERSION", version="0")],
                    success=[{"request_put": {"key": where["key"], "value": b64(b"w")}}],
                    failure=[{"request_delete_range": where}])


def enable(run):
    member = run.any()
    for role in ROLES:
        call(member, "auth/role/add", name=role)
        call(member, "auth/role/grant", name=role, perm=dict(run.range(False), permType="READWRITE"))
    for user in USERS:
        call(member, "auth/user/add", name=user, password="pw")
        call(member, "auth/user/grant", user=user, role=run.rng.choice(ROLES))
    call(member, "auth/user/add", name="root", password="secret")
    call(member, "auth/user/grant", user="root", role="root")
    call(member, "auth/enable")
    run.login("root", "secret")


def state(member, token):
    users = call(member, "auth/user/list", token).get("users", [])
    roles = call(member, "auth/role/list", token).get("roles", [])
    return {"users": {user: call(member, "auth/user/get", token, name=user).get("roles") for user in users},
            "roles": {role: call(member, "auth/role/get", token, role=role).get("perm") for role in roles}}


def stored(args, member):
    done = subprocess.run([args.cleatutl, "inspect", "auth", member.data_dir], text=True, capture_output=True, check=True)
    return done.stdout


def main():
    parser = lib.arguments(__doc__, cleat=None, cleatutl=None, etcd="etcd", etcdctl="etcdctl")
    args = parser.parse_args()
    checks = lib.Checks()
    cluster = cluster_lib.Cluster(lib.need_program(args.etcd), lib.temp_dir("cluster-users"), 3, flags=["--bcrypt-cost=4"],
                                  etcdctl=lib.need_program(args.etcdctl))
    cluster.members[2].binary = args.cleat
    cluster.start()
    run = Run(cluster, seed=5)
    enable(run)
    for number in range(ROUNDS):
        if number % 6 == 0:
            for user in USERS:
                run.login(user, "pw")
        run.change()
        run.use()
        run.use()
    print(run.said, flush=True)
    checks.check(run.said.get("ok", 0) > ROUNDS // 4, "most of it was refused")
    checks.check(run.said.get("etcdserver: permission denied", 0) > ROUNDS // 10, "little was denied")
    states = [state(m, run.tokens["root"]) for m in cluster.members]
    for member, got in zip(cluster.members[1:], states[1:]):
        checks.equal(got, states[0], f"{member.name}: users and roles")
    hashes = {line.split(",")[-1].strip() for line in
              cluster.ctl("--user", "root:secret", "endpoint", "hashkv").strip().splitlines()}
    checks.equal(len(hashes), 1, f"one hash: {hashes}")
    for member in cluster.members:
        member.stop()
    rows = [stored(args, m) for m in cluster.members]
    checks.equal(rows[2], rows[0], "what the cleat stores, beside an etcd")
    checks.equal(rows[1], rows[0], "what the etcds store")
    checks.done()


main()
