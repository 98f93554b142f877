"""docs/recover.md, typed: every block of commands in it is run as printed, on machines that are folders. `systemctl`
starts and stops the member of the machine that the block's first line names, with the variables of its
/etc/default/cleat; the addresses, /var/lib and /backup are the driver's. A block that no scenario runs fails the driver."""
import glob
import os
import re
import shlex
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lib

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HOST = re.compile(r"^# on (m\d)\b.*\n")


class Host(lib.Server):
    """A machine: its folders, its service, and what is typed there."""

    def __init__(self, book, name):
        folder = os.path.join(book.folder, name)
        os.makedirs(os.path.join(folder, "var-lib"))
        super().__init__(book.args.cleat, os.path.join(folder, "var-lib", "cleat"), name=name)
        self.book, self.folder = book, folder
        self.log_path = os.path.join(folder, "cleat.log")
        self.defaults = os.path.join(folder, "default-cleat")
        self.service = "cleat"

    @property
    def peer_url(self):
        return f"http://127.0.0.1:{self.peer_port}"

    def write_defaults(self, members, state="new"):
        """What the unit's EnvironmentFile says of a cluster's founding."""
        cluster = ",".join(f"{m.name}={m.peer_url}" for m in members)
        with open(self.defaults, "w", encoding="ascii") as file:
            file.write(f'ETCD_NAME="{self.name}"\nETCD_INITIAL_CLUSTER="{cluster}"\n'
                       f'ETCD_INITIAL_ADVERTISE_PEER_URLS="{self.peer_url}"\nETCD_INITIAL_CLUSTER_STATE="{state}"\n')

    def command(self):
        client = f"http://127.0.0.1:{self.client_port}"
        program = self.book.args.etcd if self.service == "etcd" else self.book.args.cleat
        return [program, "--data-dir", os.path.join(self.folder, "var-lib", self.service),
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", self.peer_url] + self.flags

    def launch(self):
        self.env = dict(os.environ)
        if os.path.exists(self.defaults):
            with open(self.defaults, encoding="ascii") as file:
                self.env.update(dict(word.split("=", 1) for word in shlex.split(file.read())))
        super().launch()

    def systemctl(self, verb, service):
        """start returns when the member answers at all: one without a quorum is not healthy."""
        if verb == "stop":
            self.stop()
            return
        self.service = service
        self.launch()
        lib.wait_until(lambda: not self.is_alive() or lib.http_get(f"http://{self.endpoint}/version")[0] == 200, 30,
                       f"{self.name} answers; its log ends:\n{self.log_tail()}")

    def wait_healthy(self):
        lib.wait_until(lambda: self.is_healthy() or not self.is_alive(), 30,
                       f"{self.name} is healthy; its log ends:\n{self.log_tail()}")

    def localise(self, text):
        """The text as it has to be typed here."""
        for host in self.book.hosts.values():
            number = host.name[1:]
            text = text.replace(f"10.0.0.{number}:2379", host.endpoint)
            text = text.replace(f"10.0.0.{number}:2380", f"127.0.0.1:{host.peer_port}")
        return (text.replace("/var/lib", os.path.join(self.folder, "var-lib"))
                .replace("/etc/default/cleat", self.defaults).replace("/backup", self.book.backup)
                .replace("localhost:2379", self.endpoint))


class Book:
    """The page, and the machines of one scenario."""

    def __init__(self, args, checks):
        self.args, self.checks = args, checks
        self.tools = lib.temp_dir("runbook-tools")
        for name, path in (("cleatctl", args.cleatctl), ("cleatutl", args.cleatutl)):
            os.symlink(os.path.abspath(path), os.path.join(self.tools, name))
        os.symlink("/bin/true", os.path.join(self.tools, "chown"))  # there is no user cleat here
        with open(os.path.join(ROOT, "docs", "recover.md"), encoding="utf-8") as file:
            parts = re.split(r"^## (.*)$", file.read(), flags=re.MULTILINE)
        self.sections = {title: BLOCK.findall(text) for title, text in zip(parts[1::2], parts[2::2])}

    def open(self, title):
        print(f"== {title}", flush=True)
        self.title, self.next, self.hosts = title, 0, {}
        self.folder = lib.temp_dir("runbook")
        self.backup = os.path.join(self.folder, "backup")
        os.mkdir(self.backup)
        for name in ("m1", "m2", "m3"):
            self.hosts[name] = Host(self, name)

    def close(self):
        for host in self.hosts.values():
            if host.is_alive():
                host.stop()
        self.checks.equal(self.next, len(self.sections[self.title]), f"{self.title}: blocks that were run")

    def cluster(self, names):
        """A running cluster of these machines."""
        hosts = [self.hosts[n] for n in names]
        for host in hosts:
            host.write_defaults(hosts)
            host.systemctl("start", "cleat")
        for host in hosts:
            host.wait_healthy()
        return hosts

    def type_block(self, expect=0):
        """The section's next block; the output of its commands. The last one's exit code must be as expected."""
        text = self.sections[self.title][self.next]
        self.next += 1
        host = self.hosts[HOST.match(text).group(1)]
        output, code = "", 0
        began = time.monotonic()
        for line in host.localise(text).replace("\\\n", " ").splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            if code != 0:
                raise RuntimeError(f"exit code {code} before '{line}'; it said:\n{output}")
            print(f"{host.name}# {line}", flush=True)
            words = line.split()
            if words[0] == "systemctl":
                host.systemctl(words[1], words[2])
                continue
            result = subprocess.run(["bash", "-o", "pipefail", "-c", line], stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT, text=True, timeout=120, cwd=host.folder,
                                    env=dict(os.environ, ETCDCTL_API="3", PATH=f"{self.tools}:{os.environ['PATH']}",
                                             ETCDCTL_ENDPOINTS=host.endpoint))
            output, code = output + result.stdout, result.returncode
        self.checks.equal(code, expect, f"{self.title}, block {self.next}: the last exit code; it said:\n{output}")
        print(f"  {time.monotonic() - began:.1f} s", flush=True)
        return output

    def ctl(self, host, *arguments):
        """What the driver itself asks."""
        result = subprocess.run([self.args.cleatctl, "--endpoints", host.endpoint, *arguments], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, timeout=30)
        return result.stdout

    def put_keys(self, host, count):
        for i in range(count):
            self.ctl(host, "put", f"/registry/key{i:03}", f"value {i}")
        return self.ctl(host, "get", "", "--prefix", "-w", "fields").split('"Key"', 1)[1]

    def keys(self, host):
        return self.ctl(host, "get", "", "--prefix", "-w", "fields").split('"Key"', 1)[-1]


def after_a_crash(book):
    hosts = book.cluster(["m1"])
    kept = book.put_keys(hosts[0], 5)
    hosts[0].kill()
    book.checks.check("is healthy" in book.type_block(), "a restart after kill -9")
    book.checks.equal(book.keys(hosts[0]), kept, "everything acknowledged is there")


def look_first(book):
    host = book.cluster(["m1"])[0]
    book.put_keys(host, 12)
    output = book.type_block()
    book.checks.check("/registry/key000" in output, f"keys are shown:\n{output}")
    book.checks.check(host.peer_url in output, "members are shown")
    host.wait_healthy()


def one_of_three(book):
    m1, m2, m3 = book.cluster(["m1", "m2", "m3"])
    kept = book.put_keys(m1, 10)
    m3.kill()
    time.sleep(5.2)  # the page says so: both changes wait until the rest have been heard of for 5 s
    book.type_block()
    book.type_block()
    book.type_block()
    m3.wait_healthy()
    for host in (m1, m2, m3):
        book.checks.equal(book.keys(host), kept, f"{host.name} has everything")


def destroy(*hosts):
    for host in hosts:
        host.kill()
        subprocess.run(["rm", "-rf", host.data_dir], check=True)


def grow_back(book, kept):
    m1, m2 = book.hosts["m1"], book.hosts["m2"]
    book.type_block()
    book.type_block()
    m2.wait_healthy()
    for host in (m1, m2):
        book.checks.equal(book.keys(host), kept, f"{host.name} has everything")


def one_still_runs(book):
    m1, m2, m3 = book.cluster(["m1", "m2", "m3"])
    kept = book.put_keys(m1, 20)
    destroy(m2, m3)
    lib.wait_until(lambda: "no leader" in book.ctl(m1, "endpoint", "status", "-w", "table"), 30, "no leader")
    output = book.type_block()
    book.checks.check("etcdserver: no leader" in output, f"endpoint status says it:\n{output}")
    m1.wait_healthy()
    grow_back(book, kept)
    revision = int(re.search(r'"Revision" : (\d+)', book.ctl(m1, "get", "/", "-w", "fields")).group(1))
    book.checks.check(revision > 1000000000, f"the revision was bumped: {revision}")


def only_files(book):
    hosts = book.cluster(["m1", "m2", "m3"])
    kept = book.put_keys(hosts[0], 20)
    for host in hosts:
        host.kill()
    for host in hosts[:2]:
        subprocess.run(["cp", "-a", host.data_dir, os.path.join(book.backup, host.name)], check=True)
        subprocess.run(["rm", "-rf", host.data_dir], check=True)
    book.type_block()
    hosts[0].wait_healthy()
    book.checks.equal(book.keys(hosts[0]), kept, "every key with its revision")
    output = book.type_block()
    book.checks.check("TOTAL KEYS" in output, f"a snapshot of files:\n{output}")


def written_bytes(path):
    """Of a log segment: up to where it is not zeros any more."""
    with open(path, "rb") as file:
        return len(file.read().rstrip(b"\0"))


def flip_a_bit(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 4]))


