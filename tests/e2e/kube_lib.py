"""Kubernetes' API server in front of a store, and clients of it: requests, informers, writers. By the standard library
alone: the API server speaks JSON over HTTPS."""
import base64
import collections
import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse

import lib

TOKEN = "of-the-test"
RETRY_S = 0.1
REQUEST_TIMEOUT_S = 70  # above the API server's own 60 s
FLAGS = ["--bind-address=127.0.0.1", "--advertise-address=192.0.2.1", "--service-cluster-ip-range=10.0.0.0/24",
         "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount", "--feature-gates=WatchList=true",
         "--service-account-issuer=https://kubernetes.default.svc", "--etcd-compaction-interval=10s",
         "--etcd-count-metric-poll-period=5s", "--etcd-db-metric-poll-interval=5s", "--event-ttl=20s"]


class Refused(Exception):
    """An answer that is not 2xx, or none (status 0)."""

    def __init__(self, status, text):
        super().__init__(f"{status}: {text[:300]}")
        self.status = status
        found = re.search(r'"message":"([^"]*)', text)
        self.reason = re.sub(r"[0-9.:>-]{9,}", "#", found.group(1) if found else text)[:120] if status != 409 else ""


class Client:
    """One connection to the API server, for one thread at a time."""

    def __init__(self, port):
        self.port = port
        self.connection = None

    def open(self, method, path, body=None, kind="application/json", timeout_s=REQUEST_TIMEOUT_S):
        """The response, its body not read yet."""
        if self.connection is None:
            self.connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout_s,
                                                          context=ssl._create_unverified_context())
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind}
        try:
            if self.connection.sock is not None:
                self.connection.sock.settimeout(timeout_s)
            self.connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
            return self.connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Refused(0, f"{type(error).__name__} {error}") from error

    def call(self, method, path, body=None, kind="application/json", timeout_s=REQUEST_TIMEOUT_S):
        """The answer as text; raises Refused."""
        response = self.open(method, path, body, kind, timeout_s)
        try:
            text = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Refused(0, f"{type(error).__name__} {error}") from error
        if response.status >= 300:
            raise Refused(response.status, text)
        return text

    def json(self, method, path, body=None, kind="application/json"):
        return json.loads(self.call(method, path, body, kind))

    def get(self, path):
        return self.json("GET", path)

    def pages(self, path, limit=500, between=lambda: None):
        """All items of a list in pages, the first page's metadata, how many pages; between() runs before each next."""
        items, query, first, count = [], f"?limit={limit}", None, 0
        while query is not None:
            page = self.get(path + query)
            first = first or page["metadata"]
            items += page["items"]
            count += 1
            more = page["metadata"].get("continue")
            query = f"?limit={limit}&continue={urllib.parse.quote(more)}" if more else None
            between()
        return items, first, count

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def cpu_seconds(pid):
    """User and system time that a process has taken."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class ApiServer:
    """kube-apiserver over a store, by its endpoints. Lives more than once, on the same port."""

    def __init__(self, binary, folder, endpoints, flags=()):
        self.binary, self.folder, self.endpoints = binary, folder, endpoints
        os.makedirs(folder, exist_ok=True)
        self.port, = lib.free_ports(1)
        self.flags = FLAGS + list(flags)
        self.log_path = os.path.join(folder, "apiserver.log")
        self.key = os.path.join(folder, "accounts.key")
        subprocess.run(["openssl", "genrsa", "-out", self.key, "2048"], check=True, capture_output=True)
        self.tokens = os.path.join(folder, "tokens")
        with open(self.tokens, "w", encoding="ascii") as file:
            file.write(f'{TOKEN},test,test,"system:masters"\n')
        self.kubeconfig = os.path.join(folder, "kubeconfig")
        self._write_kubeconfig()
        self.process = None
        self.past_cpu = 0.0

    def _write_kubeconfig(self):
        cluster = {"server": f"https://127.0.0.1:{self.port}", "insecure-skip-tls-verify": True}
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "test",
                  "clusters": [{"name": "test", "cluster": cluster}],
                  "users": [{"name": "test", "user": {"token": TOKEN}}],
                  "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}]}
        with open(self.kubeconfig, "w", encoding="ascii") as file:
            json.dump(config, file)

    def command(self):
        return [self.binary, f"--etcd-servers={self.endpoints}", f"--secure-port={self.port}",
                f"--cert-dir={self.folder}", f"--token-auth-file={self.tokens}",
                f"--service-account-key-file={self.key}", f"--service-account-signing-key-file={self.key}"] + self.flags

    def client(self):
        return Client(self.port)

    def is_ready(self, path="/readyz"):
        try:
            client = self.client()
            client.call("GET", path, timeout_s=10)
            return True
        except Refused:
            return False
        finally:
            client.close()

    def start(self, timeout_s=180):
        with open(self.log_path, "ab") as log:
            self.process = lib.spawn(self.command(), stdout=log, stderr=log)
        lib.wait_until(lambda: self.process.poll() is not None or self.is_ready(), timeout_s, "the API server is ready")
        if self.process.poll() is not None:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                raise RuntimeError("the API server ended:\n" + log.read()[-3000:])
        return self

    def stop(self):
        self.past_cpu += cpu_seconds(self.process.pid)
        self.process.terminate()
        self.process.wait(timeout=120)
        self.process = None

    def cpu_seconds(self):
        return self.past_cpu + (cpu_seconds(self.process.pid) if self.process else 0.0)

    def complaints(self):
        """Lines of the log that are errors or warnings, numbers taken out, with how often they came."""
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            lines = [re.sub(r"^[EW]\d+ [\d:.]+\s+\d+ ", "", line) for line in log
                     if re.match(r"[EW]\d{4} ", line) and "Skipping API" not in line]
        return collections.Counter(re.sub(r"[0-9a-f-]{36}|0x[0-9a-f]+|\d+", "#", line.strip())[:200] for line in lines)

    def metric(self, pattern):
        """The sum of the samples whose name and labels match."""
        total = 0.0
        for line in self.client().call("GET", "/metrics").splitlines():
            if not line.startswith("#") and re.search(pattern, line):
                total += float(line.rpartition(" ")[2])
        return total


class Informer(threading.Thread):
    """client-go's reflector: lists in pages, watches from there with bookmarks, resumes where a watch ended, lists anew
    when it is told that the past is gone. Every event must continue what it knows."""

    def __init__(self, api, path, lists=True):
        super().__init__(daemon=True)
        self.api, self.path = api, path
        self.known = {}  # namespace/name -> resourceVersion
        self.revision = None
        self.counts = collections.Counter()
        self.wrong = []
        self.stopping = False
        self.client = None

    def stop(self):
        self.stopping = True
        with contextlib.suppress(OSError, AttributeError):  # between two connections
            self.client.connection.sock.shutdown(socket.SHUT_RDWR)

    def run(self):
        while not self.stopping:
            self.client = client = self.api.client()
            try:
                if self.revision is None:
                    self._list(client)
                self._watch(client)
            except (Refused, OSError, ValueError, http.client.HTTPException) as error:
                self.counts[f"failed {getattr(error, 'status', type(error).__name__)}"] += 1
                if getattr(error, "status", 0) == 410:
                    self.revision = None
                time.sleep(RETRY_S)
            finally:
                client.close()

    @staticmethod
    def name_of(item):
        return f"{item['metadata'].get('namespace')}/{item['metadata']['name']}"

    def _list(self, client):
        items, metadata, _ = client.pages(self.path)
        self.known = {self.name_of(i): i["metadata"]["resourceVersion"] for i in items}
        self.revision = metadata["resourceVersion"]
        self.counts["lists"] += 1

    def _watch(self, client):
        response = client.open("GET", f"{self.path}?watch=1&resourceVersion={self.revision}&allowWatchBookmarks=true"
                               "&timeoutSeconds=300", timeout_s=330)
        if response.status >= 300:
            raise Refused(response.status, response.read().decode())
        self.counts["watches"] += 1
        for line in iter(response.readline, b""):
            self._take(json.loads(line))
            if self.stopping:
                return

    def _take(self, event):
        kind, item = event["type"], event["object"]
        self.counts[kind] += 1
        if kind == "ERROR":
            raise Refused(item.get("code", 0), str(item))
        revision = item["metadata"]["resourceVersion"]
        may_repeat = kind in ("BOOKMARK", "DELETED")  # objects of one lease end in one revision
        if int(revision) < int(self.revision) or revision == self.revision and not may_repeat:
            self.wrong.append(f"{kind} of {revision} after {self.revision}")
        self.revision = revision
        if kind == "BOOKMARK":
            return
        name = self.name_of(item)
        if (kind == "ADDED") == (name in self.known):
            self.wrong.append(f"{kind} of {name}, which was {'known' if name in self.known else 'unknown'}")
        if kind == "DELETED":
            self.known.pop(name, None)
        else:
            self.known[name] = revision

    def is_at(self, items):
        return self.known == {self.name_of(i): i["metadata"]["resourceVersion"] for i in items}


class Writer(threading.Thread):
    """Counts in one object which others count in as well, each time by what it read, and notes how long each write took."""

    def __init__(self, api, number):
        super().__init__(daemon=True)
        self.api = api
        self.path = f"/api/v1/namespaces/default/configmaps/count-{number % 2}"
        self.acknowledged = self.unknown = 0
        self.seconds = []
        self.answers = collections.Counter()
        self.longest_gap = 0.0
        self.stopping = False

    def run(self):
        client, last = self.api.client(), time.monotonic()
        while not self.stopping:
            began = time.monotonic()
            wrote = False
            try:
                item = client.get(self.path)
                item["data"]["count"] = str(int(item["data"]["count"]) + 1)
                wrote = True
                began = time.monotonic()
                client.json("PUT", self.path, item)
                self.acknowledged += 1
                self.answers["ok"] += 1
                self.longest_gap = max(self.longest_gap, time.monotonic() - last)
                last = time.monotonic()
                self.seconds.append(last - began)
            except Refused as refused:
                self.answers[f"{'PUT' if wrote else 'GET'} {refused.status} {refused.reason}"] += 1
                if wrote and refused.status not in (409, 429):
                    self.unknown += 1
                if refused.status not in (0, 409):
                    time.sleep(RETRY_S)
        self.longest_gap = max(self.longest_gap, time.monotonic() - last)
        client.close()


def quantile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else 0.0


def secret(data):
    return {key: base64.b64encode(value).decode() for key, value in data.items()}
