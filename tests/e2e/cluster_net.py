"""Three members, each in a network namespace of its own, and a network that breaks: the leader cut off, two members that
do not see each other, links that come and go. Links are taken down and routes removed, so connections hang as they do
when a cable is pulled. No acknowledged write is missing and the history is linearizable."""
import atexit
import ctypes
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster_lib
import lib

ELECTION_MS = 1000
ENDS = {0, -15}  # etcd ends itself by the signal again
ROUNDS = 30 if lib.FULL else 3
CLONE_NEWNET = 0x40000000


def ip(*arguments, check=True):
    result = subprocess.run(["ip", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if check and result.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {result.stdout}")
    return result.returncode == 0


class Network:
    """A bridge in a namespace that this driver enters, and a namespace with one leg on it for each member."""

    def __init__(self, size):
        self.prefix = f"cleat{os.getpid()}"
        self.hosts = [f"10.77.0.{i + 2}" for i in range(size)]
        self.names = [f"{self.prefix}-{i}" for i in range(size)]
        hub = f"{self.prefix}-hub"
        atexit.register(self.close, [hub] + self.names)
        if not ip("netns", "add", hub, check=False):
            lib.skip("network namespaces cannot be made here")
        self.enter(hub)
        ip("link", "set", "lo", "up")
        if not ip("link", "add", "hub", "type", "bridge", check=False):
            lib.skip("no network bridge can be made here")
        ip("addr", "add", "10.77.0.1/24", "dev", "hub")
        ip("link", "set", "hub", "up")
        for i, name in enumerate(self.names):
            ip("netns", "add", name)
            ip("link", "add", f"leg{i}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"leg{i}", "master", "hub")
            ip("link", "set", f"leg{i}", "up")
            for command in (["link", "set", "lo", "up"], ["addr", "add", f"{self.hosts[i]}/24", "dev", "eth0"],
                            ["link", "set", "eth0", "up"]):
                ip("netns", "exec", name, "ip", *command)

    @staticmethod
    def enter(name):
        with open(f"/var/run/netns/{name}", "rb") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) != 0:
                lib.skip("a network namespace cannot be entered here")

    @staticmethod
    def close(names):
        for name in names:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, check=False)

    def cut_off(self, i):
        ip("link", "set", f"leg{i}", "down")

    def join(self, i):
        ip("link", "set", f"leg{i}", "up")

    def part(self, a, b):
        """Nothing from a to b arrives; b's packets do, so neither gets an answer."""
        ip("netns", "exec", self.names[a], "ip", "route", "add", "blackhole", f"{self.hosts[b]}/32")

    def unite(self, a, b):
        ip("netns", "exec", self.names[a], "ip", "route", "del", "blackhole", f"{self.hosts[b]}/32", check=False)


def index_of(cluster, member):
    return cluster.members.index(member)


def judged(checks, report, what):
    print(f"{what}: {report.get('verdict')}, {report.get('operations')} operations, {report.get('writes_acked')} writes "
          f"acknowledged, {report.get('unknown')} without an answer, longest gap {report.get('gap_longest_ms')} ms, "
          f"{report.get('reasons')}, {report.get('watched', '')}", flush=True)
    checks.equal(report.get("code"), 0, f"{what}: the history ({report.get('why')})")


def start_load(args, cluster, number, *options):
    return cluster_lib.Load(args.load, cluster.members, "--clients", 24, "--seed", args.seed * 100 + number,
                            "--timeout-ms", 3000, *options)


def leader_cut_off(args, checks, cluster, network):
    load = start_load(args, cluster, 1, *cluster_lib.WATCHED)
    time.sleep(0.5)
    leader = cluster.wait_leader()
    moment = time.monotonic()
    network.cut_off(index_of(cluster, leader))
    others = [m for m in cluster.members if m is not leader]
    cluster.wait_leader(others)
    time.sleep(2)
    network.join(index_of(cluster, leader))
    cluster.wait_healthy()
    report = load.end()
    judged(checks, report, "the leader cut off")
    checks.check(cluster_lib.gap_after(report, moment) < 4 * ELECTION_MS, "the others go on after an election")


def two_that_do_not_see_each_other(args, checks, cluster, network):
    """A follower that has lost the leader but sees the third must not depose it (PreVote, CheckQuorum)."""
    load = start_load(args, cluster, 2)
    time.sleep(0.5)
    leader = cluster.wait_leader()
    a, b = index_of(cluster, leader), next(i for i, m in enumerate(cluster.members) if m is not leader)
    network.part(a, b)
    network.part(b, a)
    time.sleep(3 * ELECTION_MS / 1000)
    third = next(m for i, m in enumerate(cluster.members) if i not in (a, b))
    checks.check(cluster.leader([leader, third]) is leader, "the leader still leads")
    network.unite(a, b)
    network.unite(b, a)
    cluster.wait_healthy()
    report = load.end()
    judged(checks, report, "leader and follower apart")
    checks.check(report.get("gap_longest_ms", 10**6) < ELECTION_MS, "writes went on all the time")


def links_come_and_go(args, checks, cluster, network):
    rng = random.Random(args.seed)
    load = start_load(args, cluster, 3, *cluster_lib.WATCHED)
    for _ in range(ROUNDS):
        a, b = rng.sample(range(len(cluster.members)), 2)
        kind = rng.choice(["cut", "part", "one way"])
        if kind == "cut":
            network.cut_off(a)
        else:
            network.part(a, b)
            if kind == "part":
                network.part(b, a)
        time.sleep(rng.uniform(0.3, 3))
        network.join(a)
        network.unite(a, b)
        network.unite(b, a)
        time.sleep(rng.uniform(0.1, 1))
    cluster.wait_healthy()
    judged(checks, load.end(), f"{ROUNDS} broken networks")


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", load="build/release/tests/e2e/cluster_load",
                           etcdctl="etcdctl")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    etcdctl = lib.need_program(args.etcdctl)
    lib.need_program("ip")
    if os.geteuid() != 0:
        lib.skip("network namespaces need root")
    checks = lib.Checks()
    network = Network(3)
    cluster = cluster_lib.Cluster(args.cleat, lib.temp_dir("cluster-net"), 3, etcdctl=etcdctl)
    for i, member in enumerate(cluster.members):
        member.host, member.netns = network.hosts[i], network.names[i]
    for member in cluster.members:
        member.initial_cluster = cluster.initial_cluster(cluster.members)
    cluster.start()
    leader_cut_off(args, checks, cluster, network)
    two_that_do_not_see_each_other(args, checks, cluster, network)
    links_come_and_go(args, checks, cluster, network)
    checks.check(set(cluster.stop()) <= ENDS, "all stop in order")
    checks.done()


main()