def damaged_log(book):
    host = book.cluster(["m1"])[0]
    book.put_keys(host, 40)  # one after the other: a batch each, of one block
    host.kill()
    segments = os.path.join(host.data_dir, "member", "wal", "*.wal")
    newest = max((n for n in glob.glob(segments) if "spare" not in n and written_bytes(n) > 30 * 4096), key=written_bytes)
    flip_a_bit(newest, 20 * 4096 + 100)
    host.launch()
    lib.wait_until(lambda: not host.is_alive(), 30, "the member refuses its log")
    book.checks.check(b"is damaged" in host.log(), "it says why")
    book.checks.check(b"cleatutl" in host.log(), "and what can be done")
    output = book.type_block(expect=1)
    last_good = re.search(r"last good\D*(\d+)", output)
    book.checks.check(last_good is not None, f"check names the last good entry:\n{output}")
    os.environ["LAST_GOOD"] = last_good.group(1) if last_good else "0"
    book.checks.check("is healthy" in book.type_block(), "it serves again")
    left = book.ctl(host, "get", "/registry", "--prefix", "--keys-only").split()
    book.checks.check(0 < len(left) < 40, f"what came before the damage is there: {len(left)} keys")


def damaged_store(book):
    host = book.cluster(["m1"])[0]
    kept = book.put_keys(host, 40)
    book.ctl(host, "snapshot", "save", os.path.join(book.backup, "last-night.db"))
    host.stop()
    store = os.path.join(host.data_dir, "member", "store")
    [name] = [n for n in os.listdir(store) if n.endswith(".lmdb")]
    with open(os.path.join(store, name), "r+b") as file:
        content = file.read()
        for place in re.finditer(rb"value 7", content):
            file.seek(place.start())
            file.write(b"VALUE 7")
    output = book.type_block(expect=1)
    book.checks.check(name in output, f"check names the file:\n{output}")
    book.type_block()
    host.wait_healthy()
    book.checks.equal(book.keys(host), kept, "all that the snapshot has")


