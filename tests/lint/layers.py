#!/usr/bin/env python3
"""Keeps the rules of the source tree that a compiler does not: who may include whom, where a library,
a thread, a clock or a socket may appear, how long a function and a file may be, and the format.

    layers.py [ROOT]            checks the tree; prints one line for each violation; exit code 1 if any
    layers.py --no-format ROOT  the same without clang-format
"""
import os
import re
import subprocess
import sys

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 1000

# Who may include whom: folder -> prefixes of what it may include besides itself. The longest matching
# folder counts. docs/architecture.md says why.
MAY_INCLUDE = {
    "base": [],
    "proto": [],
    "raft": ["base/"],
    "wal": ["base/", "raft/types.h"],
    "storage": ["base/", "proto/"],
    "server": [],  # only inner rooms hold code
    "server/state": ["base/", "proto/", "raft/types.h", "storage/"],
    "server/loops": ["base/", "proto/", "raft/", "wal/", "storage/", "server/state/", "server/metrics/",
                     "server/rpc/rpc.h"],
    "server/watch": ["base/", "storage/", "server/metrics/", "server/rpc/rpc.h"],
    "server/services": ["base/", "proto/", "raft/types.h", "storage/", "server/state/", "server/loops/",
                        "server/metrics/", "server/rpc/rpc.h", "server/run/log.h", "server/watch/"],
    "server/rpc": ["base/", "server/metrics/"],
    "server/metrics": ["base/"],
    "server/http": ["base/", "server/metrics/", "server/gateway/gateway.h"],
    "server/gateway": ["base/", "proto/", "server/metrics/", "server/rpc/rpc.h", "server/rpc/rpc_stats.h"],
    "server/peers": ["base/", "proto/", "raft/", "server/loops/transport.h", "server/metrics/", "server/run/log.h"],
    "server/config": ["base/", "server/run/log.h"],
    "server/run": ["base/", "proto/", "raft/", "wal/", "storage/", "server/"],
    "tools": ["base/", "proto/", "raft/", "wal/", "storage/", "server/state/"],
    "tools/client": ["base/", "proto/"],
    "tools/cli": ["base/", "tools/print/"],
    "tools/print": ["base/", "proto/"],
    "tools/ctl": ["base/", "proto/", "server/state/", "tools/cli/", "tools/client/", "tools/print/"],
    "bench": ["base/", "proto/", "raft/", "wal/", "storage/", "server/state/", "tools/client/"],
    "tests": [""],
}

# Where a library's headers may appear: header prefix -> patterns of files.
LIBRARY_HEADERS = {
    "xxhash.h": [r"base/hash\.c"],
    "jansson.h": [r"base/json\.c", r"tests/.*"],
    "openssl/": [r"base/digest\.c", r"server/.*/tls_\w+\.c", r"server/.*/auth_\w+\.c",
                 r"tools/ctl/tls\.c", r"tests/.*"],
    "protobuf-c/": [r"(storage|server|tools|bench|tests)/.*"],
    "liburing.h": [r"wal/disk_uring\.c"],
    "lmdb.h": [r"storage/backend_lmdb\w*\.[ch]", r"tests/.*"],
    "sqlite3.h": [r"storage/backend_sqlite\w*\.[ch]", r"tests/.*"],
    "grpc/": [r"server/rpc/grpc_\w+\.[ch]", r"tools/client/.*", r"tests/.*"],
    "microhttpd.h": [r"server/http/.*\.[ch]"],
    "yaml.h": [r"server/config/file\.c"],
    "crypt.h": [r"server/.*/auth_\w+\.c"],
    "cmocka.h": [r"tests/.*"],
    "fuse3/": [r"tests/.*"],
    "fuse.h": [r"tests/.*"],
    "seccomp.h": [r"tests/.*"],
    "sanitizer/": [r"tests/.*"],
}

