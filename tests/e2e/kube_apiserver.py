#!/usr/bin/env python3
"""Kubernetes' own API server on one member and on three, used as a cluster does: thousands of objects, server-side apply,
lists in pages and out of the API server's memory, watches with bookmarks, custom resources, controllers, compaction; then
members that die, stall and come back, a defragmentation, a snapshot, and the way back after a disaster. Informers say
when an event is missing, twice there or out of order; writers count and must have counted right. The same steps on etcd
where --etcd names one. Needs a kube-apiserver (docs/operate.md says how to build one) and takes minutes; without one it
skips."""
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster_lib
import kube_lib
import lib

OBJECTS = 3000 if lib.FULL else 300
WRITERS = 8
STALL_S = 5
IDLE_S = 30 if lib.FULL else 10
LOAD_S = 10 if lib.FULL else 3
STORE_FLAGS = ["--experimental-watch-progress-notify-interval=5s"]
RESOURCES = ["pods", "configmaps", "secrets", "events", "serviceaccounts"]
APPLY = "application/apply-patch+yaml"


def config_map(name, text, labels=None):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels or {}}, "data": {"text": text}}


def pod(name):
    container = {"name": "main", "image": "registry.example/app:1", "resources": {"requests": {"cpu": "100m"}},
                 "env": [{"name": f"VARIABLE_{i}", "value": "x" * 40} for i in range(20)]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "load"}},
            "spec": {"containers": [container]}}


def event(name):
    return {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, "reason": "Tested", "message": "m" * 200,
            "involvedObject": {"kind": "Pod", "namespace": "load", "name": "pod-1"}}


def lease(name):
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 40}}


