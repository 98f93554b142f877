#!/usr/bin/env python3
"""From the first start to the last: two of a kind on one port or directory, ends and restarts, directories that are not
to be started from, damage, flags, ways to write the log, HTTP, logs, and what this version does not serve yet."""
import ctypes
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time

import bad_input
import lib

STOP_S = 2.0  # the promise is for SIGTERM under load
BLOCK = 4096
ROUNDS_OF_EARLY_ENDS = 40 if lib.FULL else 8

METRICS = ("etcd_server_has_leader 1", "etcd_server_is_leader 1", "etcd_server_leader_changes_seen_total",
           "etcd_server_proposals_committed_total", "etcd_server_proposals_applied_total", "etcd_server_proposals_pending",
           "etcd_disk_wal_fsync_duration_seconds_bucket", "etcd_disk_backend_commit_duration_seconds_bucket",
           "etcd_mvcc_put_total", "etcd_mvcc_db_total_size_in_bytes", "etcd_debugging_mvcc_keys_total",
           "grpc_server_handled_total", "process_resident_memory_bytes", "process_open_fds")
# Command line -> exit code, text.
FLAGS = (
    (["--no-such-flag"], 2, "flag provided but not defined: -no-such-flag"),
    (["--data-dir"], 2, "flag needs an argument: -data-dir"),
    (["--heartbeat-interval", "abc"], 2, 'invalid value "abc" for flag -heartbeat-interval: parse error'),
    (["--pre-vote=perhaps"], 2, 'invalid boolean value "perhaps" for -pre-vote: parse error'),
    (["--listen-client-urls", "foo"], 2, "URL scheme must be http, https, unix, or unixs: foo"),
    (["--initial-cluster-state=foo"], 2, 'invalid value "foo" for flag -initial-cluster-state: invalid value'),
    (["--backend=bolt"], 2, 'invalid value "bolt" for flag -backend: invalid value'),
    (["--wal-disk=floppy"], 2, 'invalid value "floppy" for flag -wal-disk: invalid value'),
    (["--log-level", "foo"], 2, 'unrecognized level: "foo"'),
    (["--heartbeat-interval", "0"], 1, "--heartbeat-interval must be >0 (set to 0ms)"),
    (["--election-timeout=100"], 1,
     "--election-timeout[100ms] should be at least as 5 times as --heartbeat-interval[100ms]"),
    (["extra"], 1, "'extra' is not a valid flag"),
    (["--listen-client-urls=http://127.0.0.1:1"], 1,
     "--advertise-client-urls is required when --listen-client-urls is set explicitly"),
    (["--cert-file=x"], 1, "--cert-file (ETCD_CERT_FILE) is not supported by this version yet"),
    (["--enable-v2"], 1, "--enable-v2 (ETCD_ENABLE_V2) is not supported by this version yet"),
)


def refuse_io_uring_and_exec(command):
    """What a container's seccomp profile does: the three system calls of io_uring fail with EPERM."""
    load_number, equal, give = 0x20, 0x15, 0x06
    allow, deny = 0x7FFF0000, 0x00050000 | 1
    program = [(load_number, 0, 0, 0)]
    for at, call in enumerate((425, 426, 427)):
        program.append((equal, 3 - at, 0, call))
    program += [(give, 0, 0, allow), (give, 0, 0, deny)]
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer)), 16)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, ctypes.byref(header), 0, 0) != 0:
        sys.exit("cannot install the seccomp filter")
    os.execv(command[0], command)


class SeccompServer(lib.Server):
    def command(self):
        return [sys.executable, os.path.abspath(__file__), "--refuse-io-uring"] + super().command()


