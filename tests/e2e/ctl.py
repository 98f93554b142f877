#!/usr/bin/env python3
"""The commands of ctl.txt through cleatctl and through etcdctl, each against a new etcd of its own: both must print
the same to stdout and stderr and end with the same exit code. Debian's etcd is 3.4, cleatctl is 3.5's etcdctl: where the
two differ the script says what 3.5 prints. Given an etcd and an etcdctl of 3.5 (--etcd, --etcdctl) everything is compared.
With --cleat, what cleatctl prints of a cleat must be what it prints of an etcd.

ctl.txt, line by line ("#": a comment):
    == name [cleat] [cluster] [option...]   new servers; three with "cluster", also a cleat with "cleat", more flags
    $ command [-> NAME]      a command line; NAME is the first id that it prints, $NAME in later lines; $M1 is a member's,
                             $FILE_AT the path of a file
    $* command               the same once for each writer
    $~ command               compares of its help what does not depend on the words chosen
    > line / >- line         standard input, with and without a line end; {1000} in either is as many times "x"
    ?                        3.4's etcdctl, or etcd, differs here: do not compare with it
    ? command                and give it this one, so that the next steps find the same
    ?writer, ?cleat          the same for this writer only; do not compare a cleat's answer with etcd's
    | line, ! line, = code   what 3.5 prints to stdout and stderr (ids masked), its exit code; checked of cleatctl always,
                             of etcdctl where it is 3.5's
"""
import concurrent.futures
import difflib
import hashlib
import os
import re
import shlex
import subprocess
import sys
import time

import lib

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ctl.txt")
WRITERS = ("simple", "json", "fields", "protobuf", "table")
# Ids are printed without their leading zeros: one in 4096 has 13 digits or fewer.
ID = re.compile(r"\b[0-9a-f]{11,16}\b")

# What differs between two runs, and what stands for it.
WORDS = [
    (r'"(caller|ts|target)":"[^"]*"', r'"\1":"<any>"'),
    (r'"logger":"[^"]*",', ""),  # 3.4 has none
    (r"remaining\(\d+s\)", "remaining(<time>)"),
    (r'"ttl":\d+', '"ttl":<time>'),
    (r'"TTL" : \d+\n"GrantedTTL"', '"TTL" : <time>\n"GrantedTTL"'),
    (r"took = [0-9.]+[mµn]?s", "took = <time>"),
    (r'"took":"[^"]*"', '"took":"<time>"'),
    (r'"Took" : [0-9.]+[mµn]?s', '"Took" : <time>'),
    (r"\| *[0-9.]+[mµ]s \|", "| <time> |"),
    (r"127\.0\.0\.1:\d+", "<address>"),
    (r"\b[0-9.]+ [kM]?B\b", "<size>"),
    (r'"(dbSize|dbSizeInUse|DBSize|raftIndex|raftAppliedIndex|RaftIndex|RaftAppliedIndex)"( : |:)\d+', r'"\1"\2<number>'),
    (r"(true|false), (true|false), (\d+), \d+, \d+,", r"\1, \2, \3, <index>, <index>,"),
    (r"(\| +(?:true|false) \| +(?:true|false) \| +\d+ \|) +\d+ \| +\d+ \|", r"\1 <index> | <index> |"),
]
# With three members, or against cleat, ids and versions differ as well, and who answers.
IDS = [
    (r'("member_id":|"MemberID" : )<\w+>', r"\1<id>"),
    (r"(Leadership transferred from) <\w+> to <\w+>", r"\1 <id> to <id>"),
    (r"\b\d{13,20}\b", "<id>"),
    (ID.pattern, "<id>"),
    (r"\b3\.[45]\.\d+\b", "<version>"),
]


class Step:
    """One command of the script and what belongs to it."""

    def __init__(self, text, line):
        self.line = line
        self.writers = text.startswith("$*")
        self.help = text.startswith("$~")
        command, _, self.save = text.lstrip("$*~ ").partition(" -> ")
        self.command = command
        self.stdin = b""
        self.differs, self.instead = (), None  # for which writers; None: without -w
        self.stdout, self.stderr, self.code = [], [], None

    def expects(self):
        return bool(self.stdout or self.stderr) or self.code is not None


