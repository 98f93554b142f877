"""Clusters of processes on loopback: members, the operator's etcdctl, the load that judges its history."""
import json
import os
import signal
import subprocess

import lib


class Member(lib.Server):
    """One of a cluster; `peers` is the --initial-cluster it starts with."""

    def __init__(self, binary, folder, name, flags=(), host="127.0.0.1", netns=None):
        super().__init__(binary, os.path.join(folder, name), flags=flags, name=name)
        self.host = host
        self.netns = netns
        self.initial_cluster = None
        self.state = "new"

    @property
    def endpoint(self):
        return f"{self.host}:{self.client_port}"

    @property
    def peer_url(self):
        return f"http://{self.host}:{self.peer_port}"

    def command(self):
        client = f"http://{self.endpoint}"
        inside = ["ip", "netns", "exec", self.netns] if self.netns else []
        return inside + [
            self.binary, "--name", self.name, "--data-dir", self.data_dir,
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url,
            "--initial-cluster", self.initial_cluster, "--initial-cluster-state", self.state,
            "--initial-cluster-token", "cluster-under-test"] + self.flags


class Cluster:
    """Members that found a cluster together, and what an operator does with them."""

    def __init__(self, binary, folder, size=3, flags=(), flags_of=None, etcdctl="etcdctl"):
        self.binary = binary
        self.folder = folder
        self.flags = list(flags)
        self.etcdctl = etcdctl
        self.made = 0
        self.members = [self.make(flags_of[i] if flags_of else ()) for i in range(size)]
        for member in self.members:
            member.initial_cluster = self.initial_cluster(self.members)

    def make(self, flags=()):
        """A member with a name of its own, not started and not in the list."""
        self.made += 1
        return Member(self.binary, self.folder, f"m{self.made}", self.flags + list(flags))

    @staticmethod
    def initial_cluster(members):
        return ",".join(f"{m.name}={m.peer_url}" for m in members)

    def start(self):
        for member in self.members:
            member.launch()
        self.wait_healthy()
        return self

    def wait_healthy(self, members=None, timeout_s=30):
        for m in members or self.members:
            lib.wait_until(lambda m=m: m.is_healthy() or not m.is_alive(), timeout_s,
                           f"{m.name} healthy; its log ends:\n{m.log_tail()}")
            if not m.is_alive():
                raise RuntimeError(f"{m.name} ended with {m.process.returncode}:\n{m.log_tail()}")

    def restart(self, member, timeout_s=30):
        member.launch()
        self.wait_healthy([member], timeout_s)

    def endpoints(self, members=None):
        return ",".join(m.endpoint for m in members or self.members)

    def ctl(self, *arguments, members=None, timeout_s=20, check=True, both=False):
        """etcdctl's standard output (and error if `both`); raises with everything it said when it fails and `check`."""
        command = [self.etcdctl, "--endpoints", self.endpoints(members), "--dial-timeout=2s",
                   "--command-timeout=10s", *arguments]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                timeout=timeout_s, env=dict(os.environ, ETCDCTL_API="3"))
        if check and result.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {result.stdout}{result.stderr}")
        return result.stdout + (result.stderr if both or result.returncode != 0 else "")

    def status(self, member):
        """What one member says of itself, or None."""
        try:
            out = self.ctl("endpoint", "status", "-w", "json", members=[member])
            return json.loads(out)[0]["Status"]
        except (RuntimeError, ValueError, IndexError, KeyError, subprocess.TimeoutExpired):
            return None

    def id_of(self, member):
        status = self.status(member)
        return status["header"]["member_id"] if status else None

    def leader(self, members=None):
        """The member that leads by its own word, or None."""
        for m in members or self.members:
            if m.is_alive():
                status = self.status(m)
                if status and status.get("leader") and status["leader"] == status["header"]["member_id"]:
                    return m
        return None

    def wait_leader(self, members=None, timeout_s=20):
        found = []

        def look():
            leader = self.leader(members)
            if leader is not None:
                found.append(leader)
            return found
        lib.wait_until(look, timeout_s, "a leader")
        return found[0]

    def followers(self):
        leader = self.wait_leader()
        return [m for m in self.members if m is not leader and m.is_alive()]

    def grow(self, learner=False, flags=()):
        """member add and the start of the one that was added."""
        member = self.make(flags)
        options = ["--learner"] if learner else []

        def add():  # refused until every member has been heard of for 5 s (strict reconfig check)
            out = self.ctl("member", "add", member.name, f"--peer-urls={member.peer_url}", *options, check=False)
            return "added to cluster" in out
        lib.wait_until(add, 30, "member add is accepted")
        member.initial_cluster = self.initial_cluster(self.members + [member])
        member.state = "existing"
        self.members.append(member)
        member.launch()
        return member

    def remove(self, member):
        others = [m for m in self.members if m is not member]
        id_ = self.member_ids()[member.name]

        def remove():  # refused until enough of the rest have been heard of for 5 s
            out = self.ctl("member", "remove", id_, members=[m for m in others if m.is_alive()], check=False)
            return "removed from cluster" in out
        lib.wait_until(remove, 30, f"member remove of {member.name} is accepted")
        self.members = others

    def member_ids(self):
        """name (or peer URL while it has none) -> id in hexadecimal."""
        alive = [m for m in self.members if m.is_alive()]
        listed = json.loads(self.ctl("member", "list", "-w", "json", members=alive))["members"]
        return {m.get("name") or m["peerURLs"][0]: f"{m['ID']:x}" for m in listed}

    def stop(self):
        codes = []
        for m in self.members:
            if m.is_alive():
                codes.append(m.stop())
        return codes


# Of a load: watchers and leases as well, judged with its history.
WATCHED = ("--watchers", 6, "--leases", 8)


class Load:
    """cluster_load over the members' endpoints, until end()."""

    def __init__(self, binary, members, *options):
        endpoints = ",".join(f"http://{m.endpoint}" for m in members)
        self.process = lib.spawn([binary, "--endpoints", endpoints, *map(str, options)],
                                 stdout=subprocess.PIPE, text=True)

    def end(self, timeout_s=120):
        """Its report; "code" is its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def wait(self, timeout_s=600):
        out, _ = self.process.communicate(timeout=timeout_s)
        report = json.loads(out) if out.strip() else {"verdict": "no report"}
        report["code"] = self.process.returncode
        return report


def gap_after(report, moment_s):
    """The longest time without an acknowledged write that includes a moment of time.monotonic(), ms."""
    at = moment_s * 1000
    return max([g["gap_ms"] for g in report["gaps"] if g["at_ms"] <= at + 50 and g["at_ms"] + g["gap_ms"] >= at],
               default=0)
