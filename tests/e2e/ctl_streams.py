#!/usr/bin/env python3
"""cleatctl's commands that last or go to single members, against etcd and against cleat: what they print and how they
end. Where an etcdctl of the version that cleatctl speaks is given (--etcdctl), each command that ends by itself is
also run by it, and must print the same."""
import concurrent.futures
import hashlib
import json
import os
import re
import signal
import subprocess
import sys

import lib

SAME_VERSION = "3.5."
FLAGS = ["--bcrypt-cost=4"]  # dearer passwords keep a busy machine for longer than a client waits to be let in

# What differs between two runs, and the word that stands for it.
MASKS = [
    (rb'"ts":"[^"]*"', b'"ts":"T"'),
    (rb'"caller":"[^"]*"', b'"caller":"C"'),
    (rb',"stacktrace":"[^"]*"', b""),
    (rb"0x[0-9a-f]+", b"0xP"),
    (rb"\b[0-9.]+(ms|\xc2\xb5s|s)\b", b"DURATION"),
    (rb", \d+, \d+, \n", b", INDEX, INDEX, \n"),
    (rb'"(raftIndex|raftAppliedIndex)":\d+', rb'"\1":INDEX'),
    (rb"-{3,}", b"--"),
    (rb" {2,}", b" "),
]


def plain(raw):
    for pattern, word in MASKS:
        raw = re.sub(pattern, word, raw)
    return raw


def environment(extra=None):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_")}
    return dict(kept, ETCDCTL_API="3", **(extra or {}))


class Tools:
    """cleatctl, and the etcdctl that judges it, if there is one."""

    def __init__(self, checks, args):
        self.checks = checks
        self.ctl = args.cleatctl
        self.judge = lib.find_program(args.etcdctl)
        if self.judge is not None:
            done = subprocess.run([self.judge, "version"], capture_output=True, check=False, env=environment())
            if SAME_VERSION.encode() not in done.stdout:
                self.judge = None

    def run(self, *words, program=None, stdin=b"", env=None, timeout=120):
        return subprocess.run([program or self.ctl, *words], input=stdin, capture_output=True, check=False,
                              timeout=timeout, env=environment(env))

    def ends(self, words, code, out=None, err=None, **options):
        """Runs a command to its end; checks exit code and outputs, each exact or a pattern, None for any; and that the
        judge's are the same."""
        done = self.run(*words, **options)
        what = " ".join(words)
        self.checks.equal(done.returncode, code, f"{what}: exit code; stderr {done.stderr!r}")
        for got, expected, name in ((done.stdout, out, "stdout"), (done.stderr, err, "stderr")):
            if isinstance(expected, re.Pattern):
                self.checks.check(expected.fullmatch(got), f"{what}: {name} {got!r} is not {expected.pattern!r}")
            elif expected is not None:
                self.checks.equal(got, expected, f"{what}: {name}")
        if self.judge is not None:
            other = self.run(*words, program=self.judge, **options)
            self.checks.equal((done.returncode, plain(done.stdout), plain(done.stderr)),
                              (other.returncode, plain(other.stdout), plain(other.stderr)), f"{what}: as etcdctl")
        return done