class Section:
    """Steps on one set of servers."""

    def __init__(self, words):
        self.name, options = words[0], words[1:]
        self.cleat = "cleat" in options
        self.cluster = "cluster" in options
        self.flags = [word for word in options if word.startswith("--")]
        self.steps = []


def filled(text):
    return re.sub(r"\{(\d+)\}", lambda match: "x" * int(match.group(1)), text)


def read_script(path):
    sections = []
    with open(path, encoding="utf-8") as script:
        for number, line in enumerate(script.read().splitlines(), 1):
            if line.startswith("== "):
                sections.append(Section(line[3:].split()))
            elif line.startswith("$"):
                sections[-1].steps.append(Step(line, number))
            elif line.startswith("?"):
                step = sections[-1].steps[-1]
                step.differs += (line[1:],) if line[1:2].isalpha() else (None,) + WRITERS
                step.instead = line[2:] if line[1:2] == " " else None
            elif line.startswith(">"):
                text = line[3:] if line.startswith(">-") else line[2:] + "\n"
                sections[-1].steps[-1].stdin += filled(text).encode()
            elif line.startswith("|"):
                sections[-1].steps[-1].stdout.append(line[2:])
            elif line.startswith("!"):
                sections[-1].steps[-1].stderr.append(line[2:])
            elif line.startswith("="):
                sections[-1].steps[-1].code = int(line[2:])
            elif line and not line.startswith("#"):
                raise ValueError(f"{path}:{number}: not a line of the script: {line}")
    return sections


def mask_help(text):
    """Help without its sentences: the words of the program's own."""
    text = re.sub(r"\nDESCRIPTION:\n(\t.*\n)+", "", text)
    text = re.sub(r"(?m)^(\t[a-z].*?|  .*?)\t+[^\t\n]+$", r"\1 <text>", text)
    text = re.sub(r"(?m)^\tcompletion .*\n", "", text)
    return re.sub(r"(?m)^\t(.+?) - .*$", r"\t\1 - <text>", text)


def sort_members(text):
    """A new member's id, by which members are listed, has the time in it."""

    def in_order(match):
        return match.group(1) + ",".join(sorted(re.split(r"(?<=\}),|,(?=m\d)", match.group(2)))) + match.group(3)

    text = re.sub(r'("members":\[)(.*)(\]\})', in_order, text)
    text = re.sub(r'(?m)^(ETCD_INITIAL_CLUSTER=")(.*)(")$', in_order, text)
    for rows in (r"(?m)(^<M\d>, .*\n)+", r"(?m)(^\| +<M\d> .*\n)+"):  # of simple and of table
        text = re.sub(rows, lambda match: "".join(sorted(match.group(0).splitlines(True), key=str.split)), text)
    blocks = re.compile(r'("ID" : <M\d>\n("\w+" : .+\n)+\n)+')  # of fields
    return blocks.sub(lambda match: "\n\n".join(sorted(match.group(0).split("\n\n"))), text)


