#!/usr/bin/env python3
"""The commands of etcdctl that work on files, which cleatctl hands to cleatutl: snapshot status and restore, and
defrag --data-dir. A snapshot of an etcd is told of as etcdctl tells of it, and restored into a cleat."""
import os
import subprocess
import sys

import lib


def run(program, words, path):
    done = subprocess.run([program] + words, check=False, capture_output=True, timeout=60,
                          env=dict(os.environ, ETCDCTL_API="3", PATH=path + ":" + os.environ["PATH"]))
    return done.stdout.decode(), done.stderr.decode(), done.returncode


def save_snapshot(etcd, etcdctl, top):
    """A snapshot file of an etcd with some keys."""
    server = lib.Server(etcd, top + "/etcd").start()
    for i in range(20):
        run(etcdctl, ["--endpoints", server.endpoint, "put", f"key{i}", "v" * i], "")
    done = run(etcdctl, ["--endpoints", server.endpoint, "snapshot", "save", top + "/saved"], "")
    assert done[2] == 0, done
    server.stop()
    return top + "/saved"


def check_status(checks, args, snapshot, path):
    note = "Deprecated: Use `etcdutl snapshot status` instead.\n\n"
    for writer in ("simple", "json", "table"):
        words = ["snapshot", "status", snapshot, "-w", writer]
        expected = run(args.etcdctl, words, "")
        got = run(args.cleatctl, words, path)
        checks.equal((got[0], got[2]), (expected[0], expected[2]), f"snapshot status -w {writer}")
        checks.equal(got[1], note, f"stderr of snapshot status -w {writer}")
    out, err, code = run(args.cleatctl, ["snapshot", "status"], path)
    checks.equal((out, err, code), ("", note + "Error: snapshot status requires exactly one argument\n", 128),
                 "snapshot status without a file")
    out, err, code = run(args.cleatctl, ["snapshot", "status", "/nonexistent"], path)
    checks.equal((out, code), ("", 1), f"snapshot status of no file: {err}")


def check_restore(checks, args, snapshot, path, top):
    server = lib.Server(args.cleat, top + "/restored")
    peer = f"http://127.0.0.1:{server.peer_port}"
    out, err, code = run(args.cleatctl, ["snapshot", "restore", snapshot, "--data-dir", server.data_dir,
                                         "--initial-cluster", f"default={peer}", "--initial-advertise-peer-urls", peer,
                                         "--initial-memory-map-size", "1000"], path)
    checks.equal((out, code), ("", 0), f"snapshot restore: {err}")
    server.start()
    checks.equal(run(args.cleatctl, ["--endpoints", server.endpoint, "get", "key7"], path)[0], "key7\nvvvvvvv\n",
                 "a key of the restored member")
    server.stop()
    out, err, code = run(args.cleatctl, ["defrag", "--data-dir", server.data_dir], path)
    checks.equal(code, 0, f"defrag --data-dir: {err}")
    server.start()
    server.stop()
    out, err, code = run(args.cleatctl, ["snapshot", "restore"], path)
    checks.equal(code, 128, "snapshot restore without a file")


def main():
    args = lib.arguments(__doc__, cleat="build/release/server/cleat", cleatctl="build/release/tools/ctl/cleatctl",
                         cleatutl="build/release/tools/utl/cleatutl", etcd="etcd", etcdctl="etcdctl").parse_args()
    etcd, args.etcdctl = lib.need_program(args.etcd), lib.need_program(args.etcdctl)
    checks, top = lib.Checks(), lib.temp_dir("ctl-offline")
    os.mkdir(top + "/bin")  # as if both were installed
    os.symlink(os.path.abspath(args.cleatutl), top + "/bin/cleatutl")
    snapshot = save_snapshot(etcd, args.etcdctl, top)
    check_status(checks, args, snapshot, top + "/bin")
    check_restore(checks, args, snapshot, top + "/bin", top)
    checks.done()


if __name__ == "__main__":
    sys.exit(main())
