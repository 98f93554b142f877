#!/usr/bin/env python3
"""--discovery-srv: cleatctl, and etcdctl where it is installed, find a server by the SRV records of a name server that
runs in namespaces of the driver's own, where /etc/resolv.conf and port 53 are ours."""
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading

import lib

INSIDE = "CLEAT_TEST_INSIDE"
A, SRV = 1, 33


def name_bytes(name):
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".") if part) + b"\0"


def resource(kind, data):
    return struct.pack(">HHHIH", 0xC00C, kind, 1, 1, len(data)) + data  # the name is the question's


def srv_record(record):
    priority, port, host = record
    return resource(SRV, struct.pack(">HHH", priority, 0, port) + name_bytes(host))


def answers(records, name, kind):
    """The records for a question, or None where there is no such name. etcdctl asks for the address of "localhost."."""
    if name == "localhost":
        return [resource(A, socket.inet_aton("127.0.0.1"))] if kind == A else []
    return [srv_record(record) for record in records[name]] if name in records else None


def serve_names(records):
    """A name server on port 53 that knows these SRV records, and localhost."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))

    def answer():
        while True:
            query, who = server.recvfrom(4096)
            end = query.index(0, 12) + 5
            parts, at = [], 12
            while query[at]:
                parts.append(query[at + 1:at + 1 + query[at]].decode())
                at += query[at] + 1
            found = answers(records, ".".join(parts).lower(), struct.unpack_from(">H", query, end - 4)[0])
            flags = 0x8183 if found is None else 0x8180
            head = query[:2] + struct.pack(">HHHHH", flags, 1, len(found or []), 0, 0)
            server.sendto(head + query[12:end] + b"".join(found or []), who)

    threading.Thread(target=answer, daemon=True).start()


def run(program, *words):
    done = subprocess.run([program, "--command-timeout=3s"] + list(words), check=False, capture_output=True, timeout=60,
                          env=dict(os.environ, ETCDCTL_API="3"))
    err = "".join(line for line in done.stderr.decode().splitlines(True) if not line.startswith('{"level"'))
    return done.stdout.decode(), err, done.returncode


def inside(args):
    """In the new namespaces."""
    checks, top = lib.Checks(), lib.temp_dir("ctl-discovery")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with open(top + "/resolv.conf", "w", encoding="ascii") as file:
        file.write("nameserver 127.0.0.1\n")
    subprocess.run(["mount", "--bind", top + "/resolv.conf", "/etc/resolv.conf"], check=True)
    server = lib.Server(args.cleat, top + "/cleat").start()
    here = (1, server.client_port, "localhost")
    serve_names({"_etcd-client._tcp.plain.test": [(2, 1, "localhost"), here],
                 "_etcd-client-blue._tcp.plain.test": [here],
                 "_etcd-client-ssl._tcp.secure.test": [(1, 1, "localhost")]})
    programs = [args.cleatctl] + ([args.etcdctl] if lib.find_program(args.etcdctl) else [])
    for program in programs:
        name = os.path.basename(program)
        checks.equal(run(program, "-d", "plain.test", "put", "a", "1"), ("OK\n", "", 0), f"{name} finds the server")
        checks.equal(run(program, "-d", "plain.test", "--discovery-srv-name", "blue", "get", "a"), ("a\n1\n", "", 0),
                     f"{name} finds the server by another service")
        out, err, code = run(program, "-d", "nobody.test", "get", "a")
        checks.equal((out, code), ("", 1), f"{name}: nobody there")
        checks.equal(err, "Error: dns lookup errors: lookup _etcd-client-ssl._tcp.nobody.test on 127.0.0.1:53: no such host "
                          "and lookup _etcd-client._tcp.nobody.test on 127.0.0.1:53: no such host\n", f"{name}: why")
        out, err, code = run(program, "-d", "plain.test", "--insecure-discovery=false", "get", "a")
        checks.check(err.count("ignoring discovered insecure endpoint \"http://localhost") == 2, f"{name}: {err}")
        checks.equal((out, code), ("", 1), f"{name} takes nothing insecure for secure")
        checks.equal(run(program, "-d", "secure.test", "get", "a"), ("", "Error: context deadline exceeded\n", 1),
                     f"{name} goes where it is told")
    server.stop()
    checks.done()


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", cleatctl="build/release/tools/ctl/cleatctl",
                           etcdctl="etcdctl")
    args = parser.parse_args()
    if os.environ.get(INSIDE):
        inside(args)
    probe = ["unshare", "--map-root-user", "--net", "--mount"]
    if any(shutil.which(program) is None for program in ("unshare", "ip", "mount")):
        lib.skip("unshare, ip or mount is not installed")
    if subprocess.run(probe + ["mount", "--bind", "/etc/resolv.conf", "/etc/resolv.conf"], capture_output=True,
                      check=False).returncode != 0:
        lib.skip("no namespaces here")
    sys.exit(subprocess.run(probe + [sys.executable] + sys.argv, check=False,
                            env=dict(os.environ, **{INSIDE: "1"})).returncode)


if __name__ == "__main__":
    main()
