#!/usr/bin/env python3
"""Leases through etcdctl and over the peer port: one member beside an etcd, step by step; three members, of which the
leader is killed; and members of cleat and etcd in one cluster, where each asks a leader of the other kind."""
import os
import re
import sys
import time
import urllib.error
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster_lib
import lib

TTL_S = 30

# What an operator types, the same for all: {A}... are leases as they were granted.
STEPS = (
    ("grant", "300"), ("grant", "9000000001"), ("grant", "200"), ("list",),
    ("put", "k1", "v", "--lease={A}"), ("put", "k2", "v", "--lease={A}"), ("put", "k3", "v", "--lease={B}"),
    ("timetolive", "{A}", "--keys"), ("timetolive", "{B}", "--keys"), ("timetolive", "1234", "--keys"),
    ("keep-alive", "{A}", "--once"), ("keep-alive", "1234"),
    ("put", "k2", "v", "--lease={B}"), ("put", "k4", "v", "--lease=1234"), ("put", "k1", "w"),
    ("timetolive", "{A}", "--keys"), ("revoke", "{B}"), ("revoke", "{B}"), ("get", "k", "--prefix", "-w", "json"),
    ("put", "k1", "v", "--lease={A}"), ("revoke", "{A}"), ("get", "k", "--prefix", "-w", "json"),
    ("timetolive", "{A}"), ("grant", "0"), ("wait",), ("list",), ("timetolive", "{C}"), ("get", "z", "-w", "json"),
)


def folder(top, name):
    os.mkdir(os.path.join(top, name))
    return os.path.join(top, name)


def masked(text, leases):
    for name, lease in leases.items():
        text = text.replace(lease, name).replace(str(int(lease, 16)), name)
    text = re.sub(r"remaining\(\d+s\)", "remaining(<time>)", text)
    text = re.sub(r"attached keys\(\[(.*?)\]\)", lambda m: "keys " + " ".join(sorted(m.group(1).split())), text)
    text = re.sub(r'"(cluster_id|member_id|raft_term)":\d+,?', "", text)
    text = re.sub(r"lease [0-9a-f]{16}", "lease <id>", text)
    return "\n".join(line for line in text.splitlines() if not line.startswith("{\"level\""))


def run_steps(cluster):
    """What each of the steps printed."""
    leases, printed = {}, []
    for step in STEPS:
        words = [word.format(**leases) for word in step]
        if words[0] == "wait":
            lib.wait_until(lambda: leases["C"] not in cluster.ctl("lease", "list"), 10, "the end of a lease of 2 s")
            continue
        if words[0] not in ("put", "get"):
            words.insert(0, "lease")
        out = cluster.ctl(*words, check=False, both=True)
        if step[0] == "grant" and "granted" in out:
            leases["ABCDEF"[len(leases)]] = out.split()[1]
        printed.append(" ".join(step) + "\n" + masked(out, leases))
    return printed


def compare_steps(args, top, checks):
    ours = cluster_lib.Cluster(args.cleat, folder(top, "one"), 1, etcdctl=args.etcdctl).start()
    theirs = cluster_lib.Cluster(args.etcd, folder(top, "etcd"), 1, etcdctl=args.etcdctl).start()
    for here, there in zip(run_steps(ours), run_steps(theirs)):
        checks.equal(here, there, "as etcd")
    ours.stop()
    theirs.stop()


# ---- helpers ----

def grant(cluster, ttl_s, members=None):
    return cluster.ctl("lease", "grant", str(ttl_s), members=members).split()[1]


def remaining(cluster, lease, members=None):
    """Seconds left, or None when there is no such lease."""
    out = cluster.ctl("lease", "timetolive", lease, members=members)
    found = re.search(r"remaining\((-?\d+)s\)", out)
    return int(found.group(1)) if found else None


def renew(cluster, lease, member):
    return "keepalived with TTL" in cluster.ctl("lease", "keep-alive", lease, "--once", members=[member], check=False)


def varint(number):
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7f | 0x80])
        number >>= 7
    return out + bytes([number])


