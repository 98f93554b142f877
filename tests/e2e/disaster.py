#!/usr/bin/env python3
"""Two of three members are gone for good. The operator's way back, by the commands that the documentation names: from the
survivor's files, from the survivor while it still runs without a leader, and by `cleatutl recover`. Every acknowledged
key is there with its revision, and the cluster grows back to three."""
import json
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster_lib
import lib

TXNS = 200 if lib.FULL else 20
KEYS_A_TXN = 50
BUMP = 1000000000


class Operator:
    """Types commands, and says what they were and how long they took."""

    def __init__(self, args):
        self.args = args
        self.typed = []

    def type(self, *words):
        begin = time.monotonic()
        done = subprocess.run(words, env=dict(os.environ, ETCDCTL_API="3"), text=True, capture_output=True, timeout=300,
                              check=False)
        seconds = time.monotonic() - begin
        self.typed.append((seconds, " ".join([os.path.basename(words[0]), *words[1:]])))
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def utl(self, *words):
        return self.type(self.args.cleatutl, *words)

    def start(self, cluster, member):
        begin = time.monotonic()
        cluster.restart(member)
        self.typed.append((time.monotonic() - begin, f"cleat --name {member.name} --data-dir {member.data_dir} ..."))

    def tell(self, story):
        print(f"{story}:")
        for seconds, command in self.typed:
            print(f"  {seconds:6.2f} s  {command}")
        print(f"  {sum(s for s, _ in self.typed):6.2f} s in all", flush=True)
        self.typed = []


def write(cluster):
    """Transactions of puts, some keys again, some deleted."""
    for txn in range(TXNS):
        ops = "".join(f"put k{txn % 7}-{i} {txn}.{i}\n" for i in range(KEYS_A_TXN - 1)) + f"del k{(txn + 3) % 7}-5\n"
        command = [cluster.etcdctl, "--endpoints", cluster.endpoints(), "txn"]
        subprocess.run(command, input=f"\n{ops}\n\n", text=True, check=True, capture_output=True, timeout=30,
                       env=dict(os.environ, ETCDCTL_API="3"))


def keys_of(cluster, members):
    answer = json.loads(cluster.ctl("get", "", "--prefix", "-w", "json", members=members))
    return answer["kvs"], answer["header"]["revision"]


def lose_two(args, checks, folder):
    """The cluster, what it had acknowledged, and the one that is left, which finds no leader."""
    cluster = cluster_lib.Cluster(args.cleat, folder, 3, etcdctl=args.etcdctl).start()
    write(cluster)
    acknowledged = keys_of(cluster, cluster.members)
    leader = cluster.wait_leader()
    survivor = [m for m in cluster.members if m is not leader][0]
    for member in cluster.members:
        if member is not survivor:
            member.kill()
            shutil.rmtree(member.data_dir)

    def has_no_leader():
        status = cluster.status(survivor)
        return status is not None and "etcdserver: no leader" in status.get("errors", [])
    lib.wait_until(has_no_leader, 30, "endpoint status says that there is no leader")
    checks.check(True, "endpoint status: etcdserver: no leader")
    cluster.members = [survivor]
    return cluster, survivor, acknowledged


def go_on(operator, checks, cluster, survivor, data_dir, name, bump, story):
    """Starts the directory as a cluster of one, looks at everything, and grows."""
    cluster_members = cluster.members
    member = cluster_lib.Member(operator.args.cleat, cluster.folder, name)
    member.data_dir = data_dir
    member.name = survivor.name
    member.client_port, member.peer_port = survivor.client_port, survivor.peer_port
    member.initial_cluster = cluster.initial_cluster([member])
    cluster.members = [member]
    operator.start(cluster, member)
    operator.tell(story)
    kvs, revision = keys_of(cluster, [member])
    checks.equal(kvs, cluster.acknowledged[0], f"{story}: every key with its revisions")
    checks.equal(revision, cluster.acknowledged[1] + bump, f"{story}: the revision")
    cluster.ctl("put", "after", story)
    cluster.made += 10
    added = [cluster.grow() for _ in range(2 if lib.FULL or bump else 1)]
    cluster.wait_healthy(added)
    for m in cluster.members:
        checks.equal(cluster.ctl("get", "after", "--print-value-only", members=[m]).strip(), story, f"{story}: {m.name}")
    checks.equal(cluster.ctl("member", "list").count("started"), len(cluster.members), f"{story}: members")
    cluster.stop()
    cluster.members = cluster_members


