#!/usr/bin/env python3
"""Power cuts under load, round after round, on crashfs, a disk that drops, keeps or tears what was not synced: every
acknowledged write is there, no transaction is there by half, revisions go on. Before that the disk is shown to bite: it
loses what a careless program leaves, and a server on a disk that lies about its syncs is caught."""
import mmap
import os
import random
import subprocess
import sys
import time

import lib
from slow_disk import Disk

ROUNDS = 50 if lib.FULL else 5
WRITERS = 32
ATTEMPTS_TO_CATCH_A_LIE = 5


def write_file(path, data, flags=0, sync=False, sync_directory=False):
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | flags, 0o600)
    try:
        os.write(fd, data)
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)
    if sync_directory:
        fd = os.open(os.path.dirname(path), os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)


def content(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def one_direct_write(path):
    """O_DIRECT and RWF_DSYNC, as the log does."""
    page = mmap.mmap(-1, 4096)
    page.write(b"d" * 4096)
    fd = os.open(path, os.O_WRONLY | os.O_DIRECT)
    os.pwritev(fd, [page], 0, os.RWF_DSYNC)
    os.close(fd)


def try_disk(args, checks):
    """The disk keeps what was synced and nothing else."""
    disk = Disk(args.crashfs, lib.temp_dir("crashfs"))

    def at(name):
        return os.path.join(disk.path, name)

    write_file(at("kept"), b"old", sync=True, sync_directory=True)
    write_file(at("direct"), b"o" * 4096, sync=True, sync_directory=True)
    write_file(at("renamed"), b"r", sync=True, sync_directory=True)
    write_file(at("removed"), b"r", sync=True, sync_directory=True)
    write_file(at("dsync"), b"old", sync=True, sync_directory=True)
    write_file(at("careless"), b"never synced", sync_directory=True)
    write_file(at("nameless"), b"its directory was not synced", sync=True)
    write_file(at("kept"), b"new")
    write_file(at("dsync"), b"new", flags=os.O_DSYNC)
    one_direct_write(at("direct"))
    os.rename(at("renamed"), at("moved"))
    os.unlink(at("removed"))
    checks.equal(content(at("kept")), b"new", "disk: before the cut")
    disk.cut("drop")
    checks.equal(content(at("kept")), b"old", "disk: an overwrite without a sync is lost")
    checks.equal(content(at("careless")), b"", "disk: bytes without a sync are lost")
    checks.equal(content(at("nameless")), None, "disk: a name without its directory's sync is lost")
    checks.equal(content(at("dsync")), b"new", "disk: O_DSYNC is honoured")
    checks.equal(content(at("direct")), b"d" * 4096, "disk: RWF_DSYNC with O_DIRECT is honoured")
    checks.equal(content(at("renamed")), b"r", "disk: a rename without a sync is undone")
    checks.equal(content(at("moved")), None, "disk: a rename without a sync is undone, new name")
    checks.equal(content(at("removed")), b"r", "disk: a removal without a sync is undone")
    write_file(at("torn"), b"1" * 65536, sync=True, sync_directory=True)
    write_file(at("torn"), b"2" * 65536)
    disk.freeze()
    try:
        write_file(at("torn"), b"3", sync=True)
        checks.check(False, "disk: a frozen disk takes no write")
    except OSError:
        pass
    disk.cut("mix", 1)
    mixed = content(at("torn"))
    checks.check({mixed[i:i + 512] for i in range(0, 65536, 512)} == {b"1" * 512, b"2" * 512}, "disk: torn by sectors")
    checks.check(len({mixed[i:i + 4096] for i in range(0, 65536, 4096)}) > 2, "disk: torn within pages")
    disk.close()


def run_load(args, command, server, state):
    done = subprocess.run([args.load, command, "--endpoint", server.endpoint, "--state", state],
                          stdout=subprocess.PIPE, text=True, timeout=120, check=False)
    return done.returncode, done.stdout.strip()


def cut_round(args, disk, server, state, rng, mood):
    """Load until the power goes; (acknowledged writes, what became of the rest)."""
    writers = lib.spawn([args.load, "write", "--endpoint", server.endpoint, "--state", state, "--writers", str(WRITERS)],
                        stdout=subprocess.PIPE, text=True)
    time.sleep(rng.uniform(0.05, 1.5))  # the moment of the cut is the random input of this test
    if rng.random() < 0.8:  # else the process dies first, and the power goes a moment later
        disk.freeze()
    server.kill()
    output, _ = writers.communicate(timeout=120)
    return int(output.split()[-1]), disk.cut(mood, rng.getrandbits(32))


def rounds(args, checks, backend, seed):
    rng = random.Random(f"{backend} {seed}")
    folder = lib.temp_dir(f"power-{backend}")
    disk = Disk(args.crashfs, folder)
    state = os.path.join(folder, "state")
    server = lib.Server(args.cleat, os.path.join(disk.path, "data"), flags=[f"--backend={backend}"])
    server.log_path = os.path.join(folder, "server.log")
    acknowledged = 0
    for number in range(1, ROUNDS + 1):
        what = f"{backend}, seed {seed}, round {number}"
        server.start()
        if number > 1:
            code, text = run_load(args, "check", server, state)
            if not checks.equal(code, 0, f"{what}, after the cut: {text}"):
                print(server.log_tail())
                break
        mood = "drop" if number == 1 else rng.choice(("mix", "mix", "drop", "keep"))  # a new member: all names are new
        count, fate = cut_round(args, disk, server, state, rng, mood)
        acknowledged += count
        print(f"{what}: {count} writes acknowledged; {mood}: {fate}", flush=True)
    else:
        server.start()
        code, text = run_load(args, "check", server, state)
        checks.equal(code, 0, f"{backend}, seed {seed}, at the end: {text}")
        checks.equal(server.stop(), 0, f"{backend}: exit code")
    server.kill()
    disk.close()
    checks.check(acknowledged > ROUNDS * WRITERS, f"{backend}: only {acknowledged} writes in {ROUNDS} rounds")


def is_lie_caught(args, rng):
    """Whether one cut on a disk whose syncs do nothing is noticed: by the check, or by a start that fails."""
    folder = lib.temp_dir("power-lie")
    disk = Disk(args.crashfs, folder, "--lie")
    state = os.path.join(folder, "state")
    server = lib.Server(args.cleat, os.path.join(disk.path, "data"))
    server.log_path = os.path.join(folder, "server.log")
    server.start()
    cut_round(args, disk, server, state, rng, "mix")
    try:
        server.start()
        return run_load(args, "check", server, state)[0] != 0
    except (RuntimeError, TimeoutError):
        return True
    finally:
        server.kill()
        disk.close()


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", load="build/release/tests/e2e/crash_load",
                           crashfs="build/release/tests/e2e/crashfs")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if not os.path.exists("/dev/fuse") or not os.path.exists(args.crashfs):
        lib.skip("FUSE is missing here")
    checks = lib.Checks()
    try_disk(args, checks)
    rng = random.Random(args.seed)
    checks.check(any(is_lie_caught(args, rng) for _ in range(ATTEMPTS_TO_CATCH_A_LIE)),
                 "a disk that lies about its syncs is noticed")
    for backend in ("lmdb", "sqlite"):
        rounds(args, checks, backend, args.seed)
    checks.done()


if __name__ == "__main__":
    main()
