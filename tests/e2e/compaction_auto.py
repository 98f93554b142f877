#!/usr/bin/env python3
"""A member compacts its history by itself: after a short retention what was overwritten before it cannot be read, what is
younger can, in a cluster only the leader asks for it and everybody has it, and after a change of leadership the next one
goes on. By number of revisions only in the long run, since that looks every five minutes. etcd beside it, where one is
given, says the same lines."""
import base64
import http.client
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster_lib
import lib

RETENTION_S = 2
COMPACTED = "required revision has been compacted"
STARTING, COMPLETED = "starting auto periodic compaction", "completed auto periodic compaction"
LOOK_S = 300  # between two looks at the number of revisions, from the start of each member on
REVISIONS_KEPT = 1000
REVISION_STARTING, REVISION_COMPLETED = "starting auto revision compaction", "completed auto revision compaction"


def lines(member, msg):
    found = []
    for line in member.log().decode("utf-8", "replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row.get("msg") == msg:
            found.append(row)
    return found


def put(cluster, value):
    """The revision it got."""
    return json.loads(cluster.ctl("put", "key", value, "-w", "json"))["header"]["revision"]


def is_compacted(cluster, revision, members=None):
    """By the word of these members, or of whoever leads."""
    own = ["--consistency=s"] if members else []
    return COMPACTED in cluster.ctl("get", "key", f"--rev={revision}", *own, members=members, both=True, check=False)


def folder_of(top, program, what):
    path = os.path.join(top, f"{os.path.basename(program)}-{what}")
    os.makedirs(path)
    return path


def periodic(checks, cluster, leader, others):
    old = put(cluster, "old")
    time.sleep(RETENTION_S * 1.5)
    young = put(cluster, "young")
    lib.wait_until(lambda: is_compacted(cluster, old - 1), 3 * RETENTION_S, "what is old is compacted")
    checks.check(not is_compacted(cluster, young), "what is young is not")
    checks.check(len(lines(leader, COMPLETED)) > 0, "the leader tells of it")
    for member in others:
        checks.equal(len(lines(member, STARTING)), 0, f"{member.name} leaves it to the leader")
    row = lines(leader, COMPLETED)[-1]
    checks.check(row["compact-period"] == f"{RETENTION_S}s" and row["revision"] > 0 and "took" in row, f"as etcd says it: {row}")
    first, second = (lines(leader, STARTING)[i]["ts"][17:23] for i in (0, -1))
    print(f"compactions at {first} and {second} seconds of their minutes")


def settles(checks, cluster, leader):
    """Without writes there is nothing left to do, and nothing is done."""
    time.sleep(2 * RETENTION_S + 1)
    before = len(lines(leader, STARTING))
    applied = cluster.status(leader)["raftAppliedIndex"]
    time.sleep(1.5 * RETENTION_S)
    checks.equal(len(lines(leader, STARTING)), before, "an idle cluster is left alone")
    checks.check(cluster.status(leader)["raftAppliedIndex"] <= applied + 1, "and its log does not grow")


def another_leader(checks, cluster, leader):
    target = cluster.followers()[0]
    cluster.ctl("move-leader", f"{cluster.id_of(target):x}", members=[leader])
    lib.wait_until(lambda: cluster.leader() is target, 30, "another one leads")
    put(cluster, "again")
    newest = put(cluster, "newest")
    before = len(lines(leader, STARTING))
    lib.wait_until(lambda: is_compacted(cluster, newest - 1), 4 * RETENTION_S, "the next leader compacts")
    checks.check(len(lines(target, COMPLETED)) > 0, "the next leader tells of it")
    checks.equal(len(lines(leader, STARTING)), before, "the one before leaves it to it")


class ByRevision(lib.Scenario):
    """Three members that keep REVISIONS_KEPT revisions, through two looks of the leader of the time."""

    def __init__(self, args, checks, program, folder):
        super().__init__(checks, f"{os.path.basename(program)}, by revision")
        self.cluster = cluster_lib.Cluster(program, folder, 3, etcdctl=args.etcdctl,
                                           flags=["--auto-compaction-mode=revision", f"--auto-compaction-retention={REVISIONS_KEPT}"])

    def write(self, member, count):
        """The revision of the last of them."""
        connection = http.client.HTTPConnection(member.host, member.client_port, timeout=20)
        for i in range(count):
            value = base64.b64encode(b"%d" % i).decode()
            connection.request("POST", "/v3/kv/put", json.dumps({"key": "a2V5", "value": value}))
            answer = json.loads(connection.getresponse().read())
        connection.close()
        return int(answer["header"]["revision"])

    def look_of(self, leader, newest, at):
        """At its look, not before, the leader compacts as much as it should, and everybody has it."""
        time.sleep(max(0, at - 15 - time.monotonic()))
        self.equal(is_compacted(self.cluster, newest - REVISIONS_KEPT - 1), False, f"{leader.name} waits for its look")
        lib.wait_until(lambda: is_compacted(self.cluster, newest - REVISIONS_KEPT - 1), 45, "it compacts at a look")
        print(f"{self.what}: compacted {time.monotonic() - at:+.1f} s from the look of whoever was ready last", flush=True)
        for member in self.cluster.members:
            lib.wait_until(lambda m=member: is_compacted(self.cluster, newest - REVISIONS_KEPT - 1, [m]), 30, f"{member.name} has it")
            self.equal(is_compacted(self.cluster, newest - REVISIONS_KEPT, [member]), False, f"{member.name} keeps the newest {REVISIONS_KEPT}")
        lib.wait_until(lambda: lines(leader, REVISION_COMPLETED), 30, "the leader tells of it")
        told = [(row["revision"], row["revision-compaction-retention"], "took" in row) for row in lines(leader, REVISION_COMPLETED)]
        self.equal(told, [(newest - REVISIONS_KEPT, REVISIONS_KEPT, True)], f"what {leader.name} says")
        time.sleep(max(0, at + 5 - time.monotonic()))  # the others have looked as well, and none will before the next

    def steps(self):
        cluster = self.cluster.start()
        began = time.monotonic()
        leader = cluster.wait_leader()
        newest = self.write(leader, REVISIONS_KEPT + 500)
        self.look_of(leader, newest, began + LOOK_S)
        target = cluster.followers()[0]
        cluster.ctl("move-leader", f"{cluster.id_of(target):x}", members=[leader])
        lib.wait_until(lambda: cluster.leader() is target, 30, "another one leads")
        newest = self.write(target, 300)
        self.look_of(target, newest, began + 2 * LOOK_S)
        counts = sorted(len(lines(member, REVISION_STARTING)) for member in cluster.members)
        self.equal(counts, [0, 1, 1], "each look is the leader's alone")
        cluster.stop()


def by_revision(args, checks, programs, folder):
    """Those of all programs at once: what they do is to wait."""
    lib.all_at_once([ByRevision(args, checks, program, folder_of(folder, program, "revision")) for program in programs])


def refusals(args, checks, folder):
    """What etcd refuses, and what makes it crash."""
    for retention in ("abc", "-1h", "1", "1x"):
        member = lib.Server(args.cleat, os.path.join(folder, "refused" + retention), flags=[f"--auto-compaction-retention={retention}"])
        member.launch()
        if retention == "1":  # an hour
            lib.wait_until(member.is_healthy, 30, "one hour is a retention")
            member.stop()
            continue
        checks.equal(member.process.wait(timeout=30), 1, f"--auto-compaction-retention={retention} is refused")


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", etcdctl="etcdctl", etcd="")
    args = parser.parse_args()
    args.etcdctl = lib.need_program(args.etcdctl)
    checks = lib.Checks()
    folder = lib.temp_dir("compaction-auto")
    programs = [args.cleat] + ([args.etcd] if args.etcd else [])
    for program in programs:
        cluster = cluster_lib.Cluster(program, folder_of(folder, program, "periodic"), 3, etcdctl=args.etcdctl,
                                      flags=[f"--auto-compaction-retention={RETENTION_S}s"])
        cluster.start()
        leader = cluster.wait_leader()
        periodic(checks, cluster, leader, [m for m in cluster.members if m is not leader])
        if program == args.cleat:
            settles(checks, cluster, leader)
        another_leader(checks, cluster, leader)
        cluster.stop()
    refusals(args, checks, folder)
    if lib.FULL:
        by_revision(args, checks, programs, folder)
    checks.done()


if __name__ == "__main__":
    main()
