"""A full disk is not fatal: a small ext4 on a loop device fills under load, writes are refused with the reason, reads go
on, nothing acknowledged is lost, it starts again there, and writes are taken again when a compaction has freed pages, time and
again, and when space returns, without a restart."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lib

DISK_MIB = 64
BALLAST_MIB = 24
FILL_ROUNDS_MAX = 50
COMPACTIONS = 2  # the second comes to files that the first has shaped
REASON = "no space left on this member's disk"
SAID_FULL = b"the disk is full: writes are refused"
SAID_ROOM = b"the disk has room again"


def shell(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout


class SmallDisk:
    """An ext4 file system of DISK_MIB on a loop device, with a ballast file that can be given back."""

    def __init__(self, folder):
        self.image = os.path.join(folder, "disk.img")
        self.mount = os.path.join(folder, "mnt")
        self.ballast = os.path.join(self.mount, "ballast")
        os.mkdir(self.mount)
        with open(self.image, "wb") as image:
            image.truncate(DISK_MIB << 20)
        shell("mkfs.ext4", "-q", "-F", "-m", "0", self.image)
        try:
            shell("mount", "-o", "loop", self.image, self.mount)
        except subprocess.CalledProcessError as error:
            lib.skip(f"cannot mount a loop device here: {error.output.strip()}")
        shell("fallocate", "-l", f"{BALLAST_MIB}M", self.ballast)

    def give_back(self):
        os.unlink(self.ballast)

    def close(self):
        subprocess.run(["umount", self.mount], check=False)


def load(args, command, server, state, *options):
    result = subprocess.run([args.load, command, "--endpoint", server.endpoint, "--state", state, *options],
                            stdout=subprocess.PIPE, text=True, timeout=300)
    return result.returncode, result.stdout.strip()


def fill(args, checks, server, state):
    """Presses on after the first refusals until the server says that its disk is full, and it stays so."""
    start = len(server.log())
    for _ in range(FILL_ROUNDS_MAX):
        check_all(args, checks, server, state, "while it fills")  # a writer goes on from what is there
        _, text = load(args, "write", server, state, "--value-bytes", "16000", "--seconds", "120")
        if SAID_FULL in server.log(start):
            break
    return text


def check_all(args, checks, server, state, what):
    code, text = load(args, "check", server, state)
    checks.equal(code, 0, f"{what} ({text})")


def wait_for_writes(args, checks, server, state, what):
    check_all(args, checks, server, state, what)

    def works():
        put = ["etcdctl", "--endpoints", server.endpoint, "put", "probe", "." * 100000]
        return subprocess.run(put, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0

    lib.wait_until(works, 30, what)


def etcdctl(server, *command):
    return shell("etcdctl", "--endpoints", server.endpoint, *command)


def compact(server):
    """Gives up what is superseded: all but one revision of each key."""
    os.environ["ETCDCTL_API"] = "3"
    header = json.loads(etcdctl(server, "get", "no-such-key", "-w", "json"))["header"]
    etcdctl(server, "compaction", str(header["revision"]))


def try_backend(args, checks, backend):
    folder = lib.temp_dir(f"full-disk-{backend}")
    disk = SmallDisk(folder)
    server = lib.Server(args.cleat, os.path.join(disk.mount, "data"), flags=[f"--backend={backend}"])
    server.log_path = os.path.join(folder, "server.log")
    state = os.path.join(folder, "state")
    try:
        server.start()
        text = fill(args, checks, server, state)
        print(f"{backend}: {text}")
        checks.check(REASON in text, f"{backend}: the refusal says why: {text}")
        checks.check(server.is_alive(), f"{backend}: the server lives on")
        checks.check(SAID_FULL in server.log(), f"{backend}: the log says it too")
        check_all(args, checks, server, state, f"{backend}: nothing acknowledged is lost while full")
        server.kill()
        server.start()
        check_all(args, checks, server, state, f"{backend}: all is there after a crash while full")
        for _ in range(COMPACTIONS):
            compact(server)
            wait_for_writes(args, checks, server, state, f"{backend}: writes again after a compaction")
            check_all(args, checks, server, state, f"{backend}: all is there after a compaction")
            checks.check(REASON in fill(args, checks, server, state), f"{backend}: full again")
        disk.give_back()
        wait_for_writes(args, checks, server, state, f"{backend}: writes again after space returned")
        check_all(args, checks, server, state, f"{backend}: all is there after space returned")
        lib.wait_until(lambda: SAID_ROOM in server.log(), 30, f"{backend}: the log says that there is room again")
        server.kill()
        server.start()
        check_all(args, checks, server, state, f"{backend}: all is there after a crash")
        checks.equal(server.stop(), 0, f"{backend}: exit code")
    finally:
        server.kill()
        disk.close()


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", load="build/release/tests/e2e/crash_load")
    parser.add_argument("--runs", type=int, default=1, help="on a new disk each, for each backend")
    args = parser.parse_args()
    if os.geteuid() != 0:
        lib.skip("only root can mount a loop device")
    lib.need_program("mkfs.ext4")
    lib.need_program("etcdctl")
    checks = lib.Checks()
    for _ in range(args.runs):
        for backend in ("lmdb", "sqlite"):
            try_backend(args, checks, backend)
    checks.done()


main()