# Everything else in angle brackets is the system's, from this list.
SYSTEM_HEADERS = set(
    "assert.h complex.h ctype.h dirent.h dlfcn.h endian.h errno.h fcntl.h float.h ftw.h getopt.h "
    "ifaddrs.h immintrin.h inttypes.h libgen.h limits.h malloc.h math.h netdb.h nmmintrin.h poll.h "
    "pthread.h pwd.h resolv.h sched.h semaphore.h setjmp.h signal.h spawn.h stdalign.h stdarg.h stdatomic.h stdbool.h "
    "stddef.h stdint.h stdio.h stdlib.h stdnoreturn.h string.h strings.h syscall.h termios.h threads.h "
    "time.h unistd.h wchar.h".split())
SYSTEM_FOLDERS = ("arpa/", "linux/", "net/", "netinet/", "sys/")

# Where the outside world may be touched: calls -> patterns of files.
OUTSIDE = {
    "threads": (re.compile(r"\b(pthread_\w+|thrd_\w+)\s*\("),
                [r"server/(run|rpc|http|peers)/.*", r"server/metrics/.*",  # scraped by one, raised by all
                 r"wal/disk_\w+\.[ch]", r"base/lock\.c", r"(tools|bench|tests)/.*"]),
    "clocks": (re.compile(r"\b(clock_gettime|clock_nanosleep|gettimeofday|nanosleep|usleep|sleep|time)\s*\("),
               [r"base/clock_real\.c", r"server/(run|rpc|http|peers)/.*", r"wal/disk_\w+\.[ch]", r"(tools|bench)/.*", r"tests/.*"]),
    "sockets": (re.compile(r"(?<!->)\b(socket|socketpair|accept4?|bind|listen|connect|recv|recvmsg|send|sendmsg)\s*\("),
                [r"server/(run|rpc|http|peers)/.*", r"(tools|bench|tests)/.*"]),
}

# Calls that nothing needs; base/banned.h makes others compile errors.
BANNED = re.compile(r"\b(alloca|gets|system|popen|readdir_r|tmpnam|mktemp|vfork)\s*\(")
SLEEP = re.compile(r"\b(sleep|usleep)\s*\(")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
FOLDERS = ("base", "proto", "raft", "wal", "storage", "server", "tools", "bench", "tests")


def source_files(root):
    for folder in FOLDERS:
        for path, folders, names in os.walk(os.path.join(root, folder)):
            folders.sort()
            for name in sorted(names):
                if name.endswith((".c", ".h", ".py")):
                    yield os.path.relpath(os.path.join(path, name), root)


def without_comments_and_strings(text):
    """The same text with comments and the content of literals blanked; lines stay where they are."""
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)

    def blank(match):
        piece = match.group(0)
        kept = '""' if piece[0] in "\"'" else ""
        return kept + "\n" * piece.count("\n")

    return pattern.sub(blank, text)


def matches(path, patterns):
    return any(re.fullmatch(pattern, path) for pattern in patterns)


def room_of(path):
    folders = [f for f in MAY_INCLUDE if path.startswith(f + "/")]
    return max(folders, key=len) if folders else None


def check_own_include(path, number, header, root):
    if not (header.startswith("proto/") and header.endswith(".pb-c.h")) and not os.path.exists(
            os.path.join(root, header)):
        yield number, f'"{header}" does not start at the root of the tree, or is not there'
        return
    room = room_of(path)
    allowed = [room + "/"] + MAY_INCLUDE[room]
    if not header.startswith(tuple(allowed)):
        yield number, f'{room}/ may not include "{header}"'
    elif room_of(header) == "tests" and room != "tests":
        yield number, f'only tests may include "{header}"'


def check_system_include(path, number, header):
    for prefix, patterns in LIBRARY_HEADERS.items():
        if header.startswith(prefix):
            if not matches(path, patterns):
                yield number, f"<{header}> may not appear in this file"
            return
    if header not in SYSTEM_HEADERS and not header.startswith(SYSTEM_FOLDERS):
        yield number, f"<{header}> is not in the table of headers"