def restore(operator, survivor, snapshot, data_dir):
    operator.utl("snapshot", "restore", snapshot, "--data-dir", data_dir, "--name", survivor.name,
                 "--initial-cluster", f"{survivor.name}={survivor.peer_url}",
                 "--initial-advertise-peer-urls", survivor.peer_url, "--initial-cluster-token", "again")


def last_word(operator, checks, folder):
    """All die the moment a write is acknowledged. The survivor had it in its log, and did not yet know that it was
    agreed on: it is in what is made of its files."""
    args = operator.args
    cluster = cluster_lib.Cluster(args.cleat, folder, 3, etcdctl=args.etcdctl).start()
    leader = cluster.wait_leader()
    survivor, other = [m for m in cluster.members if m is not leader]
    other.kill()
    for number in range(5):
        cluster.ctl("put", "last", str(number), members=[leader])
    leader.kill()
    survivor.kill()
    looked = operator.utl("inspect", "get", survivor.data_dir, "last", "--raw")
    checks.check(looked.stdout == "4" or "not known to be committed" in looked.stderr,
                 f"the last word, looked at: {looked.stdout} {looked.stderr}")
    looked = operator.utl("inspect", "get", survivor.data_dir, "last", "--raw", "--uncommitted")
    checks.equal((looked.stdout, looked.stderr), ("4", ""), "the last word, looked at with what is not known to be committed")
    for number, words in enumerate((["snapshot", "save", f"{folder}/last.db", "--data-dir", survivor.data_dir],
                                    ["recover", survivor.data_dir, "--data-dir", f"{folder}/last-word", "--yes"])):
        done = operator.utl(*words)
        checks.check(done.returncode == 0, f"the last word, {number}: {done.stderr}")
    operator.typed = []
    restore(operator, survivor, f"{folder}/last.db", f"{folder}/last-restored")
    for data_dir in (f"{folder}/last-word", f"{folder}/last-restored"):
        survivor.data_dir = data_dir
        survivor.initial_cluster = cluster.initial_cluster([survivor])
        cluster.restart(survivor)
        got = cluster.ctl("get", "last", "--print-value-only", members=[survivor]).strip()
        checks.equal(got, "4", f"the last word in {os.path.basename(data_dir)}")
        survivor.stop()
    operator.typed = []


def main():
    parser = lib.arguments(__doc__, etcdctl="etcdctl", cleat=None, cleatutl=None)
    args = parser.parse_args()
    args.etcdctl = lib.need_program(args.etcdctl)
    checks = lib.Checks()
    operator = Operator(args)
    folder = lib.temp_dir("disaster")
    cluster, survivor, cluster_acknowledged = lose_two(args, checks, folder)
    cluster.acknowledged = cluster_acknowledged

    # While it runs without a leader, by etcd's own client.
    operator.type(args.etcdctl, "--endpoints", survivor.endpoint, "snapshot", "save", f"{folder}/online.db")
    survivor.kill()
    restore(operator, survivor, f"{folder}/online.db", f"{folder}/from-online")
    go_on(operator, checks, cluster, survivor, f"{folder}/from-online", "online", 0, "from the running survivor")

    # From its directory alone.
    operator.utl("snapshot", "save", f"{folder}/offline.db", "--data-dir", survivor.data_dir)
    restore(operator, survivor, f"{folder}/offline.db", f"{folder}/from-offline")
    go_on(operator, checks, cluster, survivor, f"{folder}/from-offline", "offline", 0, "from the survivor's files")

    # In two commands.
    done = operator.utl("recover", survivor.data_dir, f"{folder}/online.db", "--data-dir", f"{folder}/recovered", "--yes")
    checks.check("The best is" in done.stdout and "the files of 1 are here" in done.stdout, f"recover: {done.stdout}")
    go_on(operator, checks, cluster, survivor, f"{folder}/recovered", "recovered", BUMP, "by recover")
    last_word(operator, checks, lib.temp_dir("disaster-last"))
    checks.done()


if __name__ == "__main__":
    main()
