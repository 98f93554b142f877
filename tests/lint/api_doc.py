#!/usr/bin/env python3
"""Keeps the table of docs/api.md: every method of the client API, and each path that the gateway has for it.

    api_doc.py ROOT     prints one line for each mistake; exit code 1 if any
"""
import os
import re
import sys


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        return file.read()


def methods_of_protos(root):
    for name in ("rpc", "lock", "election", "health"):
        text = re.sub(r"//[^\n]*", "", read(root, f"proto/{name}.proto"))
        package = re.search(r"^package ([\w.]+);", text, re.MULTILINE).group(1)
        for service, body in re.findall(r"service (\w+) \{(.*?)\n\}", text, re.DOTALL):
            for method in re.findall(r"rpc (\w+)\s*\(", body):
                yield f"{package}.{service}/{method}"


def paths_of_gateway(root):
    """Method -> its paths under /v3."""
    text = read(root, "server/gateway/routes.c")
    macros = {}
    for macro, prefix, service in re.findall(
            r'#define (\w+)\(path, name\)[^"]*"/v3(/[\w/]*)" path,\s*\\?\s*"/([\w.]+)/" name', text):
        macros[macro] = (prefix, service)
    paths = {}
    for macro, path, name in re.findall(r'^    ([A-Z]+)\("([\w/-]+)", "(\w+)"\),', text, re.MULTILINE):
        prefix, service = macros[macro]
        paths.setdefault(f"{service}/{name}", []).append(prefix + path)
    for path, method in re.findall(r'^    \{"/v3(/\w+)", "/([\w.]+/\w+)",', text, re.MULTILINE):
        paths.setdefault(method, []).append(path)
    return paths


def mistakes(root):
    rows = {}
    for method, paths in re.findall(r"^\| `([\w.]+/\w+)` \| ([^|]*)\| [^|]* \|$", read(root, "docs/api.md"), re.MULTILINE):
        rows[method] = re.findall(r"`(/[\w/-]+)`", paths)
    known, paths = set(methods_of_protos(root)), paths_of_gateway(root)
    for method in sorted(known | set(rows)):
        if method not in rows:
            yield f"{method} is not in the table"
            continue
        if method not in known:
            yield f"{method} is no method"
        if sorted(rows[method]) != sorted(paths.get(method, [])):
            yield f"{method}: the gateway has {paths.get(method, [])}, the table {rows[method]}"


def main():
    found = list(mistakes(sys.argv[1] if len(sys.argv) > 1 else "."))
    for mistake in found:
        print(f"docs/api.md: {mistake}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
