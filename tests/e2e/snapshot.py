"""snapshot save while clients write, from each backend, from a member that has lost its quorum: etcd's own tools take the
file, and an etcd restored from it serves the same, by its HashKV. The stream itself is etcd's, blob by blob."""
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster_lib
import lib

KEYS = 20000 if lib.FULL else 3000
BLOB_BYTES = 32 << 10


def ctl(etcdctl, *arguments, timeout_s=60):
    """Standard output; raises with everything it said when it fails."""
    result = subprocess.run([etcdctl, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            timeout=timeout_s, env=dict(os.environ, ETCDCTL_API="3"))
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)}: {result.stdout}{result.stderr}")
    return result.stdout


def hash_kv(etcdctl, endpoint, revision=0):
    out = ctl(etcdctl, "--endpoints", endpoint, "endpoint", "hashkv", f"--rev={revision}", "-w", "json")
    return json.loads(out)[0]["HashKV"]


class Writer(threading.Thread):
    """cleat-bench in the background, until end()."""

    def __init__(self, bench, endpoint, *options):
        super().__init__()
        self.process = lib.spawn([bench, "kv", "--endpoint", endpoint, *map(str, options)], stdout=subprocess.DEVNULL)

    def end(self):
        self.process.kill()
        self.process.wait()


def fill(bench, endpoint, keys, value_bytes=300):
    subprocess.run([bench, "kv", "--endpoint", endpoint, "--keys", str(keys), "--clients", "64",
                    "--value-bytes", str(value_bytes), "--prefix", "/fill/"],
                   check=True, stdout=subprocess.DEVNULL, timeout=300)


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def messages(stream):
    """(remaining_bytes, blob) of each SnapshotResponse in a gRPC body."""
    at = 0
    while at < len(stream):
        size = int.from_bytes(stream[at + 1:at + 5], "big")
        message, at = stream[at + 5:at + 5 + size], at + 5 + size
        fields, i = {}, 0
        while i < len(message):
            tag, i = varint(message, i)
            value, i = varint(message, i)
            if tag & 7 == 2:
                value, i = message[i:i + value], i + value
            fields[tag >> 3] = value
        yield fields.get(2, 0), fields.get(3, b""), set(fields)


def raw_stream(nghttp, endpoint, folder):
    body = os.path.join(folder, "empty-message")
    with open(body, "wb") as file:
        file.write(bytes(5))
    return subprocess.run([nghttp, "-d", body, "-H", "te: trailers", "-H", "content-type: application/grpc",
                           f"http://{endpoint}/etcdserverpb.Maintenance/Snapshot"],
                          check=True, stdout=subprocess.PIPE, timeout=60).stdout


def stream_is_etcds(checks, nghttp, endpoint, folder):
    parts = list(messages(raw_stream(nghttp, endpoint, folder)))
    data = b"".join(blob for _, blob, _ in parts[:-1])
    checks.check(all(len(blob) == BLOB_BYTES for _, blob, _ in parts[:-2]), "every blob but the last is of 32 KiB")
    left = len(data)
    for remaining, blob, fields in parts[:-1]:
        left -= len(blob)
        checks.equal((remaining, fields <= {2, 3}), (left, True), "what remains, and no header")
    checks.equal(parts[-1][:2], (0, hashlib.sha256(data).digest()), "the last one is the digest")


def save(checks, args, endpoint, path, what, keys=KEYS):
    """The snapshot's revision by etcd's own tool."""
    ctl(args.etcdctl, "--endpoints", endpoint, "snapshot", "save", path)
    status = json.loads(ctl(args.etcdctl, "snapshot", "status", path, "-w", "json"))
    checks.check(status["totalKey"] >= keys and os.path.getsize(path) % 512 == 32, f"{what}: {status}")
    return status["revision"]


def restored(checks, args, path, folder, endpoint, revision, what):
    """An etcd of that file answers as the member does at that revision."""
    data_dir = os.path.join(folder, os.path.basename(path) + ".etcd")
    server = lib.Server(args.etcd, data_dir)
    peer = f"http://127.0.0.1:{server.peer_port}"
    ctl(args.etcdctl, "snapshot", "restore", path, "--data-dir", data_dir, "--name", "default",
        "--initial-cluster", f"default={peer}", "--initial-advertise-peer-urls", peer)
    server.start()
    there, here = hash_kv(args.etcdctl, server.endpoint), hash_kv(args.etcdctl, endpoint, revision)
    checks.equal(there["header"]["revision"], revision, f"{what}: the revision of the restored etcd")
    checks.equal(there["hash"], here["hash"], f"{what}: HashKV of the restored etcd")
    server.stop()


