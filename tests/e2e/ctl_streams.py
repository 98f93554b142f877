#!/usr/bin/env python3
"""cleatctl's commands that last or go to single members, against etcd and against cleat: what they print and how they
end. Where an etcdctl of the version that cleatctl speaks is given (--etcdctl), each command that ends by itself is
also run by it, and must print the same."""
import json
import os
import re
import subprocess
import sys

import lib

SAME_VERSION = "3.5."

# What differs between two runs, and the word that stands for it.
MASKS = [
    (rb'"ts":"[^"]*"', b'"ts":"T"'),
    (rb'"caller":"[^"]*"', b'"caller":"C"'),
    (rb',"stacktrace":"[^"]*"', b""),
    (rb"0x[0-9a-f]+", b"0xP"),
    (rb"\b[0-9.]+(ms|\xc2\xb5s|s)\b", b"DURATION"),
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

    def run(self, *words, program=None, stdin=b"", env=None, timeout=30):
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


def check_endpoints(tools, server):
    here = ["--endpoints", server.endpoint]
    gone = "127.0.0.1:1"
    both = ["--endpoints", f"{server.endpoint},{gone}", "--command-timeout", "200ms"]
    deadline = re.compile(rb'\{"level":"warn".*connection refused.*\}\n(.*context deadline exceeded.*\n)?(Error: .*\n)?')
    healthy = server.endpoint.encode() + rb" is healthy: successfully committed proposal: took = [0-9.m\xc2\xb5]+s\n"
    tools.ends(here + ["endpoint", "health"], 0, out=re.compile(healthy), err=b"")
    tools.ends(here + ["endpoint", "health", "--cluster", "-w", "json"], 0,
               out=re.compile(rb'\[\{"endpoint":"http://[^"]*","health":true,"took":"[^"]*"\}\]\n'), err=b"")
    tools.ends(both + ["endpoint", "health"], 1, out=re.compile(healthy), err=deadline)
    status = rb"%s, [0-9a-f]+, 3\.\d\.\d+, \d+ kB, true, false, \d+, \d+, \d+, \n" % server.endpoint.encode()
    tools.ends(here + ["endpoint", "status"], 0, out=re.compile(status), err=b"")
    tools.ends(both + ["endpoint", "status"], 1, out=re.compile(status), err=deadline)
    tools.ends(here + ["endpoint", "hashkv"], 0, out=re.compile(rb"%s, \d+\n" % server.endpoint.encode()), err=b"")
    for command in ("health", "status", "hashkv"):
        for writer in ("fields", "json", "table"):
            tools.ends(here + ["endpoint", command, "--cluster", "-w", writer], 0, err=b"")
            tools.ends(both + ["endpoint", command, "-w", writer], 1, err=deadline)
        tools.ends(here + ["endpoint", command, "-w", "protobuf"], 4, out=b"",
                   err=b"Error: protobuf not supported as output format\n")
        tools.ends(["--endpoints", gone, "--command-timeout", "100ms", "endpoint", command, "--cluster"], 1, out=b"",
                   err=deadline)
    done = tools.ends(here + ["endpoint", "status", "-w", "json"], 0)
    tools.checks.equal(json.loads(done.stdout)[0]["Endpoint"], server.endpoint, "endpoint of status")
    tools.ends(here + ["endpoint", "hashkv", "--rev", "9999"], 1, out=b"", err=re.compile(
        rb"\{.*\}\nFailed to get the hash of endpoint .* \(etcdserver: mvcc: required revision is a future revision\)\n"
        rb"Error: etcdserver: mvcc: required revision is a future revision\n"))


def run_all(tools, server):
    server.start()
    check_endpoints(tools, server)
    server.stop()


def main():
    parser = lib.arguments(__doc__, cleatctl="build/release/tools/ctl/cleatctl", cleat="build/release/server/cleat",
                           etcd="etcd", etcdctl="etcdctl")
    args = parser.parse_args()
    checks = lib.Checks()
    tools = Tools(checks, args)
    top = lib.temp_dir("ctl-streams")
    run_all(tools, lib.Server(args.cleat, top + "/cleat"))
    if lib.find_program(args.etcd) is not None:
        run_all(tools, lib.Server(args.etcd, top + "/etcd"))
    checks.done()


if __name__ == "__main__":
    sys.exit(main())