def damaged_format(book):
    host = book.cluster(["m1"])[0]
    kept = book.put_keys(host, 20)
    host.stop()
    flip_a_bit(os.path.join(host.data_dir, "member", "FORMAT"), 40)
    host.launch()
    lib.wait_until(lambda: not host.is_alive(), 30, "the member refuses its FORMAT")
    output = book.type_block(expect=1)
    book.checks.check("does not match its checksum" in output, f"check says so:\n{output}")
    book.type_block()
    host.wait_healthy()
    book.checks.equal(book.keys(host), kept, "every key with its revision")


def full_disk(book):
    host = book.cluster(["m1"])[0]
    kept = book.put_keys(host, 20)
    kept = book.put_keys(host, 20)
    book.type_block()
    book.type_block()
    host.wait_healthy()
    book.checks.equal(book.keys(host), kept, "the present is kept")


def wrong_member_add(book):
    host = book.cluster(["m1"])[0]
    kept = book.put_keys(host, 5)
    book.ctl(host, "member", "add", "typo", "--peer-urls=http://127.0.0.1:1")
    book.checks.check("OK" not in book.ctl(host, "--command-timeout=2s", "put", "a", "b"), "writes have stopped")
    output = book.type_block()
    book.checks.equal(output.count("started"), 1, f"one member:\n{output}")
    book.checks.check(kept.split("\n")[0] in book.keys(host), "with its keys")


def from_etcd(book):
    host = book.hosts["m1"]
    host.write_defaults([host])
    host.systemctl("start", "etcd")
    host.wait_healthy()
    kept = book.put_keys(host, 20)
    book.checks.check("is healthy" in book.type_block(), "cleat serves what etcd had")
    book.checks.equal(book.keys(host), kept, "every key with its revision")


def to_etcd(book):
    host = book.cluster(["m1"])[0]
    kept = book.put_keys(host, 20)
    book.checks.check("is healthy" in book.type_block(), "etcd serves what cleat had")
    book.checks.equal(book.keys(host), kept, "every key with its revision")


SCENARIOS = {
    "After a crash, nothing": after_a_crash,
    "Look first": look_first,
    "One of three is lost": one_of_three,
    "Two of three are gone, and one still runs": one_still_runs,
    "Only files are left": only_files,
    "The log is damaged": damaged_log,
    "The store is damaged": damaged_store,
    "FORMAT is damaged": damaged_format,
    "The disk is full": full_disk,
    "A wrong member add": wrong_member_add,
    "From etcd to Cleat": from_etcd,
    "From Cleat to etcd": to_etcd,
}
NEED_ETCD = {"From etcd to Cleat", "From Cleat to etcd"}


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", cleatctl="build/release/tools/ctl/cleatctl",
                           cleatutl="build/release/tools/utl/cleatutl", etcd="etcd", etcdctl="etcdctl")
    parser.add_argument("--only", help="the beginning of a section's title")
    args = parser.parse_args()
    args.cleat = os.path.abspath(args.cleat)
    checks = lib.Checks()
    book = Book(args, checks)
    for title in book.sections:
        checks.check(title in SCENARIOS, f"section '{title}' has a scenario")
    has_etcd = lib.find_program(args.etcd) and lib.find_program(args.etcdctl)
    for title, scenario in SCENARIOS.items():
        if (args.only and not title.startswith(args.only)) or (title in NEED_ETCD and not has_etcd):
            continue
        book.open(title)
        try:
            scenario(book)
        except (RuntimeError, OSError, TimeoutError, AttributeError) as error:
            checks.check(False, f"{title}: {error}")
        book.close()
    checks.done()


main()
