#!/usr/bin/env python3
"""What is left of a lease when the leader changes, by a transfer, by its death and by a restart of all three. Without
checkpoints, and for leases that are too short for them, it has its whole TTL again. With them, in the long run since the
first is made after five minutes, it goes on from the last one, and not from one that a renewal has outdated; over a restart
of all only where they persist. No lease is ever shortened. etcd beside it, where one is given, under the same rules."""
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster_lib
import lib
from lease import folder, grant, remaining, renew

ENABLE = "--experimental-enable-lease-checkpoint"
PERSIST = ENABLE + "-persist"
CHECKPOINT_S = 300
EXTENSION_S = 1  # an election timeout, which a new leader gives to every lease
ASKING_S = 4  # passes between a change of leaders and the answer to the question, or what does on a busy machine
ENDS = {0, -15}  # etcd ends itself by the signal again


class Lease:
    """One lease and what it must have left at least."""

    def __init__(self, cluster, name, ttl_s):
        self.cluster = cluster
        self.name = name
        self.ttl_s = ttl_s
        self.begun_s = time.monotonic()
        self.id = grant(cluster, ttl_s)

    def renew(self, member):
        self.begun_s = time.monotonic()
        return renew(self.cluster, self.id, member)

    def due_s(self):
        """What it has left if no leader ever changes; the leader may have begun to count a little later."""
        return self.ttl_s - (time.monotonic() - self.begun_s)


class Scenario(lib.Scenario):
    """Three members of one kind with these flags, and what of their leases the steps let be seen."""

    def __init__(self, args, checks, program, top, flags):
        names = [os.path.basename(program)] + [flag.removeprefix("--experimental-enable-") for flag in flags]
        super().__init__(checks, " ".join(names))
        self.persists = PERSIST in flags
        self.changed_s = 0  # when leaders changed
        self.cluster = cluster_lib.Cluster(program, folder(top, self.what.replace(" ", "-")), 3, flags=flags, etcdctl=args.etcdctl)

    def steps(self):
        self.cluster.start()
        self.cluster.wait_leader()
        self.watch_leases()
        self.check(set(self.cluster.stop()) <= ENDS, "all stop in order")

    def watch_leases(self):
        raise NotImplementedError

    # -- what is seen

    def has(self, lease, when, members=None, whole_s=None):
        """It has whole_s left again, and the extension; whole_s None: it has been counted on all the time."""
        for member in members or self.cluster.members:
            asked_s = time.monotonic()
            left, due_s, now_s = remaining(self.cluster, lease.id, [member]), lease.due_s(), time.monotonic()
            label = f"{self.what}: {when}: lease {lease.name} of {lease.ttl_s} s has {left} s left, says {member.name}"
            if not self.checks.check(left is not None and left + 1 >= due_s, f"{label}: not less than {due_s:.1f}"):
                continue
            low, high = due_s - 1, due_s + max(ASKING_S, 1 + now_s - asked_s)
            if whole_s is not None:
                low, high = whole_s + EXTENSION_S - max(ASKING_S, 1 + now_s - self.changed_s), whole_s + EXTENSION_S
            self.checks.check(low <= left <= high, f"{label}: between {low:.1f} and {high:.1f}")
        print(f"{self.what}: {when}: {lease.name} {left} s", flush=True)

    # -- what happens

    def transfer(self):
        leader = self.cluster.wait_leader()
        target = self.cluster.followers()[0]
        self.changed_s = time.monotonic()
        self.cluster.ctl("move-leader", f"{self.cluster.id_of(target):x}", members=[leader])
        lib.wait_until(lambda: self.cluster.leader() is target, 30, "another one leads")

    def kill_leader(self):
        """The member that was killed."""
        leader = self.cluster.wait_leader()
        self.changed_s = time.monotonic()
        leader.kill()
        self.cluster.wait_leader([m for m in self.cluster.members if m is not leader])
        return leader

    def alive(self):
        return [m for m in self.cluster.members if m.is_alive()]

    def restart_all(self):
        self.cluster.stop()
        self.changed_s = time.monotonic()
        self.cluster.start()
        self.cluster.wait_leader()


class Whole(Scenario):
    """No checkpoint is made of these: each change of leaders gives them all of their time again."""

    def watch_leases(self):
        lease = Lease(self.cluster, "A", 60)
        time.sleep(4)
        self.has(lease, "counted")
        self.transfer()
        self.has(lease, "after a transfer", whole_s=60)
        time.sleep(2)
        dead = self.kill_leader()
        self.has(lease, "after the leader's death", self.alive(), whole_s=60)
        self.cluster.restart(dead)
        self.restart_all()
        self.has(lease, "after a restart of all", whole_s=60)


class Checkpoints(Scenario):
    """A: as it was granted; B: renewed after the checkpoint; C: too short for one."""

    def watch_leases(self):
        a, b = Lease(self.cluster, "A", 3 * CHECKPOINT_S), Lease(self.cluster, "B", 3 * CHECKPOINT_S)
        time.sleep(CHECKPOINT_S + 4)
        left_s = a.ttl_s - CHECKPOINT_S
        self.has(a, "a checkpoint later")
        c = Lease(self.cluster, "C", CHECKPOINT_S - 50)
        leader = self.cluster.wait_leader()
        self.checks.check(b.renew(leader), f"{self.what}: renewed")
        self.has(b, "renewed")
        time.sleep(6)
        self.transfer()
        self.all_have("after a transfer", self.cluster.members, a, b, c, left_s)
        time.sleep(3)
        dead = self.kill_leader()
        self.all_have("after the leader's death", self.alive(), a, b, c, left_s)
        self.cluster.restart(dead)
        time.sleep(3)
        self.restart_all()
        self.all_have("after a restart of all", self.cluster.members, a, b, c, left_s if self.persists else a.ttl_s)

    def all_have(self, when, members, a, b, c, left_s):
        self.has(a, when, members[:1], whole_s=left_s)
        self.has(b, when, members[:1], whole_s=b.ttl_s)
        self.has(c, when, members[:1], whole_s=c.ttl_s)


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", etcdctl="etcdctl", etcd="")
    args = parser.parse_args()
    args.etcdctl = lib.need_program(args.etcdctl)
    checks = lib.Checks()
    top = lib.temp_dir("lease-checkpoint")
    scenarios = []
    for program in [args.cleat] + ([args.etcd] if args.etcd else []):
        scenarios += [Whole(args, checks, program, top, []), Whole(args, checks, program, top, [ENABLE])]
        if lib.FULL:
            os.mkdir(os.path.join(top, "long-" + os.path.basename(program)))
            scenarios += [Checkpoints(args, checks, program, os.path.join(top, "long-" + os.path.basename(program)), flags)
                          for flags in ([ENABLE], [ENABLE, PERSIST])]
    lib.all_at_once(scenarios)
    checks.done()


main()
