#!/usr/bin/env python3
"""What cleatctl and cleatutl print of their own tables, as its readers see it: the manual pages through groff, the
completion scripts through the shells that are installed."""
import os
import shutil
import subprocess
import sys

import lib

PACKAGING = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "packaging")


def output_of(command, **options):
    return subprocess.run(command, check=True, capture_output=True, timeout=60, **options).stdout.decode()


def commands_of(program):
    """"member add" and so on, from its help."""
    text = output_of([program, "--help"]).split("COMMANDS:\n")[1].split("\nOPTIONS:")[0]
    return [line.split("\t")[1] for line in text.splitlines() if line.startswith("\t")]


def check_page(checks, program, name):
    page = output_of([program, "help", "--man"])
    for command in commands_of(program):
        checks.check(f'.SS "{command}"'.replace("-", "\\-") in page, f"{name}'s manual page has {command}")
    check_roff(checks, page, name)


def check_roff(checks, page, name):
    if shutil.which("groff"):
        done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z"], input=page.encode(), capture_output=True,
                              check=False, timeout=60)
        checks.equal((done.returncode, done.stderr.decode()), (0, ""), f"groff on {name}'s page")


BASH = """source <(%(program)s completion bash)
COMP_WORDS=(%(name)s %(words)s)
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_%(name)s
echo "${COMPREPLY[*]}"
"""


def complete(shell, program, name, words):
    """What the shell offers for a line."""
    if shell == "bash":
        return output_of(["bash", "-c", BASH % {"program": program, "name": name, "words": words}]).split()
    script = f'{program} completion fish | source; complete -C "{name} {words}"'
    lines = output_of(["fish", "--no-config", "-c", script.replace("''", "")]).splitlines()
    return [line.split("\t")[0] for line in lines]


def check_completion(checks, program, name, lines):
    for shell in ("bash", "fish"):
        if shutil.which(shell) is None:
            continue
        for words, expected in lines.items():
            offered = sorted(word.rstrip("=") for word in complete(shell, program, name, words))
            checks.equal(offered, expected, f"{shell}: {name} {words}")
    if shutil.which("zsh"):
        script = output_of([program, "completion", "zsh"])
        checks.equal(output_of(["zsh", "-f", "-n"], input=script.encode()), "", f"zsh reads {name}'s script")


def main():
    args = lib.arguments(__doc__, cleatctl="build/release/tools/ctl/cleatctl",
                         cleatutl="build/release/tools/utl/cleatutl", bench="build/release/bench/cleat-bench").parse_args()
    checks = lib.Checks()
    cleatctl, cleatutl = os.path.abspath(args.cleatctl), os.path.abspath(args.cleatutl)
    check_page(checks, cleatctl, "cleatctl")
    check_page(checks, cleatutl, "cleatutl")
    bench = output_of([sys.executable, os.path.join(PACKAGING, "bench-man.py"), os.path.abspath(args.bench)])
    checks.check(all(f'.SS "{command}"' in bench for command in ("disk", "wal", "kv", "lease", "compare")), "cleat-bench's page")
    check_roff(checks, bench, "cleat-bench")
    check_completion(checks, cleatctl, "cleatctl", {
        "mem": ["member"], "member ''": ["add", "list", "promote", "remove", "update"], "member a": ["add"],
        "--endpoints x get --pref": ["--prefix"], "put --prev": ["--prev-kv"], "completion f": ["fish"]})
    check_completion(checks, cleatutl, "cleatutl", {"snapshot res": ["restore"], "snapshot restore --data": ["--data-dir"]})
    checks.done()


if __name__ == "__main__":
    sys.exit(main())