class Run:
    """A program, its servers, and the ids it was given."""

    def __init__(self, program, servers):
        self.program = program
        self.servers = servers
        self.names = {f"M{i + 1}": "" for i in range(len(servers))}  # ids, and *_AT: where something is
        self.names["FILE_AT"] = servers[0].data_dir + ".file"

    def start(self):
        for server in self.servers:
            server.launch()
        for server in self.servers:
            lib.wait_until(server.is_healthy, 30, f"{server.binary} healthy:\n{server.log_tail()}")
        self.find_members()

    def find_members(self):
        """$M1, $M2, ... in the order of names; $LEADER and $FOLLOWER, with $LEADER_AT where it answers."""
        done = subprocess.run([self.program, "--endpoints", self.servers[0].endpoint, "member", "list"], check=True,
                              capture_output=True, timeout=30, env=dict(os.environ, ETCDCTL_API="3"))
        for line in done.stdout.decode().splitlines():
            words = line.split(", ")
            self.names["M" + (words[2][1:] if words[2] != "default" else "1")] = words[0]
        for server in self.servers:
            done = subprocess.run([self.program, "--endpoints", server.endpoint, "endpoint", "status"], check=True,
                                  capture_output=True, timeout=30, env=dict(os.environ, ETCDCTL_API="3"))
            words = done.stdout.decode().split(", ")
            leads = words[4] == "true"
            self.names["LEADER" if leads else "FOLLOWER"] = words[1]
            self.names["LEADER_AT" if leads else "FOLLOWER_AT"] = server.endpoint

    def stop(self):
        for server in self.servers:
            server.kill()

    def run(self, step, command):
        """(stdout, stderr, exit code)."""
        for name in sorted(self.names, key=len, reverse=True):
            command = command.replace("$" + name, self.names[name])
        words = shlex.split(filled(command))
        environment = dict(os.environ, ETCDCTL_API="3")
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            key, _, environment[key] = words.pop(0).partition("=")
        if not any(word.startswith("--endpoints") for word in words) and "ETCDCTL_ENDPOINTS" not in environment:
            environment["ETCDCTL_ENDPOINTS"] = ",".join(server.endpoint for server in self.servers)
        done = subprocess.run([self.program] + words, check=False, timeout=60, input=step.stdin, env=environment,
                              capture_output=True)
        if step.save:
            found = ID.search(done.stdout.decode("utf-8", "replace"))
            self.names[step.save] = found.group(0) if found else ""
        return done.stdout, done.stderr, done.returncode

    def masked(self, step, answer, mask_ids):
        """The same as text, what differs from run to run masked."""
        return self.mask(answer[0], step.help, mask_ids), self.mask(answer[1], False, mask_ids), answer[2]

    def mask(self, raw, is_help, mask_ids):
        text = raw.decode("utf-8", "backslashreplace")
        # From a pipe, etcdctl's way to ask for a password makes stty complain.
        text = re.sub(r"(?m)^stty: .*\n", "", text)
        if is_help:
            return mask_help(text)
        for name, value in self.names.items():
            if name == "FILE_AT":
                text = text.replace(value, "<file>")
            elif value and not name.endswith("_AT"):
                text = text.replace(value, f"<{name}>").replace(str(int(value, 16)), f"<{name}>")
        for pattern, word in WORDS + (IDS if mask_ids else []):
            text = re.sub(pattern, word, text)
        return sort_members(text)


def as_lines(answer):
    out, err, code = answer
    return [f"| {line}" for line in out.splitlines()] + [f"! {line}" for line in err.splitlines()] + [f"= {code}"]


def difference(first, second, names):
    lines = difflib.unified_diff(as_lines(first), as_lines(second), *names, n=1, lineterm="")
    return "\n".join("    " + line for line in lines)


def expected_of(step):
    lines = ["".join(line + "\n" for line in part) for part in (step.stdout, step.stderr)]
    return lines[0], lines[1], step.code or 0


def without_log(answer):
    """Without the client's log, which a script would have to repeat for every error."""
    out, err, code = answer
    return out, "".join(line for line in err.splitlines(True) if not line.startswith('{"level"')), code


def squeezed(answer):
    """Columns are as wide as what is masked in them was."""
    return tuple(re.sub(r" {2,}", " ", re.sub(r"-{2,}", "-", part)) if isinstance(part, str) else part for part in answer)


def member_id(server):
    """By etcd's rule: a hash of the peer URL and the cluster's token."""
    return hashlib.sha1(f"http://127.0.0.1:{server.peer_port}etcd-cluster".encode()).digest()[:8]


