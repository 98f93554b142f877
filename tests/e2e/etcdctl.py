#!/usr/bin/env python3
"""The commands of etcdctl.txt through Debian's etcdctl, against a new member on each backend: what it prints must be
what the file says. Where an etcd is installed the commands go to it too, so that the file cannot drift from etcd."""
import os
import re
import shlex
import subprocess
import sys

import lib

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "etcdctl.txt")

# What differs between two runs, and the word that stands for it.
WORDS = [
    (r'"(cluster_id|member_id|leader|ID)":\d+', r'"\1":<id>'),
    (r'"(ClusterID|MemberID|Leader|ID)" : \d+', r'"\1" : <id>'),
    (r"\b[0-9a-f]{11,16}\b", "<id>"),
    (r"http://127\.0\.0\.1:\d+", "<url>"),
    (r"127\.0\.0\.1:\d+", "<endpoint>"),
    (r"took = [0-9.]+[mµn]?s", "took = <time>"),
    (r'"took":"[^"]*"', '"took":"<time>"'),
    (r"\b3\.[45]\.\d+\b", "<version>"),
    (r"\b[0-9.]+ [kM]?B\b", "<size>"),
    (r'"(dbSize|dbSizeInUse)":\d+', r'"\1":<size>'),
    (r'"(DBSize)" : \d+', r'"\1" : <size>'),
    (r'"(raftIndex|raftAppliedIndex)":\d+', r'"\1":<index>'),
    (r'"(RaftIndex|RaftAppliedIndex)" : \d+', r'"\1" : <index>'),
    (r"(true|false), (true|false), (\d+), \d+, \d+,", r"\1, \2, \3, <index>, <index>,"),
    (r"(\| +(?:true|false) \| +(?:true|false) \| +\d+ \|) +\d+ \| +\d+ \|", r"\1 <index> | <index> |"),
]


class Step:
    """One command of the script and what belongs to it."""

    def __init__(self, command, line):
        self.command = command
        self.line = line
        self.stdin = []
        self.output = []  # ends with "= code" when that is not 0


def read_script(path):
    """(steps, lines): the lines are kept for --rewrite."""
    steps = []
    with open(path, encoding="utf-8") as script:
        lines = script.read().splitlines()
    for number, line in enumerate(lines):
        if line.startswith("$ "):
            steps.append(Step(line[2:], number))
        elif line.startswith(">"):
            steps[-1].stdin.append(line[2:])
        elif line.startswith(("|", "=")):
            steps[-1].output.append(line)
    return steps, lines


def without_header(raw):
    """A protobuf answer in hex, its header (field 1, under 128 bytes), which holds ids, cut off."""
    return raw[2 + raw[1]:].hex() if raw[:1] == b"\x0a" else raw.decode("utf-8", "replace")


def plain(text):
    for pattern, word in WORDS:
        text = re.sub(pattern, word, text)
    return re.sub(r" {2,}", " ", re.sub(r"-{2,}", "-", text)).rstrip()


def run_step(etcdctl, endpoint, step):
    """What the command printed and its exit code, as lines of the script."""
    words = shlex.split(step.command)
    done = subprocess.run([etcdctl, "--endpoints", endpoint] + words, check=False, timeout=60,
                          input="\n".join(step.stdin + [""]).encode() if step.stdin else b"",
                          env=dict(os.environ, ETCDCTL_API="3"), capture_output=True)
    out = without_header(done.stdout) if "protobuf" in words else done.stdout.decode("utf-8", "replace")
    err = done.stderr.decode("utf-8", "replace")
    lines = out.splitlines()
    # etcdctl's own log is not what it says to its user, nor is the help it adds to a wrong flag.
    lines += [line for line in err.splitlines() if not line.startswith('{"level"')]
    for end, line in enumerate(lines):
        if line.startswith("NAME:") or line.startswith("Usage:"):
            lines = lines[:end]
            break
    shown = [("| " + plain(line)).rstrip() for line in lines]
    return shown + ([f"= {done.returncode}"] if done.returncode != 0 else [])


def run_script(checks, etcdctl, server, steps, what):
    server.start()
    for step in steps:
        got = run_step(etcdctl, server.endpoint, step)
        checks.check(got == step.output, f"{what}, line {step.line + 1}: $ {step.command}\n  got:\n" +
                     "\n".join("    " + line for line in got) + "\n  expected:\n" +
                     "\n".join("    " + line for line in step.output))
    checks.equal(server.stop(), 0 if "cleat" in what else -15, f"{what}: exit code after SIGTERM")


def rewrite(etcdctl, server, steps, lines):
    server.start()
    answers = {step.line: [f"> {text}".rstrip() for text in step.stdin] + run_step(etcdctl, server.endpoint, step)
               for step in steps}
    server.stop()
    with open(SCRIPT, "w", encoding="utf-8") as script:
        for number, line in enumerate(lines):
            if line[:1] not in (">", "|", "="):
                script.write(line + "\n")
            for answer in answers.get(number, []):
                script.write(answer + "\n")


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", etcd="etcd", etcdctl="etcdctl")
    parser.add_argument("--rewrite", action="store_true", help="write etcd's answers into the script")
    args = parser.parse_args()
    etcdctl = lib.need_program(args.etcdctl)
    top = lib.temp_dir("etcdctl")
    steps, lines = read_script(SCRIPT)
    if args.rewrite:
        rewrite(etcdctl, lib.Server(lib.need_program(args.etcd), top + "/etcd"), steps, lines)
        return
    checks = lib.Checks()
    for backend in ("lmdb", "sqlite"):
        cleat = lib.Server(args.cleat, f"{top}/cleat-{backend}", flags=[f"--backend={backend}"])
        run_script(checks, etcdctl, cleat, steps, f"cleat on {backend}")
    if lib.find_program(args.etcd) is not None:
        run_script(checks, etcdctl, lib.Server(args.etcd, top + "/etcd"), steps, "etcd")
    checks.done()


if __name__ == "__main__":
    sys.exit(main())
