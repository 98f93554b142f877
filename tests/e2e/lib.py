"""What the end-to-end drivers share: servers on free loopback ports, ended by pid.

A driver is started by ctest, names the programs on its command line (see arguments()), and ends
with done(): exit code 0, 1, or SKIPPED when something that the machine lacks is needed.
"""
import argparse
import atexit
import ctypes
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

SKIPPED = 77  # ctest's SKIP_RETURN_CODE
FULL = os.environ.get("CLEAT_TEST_FULL") == "1"

_prctl = ctypes.CDLL(None, use_errno=True).prctl  # found now: after a fork, beside threads, may be too late
_processes = []
_claims = []


def skip(why):
    """Ends the driver as skipped, with a word."""
    print(f"SKIPPED: {why}")
    sys.exit(SKIPPED)


def find_program(name):
    """The path of an installed program, or None."""
    return name if os.path.isabs(name) and os.access(name, os.X_OK) else shutil.which(name)


def need_program(name):
    """The path of an installed program, or the end of the driver as skipped."""
    path = find_program(name)
    if path is None:
        skip(f"'{name}' is not installed")
    return path


def arguments(description, **programs):
    """A parser with an option for each program (name -> default path)."""
    parser = argparse.ArgumentParser(description=description)
    for name, default in programs.items():
        parser.add_argument("--" + name.replace("_", "-"), default=default, metavar="PATH")
    return parser


def _ports_to_choose_from():
    """Ports that the kernel gives to nobody by itself: a port of its own range that was free at a member's first start
    may carry somebody's outgoing connection at its second."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        low, high = map(int, file.read().split())
    choices = (range(10000, low), range(high + 1, 65536), range(10000, 65536))
    return next(ports for ports in choices if len(ports) > 1000)


def _claim_port(port):
    """Makes port this driver's until it ends; False when it is another driver's, or in use. Drivers tell each other by
    the name of a Unix socket, which like the ports is one network namespace's and which the kernel forgets in time."""
    claim = socket.socket(socket.AF_UNIX)
    with socket.socket() as probe:
        try:
            claim.bind(f"\0cleat-test-port-{port}")
            probe.bind(("", port))
        except OSError:
            claim.close()
            return False
    _claims.append(claim)
    return True


def free_ports(count):
    """Ports that nobody listens on and that no other driver on this machine is given while this one runs."""
    choice = _ports_to_choose_from()
    ports = []
    while len(ports) < count:
        port = random.choice(choice)
        if _claim_port(port):
            ports.append(port)
    return ports


def temp_dir(name):
    """A directory that ends with the driver; kept when CLEAT_TEST_KEEP is set."""
    path = tempfile.mkdtemp(prefix=f"cleat-{name}-")
    if not os.environ.get("CLEAT_TEST_KEEP"):
        atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def wait_until(condition, timeout_s, what):
    """Polls condition() until it is true; raises with `what` when that takes too long."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"after {timeout_s} s still not: {what}")
        time.sleep(0.01)


def _die_with_driver():
    _prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no server outlives a killed driver


def spawn(command, **options):
    """Popen that dies with the driver."""
    process = subprocess.Popen(command, preexec_fn=_die_with_driver, **options)
    _processes.append(process)
    return process


@atexit.register
def _end_all():
    for process in _processes:
        if process.poll() is None:
            process.kill()
            process.wait()


def http_get(url, timeout_s=20.0):
    """(status, body) or (None, b"") when there is no answer."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return None, b""


class Server:
    """One member, cleat or etcd: both take the same flags.

        server = Server(args.cleat, data_dir, flags=["--backend=sqlite"])
        server.start()             # returns when /health is true
        server.kill()              # SIGKILL; start() again continues on the same data
        code = server.stop()       # SIGTERM and its exit code
    """

    def __init__(self, binary, data_dir, flags=(), env=None, name="default"):
        self.binary = binary
        self.data_dir = data_dir
        self.flags = list(flags)
        self.env = dict(os.environ, **(env or {}))
        self.name = name
        self.log_path = data_dir.rstrip("/") + ".log"  # of all its lives
        self.process = None
        self.client_port, self.peer_port = free_ports(2)

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.client_port}"

    @property
    def pid(self):
        return self.process.pid

    def command(self):
        client = f"http://127.0.0.1:{self.client_port}"
        peer = f"http://127.0.0.1:{self.peer_port}"
        return [self.binary, "--name", self.name, "--data-dir", self.data_dir,
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", f"{self.name}={peer}"] + self.flags

    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def is_healthy(self):
        status, body = http_get(f"http://{self.endpoint}/health", timeout_s=1.0)
        if status != 200:
            return False
        try:
            return json.loads(body).get("health") in ("true", True)
        except ValueError:
            return False

    def launch(self):
        """Starts the process and does not wait for it."""
        with open(self.log_path, "ab") as log:
            self.process = spawn(self.command(), stdout=log, stderr=log, env=self.env)

    def start(self, timeout_s=30):
        """Starts and waits for /health; raises when it ends instead."""
        self.launch()
        wait_until(lambda: not self.is_alive() or self.is_healthy(), timeout_s,
                   f"{self.binary} healthy; its log ends:\n{self.log_tail()}")
        if not self.is_alive():
            raise RuntimeError(f"{self.binary} ended with {self.process.returncode}:\n{self.log_tail()}")
        return self

    def kill(self):
        if self.is_alive():
            self.process.kill()
        self.process.wait()

    def stop(self, timeout_s=20):
        """SIGTERM; the exit code. Raises when it does not end in time."""
        if self.is_alive():
            self.process.terminate()
        return self.process.wait(timeout=timeout_s)

    def log(self, start=0):
        with open(self.log_path, "rb") as log:
            log.seek(start)
            return log.read()

    def log_tail(self, lines=20):
        if not os.path.exists(self.log_path):
            return ""
        return b"\n".join(self.log().splitlines()[-lines:]).decode("utf-8", "replace")


class Checks:
    """Collects what failed, so that one run tells everything."""

    def __init__(self):
        self.failures = []
        self.count = 0

    def check(self, ok, what):
        self.count += 1
        if not ok:
            self.failures.append(what)
            print(f"FAILED: {what}", flush=True)
        return ok

    def equal(self, got, expected, what):
        return self.check(got == expected, f"{what}: got {got!r}, expected {expected!r}")

    def done(self):
        """Ends the driver. What failed is said again where a log that was cut still has it."""
        for what in self.failures:
            print(f"FAILED: {what}")
        print(f"{self.count} checks, {len(self.failures)} failed")
        sys.exit(1 if self.failures else 0)


class Scenario(threading.Thread):
    """Steps that mostly wait, in a thread of their own beside others'. A subclass has steps(); what tells whose they are."""

    def __init__(self, checks, what):
        super().__init__()
        self.checks, self.what = checks, what
        self.failure = None

    def run(self):
        try:
            self.steps()
        except Exception as error:  # told by the check that waits for the thread
            self.failure = f"{type(error).__name__} {error}"

    def steps(self):
        raise NotImplementedError

    def equal(self, got, expected, label):
        return self.checks.equal(got, expected, f"{self.what}: {label}")

    def check(self, ok, label):
        return self.checks.check(ok, f"{self.what}: {label}")

    def finish(self):
        self.join()
        self.equal(self.failure, None, "to the end")


def all_at_once(scenarios):
    for scenario in scenarios:
        scenario.start()
    for scenario in scenarios:
        scenario.finish()
