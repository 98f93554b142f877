#!/usr/bin/env python3
"""A member compacts its history by itself: after a short retention what was overwritten before it cannot be read, what is
younger can, in a cluster only the leader asks for it and everybody has it, and after a change of leadership the next one
goes on. By number of revisions only in the long run, since that looks every five minutes. etcd beside it, where one is
given, says the same lines."""
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


def is_compacted(cluster, revision):
    return COMPACTED in cluster.ctl("get", "key", f"--rev={revision}", both=True, check=False)


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
    lib.wait_until(lambda: cluster.leader() is target, 10, "another one leads")
    put(cluster, "again")
    newest = put(cluster, "newest")
    before = len(lines(leader, STARTING))
    lib.wait_until(lambda: is_compacted(cluster, newest - 1), 4 * RETENTION_S, "the next leader compacts")
    checks.check(len(lines(target, COMPLETED)) > 0, "the next leader tells of it")
    checks.equal(len(lines(leader, STARTING)), before, "the one before leaves it to it")


def by_revision(args, checks, folder):
    member = lib.Server(args.cleat, os.path.join(folder, "revision"),
                        flags=["--auto-compaction-mode=revision", "--auto-compaction-retention=5"]).start()
    cluster = cluster_lib.Cluster(args.cleat, folder, 0, etcdctl=args.etcdctl)
    cluster.members = [member]
    for i in range(20):
        newest = put(cluster, str(i))
    time.sleep(302)
    checks.check(is_compacted(cluster, newest - 6) and not is_compacted(cluster, newest - 4), "five revisions are left")
    checks.equal(len(lines(member, "completed auto revision compaction")), 1, "and it says so")
    member.stop()


def refusals(args, checks, folder):
    """What etcd refuses, and what makes it crash."""
    for retention in ("abc", "-1h", "1", "1x"):
        member = lib.Server(args.cleat, os.path.join(folder, "refused" + retention), flags=[f"--auto-compaction-retention={retention}"])
        member.launch()
        if retention == "1":  # an hour
            lib.wait_until(member.is_healthy, 20, "one hour is a retention")
            member.stop()
            continue
        checks.equal(member.process.wait(timeout=10), 1, f"--auto-compaction-retention={retention} is refused")


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", etcdctl="etcdctl", etcd="")
    args = parser.parse_args()
    args.etcdctl = lib.need_program(args.etcdctl)
    checks = lib.Checks()
    folder = lib.temp_dir("compaction-auto")
    for program in [args.cleat] + ([args.etcd] if args.etcd else []):
        where = os.path.join(folder, os.path.basename(program))
        os.makedirs(where)
        cluster = cluster_lib.Cluster(program, where, 3, etcdctl=args.etcdctl,
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
        by_revision(args, checks, folder)
    checks.done()


if __name__ == "__main__":
    main()
