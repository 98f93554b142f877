#!/usr/bin/env python3
"""The differential test: a fresh etcd and a fresh cleat for every seed, both backends in turn."""
import os
import shlex
import subprocess
import sys

import lib

BACKENDS = ("lmdb", "sqlite")


def run_seed(args, seed, backend):
    """True when every answer agreed."""
    top = lib.temp_dir(f"differential-{seed}")
    # etcd's own messages about slow syncs are of no use here.
    reference = lib.Server(args.etcd, top + "/etcd", flags=["--log-level=error"])
    subject = lib.Server(args.cleat, top + "/cleat",
                         flags=[] if backend == "none" else [f"--backend={backend}"])
    reference.start()
    subject.start()
    command = [args.differential, "--reference", reference.endpoint, "--subject", subject.endpoint,
               "--seed", str(seed), "--requests", str(args.requests)]
    if args.spare_subject:
        command.append("--spare-subject")
    ok = subprocess.run(command, check=False).returncode == 0
    for server in (reference, subject):
        if not server.is_alive():
            ok = False
            print(f"{server.binary} ended by itself, its log ends:\n{server.log_tail()}")
        else:
            server.stop()
    if not ok:
        again = [sys.executable, os.path.abspath(__file__), "--etcd", args.etcd, "--cleat",
                 args.cleat, "--differential", args.differential, "--requests",
                 str(args.requests), "--backend", backend, "--seed", str(seed)]
        print("reproduce: " + shlex.join(again), flush=True)
    return ok


def main():
    parser = lib.arguments(__doc__, etcd="etcd", cleat=None, differential=None)
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--seeds", type=int, default=10 if lib.FULL else 2)
    parser.add_argument("--requests", type=int, default=20000 if lib.FULL else 8000)
    parser.add_argument("--backend", choices=BACKENDS + ("none",),
                        help="of every seed; none: the subject has no such flag")
    parser.add_argument("--spare-subject", action="store_true",
                        help="leave out the requests that end etcd's process")
    args = parser.parse_args()
    args.etcd = lib.need_program(args.etcd)
    seeds = [args.seed] if args.seed is not None else range(1, args.seeds + 1)
    checks = lib.Checks()
    for seed in seeds:
        backend = args.backend or BACKENDS[seed % len(BACKENDS)]
        checks.check(run_seed(args, seed, backend), f"seed {seed} on {backend}")
    checks.done()


if __name__ == "__main__":
    main()
