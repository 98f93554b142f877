#!/usr/bin/env python3
"""Plants one violation of each rule in a small tree and expects layers.py to name it, and nothing else."""
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(__file__))
import layers  # noqa: E402  (after the path is set)

CLEAN = {
    "base/status.h": "#ifndef BASE_STATUS_H\n#define BASE_STATUS_H\n#include <stdbool.h>\n#endif\n",
    "base/hash.c": '#include "base/status.h"\n\n#include <xxhash.h>\n',
    "raft/types.h": '#include "base/status.h"\n',
    "raft/raft.h": '#include "raft/types.h"\n',
    "raft/raft.c": '#include "raft/raft.h"\n\n/* pthread_create(), sleep() */\nconst char *f = "socket(";\n',
    "wal/wal.c": '#include "raft/types.h"\n',
    "wal/disk_uring.c": "#include <liburing.h>\n\nint f(void)\n{\n    return pthread_join(0, 0);\n}\n",
    "server/state/apply.c": '#include "proto/rpc.pb-c.h"\n',
    "server/rpc/rpc.h": "",
    "server/loops/request.h": '#include "server/rpc/rpc.h"\n',
    "tests/raft/test_raft.c": '#include "raft/raft.h"\n\n#include <cmocka.h>\n',
}


def function(lines):
    return "void f(void)\n{\n" + "    g();\n" * lines + "}\n"


def dispatch(cases):
    arms = "".join(f"    case {i}:\n        return h{i}();\n" for i in range(cases))
    return "int f(int x)\n{\n    switch (x) {\n" + arms + "    }\n    return 0;\n}\n"


class Layers(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        for path, text in CLEAN.items():
            self.write(path, text)

    def write(self, path, text):
        full = os.path.join(self.folder.name, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as file:
            file.write(text)

    def found(self, with_format=False):
        return list(layers.check_tree(self.folder.name, with_format))

    def assert_found(self, path, text, line, what):
        self.write(path, text)
        self.assertEqual([(p, n) for p, n, _ in self.found()], [(path, line)])
        self.assertIn(what, self.found()[0][2])

    def test_clean_tree_passes(self):
        self.assertEqual(self.found(), [])

    def test_room_includes_what_it_may_not(self):
        self.assert_found("base/x.c", '#include "raft/types.h"\n', 1, "base/ may not include")

    def test_one_header_is_allowed_but_not_its_neighbour(self):
        self.assert_found("wal/x.c", '#include "raft/types.h"\n#include "raft/raft.h"\n', 2, "wal/ may not")

    def test_state_machine_stays_pure(self):
        self.assert_found("server/state/x.c", '#include "server/loops/request.h"\n', 1, "server/state/ may not")

    def test_code_directly_below_server_has_no_rights(self):
        self.assert_found("server/x.c", '#include "base/status.h"\n', 1, "server/ may not")

    def test_include_does_not_start_at_the_root(self):
        self.assert_found("raft/x.c", '#include "types.h"\n', 1, "start at the root")

    def test_own_header_is_not_first(self):
        self.assert_found("raft/raft.c", '#include "raft/types.h"\n#include "raft/raft.h"\n', 1, "first include")

    def test_library_header_in_the_wrong_file(self):
        self.assert_found("base/x.c", "#include <xxhash.h>\n", 1, "may not appear")
        os.remove(os.path.join(self.folder.name, "base/x.c"))
        self.assert_found("server/services/x.c", "#include <grpc/grpc.h>\n", 1, "may not appear")

    def test_unknown_header(self):
        self.assert_found("base/x.c", "#include <stdint.h>\n#include <curl/curl.h>\n", 2, "table of headers")

    def test_thread_clock_and_socket_in_the_core(self):
        for call in ("pthread_create(0, 0, 0, 0)", "clock_gettime(0, 0)", "time(NULL)", "socket(1, 2, 3)"):
            self.assert_found("raft/x.c", f"int f(void)\n{{\n    return {call};\n}}\n", 3, "may not be used")

    def test_banned_call(self):
        self.assert_found("server/run/x.c", "int f(void)\n{\n    return system(0);\n}\n", 3, "banned")

    def test_sleeping_test(self):
        self.assert_found("tests/raft/x.c", "void f(void)\n{\n    usleep(1);\n}\n", 3, "do not sleep")

    def test_function_of_the_longest_length_passes(self):
        self.write("raft/x.c", function(layers.FUNCTION_LINES_MAX))
        self.assertEqual(self.found(), [])

    def test_function_too_long(self):
        self.assert_found("raft/x.c", function(layers.FUNCTION_LINES_MAX + 1), 2, "71 lines")

    def test_dispatch_may_be_long(self):
        self.write("raft/x.c", dispatch(60))
        self.assertEqual(self.found(), [])

    def test_switch_that_does_work_may_not_be_long(self):
        long_arm = dispatch(2).replace("return h0();", "\n".join(["g();"] * 80))
        self.assert_found("raft/x.c", long_arm, 2, "function of")

    def test_file_too_long(self):
        self.assert_found("raft/x.h", "\n" * (layers.FILE_LINES_MAX + 1), 1, "1001 lines")

    def test_format(self):
        self.write(".clang-format", "BasedOnStyle: LLVM\n")
        self.write("raft/x.c", "int  x;\n")
        found = [p for p, _, what in self.found(with_format=True) if "clang-format" in what]
        self.assertIn("raft/x.c", found)
        self.assertNotIn("base/hash.c", found)


if __name__ == "__main__":
    unittest.main()
