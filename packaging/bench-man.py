#!/usr/bin/env python3
"""cleat-bench's manual page, as roff on standard output: its own help, command by command, so that the two agree.

    bench-man.py PATH-OF-CLEAT-BENCH"""
import subprocess
import sys


def help_of(program, *command):
    return subprocess.run([program, *command, "--help"], check=True, capture_output=True, text=True).stdout


def as_printed(text):
    """Lines that roff leaves as they are."""
    lines = (line.replace("\\", "\\e").replace("-", "\\-") for line in text.rstrip("\n").splitlines())
    return ["\\&" + line if line[:1] in (".", "'") else line for line in lines]


def main():
    program = sys.argv[1]
    whole = help_of(program)
    commands = [line.split()[0] for line in whole.split("\n\n")[1].splitlines()]
    page = ['.TH CLEAT\\-BENCH 1 "" Cleat "User Commands"', ".SH NAME",
            "cleat\\-bench \\- measures disks, the parts of Cleat that touch them, and whole servers", ".SH SYNOPSIS",
            ".nf", *as_printed(whole), ".fi", ".SH COMMANDS"]
    for command in commands:
        page += [f'.SS "{command}"', ".nf", *as_printed(help_of(program, command)), ".fi"]
    page += [".SH EXIT STATUS", "0; 1 when something could not be measured; 2 for wrong options.", ".SH SEE ALSO",
             "cleat(8), cleatctl(1), cleatutl(1); docs/benchmarks.md in the source"]
    print("\n".join(page))


main()