def one_member(checks, args, folder, backend):
    server = lib.Server(args.cleat, os.path.join(folder, backend), flags=[f"--backend={backend}"]).start()
    fill(args.bench, server.endpoint, KEYS)
    ctl(args.etcdctl, "--endpoints", server.endpoint, "compaction", str(KEYS // 2))
    writer = Writer(args.bench, server.endpoint, "--keys", 1000, "--seed", 5, "--clients", 8, "--seconds", 600)
    path = os.path.join(folder, f"{backend}.db")
    time.sleep(0.5)
    revision = save(checks, args, server.endpoint, path, f"{backend}, while clients write")
    writer.end()
    restored(checks, args, path, folder, server.endpoint, revision, backend)
    nghttp = lib.find_program("nghttp")
    if nghttp is not None:
        stream_is_etcds(checks, nghttp, server.endpoint, folder)
    checks.check(b"successfully sent database snapshot to client" in server.log(), "the log says that it was sent")
    checks.check(server.stop() in (0, -15), "it stops in order")


def no_quorum(checks, args, folder):
    """Two of three are gone for good; the third is started again and still gives up what it has."""
    cluster = cluster_lib.Cluster(args.cleat, folder, 3, etcdctl=args.etcdctl).start()
    cluster.wait_leader()
    fill(args.bench, cluster.members[0].endpoint, KEYS)
    survivor = cluster.members[2]
    for member in cluster.members:
        member.kill()
    survivor.launch()
    path = os.path.join(folder, "survivor.db")
    lib.wait_until(lambda: cluster.status(survivor) is not None, 30, "the member without quorum serves")
    # It may not have heard what was committed last.
    revision = save(checks, args, survivor.endpoint, path, "without a quorum", KEYS * 9 // 10)
    restored(checks, args, path, folder, survivor.endpoint, revision, "without a quorum")
    survivor.kill()


def with_users(checks, args, folder):
    """A snapshot of an etcd that lets in users only brings them along, with their passwords."""
    etcd = lib.Server(args.etcd, os.path.join(folder, "users.etcd"), flags=["--bcrypt-cost=4"]).start()
    path = os.path.join(folder, "users.db")
    ctl(args.etcdctl, "--endpoints", etcd.endpoint, "user", "add", "root:secret")
    ctl(args.etcdctl, "--endpoints", etcd.endpoint, "user", "grant-role", "root", "root")
    ctl(args.etcdctl, "--endpoints", etcd.endpoint, "auth", "enable")
    ctl(args.etcdctl, "--endpoints", etcd.endpoint, "--user", "root:secret", "snapshot", "save", path)
    etcd.stop()
    server = lib.Server(args.cleat, os.path.join(folder, "users"))
    peer = f"http://127.0.0.1:{server.peer_port}"
    ctl(args.cleatutl, "snapshot", "restore", path, "--data-dir", server.data_dir, "--name", "default",
        "--initial-cluster", f"default={peer}", "--initial-advertise-peer-urls", peer)
    server.start()
    again = os.path.join(folder, "users-again.db")
    root = ("--user", "root:secret")
    for refused, why, arguments in (
            (True, "user name is empty", ("get", "a")), (True, "user name is empty", ("put", "a", "b")),
            (True, "user name is empty", ("member", "list")), (True, "user name is empty", ("snapshot", "save", again)),
            (True, "authentication failed", ("--user", "root:wrong", "get", "a")),
            (False, "OK", (*root, "put", "a", "b")), (False, "b", (*root, "get", "a")),
            (False, "Snapshot saved", (*root, "snapshot", "save", again))):
        try:
            said, failed = ctl(args.etcdctl, "--endpoints", server.endpoint, *arguments), False
        except RuntimeError as error:
            said, failed = str(error), True
        checks.check(failed == refused and why in said, f"{arguments} as with etcd: {said}")
    checks.check(os.path.exists(again), "root takes the content")
    server.stop()


def stops_at_once(checks, args, folder):
    """A client that takes the first bytes and then stands still does not keep the member from stopping."""
    server = lib.Server(args.cleat, os.path.join(folder, "stop")).start()
    fill(args.bench, server.endpoint, 6000, value_bytes=8000)  # more than is under way when the client is stopped
    path = os.path.join(folder, "half.db")
    client = lib.spawn([args.etcdctl, "--endpoints", server.endpoint, "snapshot", "save", path],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ, ETCDCTL_API="3"))
    lib.wait_until(lambda: b"sending database snapshot" in server.log(), 30, "the client begins")
    client.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    checks.check(server.stop() in (0, -15), "it stops in order")
    checks.check(time.monotonic() - began < 3, "it stops soon")
    checks.check(b"server stopped" in server.log(), "the log says that it ended")
    client.kill()


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", bench="build/release/bench/cleat-bench",
                           cleatutl="build/release/tools/utl/cleatutl",
                           etcd="etcd", etcdctl="etcdctl")
    args = parser.parse_args()
    args.etcdctl = lib.need_program(args.etcdctl)
    args.etcd = lib.need_program(args.etcd)
    checks = lib.Checks()
    folder = lib.temp_dir("snapshot")
    for backend in ("lmdb", "sqlite"):
        one_member(checks, args, folder, backend)
    no_quorum(checks, args, folder)
    with_users(checks, args, folder)
    stops_at_once(checks, args, folder)
    checks.done()


main()