class Lasting:
    """A command that does not end by itself; its output is read as it comes."""

    def __init__(self, tools, *words, env=None):
        self.what = " ".join(words)
        self.checks = tools.checks
        self.process = lib.spawn([tools.ctl, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, env=environment(env))
        self.got = b""
        os.set_blocking(self.process.stdout.fileno(), False)

    def say(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def prints(self, expected, timeout=30):
        """Waits until the output, all of it, is what is expected: bytes or a pattern."""
        def is_there():
            self.got += self.process.stdout.read() or b""
            return expected.fullmatch(self.got) if isinstance(expected, re.Pattern) else self.got == expected
        try:
            lib.wait_until(is_there, timeout, self.what)
            self.checks.check(True, self.what)
        except TimeoutError:
            self.checks.check(False, f"{self.what}: printed {self.got!r}, expected {expected!r}")
        self.got = b""

    def ends(self, code, err=b"", number=None):
        """Sends a signal, if there is one, and checks the end."""
        if number is not None:
            self.process.send_signal(number)
        try:
            out, rest = self.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.checks.check(False, f"{self.what}: does not end")
            return
        self.checks.equal((self.process.returncode, self.got + out), (code, b""), f"{self.what}: end; stderr {rest!r}")
        if err is not None:
            self.checks.equal(rest, err, f"{self.what}: stderr at its end")


def check_watch(tools, server):
    here = ["--endpoints", server.endpoint]
    tools.run(*here, "del", "", "--prefix")
    header = json.loads(tools.run(*here, "put", "w", "0", "-w", "json").stdout)["header"]
    first = header["revision"] + 1
    # Begun at a revision, so that it does not matter when the watcher is there.
    simple = Lasting(tools, *here, "watch", "w", "--rev", str(first), "--prev-kv")
    line = Lasting(tools, *here, "watch", "w", "x", "--rev", str(first), "-w", "json")
    program = Lasting(tools, *here, "watch", "--prefix", "--rev", str(first), "--", "sh", "-c",
                      "echo $ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE",
                      env={"ETCDCTL_WATCH_KEY": "w"})
    failing = Lasting(tools, *here, "watch", "w", "--rev", str(first), "--", "sh", "-c", "exit 3")
    tools.run(*here, "put", "w", '"1"')
    simple.prints(b'PUT\nw\n0\nw\n"1"\n')
    program.prints(b'PUT\nw\n"1"\n%d "PUT" "w" "\\"1\\""\n' % first)
    line.prints(re.compile(rb'\{"Header":\{[^}]*\},"Events":\[\{"kv":\{"key":"dw==",[^}]*"value":"IjEi"\}\}\],'
                           rb'"CompactRevision":0,"Canceled":false,"Created":false\}\n'))
    failing.prints(b'PUT\nw\n"1"\n')
    failing.ends(1, b'command ["sh" "-c" "exit 3"] error (exit status 3)\n')
    tools.run(*here, "del", "w")
    simple.prints(b'DELETE\nw\n"1"\nw\n\n')
    program.prints(b'DELETE\nw\n\n%d "DELETE" "w" ""\n' % (first + 1))
    program.process.kill()
    line.prints(re.compile(rb'\{.*"Events":\[\{"type":1,"kv":\{"key":"dw==","mod_revision":%d\}\}\].*\}\n' % (first + 1)))
    # A member that restarts: nothing is lost, nothing comes twice.
    server.kill()
    server.start()
    tools.run(*here, "put", "w", "2")
    simple.prints(b"PUT\nw\n2\n")
    line.prints(re.compile(rb'\{.*"value":"Mg==".*\}\n'))
    for watcher in (simple, line):
        watcher.ends(-signal.SIGINT, b"", signal.SIGINT)
    revision = json.loads(tools.run(*here, "get", "w", "-w", "json").stdout)["header"]["revision"]
    tools.run(*here, "compact", str(revision))
    canceled = (b"watch was canceled (etcdserver: mvcc: required revision has been compacted)\n"
                b"Error: watch is canceled by the server\n")
    for writer in ("simple", "json", "fields"):
        tools.ends(here + ["watch", "w", "--rev", "1", "-w", writer], 5, err=canceled)
    for words, env, error in (
            (["watch"], {}, b"bad number of arguments"),
            (["watch", "a", "--"], {}, b"bad number of arguments (found separator --, but no commands)"),
            (["watch", "a", "b", "--prefix"], {}, b"`range_end` and `--prefix` are mutually exclusive"),
            (["watch", "a"], {"ETCDCTL_WATCH_KEY": "b"},
             b"bad number of arguments (found conflicting environment key)"),
            (["watch", "a"], {"ETCDCTL_WATCH_RANGE_END": "b"},
             b'ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END="b"')):
        tools.ends(here + words, 128, out=b"", err=b"Error: " + error + b"\n", env=env)


def check_interactive_watch(tools, server):
    here = ["--endpoints", server.endpoint]
    revision = json.loads(tools.run(*here, "put", "i", "0", "-w", "json").stdout)["header"]["revision"]
    watcher = Lasting(tools, *here, "watch", "-i")
    for line in (f"watch i --rev {revision}", "foo", "watch", "watch a b --prefix", 'watch "i j" -- echo it'):
        watcher.say(line)
    watcher.prints(b"PUT\ni\n0\n")
    watcher.say("progress")
    watcher.prints(b"progress notify: %d\n" % revision * 2)
    tools.run(*here, "put", "i j", "1")
    watcher.prints(b"PUT\ni j\n1\nit\n")
    watcher.ends(3, b"Invalid command foo (only support watch)\n"
                 b"Invalid command watch (command type or key is not provided)\n"
                 b"Invalid command watch a b --prefix (`range_end` and `--prefix` are mutually exclusive)\n"
                 b"Error: error reading watch request line: EOF\n")


def check_keep_alive(tools, server):
    here = ["--endpoints", server.endpoint]
    lease = tools.run(*here, "lease", "grant", "2").stdout.split()[1]
    once = tools.run(*here, "lease", "keep-alive", lease.decode(), "--once", "-w", "json")
    tools.checks.equal(json.loads(once.stdout).get("TTL"), 2, "TTL of keep-alive --once")
    keeper = Lasting(tools, *here, "lease", "keep-alive", lease.decode())
    renewed = b"lease %s keepalived with TTL(2)\n" % lease
    keeper.prints(renewed * 2)
    tools.run(*here, "lease", "revoke", lease.decode())
    keeper.prints(re.compile(b"(%s)?lease %s expired or revoked.\n" % (re.escape(renewed), lease)))
    keeper.ends(0)
    tools.ends(here + ["lease", "keep-alive", "77"], 0, out=b"lease 0000000000000077 expired or revoked.\n", err=b"")
    tools.ends(here + ["lease", "keep-alive", "77", "--once"], 2, out=b"",
               err=b"Error: etcdserver: requested lease not found\n")


def check_lock(tools, server):
    here = ["--endpoints", server.endpoint]
    holder = Lasting(tools, *here, "lock", "L")
    holder.prints(re.compile(rb"L/[0-9a-f]+\n\n"))
    second = Lasting(tools, *here, "lock", "L", "sh", "--", "-c", "echo $ETCD_LOCK_KEY $ETCD_LOCK_REV; exit 3")
    third = Lasting(tools, *here, "lock", "L")
    lib.wait_until(lambda: tools.run(*here, "get", "L/", "--prefix", "--keys-only").stdout.count(b"L/") == 3, 30,
                   "two waiting for the lock")
    third.ends(1, b"Error: context canceled\n", signal.SIGTERM)  # gives up its place
    holder.ends(0, b"", signal.SIGINT)
    second.prints(re.compile(rb"L/[0-9a-f]+ \d+\n"))
    second.ends(3, b"Error: exit status 3\n")
    tools.checks.equal(tools.run(*here, "get", "L/", "--prefix").stdout, b"", "the lock's keys afterwards")
    tools.ends(here + ["lock", "L", "no-such-program"], 1, out=b"",
               err=b'Error: exec: "no-such-program": executable file not found in $PATH\n')
    tools.ends(here + ["lock"], 128, out=b"",
               err=b"Error: lock takes a lock name argument and an optional command to execute\n")


def check_elect(tools, server):
    here = ["--endpoints", server.endpoint]
    observer = Lasting(tools, *here, "elect", "-l", "N", "-w", "json")
    one = Lasting(tools, *here, "elect", "N", "one")
    one.prints(re.compile(rb"N/[0-9a-f]+\none\n"))
    won = rb'\{"header":\{[^}]*\},"kvs":\[\{"key":"[^}]*"value":"%s","lease":\d+\}\]\}\n'
    observer.prints(re.compile(won % b"b25l"))
    two = Lasting(tools, *here, "elect", "N", "two")
    lib.wait_until(lambda: tools.run(*here, "get", "N/", "--prefix", "--keys-only").stdout.count(b"N/") == 2, 30,
                   "a second candidate")
    one.ends(0, b"", signal.SIGINT)
    two.prints(re.compile(rb"N/[0-9a-f]+\ntwo\n"))
    observer.prints(re.compile(won % b"dHdv"))
    observer.ends(0, b"", signal.SIGTERM)
    two.ends(0, b"", signal.SIGTERM)
    tools.ends(here + ["elect", "N"], 128, out=b"", err=b"Error: no proposal argument but -l not set\n")
    tools.ends(here + ["elect", "N", "v", "-l"], 128, out=b"", err=b"Error: proposal given but -l is set\n")


def check_mirror(tools, server):
    """Into the same cluster, below another name."""
    here = ["--endpoints", server.endpoint]
    for i in range(1100):  # more than a page
        if i % 100 == 0:
            puts = "\n".join(f"put a/{k:04} v{k}" for k in range(i, i + 100))
            tools.run(*here, "txn", stdin=f"\n{puts}\n\n\n".encode())
    mirror = Lasting(tools, *here, "make-mirror", server.endpoint, "--prefix", "a/", "--dest-prefix", "b/")

    def mirrored():
        return tools.run(*here, "get", "b/", "--prefix").stdout
    lib.wait_until(lambda: mirrored().count(b"\n") == 2200, 30, "the copy of what was there")
    tools.run(*here, "txn", stdin=b"\nput a/0000 new\ndel a/0001\nput a/x y\n\n\n")
    source = tools.run(*here, "get", "a/", "--prefix").stdout
    lib.wait_until(lambda: mirrored() == source.replace(b"a/", b"b/"), 30, "the copy of what happened since")
    mirror.ends(-signal.SIGINT, b"", signal.SIGINT)
    tools.ends(here + ["make-mirror"], 128, out=b"", err=b"Error: make-mirror takes one destination argument\n")
    tools.run(*here, "del", "", "--prefix")


def check_snapshot(tools, server, top):
    here = ["--endpoints", server.endpoint]
    path = os.path.join(top, "saved.db")
    log = re.compile(rb'(\{"level":"info","ts":"[^"]*",("logger":"client",)?"caller":"[^"]*","msg":"[^"]*"[^}]*\}\n){6}')
    tools.ends(here + ["snapshot", "save", path], 0, out=b"Snapshot saved at %s\n" % path.encode(), err=log)
    with open(path, "rb") as file:
        saved = file.read()
    tools.checks.equal((os.stat(path).st_mode & 0o777, len(saved) % 512, hashlib.sha256(saved[:-32]).digest()),
                       (0o600, 32, saved[-32:]), "mode, size and checksum of the snapshot")
    missing = os.path.join(top, "missing", "saved.db").encode()
    tools.ends(here + ["snapshot", "save", missing.decode()], 5, out=b"",
               err=b"Error: could not open %s.part (open %s.part: no such file or directory)\n" % (missing, missing))
    tools.ends(["--endpoints", f"{server.endpoint},127.0.0.1:1", "snapshot", "save", path], 5, out=b"",
               err=b"Error: snapshot must be requested to one selected node, not multiple [%s 127.0.0.1:1]\n" %
               server.endpoint.encode())
    tools.ends(["--endpoints", "127.0.0.1:1", "--command-timeout", "300ms", "snapshot", "save", path], 5, out=b"")
    tools.ends(here + ["snapshot", "save", top], 5, out=b"")
    tools.checks.equal([name for name in os.listdir(top) if name.endswith(".part")], [], "unfinished snapshots")
    with open(path, "rb") as file:
        tools.checks.check(file.read() == saved, "a failed save leaves the snapshot before it alone")


def check_checks(tools, server):
    here = ["--endpoints", server.endpoint]
    scale = tools.run(*here, "check", "datascale", "--auto-compact")
    tools.checks.check(re.fullmatch(
        rb"Start data scale check for work load \[10000 key-value pairs, 1024 bytes per key-value, 50 concurrent "
        rb"clients\]\.\n(\r *\d+ / 10000 .*)+\nCompacting with revision (\d+)\nCompacted with revision \2\n"
        rb"PASS: Approximate system memory used : -?\d+\.\d\d MB\.\n", scale.stdout),
        f"check datascale: {scale.returncode}, {scale.stdout[-300:]!r}, {scale.stderr!r}")
    tools.checks.equal(tools.run(*here, "get", "/etcdctl-check", "--prefix").stdout[:99], b"", "what the check left")
    for check in ("perf", "datascale"):
        tools.ends(here + ["check", check, "--load", "x"], 4, out=b"", err=b"Error: unknown load option x\n")
    tools.run(*here, "put", "/etcdctl-check-perf/x", "1")
    tools.ends(here + ["check", "perf"], 3, out=b"",
               err=b'Error: prefix "/etcdctl-check-perf/" has keys. '
               b"Delete with 'etcdctl del --prefix /etcdctl-check-perf/' first\n")
    tools.run(*here, "del", "/etcdctl-check-perf/x")
    if lib.FULL:
        out = tools.run(*here, "check", "perf").stdout
        tools.checks.check(re.search(rb"\n(PASS: [^\n]*\n){3}PASS\n$", out), f"check perf passes: {out[-300:]!r}")
    perf = Lasting(tools, *here, "check", "perf")
    lib.wait_until(lambda: b"/etcdctl-check-perf/" in
                   tools.run(*here, "get", "/etcdctl-check-perf/", "--prefix", "--limit", "1").stdout, 30, "puts of perf")
    perf.process.send_signal(signal.SIGINT)
    out, _ = perf.process.communicate(timeout=30)
    tools.checks.check(b"writes/s\n" in out, f"check perf, interrupted, tells what it has: {out[-200:]!r}")
    tools.checks.equal(tools.run(*here, "get", "/etcdctl-check", "--prefix").stdout[:99], b"", "what the check left")


def check_auth(tools, server, top):
    here = ["--endpoints", server.endpoint]
    root = here + ["--user", "root:r"]
    user = here + ["--user", "u:p"]
    for words in ("user add root:r", "user add u:p", "role add r", "role grant-permission r readwrite a --prefix",
                  "user grant-role u r", "user grant-role root root", "auth enable"):
        tools.run(*here, *words.split())
    health = rb"%s is healthy: successfully committed proposal: took = .*\n" % server.endpoint.encode()
    refusal = rb'\{"level":"warn"[^\n]*permission denied"\}\n'
    tools.ends(user + ["endpoint", "health"], 0, out=re.compile(health), err=re.compile(refusal))
    tools.ends(here + ["--user", "u:wrong", "lock", "a"], 2, out=b"", err=re.compile(
        rb"\{.*\}\nError: etcdserver: authentication failed, invalid user ID or password\n"))
    path = os.path.join(top, "denied.db")
    tools.ends(user + ["snapshot", "save", path], 5, out=b"", err=re.compile(
        rb'(\{"level":"info".*\}\n){3}\{"level":"warn".*\}\nError: rpc error: code = Unknown desc = auth: permission denied\n'))
    tools.checks.equal([name for name in os.listdir(top) if name.startswith("denied")], [], "denied snapshots")
    tools.ends(user + ["watch", "b"], 5, out=b"", err=re.compile(
        rb"watch was canceled \(.*permission denied\)\nError: watch is canceled by the server\n"))
    tools.ends(user + ["lock", "a/L", "true"], 0, out=b"", err=b"")
    tools.ends(user + ["lock", "b/L", "true"], 1, out=b"",
               err=re.compile(refusal + rb"Error: etcdserver: permission denied\n"))
    keeper = Lasting(tools, *root, "lease", "keep-alive",
                     tools.run(*root, "lease", "grant", "60").stdout.split()[1].decode())
    keeper.prints(re.compile(rb"lease [0-9a-f]+ keepalived with TTL\(60\)\n"))
    keeper.ends(-signal.SIGINT, b"", signal.SIGINT)
    tools.run(*root, "auth", "disable")


def make_certificate(folder, name, issuer=None):
    """name.pem and name.key, by the openssl program."""
    files = [os.path.join(folder, name + end) for end in (".key", ".csr", ".pem", ".ext")]
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=" + name,
           "-keyout", files[0]]
    if issuer is None:
        subprocess.run(new + ["-x509", "-days", "2", "-out", files[2]], check=True, capture_output=True)
        return
    subprocess.run(new + ["-out", files[1]], check=True, capture_output=True)
    with open(files[3], "w", encoding="ascii") as file:
        file.write("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth")
    subprocess.run(["openssl", "x509", "-req", "-in", files[1], "-CA", os.path.join(folder, issuer + ".pem"), "-CAkey",
                    os.path.join(folder, issuer + ".key"), "-CAcreateserial", "-out", files[2], "-days", "2", "-extfile",
                    files[3]], check=True, capture_output=True)


def check_tls(tools, etcd, top):
    """Against etcd that wants a certificate of its clients."""
    for name, issuer in (("ca", None), ("other", None), ("server", "ca"), ("alice", "ca")):
        make_certificate(top, name, issuer)
    names = {name: os.path.join(top, name) for name in ("ca.pem", "other.pem", "server.pem", "server.key", "alice.pem",
                                                        "alice.key", "missing.pem")}
    server = lib.Server(etcd, top + "/tls", flags=["--cert-file", names["server.pem"], "--key-file", names["server.key"],
                                                   "--trusted-ca-file", names["ca.pem"], "--client-cert-auth"])
    url = f"https://127.0.0.1:{server.client_port}"
    plain = f"http://127.0.0.1:{lib.free_ports(1)[0]}"  # for the driver's question whether it is up
    server.flags += ["--listen-client-urls", f"{url},{plain}", "--advertise-client-urls", url]
    server.launch()
    lib.wait_until(lambda: lib.http_get(plain + "/health")[0] == 200, 30, "etcd with TLS")
    alice = ["--cert", names["alice.pem"], "--key", names["alice.key"]]
    trusting = alice + ["--cacert", names["ca.pem"]]
    for endpoint in (url, server.endpoint):
        tools.ends(["--endpoints", endpoint] + trusting + ["put", "a", "b"], 0, out=b"OK\n", err=b"")
    tools.ends(["--endpoints", url] + trusting + ["endpoint", "status", "--cluster"], 0, err=b"")
    tools.ends(["--endpoints", url] + trusting + ["snapshot", "save", top + "/tls.db"], 0)
    tools.ends(["--endpoints", plain] + trusting + ["get", "a"], 0, out=b"a\nb\n", err=b"")
    short = ["--endpoints", url, "--command-timeout", "500ms"]
    for words in ([], ["--cacert", names["other.pem"]] + alice, ["--insecure-skip-tls-verify"]):
        done = tools.run(*short, *words, "get", "a")
        tools.checks.check(done.returncode == 1 and b"certificate signed by unknown authority" in done.stderr and
                           done.stderr.endswith(b"\nError: context deadline exceeded\n"),
                           f"get with {words}: {done.returncode}, {done.stderr!r}")
    tools.checks.equal(tools.run(*short, "--cacert", names["ca.pem"], "get", "a").returncode, 1, "without a certificate")
    tools.ends(["--endpoints", url, "--insecure-skip-tls-verify", "--insecure-transport=false"] + alice + ["get", "a"], 0,
               out=b"a\nb\n", err=b"")
    for words, error in (
            (["--cert", names["alice.pem"]], b"KeyFile and CertFile must both be present[key: , cert: %s]" %
             names["alice.pem"].encode()),
            (["--cacert", names["missing.pem"]], b"open %s: no such file or directory" % names["missing.pem"].encode()),
            (["--cert", names["alice.pem"], "--key", names["server.key"]], b"tls: private key does not match public key"),
            (["--cert", ""], b"empty string is passed to --cert option")):
        tools.ends(short + words + ["get", "a"], 128, out=b"", err=b"Error: " + error + b"\n")
    server.stop()


def check_endpoints(tools, server):
    here = ["--endpoints", server.endpoint]
    gone = "127.0.0.1:1"
    both = ["--endpoints", f"{server.endpoint},{gone}", "--command-timeout", "3s"]
    deadline = re.compile(rb'\{"level":"warn".*connection refused.*\}\n(.*context deadline exceeded.*\n)?(Error: .*\n)?')
    healthy = server.endpoint.encode() + rb" is healthy: successfully committed proposal: took = [0-9.m\xc2\xb5]+s\n"
    tools.ends(here + ["endpoint", "health"], 0, out=re.compile(healthy), err=b"")
    tools.ends(here + ["endpoint", "health", "--cluster", "-w", "json"], 0,
               out=re.compile(rb'\[\{"endpoint":"http://[^"]*","health":true,"took":"[^"]*"\}\]\n'), err=b"")
    status = rb"%s, [0-9a-f]+, 3\.\d\.\d+, \d+ kB, true, false, \d+, \d+, \d+, \n" % server.endpoint.encode()
    tools.ends(here + ["endpoint", "status"], 0, out=re.compile(status), err=b"")
    tools.ends(here + ["endpoint", "hashkv"], 0, out=re.compile(rb"%s, \d+\n" % server.endpoint.encode()), err=b"")
    for command in ("health", "status", "hashkv"):
        for writer in ("fields", "json", "table"):
            tools.ends(here + ["endpoint", command, "--cluster", "-w", writer], 0, err=b"")
        tools.ends(here + ["endpoint", command, "-w", "protobuf"], 4, out=b"",
                   err=b"Error: protobuf not supported as output format\n")
    tools.ends(["--endpoints", gone, "--command-timeout", "100ms", "endpoint", "status", "--cluster"], 1, out=b"",
               err=deadline)
    with concurrent.futures.ThreadPoolExecutor() as pool:  # each waits its time
        for command, out in (("health", healthy), ("status", status), ("hashkv", rb"[^\n]*\n")):
            pool.submit(tools.ends, both + ["endpoint", command], 1, out=re.compile(out), err=deadline)
            pool.submit(tools.ends, both + ["endpoint", command, "-w", "json"], 1, err=deadline)
    done = tools.ends(here + ["endpoint", "status", "-w", "json"], 0)
    tools.checks.equal(json.loads(done.stdout)[0]["Endpoint"], server.endpoint, "endpoint of status")
    tools.ends(here + ["endpoint", "hashkv", "--rev", "9999"], 1, out=b"", err=re.compile(
        rb"\{.*\}\nFailed to get the hash of endpoint .* \(etcdserver: mvcc: required revision is a future revision\)\n"
        rb"Error: etcdserver: mvcc: required revision is a future revision\n"))


def run_all(tools, server):
    server.start()
    top = os.path.dirname(server.data_dir)
    check_endpoints(tools, server)
    check_snapshot(tools, server, top)
    check_checks(tools, server)
    for check in (check_watch, check_interactive_watch, check_keep_alive, check_lock, check_elect, check_mirror):
        check(tools, server)
    # Until cleat lets users in only etcd is asked for them.
    if b"not served" not in tools.run("--endpoints", server.endpoint, "--user", "u:p", "get", "x").stderr:
        check_auth(tools, server, top)
    server.stop()


def main():
    parser = lib.arguments(__doc__, cleatctl="build/release/tools/ctl/cleatctl", cleat="build/release/server/cleat",
                           etcd="etcd", etcdctl="etcdctl")
    args = parser.parse_args()
    checks = lib.Checks()
    tools = Tools(checks, args)
    top = lib.temp_dir("ctl-streams")
    run_all(tools, lib.Server(args.cleat, top + "/cleat", flags=FLAGS))
    if lib.find_program(args.etcd) is not None:
        run_all(tools, lib.Server(args.etcd, top + "/etcd", flags=FLAGS))
        if lib.find_program("openssl") is not None:
            check_tls(tools, args.etcd, top)
    checks.done()


if __name__ == "__main__":
    sys.exit(main())