class Driver:
    """Runs sections by two programs side by side and compares."""

    def __init__(self, args, top):
        self.args = args
        self.top = top
        self.checks = lib.Checks()
        self.pool = concurrent.futures.ThreadPoolExecutor(2)
        self.named = self.link_as_etcdctl(args.cleatctl)
        version = subprocess.run([args.etcdctl, "version"], check=True, capture_output=True,
                                 env=dict(os.environ, ETCDCTL_API="3")).stdout.decode()
        self.is_newest = "3.5." in version
        print(f"comparing with {version.splitlines()[0]}")

    def link_as_etcdctl(self, program):
        """Under that name it speaks of itself by that name."""
        os.mkdir(self.top + "/bin")
        os.symlink(os.path.abspath(program), self.top + "/bin/etcdctl")
        return self.top + "/bin/etcdctl"

    def servers(self, section, binary, name):
        if not section.cluster:
            server = lib.Server(binary, f"{self.top}/{section.name}-{name}", flags=section.flags)
            # One member never calls itself: all can have the same peer URL, and with it the same id.
            server.flags += ["--initial-advertise-peer-urls", "http://127.0.0.1:1",
                             "--initial-cluster", f"{server.name}=http://127.0.0.1:1"]
            return [server]
        members = [lib.Server(binary, f"{self.top}/{section.name}-{name}-m{i}", flags=section.flags)
                   for i in (1, 2, 3)]
        for i, member in enumerate(sorted(members, key=member_id), 1):
            member.name = f"m{i}"  # so that lists, which go by ids, go by names
        cluster = ",".join(f"{m.name}=http://127.0.0.1:{m.peer_port}" for m in members)
        for member in members:
            member.flags += ["--initial-cluster", cluster]
        return members

    def compare(self, step, command, first, second, what):
        self.checks.check(squeezed(first) == squeezed(second),
                          f"line {step.line}: $ {command}\n" + difference(first, second, ("cleatctl", what)))

    def run_step(self, step, writer, section, ours, other):
        """On etcd, by both programs; cleatctl's answer."""
        command = step.command + (f" -w {writer}" if writer else "")
        compared = self.is_newest or writer not in step.differs
        commands = (command, command if compared or step.instead is None else step.instead)
        mine, its = self.pool.map(lambda run, words: run.run(step, words), (ours, other), commands)
        if compared:
            self.compare(step, command, ours.masked(step, mine, section.cluster),
                         other.masked(step, its, section.cluster), "etcdctl")
        if step.expects():
            self.compare(step, command, without_log(ours.masked(step, mine, section.cluster)), expected_of(step),
                         "the script")
        return mine

    def run_on_cleat(self, section, ours, answers):
        """The same steps by cleatctl on a cleat; answers are what it said of etcd."""
        run = Run(self.named, self.servers(section, self.args.cleat, "cleat"))
        run.start()
        for (step, writer), answer in answers.items():
            command = step.command + (f" -w {writer}" if writer else "")
            got = run.masked(step, run.run(step, command), True)
            if "cleat" not in step.differs:
                self.compare(step, command, ours.masked(step, answer, True), got, "cleatctl on cleat")
        run.stop()

    def run_section(self, section):
        ours = Run(self.named, self.servers(section, self.args.etcd, "ours"))
        other = Run(self.args.etcdctl, self.servers(section, self.args.etcd, "its"))
        list(self.pool.map(Run.start, (ours, other)))
        answers = {}
        for step in section.steps:
            for writer in WRITERS if step.writers else (None,):
                answers[step, writer] = self.run_step(step, writer, section, ours, other)
        ours.stop()
        other.stop()
        if self.args.cleat and section.cleat:
            self.run_on_cleat(section, ours, answers)

    def run(self, sections):
        for section in sections:
            if self.args.only in ("", section.name):
                start = time.monotonic()
                self.run_section(section)
                print(f"{section.name}: {time.monotonic() - start:.1f} s", flush=True)
        self.checks.done()


def main():
    parser = lib.arguments(__doc__.splitlines()[0], cleatctl="build/release/tools/ctl/cleatctl", cleat="", etcd="etcd",
                           etcdctl="etcdctl")
    parser.add_argument("--only", default="", metavar="SECTION")
    args = parser.parse_args()
    args.etcd, args.etcdctl = lib.need_program(args.etcd), lib.need_program(args.etcdctl)
    Driver(args, lib.temp_dir("ctl")).run(read_script(SCRIPT))


if __name__ == "__main__":
    sys.exit(main())