class Lifecycle:
    def __init__(self, args):
        self.args = args
        self.checks = lib.Checks()
        self.folder = lib.temp_dir("lifecycle")
        self.number = 0

    def new(self, *flags, kind=lib.Server, data_dir=None, env=None):
        self.number += 1
        data_dir = data_dir or os.path.join(self.folder, f"data-{self.number}")
        server = kind(self.args.cleat, data_dir, flags=flags, env=env)
        server.log_path = os.path.join(self.folder, f"log-{self.number}")
        return server

    def etcdctl(self, server, *words):
        done = subprocess.run([self.args.etcdctl, "--endpoints", server.endpoint, *words], capture_output=True, text=True,
                              check=False, env=dict(os.environ, ETCDCTL_API="3"), timeout=60)
        return done.returncode, done.stdout + done.stderr

    def put(self, server, key, value):
        self.checks.equal(self.etcdctl(server, "put", key, value), (0, "OK\n"), f"put {key}")

    def status(self, server):
        return json.loads(self.etcdctl(server, "endpoint", "status", "-w", "json")[1])[0]["Status"]

    def refused(self, server, what, *texts, code=1):
        """Starts, and must end by itself, saying so."""
        server.launch()
        try:
            self.checks.equal(server.process.wait(timeout=20), code, f"{what}: exit code")
        except subprocess.TimeoutExpired:
            server.kill()
            self.checks.check(False, f"{what}: it runs")
        said = server.log().decode("utf-8", "replace")
        for text in texts:
            self.checks.check(text in said, f"{what}: expected '{text}' in:\n{said}")


def try_two_of_a_kind(t):
    first = t.new()
    first.start()
    second = t.new()
    second.client_port = first.client_port
    t.refused(second, "a second server on the port", "Address already in use", str(first.client_port))
    t.refused(t.new(data_dir=first.data_dir), "a second server on the directory", "is in use by another process",
              first.data_dir)
    t.put(first, "a", "1")
    t.checks.equal(first.stop(), 0, "two of a kind: the first one's exit code")


def try_restart(t, backend):
    server = t.new(f"--backend={backend}")
    server.start()
    for number in range(10):
        t.put(server, "k", str(number))
    before = t.status(server)
    t.checks.equal(server.stop(), 0, f"{backend}: exit code")
    for how in ("stop", "kill"):
        server.start()
        after = t.status(server)
        for name in ("cluster_id", "member_id", "revision"):
            t.checks.equal(after["header"][name], before["header"][name], f"{backend}: {name} after a {how}")
        t.checks.equal(after["raftTerm"], before["raftTerm"] + 1, f"{backend}: term after a {how}")
        t.checks.equal(t.etcdctl(server, "get", "k"), (0, "k\n9\n"), f"{backend}: the value after a {how}")
        before = after
        server.kill()
    other = "sqlite" if backend == "lmdb" else "lmdb"
    t.refused(t.new(f"--backend={other}", data_dir=server.data_dir), f"{other} on the directory of {backend}",
              f"--backend={backend}", server.data_dir)
    server.flags = []
    server.start()
    t.checks.equal(t.status(server)["header"]["revision"], before["header"]["revision"], "without --backend it is known")
    server.stop()


def try_stop_under_load(t):
    for backend in ("lmdb", "sqlite"):
        server = t.new(f"--backend={backend}")
        state = os.path.join(t.folder, f"state-{backend}")
        server.start()
        writers = lib.spawn([t.args.load, "write", "--endpoint", server.endpoint, "--state", state], stdout=subprocess.PIPE,
                            text=True)
        lib.wait_until(lambda: t.status(server)["header"]["revision"] > 500, 30, "the load writes")
        began = time.monotonic()
        t.checks.equal(server.stop(), 0, f"{backend}: exit code of SIGTERM under load")
        took = time.monotonic() - began
        t.checks.check(took < STOP_S, f"{backend}: SIGTERM under load took {took:.2f} s")
        output, _ = writers.communicate(timeout=60)
        print(f"{backend}: {output.strip()}; ended in {took:.2f} s")
        server.start()
        done = subprocess.run([t.args.load, "check", "--endpoint", server.endpoint, "--state", state], text=True,
                              stdout=subprocess.PIPE, check=False, timeout=60)
        t.checks.equal(done.returncode, 0, f"{backend}: after SIGTERM under load: {done.stdout}")
        t.checks.equal(server.stop(), 0, f"{backend}: exit code without load")


def try_early_ends(t):
    """SIGTERM or SIGKILL at any moment of a first start: the next start works."""
    for number in range(ROUNDS_OF_EARLY_ENDS):
        server = t.new()
        server.launch()
        time.sleep(0.1 * number / ROUNDS_OF_EARLY_ENDS)  # the moment is the input of this test
        if number % 2 == 0:
            server.process.send_signal(signal.SIGTERM)
            code = server.process.wait(timeout=20)
            t.checks.check(code in (0, -signal.SIGTERM), f"SIGTERM while starting, round {number}: exit code {code}")
        else:
            server.kill()
        server.start()
        t.put(server, "a", "1")
        t.checks.equal(server.stop(), 0, f"after an early end, round {number}: exit code")