def post(member, path, body):
    """(status, headers' content type, body) of a POST to the peer port."""
    request = urllib.request.Request(member.peer_url + path, data=body, method="POST",
                                     headers={"Content-Type": "application/protobuf"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


def peer_answers(cluster, leader, follower):
    """What the peer ports say, with the id of the lease and what it has left masked."""
    lease = grant(cluster, 300)
    cluster.ctl("put", "key", "v", f"--lease={lease}")
    id_ = varint(int(lease, 16))
    question = b"\x08" + id_
    inner = question + b"\x10\x01"
    answers = [
        post(leader, "/leases", question), post(leader, "/leases", b"\x08\x01"), post(leader, "/leases", b"\x0a"),
        post(follower, "/leases", question),
        post(leader, "/leases/internal", b"\x0a" + varint(len(inner)) + inner),
        post(leader, "/leases/internal", b"\x0a\x02\x08\x01"), post(leader, "/leases/internal", b"\x0a\x05\x08"),
    ]
    cluster.ctl("lease", "revoke", lease)
    ttl = re.compile(rb"\x18(\xab|\xaa|\xa9)\x02")
    return [(status, kind, ttl.sub(b"<ttl>", body.replace(id_, b"<id>"))) for status, kind, body in answers]


# ---- three members ----

def through_each(cluster, checks, what):
    """Whoever is asked, all know the same lease."""
    lease = grant(cluster, TTL_S)
    for member in cluster.members:
        checks.check(renew(cluster, lease, member), f"{what}: renewed through {member.name}")
        left = remaining(cluster, lease, [member])
        checks.check(left is not None and TTL_S - 3 <= left <= TTL_S, f"{what}: {left} s left, says {member.name}")
        out = cluster.ctl("lease", "timetolive", "77", members=[member])
        checks.check("already expired" in out, f"{what}: no such lease, says {member.name}: {out}")
        checks.check(lease in cluster.ctl("lease", "list", members=[member]), f"{what}: listed by {member.name}")
        out = cluster.ctl("lease", "keep-alive", "77", members=[member])
        checks.check("expired or revoked" in out, f"{what}: nothing to renew, says {member.name}: {out}")
    cluster.ctl("lease", "revoke", lease)


def outlive_leader(cluster, checks):
    """A change of leaders shortens no lease, and those that nobody renews end after it, with all their keys at once."""
    short, long_ = grant(cluster, 6), grant(cluster, TTL_S)
    leader = cluster.wait_leader()
    for i in range(20):
        renew(cluster, short, leader)  # a client may take long to start
        cluster.ctl("put", f"short/{i:02}", "v", f"--lease={short}")
    revision = cluster.status(cluster.members[0])["header"]["revision"]
    renew(cluster, short, leader)
    renewed_s = time.monotonic()
    left = remaining(cluster, long_)
    leader.kill()
    rest = [m for m in cluster.members if m is not leader]
    cluster.wait_leader(rest)
    lib.wait_until(lambda: remaining(cluster, long_, rest) is not None, 30, "an answer")
    checks.check(remaining(cluster, long_, rest) >= left, "the new leader gives a lease what it had, and more")
    checks.check(time.monotonic() - renewed_s > 6 or remaining(cluster, short, rest) is not None,
                 "a lease that was renewed lasts through the change")
    lib.wait_until(lambda: short not in cluster.ctl("lease", "list", members=rest), 20, "the end of the short lease")
    took_s = time.monotonic() - renewed_s
    checks.check(6 <= took_s <= 16, f"it ended after {took_s:.1f} s")
    checks.equal(cluster.ctl("get", "short/", "--prefix", members=rest), "", "its keys are gone")
    lib.wait_until(lambda: cluster.status(rest[0])["header"]["revision"] == revision + 1, 30, "one revision for all")
    checks.equal(cluster.status(rest[0])["header"]["revision"], revision + 1, "they went in one revision")
    cluster.restart(leader)
    lib.wait_until(lambda: cluster.status(leader)["raftAppliedIndex"] == cluster.status(rest[0])["raftAppliedIndex"], 30,
                   "the one that was away has caught up")
    checks.equal(cluster.ctl("lease", "list", members=[leader]).split()[-1], long_, "it knows the leases")


def without_leader(cluster, checks):
    """One of three alone lists what it knows."""
    lease = grant(cluster, TTL_S)
    alone = cluster.followers()[0]
    others = [m for m in cluster.members if m is not alone]
    lib.wait_until(lambda: lease in cluster.ctl("lease", "list", members=[alone]), 30, "the lease everywhere")
    for member in others:
        member.kill()
    lib.wait_until(lambda: cluster.status(alone) and not cluster.status(alone).get("leader"), 30, "no leader")
    checks.check(lease in cluster.ctl("lease", "list", members=[alone]), "leases are listed without a leader")
    for member in others:
        member.launch()
    cluster.wait_healthy()


def three_members(args, top, checks):
    cluster = cluster_lib.Cluster(args.cleat, folder(top, "three"), 3, etcdctl=args.etcdctl).start()
    through_each(cluster, checks, "three")
    outlive_leader(cluster, checks)
    if lib.FULL:
        without_leader(cluster, checks)
        through_each(cluster, checks, "three, again")
    cluster.stop()


# ---- both kinds ----

def mixed(args, top, checks):
    cluster = cluster_lib.Cluster(args.cleat, folder(top, "mixed"), 3, etcdctl=args.etcdctl)
    cluster.members[0].binary = args.etcd
    cluster.start()
    answers = {}
    for kind, leader in (("etcd", cluster.members[0]), ("cleat", cluster.members[1])):
        now = cluster.wait_leader()
        if now is not leader:
            cluster.ctl("move-leader", cluster.member_ids()[leader.name], members=[now])
        lib.wait_until(lambda: cluster.leader() is leader, 30, f"{leader.name} leads")
        through_each(cluster, checks, f"{kind} leads")
        follower = cluster.members[1 if kind == "etcd" else 0]
        answers[kind] = peer_answers(cluster, leader, follower)
        lease = grant(cluster, 2)
        cluster.ctl("put", "gone", "v", f"--lease={lease}")
        lib.wait_until(lambda: cluster.ctl("get", "gone") == "", 10, f"a key whose lease has ended, {kind} leads")
    for ours, theirs in zip(answers["cleat"], answers["etcd"]):
        checks.equal(ours, theirs, "an answer of the peer port")
    cluster.stop()


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", etcd="etcd", etcdctl="etcdctl")
    args = parser.parse_args()
    args.etcdctl = lib.need_program(args.etcdctl)
    args.etcd = lib.find_program(args.etcd)
    checks = lib.Checks()
    top = lib.temp_dir("lease")
    three_members(args, top, checks)
    if args.etcd is not None:
        compare_steps(args, top, checks)
        mixed(args, top, checks)
    checks.done()


if __name__ == "__main__":
    main()