def check_includes(path, lines, root):
    first = None
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        first = first or (number, match.group(2))
        if match.group(1) == '"':
            yield from check_own_include(path, number, match.group(2), root)
        else:
            yield from check_system_include(path, number, match.group(2))
    own = path[:-2] + ".h"
    if path.endswith(".c") and os.path.exists(os.path.join(root, own)):
        # A folder's private header, which includes the public one, may stand for it.
        private = first is not None and re.fullmatch(re.escape(os.path.dirname(path)) + r"/\w+_private\.h",
                                                     first[1])
        if first is None or (first[1] != own and not private):
            yield first[0] if first else 1, f'the first include has to be "{own}"'


def check_calls(path, code):
    for number, line in enumerate(code.split("\n"), 1):
        for what, (pattern, patterns) in OUTSIDE.items():
            match = pattern.search(line)
            if match and not matches(path, patterns):
                yield number, f"{match.group(1)}: {what} may not be used in this file"
        match = BANNED.search(line)
        if match:
            yield number, f"{match.group(1)} is banned"
        match = SLEEP.search(line)
        if match and path.startswith("tests/"):
            yield number, f"{match.group(1)}: tests wait for what they need, they do not sleep"


def is_pure_dispatch(body):
    """One switch whose cases each hand on: such a function may be as long as its list."""
    text = "\n".join(body)
    cases = len(re.findall(r"^\s*(case\b.*|default):", text, re.MULTILINE))
    loops = re.search(r"\b(for|while|goto)\b", text)
    return len(re.findall(r"\bswitch\b", text)) == 1 and not loops and cases * 4 >= len(body)


def check_function_lengths(code):
    """clang-format has put the braces of functions, and of nothing else, alone into the first column."""
    begin = None
    lines = code.split("\n")
    for number, line in enumerate(lines, 1):
        if line.rstrip() == "{":
            begin = number
        elif line.rstrip() == "}" and begin is not None:
            body = lines[begin:number - 1]
            if len(body) > FUNCTION_LINES_MAX and not is_pure_dispatch(body):
                yield begin, f"function of {len(body)} lines, {FUNCTION_LINES_MAX} is the limit"
            begin = None


def check_file(path, root):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        text = file.read()
    lines = text.split("\n")
    if len(lines) - 1 > FILE_LINES_MAX:
        yield 1, f"file of {len(lines) - 1} lines, {FILE_LINES_MAX} is the limit"
    if path.endswith(".py"):
        return
    code = without_comments_and_strings(text)
    # Includes are read from the text as it is: their quotes are no literals.
    yield from check_includes(path, lines, root)
    yield from check_calls(path, code)
    yield from check_function_lengths(code)


def check_format(paths, root):
    done = subprocess.run(["clang-format", "--dry-run", "-Werror"] + paths, cwd=root, text=True,
                          capture_output=True, check=False)
    for line in done.stderr.split("\n"):
        match = re.match(r"(.+?):(\d+):\d+: error: code should be clang-formatted", line)
        if match:
            yield match.group(1), int(match.group(2)), "not as clang-format would have it"
    if done.returncode != 0 and "clang-formatted" not in done.stderr:
        yield "clang-format", 0, done.stderr.strip()


def check_tree(root, with_format):
    paths = list(source_files(root))
    for path in paths:
        for number, what in check_file(path, root):
            yield path, number, what
    if with_format:
        yield from check_format([p for p in paths if not p.endswith(".py")], root)


def main(arguments):
    with_format = "--no-format" not in arguments
    roots = [a for a in arguments if not a.startswith("--")]
    root = roots[0] if roots else os.path.join(os.path.dirname(__file__), "..", "..")
    found = 0
    for path, number, what in check_tree(root, with_format):
        print(f"{path}:{number}: {what}")
        found += 1
    print(f"{found} violations" if found else "no violation")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