def try_early_ends_of_a_long_start(t, backend):
    """SIGTERM or SIGINT at any moment while a long log is read and applied: an end at once, and nothing is lost."""
    server = t.new(f"--backend={backend}")
    state = os.path.join(t.folder, f"state-long-{backend}")
    server.start()
    subprocess.run([t.args.load, "write", "--endpoint", server.endpoint, "--state", state, "--writers", "64",
                    "--value-bytes", "30000", "--seconds", "3"], check=True, timeout=60, stdout=subprocess.DEVNULL)
    server.kill()
    ended_early = 0
    for number in range(ROUNDS_OF_EARLY_ENDS):
        what = f"{backend}: a signal in a long start, round {number}"
        before = os.path.getsize(server.log_path)
        server.launch()
        lib.wait_until(lambda: b"chose how the log is written" in server.log(before), 30, "a start that goes on")
        time.sleep(1.2 * number / ROUNDS_OF_EARLY_ENDS)  # the moment is the input of this test
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM if number % 2 == 0 else signal.SIGINT)
        t.checks.equal(server.process.wait(timeout=60), 0, f"{what}: exit code")
        took = time.monotonic() - began
        t.checks.check(took < STOP_S, f"{what}: it took {took:.2f} s")
        said = server.log(before)
        if number == 0:
            t.checks.check(b"opened the log" not in said, f"{what}: the log is not read to its end first")
        ended_early += b"ended while starting" in said
    t.checks.check(ended_early > 1, f"{backend}: {ended_early} of {ROUNDS_OF_EARLY_ENDS} ends came early")
    server.start()
    done = subprocess.run([t.args.load, "check", "--endpoint", server.endpoint, "--state", state], text=True,
                          stdout=subprocess.PIPE, check=False, timeout=60)
    t.checks.equal(done.returncode, 0, f"{backend}: after {ended_early} early ends: {done.stdout}")
    t.checks.equal(server.stop(), 0, f"{backend}: exit code after early ends")
    shutil.rmtree(server.data_dir)


def try_foreign_directories(t):
    def member(name, *files):
        path = os.path.join(t.folder, name)
        for file, data in files:
            target = os.path.join(path, "member", file)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as out:
                out.write(data)
        return path

    of_etcd = member("of-etcd", ("snap/db", b"\0" * 4096), ("wal/0000000000000000-0000000000000000.wal", b"\0" * 64))
    t.refused(t.new(data_dir=of_etcd), "etcd's directory", "was written by etcd", "cleatutl import")
    t.refused(t.new(data_dir=member("foreign", ("hello.txt", b"hello"))), "a foreign directory", "has no FORMAT file")
    t.refused(t.new(data_dir=member("no-format", ("FORMAT", b"\xff\xfe\x00 nonsense\n"))), "a foreign FORMAT", "FORMAT",
              "damaged or of another program")
    t.refused(t.new(data_dir=member("empty", ("FORMAT", b""))), "an empty FORMAT", "damaged or of another program")
    blocked = os.path.join(t.folder, "a-file")
    with open(blocked, "wb"):
        pass
    t.refused(t.new(data_dir=blocked), "a file as the directory", blocked)

    server = t.new()
    server.start()
    t.put(server, "a", "1")
    server.stop()
    path = os.path.join(server.data_dir, "member", "FORMAT")
    with open(path, "rb") as file:
        good = file.read()
    for what, bad in (("a flipped bit", good.replace(b"life-id ", b"life-id 1", 1)), ("cut short", good[:-9]),
                      ("of a later version", good.replace(b"cleat-format 1", b"cleat-format 2", 1))):
        with open(path, "wb") as file:
            file.write(bad)
        t.refused(t.new(data_dir=server.data_dir), f"a FORMAT {what}", "FORMAT")
    with open(path, "wb") as file:
        file.write(good)
    server.start()
    t.checks.equal(t.etcdctl(server, "get", "a"), (0, "a\n1\n"), "the repaired FORMAT starts")
    server.stop()


