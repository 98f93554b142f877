#!/usr/bin/env python3
"""Watch: the same steps on an etcd and on a cleat, what each stream gets compared line by line. Notifications of progress
have a driver of their own (watch_progress.py)."""
import re
import subprocess
import sys

import lib

# Where Debian's etcd 3.4 answers otherwise than 3.5 (manual progress, and deletions at the compact
# revision), a step is marked with "35 " and compared with an etcd 3.5 only.
STEPS = """
open 0
create 0 key=a
put a 1
put b 1
create 0 key=a end=c
put a 2
delete a
delete a
create 0 end=\\0 id=5
txn a x b y c z
delete a \\0
create 0 key=a id=5
create 0 key=b end=a
create 0 key=b end=b id=5
create 0
create 0 key=k start=-1
create 0 key=k id=-7 start=-5
put k v
cancel 0 5
cancel 0 5
cancel 0 99
put k w
create 0 key=k id=5
create 0 key=k id=6
create 0 key=k
create 0 key=k
put k 3
drop 0
open 1
create 1 key=p end=q prev
put p1 1
put p1 2
delete p1
put p1 3
txn p1 a p2 b
delete p \\0
create 1 key=p end=q start=1
create 1 key=p end=q start=1 prev
create 1 key=p end=q start=1 noput
create 1 key=p end=q start=1 nodelete
create 1 key=p end=q start=1 noput nodelete
create 1 key=p end=q start=9999
create 1 key=p end=q start=24
put p1 24
put p1 25
drop 1
open 2
create 2 key=x id=1
35 progress 2
35 cancel 2 1
35 progress 2
create 2 key=x start=100000
35 progress 2
drop 2
open 3
compact 20
create 3 key=p end=q start=19
35 progress 3
create 3 key=p end=q start=1 prev
create 3 key=p end=q start=20 prev
cancel 3 0
cancel 3 1
35 progress 3
put p1 after
finish 3
put p1 later
drop 3
open 4
raw 4
raw 4 0a00
raw 4 1a00
raw 4 0a00120208071a00
raw 4 0a050a0161380a
raw 4 0a0a0a0161280028012802280a
put a all
delete a
raw 4 ff
open 5
raw 5 08
open 6
finish 6
put a b
drop 6
open 7
fill big/ 30 1000
quiet 400
create 7 key=big/ end=big0 start=24 prev
fill big/ 30 100000
create 7 key=big/ end=big0 fragment prev
create 7 key=big/ end=big0 fragment
create 7 key=big/ end=big0 prev
quiet 1000
delete big/ big0
create 7 key=big/ end=big0 start=84 fragment prev
quiet 150
cancel 7 0
cancel 7 1
cancel 7 2
open 8 hasleader
create 8 key=l
put l 1
"""


def blocks_of(text):
    """What came of each step."""
    return [(block + "\n").split("\n", 1) for block in text.split("\n> ")]


def settled(text):
    """Watchers of one stream come in any order; of gRPC's own failures only the code is compared."""
    lines = re.sub(r"ended Internal .*", "ended Internal", text).split("\n")
    watcher = re.compile(r"(\d+): \{ header: \{[^}]*\}(?: watch_id: (-?\d+))?")

    def order(line):
        match = watcher.match(line)
        return (match.group(1), match.group(2) or "0") if match else ("", "")

    return sorted(lines, key=order)


def compare(args, checks, is_35):
    steps = "\n".join(line[3:] if line.startswith("35 ") else line for line in STEPS.strip().split("\n")
                      if is_35 or not line.startswith("35 ")) + "\n"
    top = lib.temp_dir("watch")
    servers = [lib.Server(args.etcd, top + "/etcd", flags=["--log-level=error"]), lib.Server(args.cleat, top + "/cleat")]
    for server in servers:
        server.start()
    answers = []
    running = [subprocess.Popen([args.steps, "--endpoint", server.endpoint], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                text=True, errors="replace") for server in servers]
    for process in running:
        process.stdin.write(steps)
        process.stdin.close()
    for process in running:
        answers.append(process.stdout.read())
        checks.equal(process.wait(), 0, "the player's exit code")
    theirs, ours = (blocks_of(answer) for answer in answers)
    checks.equal(len(ours), len(theirs), "steps")
    for (step, expected), (_, got) in zip(theirs, ours):
        if settled(got) != settled(expected):
            checks.check(False, f"step '{step}'\n--- etcd\n{expected[:3000]}\n--- cleat\n{got[:3000]}")
        else:
            checks.check(True, step)
    servers[0].stop()
    checks.equal(servers[1].stop(), 0, "exit code")


def main():
    parser = lib.arguments(__doc__, etcd="etcd", cleat=None, steps=None)
    args = parser.parse_args()
    args.etcd = lib.need_program(args.etcd)
    checks = lib.Checks()
    version = subprocess.run([args.etcd, "--version"], stdout=subprocess.PIPE, text=True, check=False).stdout
    compare(args, checks, "Version: 3.4" not in version)
    checks.done()


if __name__ == "__main__":
    sys.exit(main())