class Kube:
    """A store, an API server over it, and what is measured of both."""

    def __init__(self, args, checks, folder, binary, size):
        self.args, self.checks = args, checks
        self.what = f"{os.path.basename(binary)}, {size}"
        os.mkdir(folder)
        self.folder = folder
        self.past_cpu = 0.0
        self.store = cluster_lib.Cluster(binary, folder, size, flags=STORE_FLAGS, etcdctl=args.etcdctl).start()
        endpoints = ",".join(f"http://{m.endpoint}" for m in self.store.members)
        self.api = kube_lib.ApiServer(args.kube_apiserver, os.path.join(folder, "api"), endpoints)
        self.informers = []
        self.manager = None
        with self.phase("the API server starts"):
            self.api.start()
        self.client = self.api.client()

    def equal(self, got, expected, label):
        return self.checks.equal(got, expected, f"{self.what}: {label}")

    def check(self, ok, label):
        return self.checks.check(ok, f"{self.what}: {label}")

    def cpu(self):
        """What store and API server have taken since their beginning, their earlier lives included."""
        return (self.past_cpu + sum(kube_lib.cpu_seconds(m.pid) for m in self.store.members if m.is_alive()),
                self.api.cpu_seconds())

    def kill(self, member):
        self.past_cpu += kube_lib.cpu_seconds(member.pid)
        member.kill()

    @contextlib.contextmanager
    def phase(self, label):
        """Says how long it took and what it cost."""
        began, before = time.monotonic(), self.cpu()
        note = []
        yield note
        took, after = time.monotonic() - began, self.cpu()
        print(f"{self.what:8} {label:44} {took:7.2f} s, CPU: store {after[0] - before[0]:6.2f} s, "
              f"API server {after[1] - before[1]:6.2f} s {' '.join(note)}", flush=True)

    def start_manager(self):
        """A controller manager, which ends by itself should it lose its lease. False: there is no program."""
        if not self.args.kube_controller_manager:
            return False
        port, = lib.free_ports(1)
        with open(os.path.join(self.folder, "manager.log"), "ab") as log:
            self.manager = lib.spawn(
                [self.args.kube_controller_manager, f"--kubeconfig={self.api.kubeconfig}", f"--secure-port={port}",
                 "--bind-address=127.0.0.1", f"--cert-dir={self.folder}", "--leader-elect=true",
                 f"--flex-volume-plugin-dir={self.folder}/flex", f"--service-account-private-key-file={self.api.key}"],
                stdout=log, stderr=log)
        return True

    def stop(self):
        self.unwatch()
        if self.manager:
            self.manager.terminate()
            self.manager.wait(timeout=60)
        self.api.stop()
        self.store.stop()

    def kubectl(self, *words, text=None):
        command = [self.args.kubectl, "--kubeconfig", self.api.kubeconfig, *words]
        done = subprocess.run(command, input=text, text=True, capture_output=True, timeout=180, check=False,
                              env=dict(os.environ, HOME=self.folder))
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def unwatch(self):
        """An API server that stops waits for its watches."""
        for informer in self.informers:
            informer.stop()
        self.informers = []

    def watch(self, *paths):
        self.unwatch()
        self.informers = [kube_lib.Informer(self.api, path) for path in paths]
        for informer in self.informers:
            informer.start()
        lib.wait_until(lambda: all(i.counts["watches"] for i in self.informers), 60, "informers watch")

    def judge_informers(self, label, timeout_s=120):
        """Each knows what a list of the store says, and no event came that did not continue what was known."""
        for informer in self.informers:
            def agrees(informer=informer):
                return informer.is_at(self.client.pages(informer.path)[0])
            try:
                lib.wait_until(agrees, timeout_s, "agrees")
            except TimeoutError:
                self.check(False, f"{label}: the informer of {informer.path} never agreed with a list")
            self.equal(informer.wrong[:3], [], f"{label}: events of {informer.path} continue what was known")
        counted = sum((i.counts for i in self.informers), start=self.informers[0].counts.__class__())
        print(f"{self.what:8} {label}: informers {dict(counted)}", flush=True)
        return counted

    def spread(self, count, work):
        """work(client, number) for every number, by several threads; how long each took."""
        seconds, failures, numbers, lock = [], [], iter(range(count)), threading.Lock()

        def run():
            client = self.api.client()
            while not failures:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    break
                began = time.monotonic()
                try:
                    work(client, number)
                except kube_lib.Refused as refused:
                    failures.append(str(refused))
                seconds.append(time.monotonic() - began)
            client.close()
        threads = [threading.Thread(target=run) for _ in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.equal(failures, [], "requests are answered")
        return f"p50 {1000 * kube_lib.quantile(seconds, 0.5):.1f} ms, p99 {1000 * kube_lib.quantile(seconds, 0.99):.1f} ms"


# ---- what a cluster does all day ----

def objects(kube):
    """Thousands of objects of five kinds under informers."""
    for name in ("load", "other"):
        kube.client.json("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    kube.watch(*[f"/api/v1/namespaces/load/{kind}" for kind in RESOURCES],
               "/apis/coordination.k8s.io/v1/namespaces/load/leases", "/api/v1/namespaces")
    makers = [("pods", pod), ("configmaps", lambda name: config_map(name, "y" * 1000)), ("events", event),
              ("secrets", lambda name: {"metadata": {"name": name}, "data": kube_lib.secret({"key": os.urandom(2000)})})]
    for kind, make in makers:
        with kube.phase(f"{OBJECTS} {kind}") as note:
            note.append(kube.spread(OBJECTS, lambda client, i: client.json(
                "POST", f"/api/v1/namespaces/load/{kind}", make(f"{kind}-{i:05}"))))
    leases = "/apis/coordination.k8s.io/v1/namespaces/load/leases"
    kube.spread(OBJECTS // 10, lambda client, i: client.json("POST", leases, lease(f"node-{i}")))

    def renew(client, i):
        path = f"{leases}/node-{i % (OBJECTS // 10)}"
        held = client.get(path)
        held["spec"]["renewTime"] = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
        with contextlib.suppress(kube_lib.Refused):  # another renewed it in between
            client.json("PUT", path, held)
    with kube.phase(f"{OBJECTS} renewals of leases") as note:
        note.append(kube.spread(OBJECTS, renew))
    kube.judge_informers("objects")


def applied(kube):
    """Server-side apply: of one's own fields, in conflict with another's, and by kubectl."""
    path = "/api/v1/namespaces/load/configmaps/applied"
    for i in range(20):
        kube.client.json("PATCH", f"{path}?fieldManager=one", config_map("applied", str(i)), APPLY)
    try:
        kube.client.json("PATCH", f"{path}?fieldManager=two", config_map("applied", "mine"), APPLY)
        kube.check(False, "a conflict of two managers is told")
    except kube_lib.Refused as refused:
        kube.equal(refused.status, 409, "a conflict of two managers")
    forced = kube.client.json("PATCH", f"{path}?fieldManager=two&force=true", config_map("applied", "mine"), APPLY)
    kube.equal(forced["data"]["text"], "mine", "force wins")
    if kube.args.kubectl:
        text = json.dumps(config_map("by-kubectl", "z"))
        kube.check("serverside-applied" in kube.kubectl("apply", "--server-side", "-n", "load", "-f", "-", text=text), "kubectl apply")
        kube.check("by-kubectl" in kube.kubectl("get", "configmap", "-n", "load", "--chunk-size=50"), "kubectl get")


def lists(kube):
    """Pages are of one revision whatever is written between them; a list sees what was written before it."""
    path = "/api/v1/namespaces/load/configmaps"
    made = []

    def write():
        made.append(f"between-{len(made)}")
        kube.client.json("POST", path, config_map(made[-1], "b"))
    before = {i["metadata"]["name"] for i in kube.client.get(path)["items"]}
    with kube.phase("a list in pages, writes between them"):
        items, metadata, pages = kube.client.pages(path, max(len(before) // 20, 2), write)
    kube.equal({i["metadata"]["name"] for i in items}, before, "all pages are of the first one's revision")
    kube.check(pages > 10 and metadata["remainingItemCount"] == len(before) - max(len(before) // 20, 2), "what remains")

    def seen(client, i):
        revision = client.json("POST", path, config_map(f"seen-{i}", "s"))["metadata"]["resourceVersion"]
        listed = client.get(path + "?labelSelector=none")["metadata"]["resourceVersion"]
        if int(listed) < int(revision):
            raise kube_lib.Refused(0, f"a list at {listed} after a write at {revision}")
    with kube.phase("200 lists, each after a write") as note:
        note.append(kube.spread(200, seen))
    for version, match in (("0", "NotOlderThan"), (metadata["resourceVersion"], "NotOlderThan"), (metadata["resourceVersion"], "Exact")):
        kube.client.get(f"{path}?resourceVersion={version}&resourceVersionMatch={match}&limit=5")
    fallback = kube.api.metric(r'^apiserver_watch_cache_consistent_read_total.*(fallback="true"|success="false")')
    wanted = kube.api.metric(r"^apiserver_watch_cache_consistent_read_total")
    print(f"{kube.what:8} consistent lists from memory: {wanted:.0f}, of them by the store after all: {fallback:.0f}", flush=True)
    kube.check(wanted >= 200 and fallback == 0, f"lists come from the API server's memory: {fallback} of {wanted} did not")


def watch_lists(kube):
    """A watch that begins with all there is: its first bookmark needs the store's progress on demand."""
    path = "/api/v1/namespaces/load/pods"
    with kube.phase("20 watches that begin with a list") as note:
        def one(client, _):
            response = client.open("GET", f"{path}?watch=1&sendInitialEvents=true&allowWatchBookmarks=true"
                                   "&resourceVersionMatch=NotOlderThan&timeoutSeconds=30")
            names = []
            for line in iter(response.readline, b""):
                item = json.loads(line)
                if item["type"] == "BOOKMARK":
                    marked = item["object"]["metadata"].get("annotations", {}).get("k8s.io/initial-events-end")
                    if marked != "true" or len(names) < OBJECTS:
                        raise kube_lib.Refused(0, f"bookmark {item} after {len(names)} events")
                    break
                names.append(item)
            client.close()
        note.append(kube.spread(20, one))


def custom(kube):
    """A kind of the cluster's own, its objects, their watch, its end."""
    schema = {"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.test.example"},
           "spec": {"group": "test.example", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
                    "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}]}}
    path = "/apis/test.example/v1/namespaces/load/things"

    def served():
        with contextlib.suppress(kube_lib.Refused):
            return kube.client.get(path) is not None
        return False
    with kube.phase("a custom resource, its objects, its end") as note:
        kube.client.json("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        lib.wait_until(served, 60, "the custom resource is served")
        informer = kube_lib.Informer(kube.api, path)
        informer.start()
        note.append(kube.spread(OBJECTS // 3, lambda client, i: client.json("POST", path, {
            "apiVersion": "test.example/v1", "kind": "Thing", "metadata": {"name": f"thing-{i}"}, "spec": {"text": "t" * 500}})))
        lib.wait_until(lambda: len(informer.known) == OBJECTS // 3, 60, "the informer of a custom resource knows all")
        informer.stop()
        kube.equal(informer.wrong[:3], [], "events of a custom resource")
        kube.client.json("DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.test.example")
        lib.wait_until(lambda: not served(), 120, "the custom resource is gone")


def controllers(kube):
    """A controller manager with a leader's lease: a deployment's pods appear, and go by garbage collection; a namespace ends
    with all that is in it."""
    if not kube.start_manager():
        print("no kube-controller-manager: left out", flush=True)
        return
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": pod("")["spec"]}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
                  "spec": {"replicas": 30, "selector": {"matchLabels": labels}, "template": template}}
    pods = "/api/v1/namespaces/other/pods"
    with kube.phase("a deployment of 30 appears and goes"):
        kube.client.json("POST", "/apis/apps/v1/namespaces/other/deployments", deployment)
        lib.wait_until(lambda: len(kube.client.get(pods)["items"]) == 30, 180, "the pods of a deployment")
        kube.client.json("DELETE", "/apis/apps/v1/namespaces/other/deployments/web?propagationPolicy=Background")
        lib.wait_until(lambda: not kube.client.get(pods)["items"], 180, "the pods are collected")
    with kube.phase("a namespace ends"):
        kube.spread(OBJECTS // 3, lambda client, i: client.json("POST", "/api/v1/namespaces/other/configmaps", config_map(f"c-{i}", "o")))
        kube.client.json("DELETE", "/api/v1/namespaces/other")
        lib.wait_until(lambda: not kube.client.get("/api/v1/namespaces?fieldSelector=metadata.name%3Dother")["items"],
                       180, "the namespace is gone")


def idle(kube):
    """What a cluster costs where nothing happens."""
    with kube.phase(f"{IDLE_S} s of nothing"):
        time.sleep(IDLE_S)


def ends(kube):
    """Collections are deleted, and events end by their leases, under informers."""
    for kind in ("pods", "secrets"):
        with kube.phase(f"deletion of all {kind}"):
            kube.client.call("DELETE", f"/api/v1/namespaces/load/{kind}?gracePeriodSeconds=0")
        kube.equal(kube.client.get(f"/api/v1/namespaces/load/{kind}")["items"], [], f"no {kind} are left")
    with kube.phase("events end by themselves"):
        lib.wait_until(lambda: not kube.client.get("/api/v1/namespaces/load/events")["items"], 180, "the events are gone")
    counted = kube.judge_informers("ends")
    kube.equal(counted["lists"], len(kube.informers), "nobody had to list anew")


def compacted(kube):
    """The API server compacts by itself: a list's old pages are gone then, and it says so."""
    path = "/api/v1/namespaces/load/configmaps"
    first = kube.client.get(path + "?limit=2")["metadata"]

    def gone():
        kube.client.json("PATCH", f"{path}/applied?fieldManager=one&force=true", config_map("applied", str(time.monotonic())), APPLY)
        try:
            kube.client.get(f"{path}?limit=2&continue={first['continue']}")
        except kube_lib.Refused as refused:
            return refused.status == 410
        return False
    with kube.phase("compaction by the API server"):
        lib.wait_until(gone, 120, "the old revision is compacted")
    size = kube.api.metric(r"^apiserver_storage_size_bytes")
    counted = kube.api.metric(r'^apiserver_storage_objects\{resource="configmaps"')
    kube.check(size > 0 and counted > 0, f"metrics of the store: {size} bytes, {counted} configmaps")
    for probe in ("/healthz/etcd", "/readyz/etcd", "/readyz/etcd-readiness", "/livez"):
        kube.check(kube.api.is_ready(probe), probe)


# ---- what goes wrong, under writers ----

class Load:
    """Writers for the time of a `with`, judged at its end."""

    def __init__(self, kube, label):
        self.kube, self.label = kube, label

    def __enter__(self):
        path = "/api/v1/namespaces/default/configmaps"
        for i in range(2):
            with contextlib.suppress(kube_lib.Refused):
                self.kube.client.json("POST", path, {"metadata": {"name": f"count-{i}"}, "data": {"count": "0"}})
        self.before = self.count()
        self.writers = [kube_lib.Writer(self.kube.api, i) for i in range(WRITERS)]
        for writer in self.writers:
            writer.start()
        time.sleep(1)
        return self

    def count(self):
        return sum(int(self.kube.client.get(f"/api/v1/namespaces/default/configmaps/count-{i}")["data"]["count"]) for i in range(2))

    def __exit__(self, kind, error, trace):
        for writer in self.writers:
            writer.stopping = True
        for writer in self.writers:
            writer.join(120)
        if kind is not None:
            return
        acknowledged, unknown = (sum(getattr(w, name) for w in self.writers) for name in ("acknowledged", "unknown"))
        counted = self.count() - self.before
        self.kube.check(acknowledged <= counted <= acknowledged + unknown,
                        f"{self.label}: counted {counted}, acknowledged {acknowledged}, unknown {unknown}")
        answers = sum((w.answers for w in self.writers), start=self.writers[0].answers.__class__())
        seconds = [s for w in self.writers for s in w.seconds]
        print(f"{self.kube.what:8} {self.label}: {dict(answers)}, writes p50 {1000 * kube_lib.quantile(seconds, 0.5):.1f} ms, "
              f"p99 {1000 * kube_lib.quantile(seconds, 0.99):.1f} ms, longest without one of a writer "
              f"{max(w.longest_gap for w in self.writers):.2f} s", flush=True)


def maintained(kube):
    """A defragmentation and a snapshot of every member while it is at work."""
    with kube.phase("a load alone"), Load(kube, "alone"):
        time.sleep(LOAD_S)
    with kube.phase("defrag and snapshot save"), Load(kube, "maintained"):
        for member in kube.store.members:
            kube.store.ctl("--command-timeout=60s", "defrag", members=[member], timeout_s=90)
            kube.store.ctl("snapshot", "save", f"{kube.folder}/{member.name}.db", members=[member], timeout_s=90)


def stalled(kube, member, label):
    with kube.phase(f"{label} stalls for {STALL_S} s"), Load(kube, f"{label} stalled"):
        os.kill(member.pid, signal.SIGSTOP)
        time.sleep(STALL_S)
        os.kill(member.pid, signal.SIGCONT)
        time.sleep(LOAD_S)


def killed(kube, members, label):
    with kube.phase(f"{label} killed, back after a while"), Load(kube, f"{label} killed"):
        for member in members:
            kube.kill(member)
        time.sleep(LOAD_S)
        for member in members:
            member.launch()
        kube.store.wait_healthy()
        time.sleep(LOAD_S)


def faults(kube):
    kube.watch("/api/v1/namespaces/default/configmaps", "/api/v1/namespaces/load/configmaps")
    maintained(kube)
    if len(kube.store.members) > 1:
        stalled(kube, kube.store.wait_leader(), "the leader")
        stalled(kube, kube.store.followers()[0], "a follower")
        killed(kube, [kube.store.wait_leader()], "the leader")
        killed(kube, [kube.store.followers()[0]], "a follower")
    killed(kube, kube.store.members, "every member")
    lib.wait_until(kube.api.is_ready, 120, "the API server is ready again")
    kube.judge_informers("faults")
    if kube.manager:
        kube.equal(kube.manager.poll(), None, "the controller manager has kept its lease")


def disaster(kube):
    """docs/recover.md: a snapshot of what is left makes a cluster of one, its revision far ahead."""
    if os.path.basename(kube.store.binary) == "etcd":
        return
    before = kube.client.get("/api/v1/namespaces/load/configmaps")["items"]
    survivor = kube.store.members[0]
    for member in kube.store.members[1:]:
        kube.kill(member)
    snapshot, restored = f"{kube.folder}/rescue.db", f"{kube.folder}/restored"
    kube.store.ctl("snapshot", "save", snapshot, members=[survivor])
    kube.kill(survivor)
    subprocess.run([kube.args.cleatutl, "snapshot", "restore", snapshot, "--data-dir", restored, "--name", survivor.name,
                    "--initial-cluster", f"{survivor.name}={survivor.peer_url}",
                    "--initial-advertise-peer-urls", survivor.peer_url, "--initial-cluster-token", "recovered-1",
                    "--bump-revision", "1000000000", "--mark-compacted"], check=True, capture_output=True)
    kube.store.members = [survivor]
    survivor.data_dir, survivor.initial_cluster = restored, kube.store.initial_cluster([survivor])
    began = time.monotonic()
    kube.store.restart(survivor)
    kube.judge_informers("the API server that lived on")
    print(f"{kube.what:8} after a disaster: informers agree after {time.monotonic() - began:.1f} s", flush=True)
    kube.unwatch()
    kube.client.close()
    kube.api.stop()
    kube.api.start()
    again = kube.client.get("/api/v1/namespaces/load/configmaps")["items"]
    kube.equal([i["metadata"] for i in again], [i["metadata"] for i in before], "every object, with its revision")
    made = kube.client.json("POST", "/api/v1/namespaces/load/configmaps", config_map("after", "all"))
    kube.check(int(made["metadata"]["resourceVersion"]) > 1000000000, "new revisions are far ahead")


STEPS = [objects, applied, lists, watch_lists, custom, controllers, idle, compacted, ends, faults, disaster]


def run(args, checks, folder, binary, size):
    kube = Kube(args, checks, folder, binary, size)
    for step in STEPS:
        if not args.steps or step.__name__ in args.steps.split(","):
            try:
                step(kube)
            except (kube_lib.Refused, RuntimeError, TimeoutError) as error:
                kube.check(False, f"{step.__name__}: {type(error).__name__} {error}")
    for line, times in kube.api.complaints().most_common(args.complaints):
        print(f"{kube.what:8} {times:5} x {line}", flush=True)
    cpu = kube.cpu()
    print(f"{kube.what:8} at the end: CPU of the store {cpu[0]:.2f} s, of the API server {cpu[1]:.2f} s", flush=True)
    kube.stop()


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", cleatutl="build/release/tools/utl/cleatutl",
                           etcdctl="etcdctl", etcd=None, kube_apiserver="kube-apiserver", kubectl="kubectl",
                           kube_controller_manager="kube-controller-manager")
    parser.add_argument("--sizes", default="1,3", help="of the clusters")
    parser.add_argument("--steps", help="those wanted, by name, separated by commas")
    parser.add_argument("--complaints", type=int, default=25, help="how many kinds of errors in the API server's log are told")
    args = parser.parse_args()
    args.kube_apiserver, args.etcdctl = lib.need_program(args.kube_apiserver), lib.need_program(args.etcdctl)
    args.kubectl, args.kube_controller_manager = map(lib.find_program, (args.kubectl, args.kube_controller_manager))
    lib.need_program("openssl")
    checks = lib.Checks()
    folder = lib.temp_dir("kube")
    for size in map(int, args.sizes.split(",")):
        for binary in filter(None, (args.etcd, args.cleat)):
            run(args, checks, os.path.join(folder, f"{os.path.basename(binary)}-{size}"), binary, size)
    checks.done()


if __name__ == "__main__":
    main()
