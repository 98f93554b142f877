#!/usr/bin/env python3
"""Whether docs/metrics.md has every metric, with its type, and no other.

    metrics_doc.py [ROOT]   prints one line for each that is missing, wrong or unknown; exit code 1 if any
"""
import os
import re
import sys

KINDS = {"COUNTER": "counter", "GAUGE": "gauge", "S": "histogram", "MS": "histogram", "1": "histogram"}


def in_the_code(root):
    """name -> type"""
    found = {}
    with open(os.path.join(root, "server/metrics/table.h"), encoding="utf-8") as file:
        for kind, rest in re.findall(r"^    X\(\w+, (COUNTER|GAUGE|MS|S|1), (.*)", file.read(), re.M):
            found[re.search(r'"(\w+)"', rest).group(1)] = KINDS[kind]
    with open(os.path.join(root, "server/metrics/process.c"), encoding="utf-8") as file:
        found.update(re.findall(r'line\(out, "(\w+)", "(\w+)"', file.read()))
    return found


def in_the_page(root):
    with open(os.path.join(root, "docs/metrics.md"), encoding="utf-8") as file:
        return dict(re.findall(r"^\| `(\w+)` \| (counter|gauge|histogram) \|", file.read(), re.M))


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else "."
    code, page = in_the_code(root), in_the_page(root)
    wrong = [f"docs/metrics.md lacks {name} ({kind})" for name, kind in code.items() if name not in page]
    wrong += [f"docs/metrics.md: {name} is a {kind}" for name, kind in code.items() if page.get(name, kind) != kind]
    wrong += [f"docs/metrics.md: there is no {name}" for name in page if name not in code]
    for line in wrong:
        print(line)
    print(f"{len(code)} metrics, {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
