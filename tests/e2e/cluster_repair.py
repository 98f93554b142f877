"""Three processes, and what is left when things went badly wrong: a member whose data is not that of the others is
named and refused, the last survivor becomes a cluster of its own, flags that describe another cluster are refused."""
import glob
import os
import sqlite3
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster_lib
import lib

KEYS = 20


def lose_a_record(member):
    """Takes one value out of the store of a stopped member, behind its back."""
    store = os.path.join(member.data_dir, "member", "store")
    os.unlink(os.path.join(store, "index.ckpt"))
    [path] = glob.glob(os.path.join(store, "*.sqlite"))
    with sqlite3.connect(path) as database:
        database.execute('delete from "key" where revision = (select min(revision) from "key")')
    database.close()


def with_an_odd_one(args, folder, *flags):
    """A cluster, and the follower that lost a value while it was stopped, with its id."""
    cluster = cluster_lib.Cluster(args.cleat, folder, 3, etcdctl=args.etcdctl, flags=["--backend=sqlite", *flags]).start()
    for i in range(KEYS):
        cluster.ctl("put", f"k{i}", str(i))
    odd = cluster.followers()[0]
    odd_id = cluster.id_of(odd)
    odd.stop()
    lose_a_record(odd)
    return cluster, odd, odd_id


def odd_one_out(args, checks, folder):
    """A value that is missing on one member: the periodic check raises an alarm that names it; it does not start with
    the check before serving."""
    cluster, odd, odd_id = with_an_odd_one(args, folder, "--experimental-corrupt-check-time=500ms")
    odd.flags.append("--experimental-initial-corrupt-check")
    odd.launch()
    lib.wait_until(lambda: not odd.is_alive(), 30, "the odd one ends")
    checks.equal(odd.process.returncode, 1, "the exit code of a member that differs")
    checks.check(b"found data inconsistency with peers" in odd.log(), "it says why it ends")
    odd.flags.pop()
    odd.launch()

    def alarms():
        others = [m for m in cluster.members if m is not odd]
        return cluster.ctl("alarm", "list", members=others, check=False)
    lib.wait_until(lambda: "CORRUPT" in alarms(), 30, "an alarm")
    checks.check(f"memberID:{odd_id} alarm:CORRUPT" in alarms(), f"the alarm names it: {alarms()}")
    refused = cluster.ctl("put", "a", "b", check=False)
    checks.check("corrupt cluster" in refused, f"writes are refused: {refused}")
    for m in cluster.members:
        status, body = lib.http_get(f"http://{m.endpoint}/health")
        checks.check(status == 503 and "CORRUPT" in str(body), f"{m.name}: /health says so: {status} {body}")
    cluster.stop()


def odd_after_compaction(args, checks, folder):
    """The same with the check that waits for a compaction."""
    cluster, odd, odd_id = with_an_odd_one(args, folder, "--experimental-compact-hash-check-enabled",
                                           "--experimental-compact-hash-check-time=100ms")
    cluster.restart(odd)
    checks.equal(cluster.ctl("alarm", "list"), "", "alarms before a compaction")
    cluster.ctl("compaction", str(KEYS))
    lib.wait_until(lambda: "CORRUPT" in cluster.ctl("alarm", "list", check=False), 30, "an alarm")
    checks.check(f"memberID:{odd_id} alarm:CORRUPT" in cluster.ctl("alarm", "list", check=False), "the alarm names it")
    cluster.stop()


def last_survivor(args, checks, folder):
    """--force-new-cluster with two of three gone for good; the cluster grows again from there."""
    cluster = cluster_lib.Cluster(args.cleat, folder, 3, etcdctl=args.etcdctl).start()
    for i in range(KEYS):
        cluster.ctl("put", f"k{i}", str(i))
    for m in cluster.members:
        m.kill()
    survivor = cluster.members[1]
    cluster.members = [survivor]
    survivor.flags.append("--force-new-cluster")
    cluster.restart(survivor)
    checks.equal(cluster.ctl("member", "list").count("started"), 1, "one member is left")
    got = cluster.ctl("get", "k", "--prefix", "--keys-only").split()
    checks.equal(len(got), KEYS, "everything acknowledged is there")
    checks.check(b"entries-above-commit" in survivor.log(), "the log says how much was not known to be committed")
    survivor.stop()
    survivor.flags.pop()
    cluster.restart(survivor)
    added = cluster.grow()
    cluster.wait_healthy([added])
    cluster.ctl("put", "after", "all")
    for m in cluster.members:
        checks.equal(cluster.ctl("get", "after", "--print-value-only", members=[m]).strip(), "all", f"{m.name} has it")
    cluster.stop()


def refused_flags(args, checks, folder):
    """etcd's sentences for flags that do not fit; nothing is left behind."""
    peer, other = lib.free_ports(2)
    url = f"http://127.0.0.1:{peer}"
    cases = [
        ([f"a={url}"], {"name": "b"}, 'couldn\'t find local name "b" in the initial cluster configuration'),
        ([f"a=http://127.0.0.1:{other}"], {}, "but missing from --initial-advertise-peer-urls"),
        ([f"a={url}", f"b={url}", f"b=http://127.0.0.1:{other}"], {}, "has duplicate url"),
        ([f"a={url}", f"b=http://127.0.0.1:{other}"], {"state": "existing"},
         "cannot fetch cluster info from peer urls"),
    ]
    for number, (members, how, expected) in enumerate(cases):
        data = os.path.join(folder, f"refused-{number}")
        client = f"http://127.0.0.1:{lib.free_ports(1)[0]}"
        result = subprocess.run(
            [args.cleat, "--name", how.get("name", "a"), "--data-dir", data, "--listen-client-urls", client,
             "--advertise-client-urls", client, "--listen-peer-urls", url, "--initial-advertise-peer-urls", url,
             "--initial-cluster", ",".join(members), "--initial-cluster-state", how.get("state", "new")],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
        checks.equal(result.returncode, 1, f"{expected}: the exit code")
        said = result.stdout.replace('\\"', '"')
        checks.check(expected in said, f"{expected}: {said}")
        checks.check(not os.path.exists(os.path.join(data, "member")), f"{expected}: nothing was made")


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", etcdctl="etcdctl")
    args = parser.parse_args()
    args.etcdctl = lib.need_program(args.etcdctl)
    checks = lib.Checks()
    folder = lib.temp_dir("cluster-repair")
    for part in (refused_flags, last_survivor, odd_one_out, odd_after_compaction):
        print(f"== {part.__name__}", flush=True)
        part_folder = os.path.join(folder, part.__name__)
        os.mkdir(part_folder)
        part(args, checks, part_folder)
    checks.done()


main()
