#!/usr/bin/env python3
"""One of three members is left alone, the others stopped or dead. Calls that insist on a leader (hasleader: true) are refused
at once and streams that do are ended after three election timeouts without one, with etcd's error; those that do not go on.
The one that is left has led, or has followed. etcd, where one is given, under the same rules."""
import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import api
import cluster_lib
import lib

ELECTION_S = 1.0
# A member looks each election timeout and ends the streams at its third look in vain; it knows for sure within two election
# timeouts that it is alone.
SOONEST_S, LATEST_S = 2 * ELECTION_S, 6 * ELECTION_S + 1.5
REQUEST_S = 5 + 2 * ELECTION_S  # what a call waits for
AT_ONCE_S = 3.0  # not as long as a call waits, however busy the machine
NO_LEADER = ("UNAVAILABLE", "etcdserver: no leader")
ENDS = {0, -15, -9}  # etcd ends itself by the signal again


class Observer(threading.Thread):
    """Observes an election that nobody has won, and insists on a leader."""

    def __init__(self, of):
        super().__init__(daemon=True)
        self.api = of
        self.end = None  # the Reply that ended it
        self.start()

    def run(self):
        _, self.end = self.api.read_stream("Observe", timeout_s=60, require_leader=True, name=b"office")


class Alone(lib.Scenario):
    """A cluster, of which in the end the leader or a follower is left."""

    def __init__(self, args, messages, checks, program, top, left):
        super().__init__(checks, f"{os.path.basename(program)}, the {left} is left")
        self.left_leads = left == "leader"
        folder = os.path.join(top, os.path.basename(program) + "-" + left)
        os.mkdir(folder)
        self.cluster = cluster_lib.Cluster(program, folder, 3, etcdctl=args.etcdctl)
        self.messages = messages

    def steps(self):
        leader = self.cluster.start().wait_leader()
        self.left = next(m for m in self.cluster.members if (m is leader) == self.left_leads)
        self.others = [m for m in self.cluster.members if m is not self.left]
        self.api = api.Api(self.left.endpoint, self.messages)
        self.elsewhere = api.Api(self.others[0].endpoint, self.messages)
        self.open_streams()
        self.leave_alone()
        self.streams_end()
        self.calls()
        self.late_renewal()
        self.bring_back()
        self.go_on()
        self.check(set(self.cluster.stop()) <= ENDS, "all stop in order")

    # -- while there is a leader

    def open_streams(self):
        self.equal(self.api.LeaseGrant(ID=7, TTL=600).code, api.OK, "a lease")
        self.watches = {how: self.api.watch(require_leader=how) for how in (True, False, "yes")}
        self.renewals = {how: self.api.renewals(require_leader=how) for how in (True, False)}
        self.silent = {method: api.Stream(self.api, method, require_leader=True) for method in ("Watch", "LeaseKeepAlive")}
        self.late = self.api.renewals()
        self.observer = Observer(self.api)
        for how, watch in self.watches.items():
            self.equal(watch.created(key=b"k").created, True, f"a watch, hasleader {how}")
        for stream in (*self.renewals.values(), self.late):
            stream.send(ID=7)
            self.equal(stream.take().TTL, 600, "a renewal")
        for call, fields in (("Put", {"key": b"k", "value": b"1"}), ("Range", {"key": b"k"}), ("Status", {})):
            self.equal(self.api.call(call, require_leader=True, **fields).code, api.OK, f"{call} that insists")
        for watch in self.watches.values():
            self.equal(watch.take().events[0].kv.value, b"1", "an event while there is a leader")

    # -- alone

    def leave_alone(self):
        """Members that are stopped keep their connections, dead ones do not."""
        for member in self.others:
            if self.left_leads:
                member.process.send_signal(signal.SIGSTOP)
            else:
                member.kill()
        self.alone_s = time.monotonic()

    def streams_end(self):
        ended_s = {}
        insisting = {"watch": self.watches[True], "renewals": self.renewals[True], "observer": self.observer,
                     **{f"silent {method}": stream for method, stream in self.silent.items()}}

        def all_ended():
            for name, stream in insisting.items():
                if stream.end is not None:
                    ended_s.setdefault(name, time.monotonic() - self.alone_s)
            return len(ended_s) == len(insisting)
        lib.wait_until(all_ended, LATEST_S + 5, "the streams that insist end")
        print(f"{self.what}: " + ", ".join(f"{name} ended after {took:.1f} s ({insisting[name].end})" for name, took in ended_s.items()),
              flush=True)
        for name, took in ended_s.items():
            self.check(SOONEST_S <= took <= LATEST_S, f"{name} ended after {took:.2f} s")
            self.equal((insisting[name].end.code, insisting[name].end.text), NO_LEADER, f"how {name} ended")

    def calls(self):
        """Who insists is refused at once, whatever he asks for; others get what needs no leader."""
        local = (("Range", {"key": b"k", "serializable": True}), ("Status", {}), ("LeaseLeases", {}), ("MemberList", {}))
        remote = (("Range", {"key": b"k"}), ("Put", {"key": b"k", "value": b"2"}), ("Txn", {}), ("LeaseGrant", {"TTL": 10}),
                  ("LeaseTimeToLive", {"ID": 7}), ("Compact", {"revision": 1}), ("Lock", {"name": b"l"}))
        for call, fields in local + remote:
            began = time.monotonic()
            reply = self.api.call(call, require_leader=True, **fields)
            self.equal((reply.code, reply.text), NO_LEADER, f"{call} that insists")
            self.check(time.monotonic() - began < AT_ONCE_S, f"{call} is refused at once")
        for call, fields in local:
            self.equal(self.api.call(call, **fields).code, api.OK, f"{call} that does not insist")
            self.equal(self.api.call(call, require_leader="yes", **fields).code, api.OK, f"{call} with another word")
        self.check("etcdserver: no leader" in self.api.Status().errors, "Status says what is the matter")
        answer = self.through_gateway({"Grpc-Metadata-hasleader": "true"})
        self.equal((answer["code"], answer["message"]), (14, NO_LEADER[1]), "the gateway's client who insists")
        self.equal("header" in self.through_gateway({}), True, "and who does not")
        for method in ("Watch", "LeaseKeepAlive"):
            began = time.monotonic()
            stream = api.Stream(self.api, method, require_leader=True)
            lib.wait_until(lambda s=stream: s.end is not None, api.ANSWER_TIMEOUT_S, f"a new {method} stream that insists ends")
            self.equal((stream.end.code, stream.end.text), NO_LEADER, f"a new {method} stream that insists")
            self.check(time.monotonic() - began < AT_ONCE_S, f"a new {method} stream is refused at once")
        for how in (False, "yes"):
            self.equal(self.watches[how].created(key=b"k").watch_id, 1, "another watcher on a stream that goes on")
        self.watches["new"] = self.api.watch()
        self.equal(self.watches["new"].created(key=b"k").created, True, "a new watch stream that does not insist")

    def through_gateway(self, headers):
        request = urllib.request.Request(f"http://{self.left.endpoint}/v3/kv/range", b'{"key": "aw==", "serializable": true}', headers)
        try:
            with urllib.request.urlopen(request, timeout=api.ANSWER_TIMEOUT_S) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return json.loads(error.read())

    def late_renewal(self):
        """On a stream that does not insist it waits as long as any call."""
        began = time.monotonic()
        self.late.send(ID=7)
        lib.wait_until(lambda: self.late.end is not None, REQUEST_S + 5, "a renewal without a leader fails")
        took = time.monotonic() - began
        self.equal((self.late.end.code, self.late.end.text), NO_LEADER, "how it fails")
        self.check(REQUEST_S - 1 <= took <= REQUEST_S + 2, f"it failed after {took:.2f} s")
        alive = [stream.end for stream in (*(self.watches[how] for how in (False, "yes", "new")), self.renewals[False])]
        self.equal(alive, [None] * 4, "streams that do not insist live")

    # -- and back

    def bring_back(self):
        for member in self.others:
            if self.left_leads:
                member.process.send_signal(signal.SIGCONT)
            else:
                member.launch()
        self.cluster.wait_healthy()
        self.cluster.wait_leader()

    def go_on(self):
        put = self.elsewhere.Put(key=b"k", value=b"3")
        self.equal(put.code, api.OK, "a leader is back")
        for how, watchers in ((False, 2), ("yes", 2), ("new", 1)):
            came = [self.watches[how].take() for _ in range(watchers)]
            self.equal(sorted((c.watch_id, c.events[0].kv.mod_revision) for c in came),
                       [(i, put.header.revision) for i in range(watchers)], f"a watch that went on, hasleader {how}")
        self.renewals[False].send(ID=7)
        self.equal(self.renewals[False].take().TTL, 600, "a renewal on a stream that went on")
        insisting = self.api.watch(require_leader=True)
        self.equal(insisting.created(key=b"k", start_revision=put.header.revision).created, True, "a new watch that insists")
        self.equal(insisting.take().events[0].kv.value, b"3", "it misses nothing")


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", etcd="etcd", etcdctl="etcdctl",
                           descriptors="build/release/tests/e2e/api.pb")
    args = parser.parse_args()
    args.etcd, args.etcdctl = lib.find_program(args.etcd), lib.need_program(args.etcdctl)
    messages, checks = api.Messages(args.descriptors), lib.Checks()
    top = lib.temp_dir("no-leader")
    programs = [args.cleat] + ([args.etcd] if args.etcd else [])
    clusters = [Alone(args, messages, checks, program, top, left) for program in programs for left in ("leader", "follower")]
    lib.all_at_once(clusters)
    checks.done()


if __name__ == "__main__":
    main()
