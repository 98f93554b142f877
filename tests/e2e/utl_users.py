#!/usr/bin/env python3
"""Users and roles in a log's tail: an etcd is killed after changes that its db does not hold yet, and what cleatutl saves,
imports, exports and recovers of it is what etcd itself makes of the same files."""
import base64
import json
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lib
import utl_make

QUICK = ["--bcrypt-cost", "4"]
SLOW = ["--backend-batch-interval", "1h", "--backend-batch-limit", "1000000"]  # the db commits when it must


class Tools(utl_make.Tools):
    """With the password of root where users are asked for."""

    def root(self, server, *words, ok=True):
        return self.etcdctl(server, "--user", "root:secret", *words, ok=ok)

    def json(self, *words):
        return json.loads(self.utl(*words, "-w", "json").stdout)

    def state(self, server):
        """What a server that asks for passwords holds, as its root sees it."""
        keys = json.loads(self.root(server, "get", "", "--prefix", "-w", "json"))
        answer = json.loads(self.root(server, "endpoint", "hashkv", "-w", "json"))[0]["HashKV"]
        users, roles = (sorted(self.root(server, what, "list").split()) for what in ("user", "role"))
        return {"keys": keys.get("kvs"), "revision": keys["header"]["revision"], "hash": answer["hash"],
                "users": {user: self.root(server, "user", "get", user) for user in users},
                "roles": {role: self.root(server, "role", "get", role) for role in roles},
                "rights": {who: self.may(server, who) for who in ("ann:two", "ann:one", "bob:pw", "eve:pw")}}

    def may(self, server, who):
        """What a user who logs in with this password is told when it reads and writes."""
        answers = []
        for words in (("get", "a/1"), ("put", "none/1", "v"), ("get", "b/2"), ("get", "a", "--prefix")):
            done = self.run([self.args.etcdctl, "--endpoints", server.endpoint, "--user", who, *words], ok=False)
            answers.append("ok" if done.returncode == 0 else re.sub(r"(?s).*etcdserver: ", "", done.stderr.strip()))
        return answers


def before(tools, server):
    """What the copy of the db holds."""
    tools.etcdctl(server, "put", "a/1", "one")
    for words in (("role", "add", "readers"), ("role", "grant-permission", "readers", "read", "a/", "a0"),
                  ("user", "add", "ann:one"), ("user", "grant-role", "ann", "readers"), ("user", "add", "eve:pw")):
        tools.etcdctl(server, *words)


def after(tools, server):
    """What is in the log alone: every kind of change, some that are refused, and keys between them."""
    for words in (("user", "add", "root:secret"), ("user", "grant-role", "root", "root"), ("auth", "enable")):
        tools.etcdctl(server, *words)
    for words in (("role", "add", "gone"), ("role", "add", "writers"),
                  ("role", "grant-permission", "writers", "readwrite", "b/", "b0"),
                  ("role", "grant-permission", "writers", "read", "b/x"),
                  ("role", "revoke-permission", "writers", "b/x"), ("user", "add", "bob:pw"),
                  ("user", "grant-role", "bob", "gone"), ("user", "grant-role", "bob", "writers"),
                  ("user", "grant-role", "ann", "writers"), ("user", "revoke-role", "ann", "writers"),
                  ("user", "passwd", "ann", "--interactive=false"), ("role", "delete", "gone"), ("user", "delete", "eve"),
                  ("user", "add", "cert", "--no-password"), ("put", "b/2", "two"), ("del", "none")):
        if words[1] == "passwd":
            tools.run(["sh", "-c", f"echo two | {tools.args.etcdctl} --endpoints {server.endpoint} --user root:secret "
                                   + " ".join(words)])
        else:
            tools.root(server, *words)
    for who in ("bob:pw", "ann:two"):
        for words in (("put", "b/2", f"by {who}"), ("put", "a/1", "denied"), ("user", "add", "denied:x")):
            tools.etcdctl(server, "--user", who, *words, ok=False)


def killed(tools, top):
    """An etcd's directory whose db is behind its log by all that after() does."""
    etcd = lib.Server(tools.args.etcd, f"{top}/killed", flags=QUICK + SLOW).start()
    before(tools, etcd)
    etcd.stop()
    etcd.start()
    shutil.copy(f"{etcd.data_dir}/member/snap/db", f"{top}/old-db")
    after(tools, etcd)
    etcd.kill()
    shutil.copy(f"{top}/old-db", f"{etcd.data_dir}/member/snap/db")
    return etcd


def served_by_etcd(tools, path, name, top):
    server = lib.Server(tools.args.etcd, f"{top}/{name}", flags=QUICK)
    tools.etcd_restore(path, server)
    server.start()
    got = tools.state(server)
    server.stop()
    return got


def listed(tools, source):
    return {(row["what"], base64.b64decode(row["name"]).decode()): row["details"]
            for row in tools.json("inspect", "auth", source)}


def main():
    parser = lib.arguments(__doc__, etcd="etcd", etcdctl="etcdctl", etcdutl=None, cleatutl=None)
    args = parser.parse_args()
    args.etcd = lib.need_program(args.etcd)
    args.etcdctl = lib.need_program(args.etcdctl)
    checks, tools, top = lib.Checks(), Tools(args), lib.temp_dir("utl-users")
    etcd = killed(tools, top)
    shutil.copytree(etcd.data_dir, f"{top}/replayed")
    theirs = lib.Server(args.etcd, f"{top}/replayed", flags=QUICK)
    theirs.client_port, theirs.peer_port = etcd.client_port, etcd.peer_port
    want = tools.state(theirs.start())
    theirs.stop()
    checks.equal(want["rights"]["bob:pw"][2], "ok", "etcd: the test's own state")
    rows = listed(tools, etcd.data_dir)
    checks.equal(rows, listed(tools, theirs.data_dir), "inspect auth: the tail beside what etcd made of it")
    checks.equal(rows[("setting", "authEnabled")], "true", "inspect auth: enabled")
    log = tools.utl("inspect", "log", etcd.data_dir).stdout
    for word in ("auth enable", 'authenticate "bob"', 'user add "bob"', 'user change password "ann", as "root"',
                 'role grant permission "writers" READWRITE "b/" to "b0"', 'put "b/2" (9 bytes), as "bob"'):
        checks.check(word in log, f"inspect log: {word}")
    checks.check("secret" not in log and "$2a$" not in log and "JDJh" not in log, "inspect log: shows a password")

    tools.utl("snapshot", "save", f"{top}/saved.db", "--data-dir", etcd.data_dir)
    checks.equal(served_by_etcd(tools, f"{top}/saved.db", "saved", top), want, "save")
    for backend in ("lmdb", "sqlite") if lib.FULL else ("lmdb",):
        imported = f"{top}/imported-{backend}"
        tools.utl("import", etcd.data_dir, "--data-dir", imported, "--backend", backend)
        checks.equal(listed(tools, imported), rows, f"import into {backend}: inspect auth")
        tools.utl("snapshot", "save", f"{imported}.db", "--data-dir", imported)
        checks.equal(served_by_etcd(tools, f"{imported}.db", f"again-{backend}", top), want, f"import into {backend}, saved")
    done = tools.utl("recover", etcd.data_dir, f"{top}/old-db", "--data-dir", f"{top}/recovered", "--yes", ok=False)
    checks.equal(done.returncode, 0, f"recover: {done.stderr}")
    checks.equal(listed(tools, f"{top}/recovered"), rows, "recover: inspect auth")
    checks.done()


if __name__ == "__main__":
    main()