def newest_segment(wal_dir):
    names = sorted(name for name in os.listdir(wal_dir) if re.fullmatch(r"\d{16}\.wal", name))
    with_batch = []
    for name in names:
        with open(os.path.join(wal_dir, name), "rb") as file:
            data = file.read()
        if any(data[BLOCK:2 * BLOCK]):
            with_batch.append((os.path.join(wal_dir, name), data))
    return with_batch[-1]


def overwrite(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def try_damaged_log(t, backend):
    server = t.new(f"--backend={backend}")
    server.start()
    for number in range(20):
        t.put(server, f"k{number}", "v" * 100)
    server.kill()
    path, data = newest_segment(os.path.join(server.data_dir, "member", "wal"))
    blocks = len(data) // BLOCK
    used = max(at for at in range(blocks) if any(data[at * BLOCK:(at + 1) * BLOCK])) + 1
    early = 3 * BLOCK + 140  # within the third batch; what it says is durable is in a later one
    overwrite(path, early, bytes([data[early] ^ 1]))
    t.refused(t.new(data_dir=server.data_dir), f"{backend}: a flipped bit early in the log", "is damaged", "Entr",
              "cleatutl")
    overwrite(path, early, data[early:early + 1])
    overwrite(path, used * BLOCK, os.urandom(3 * BLOCK))
    server.start()
    t.checks.check('"count":20}' in t.etcdctl(server, "get", "k", "--prefix", "--keys-only", "-w", "json")[1],
                   f"{backend}: garbage behind the log is cut off, nothing is lost")
    t.put(server, "k20", "after")
    server.kill()
    server.start()
    t.checks.equal(t.etcdctl(server, "get", "k20"), (0, "k20\nafter\n"), f"{backend}: after the torn tail")
    server.stop()
    os.unlink(path)
    t.refused(t.new(data_dir=server.data_dir), f"{backend}: a segment is gone", "log")


def try_flags(t):
    for words, code, text in FLAGS:
        done = subprocess.run([t.args.cleat, *words], capture_output=True, text=True, check=False, timeout=20,
                              cwd=t.folder)
        shown = (done.stdout + done.stderr).replace('\\"', '"')
        t.checks.equal(done.returncode, code, f"{words}: exit code")
        t.checks.check(text in shown, f"{words}: expected '{text}' in:\n{shown[:400]}")
        if code == 2 and "level" not in text:
            t.checks.check("Usage" in done.stderr, f"{words}: the usage follows")
    done = subprocess.run([t.args.cleat, "--version"], capture_output=True, text=True, check=False, timeout=20)
    t.checks.check(done.returncode == 0 and re.match(r"etcd Version: 3\.5\.15\nCleat Version: \d+\.\d+\.\d+", done.stdout),
                   f"--version: {done.stdout}")
    done = subprocess.run([t.args.cleat, "--help"], capture_output=True, text=True, check=False, timeout=20)
    t.checks.check(done.returncode == 0 and "--backend" in done.stdout and "--wal-disk" in done.stdout,
                   "--help lists the flags")


def try_environment(t):
    server = t.new(env={"ETCD_QUOTA_BACKEND_BYTES": "123456789", "ETCD_NO_SUCH_FLAG": "1"})
    server.start()
    log = server.log().decode()
    t.checks.check("recognized and used environment variable" in log, "a variable that counts is logged")
    t.checks.check("ETCD_NO_SUCH_FLAG" in log, "an unknown variable is named")
    metrics = lib.http_get(f"http://{server.endpoint}/metrics")[1].decode()
    t.checks.check(re.search(r"^etcd_server_quota_backend_bytes 1\.23456789e\+08$|^etcd_server_quota_backend_bytes 123456789$",
                             metrics, re.M), "the variable counts")
    server.stop()
    t.refused(t.new(env={"ETCD_HEARTBEAT_INTERVAL": "abc"}), "a wrong variable", "ETCD_HEARTBEAT_INTERVAL: parse error")
    t.refused(t.new(env={"ETCD_NAME": "other"}), "a variable and a flag", "is shadowed by corresponding command-line flag")


def chosen_disk(server):
    lines = [json.loads(line) for line in server.log().splitlines() if b"chose how the log is written" in line]
    return lines[-1]["disk"]


def try_disks(t):
    for disk in ("pwritev2", "fdatasync", "io_uring"):
        server = t.new(f"--wal-disk={disk}")
        server.start()
        t.put(server, "a", disk)
        t.checks.equal(chosen_disk(server), disk, f"--wal-disk={disk}")
        server.kill()
        server.start()
        t.checks.equal(t.etcdctl(server, "get", "a"), (0, f"a\n{disk}\n"), f"--wal-disk={disk}: after a crash")
        server.stop()
    server = t.new(kind=SeccompServer)
    server.start()
    t.put(server, "a", "1")
    t.checks.equal(chosen_disk(server), "pwritev2", "io_uring refused by seccomp: the next best disk")
    t.checks.equal(server.stop(), 0, "io_uring refused by seccomp: exit code")


def try_wal_dir(t):
    apart = os.path.join(t.folder, "wal-apart")
    server = t.new(f"--wal-dir={apart}")
    server.start()
    t.put(server, "a", "1")
    server.kill()
    t.checks.check(any(name.endswith(".wal") for name in os.listdir(apart)), "--wal-dir: the log is there")
    t.checks.check(not os.path.exists(os.path.join(server.data_dir, "member", "wal")), "--wal-dir: and nowhere else")
    server.start()
    t.checks.equal(t.etcdctl(server, "get", "a"), (0, "a\n1\n"), "--wal-dir: after a crash")
    server.stop()
    shutil.move(apart, apart + "-moved")
    t.refused(t.new(f"--wal-dir={apart}", data_dir=server.data_dir), "--wal-dir: the log is gone", apart)


def try_http(t):
    server = t.new()
    server.start()
    t.put(server, "a", "1")
    url = f"http://{server.endpoint}"
    t.checks.equal(lib.http_get(url + "/health"), (200, b'{"health":"true","reason":""}'), "/health")
    t.checks.equal(lib.http_get(url + "/health?serializable=true")[0], 200, "/health?serializable=true")
    t.checks.equal(lib.http_get(url + "/version"), (200, b'{"etcdserver":"3.5.15","etcdcluster":"3.5.0"}'), "/version")
    t.checks.equal(lib.http_get(url + "/nope"), (404, b"404 page not found\n"), "/nope")
    status, body = lib.http_get(url + "/metrics")
    metrics = body.decode()
    t.checks.equal(status, 200, "/metrics")
    for name in METRICS:
        t.checks.check(re.search("^" + re.escape(name), metrics, re.M), f"/metrics has {name}")
    for line in metrics.splitlines():
        if not re.fullmatch(r"# (HELP|TYPE) \S+ .+|[a-zA-Z_:][a-zA-Z0-9_:]*(\{.*\})? \S+", line):
            t.checks.check(False, f"/metrics: not Prometheus text: {line}")
    mode = os.stat(os.path.join(server.data_dir, "member")).st_mode & 0o777
    t.checks.equal(oct(mode), "0o700", "only the owner may read member/")
    server.stop()
    for line in server.log().splitlines():
        try:
            keys = list(json.loads(line))
            t.checks.check(keys[:4] == ["level", "ts", "caller", "msg"], f"a log line in etcd's shape: {line}")
        except ValueError:
            t.checks.check(False, f"a log line that is no JSON: {line}")


def main():
    if sys.argv[1:2] == ["--refuse-io-uring"]:
        refuse_io_uring_and_exec(sys.argv[2:])
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", load="build/release/tests/e2e/crash_load",
                           etcdctl="etcdctl")
    parser.add_argument("--parts", default="ends,rest", help="ends: how long they take is judged")
    args = parser.parse_args()
    args.cleat = os.path.abspath(args.cleat)
    args.etcdctl = lib.need_program(args.etcdctl)
    lib.need_program("curl")
    t = Lifecycle(args)
    if "ends" in args.parts.split(","):
        try_stop_under_load(t)
        for backend in ("lmdb", "sqlite"):
            try_early_ends_of_a_long_start(t, backend)
    if "rest" in args.parts.split(","):
        for part in (try_two_of_a_kind, try_early_ends, try_foreign_directories, try_flags, try_environment, try_disks,
                     try_wal_dir, try_http):
            part(t)
        for backend in ("lmdb", "sqlite"):
            try_restart(t, backend)
            try_damaged_log(t, backend)
    t.checks.done()


if __name__ == "__main__":
    main()
