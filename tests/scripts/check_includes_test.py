"""Tests of scripts/check_includes.py: small trees, each with one thing wrong."""

import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
sys.dont_write_bytecode = True

import check_includes  # noqa: E402

ROOMS = """# The rooms.
headrace_room(base)
headrace_room(plan USES base LIBS nlohmann_json::nlohmann_json)
headrace_room(stream USES base
              LIBS deps_uring)
"""
CLEAN = {
    "src/CMakeLists.txt": ROOMS,
    "src/base/error.h": "#pragma once\n#include <fmt/format.h>\n",
    "src/base/error.cpp": '#include "base/error.h"\n',
    "src/plan/plan.h": '// Why.\n#pragma once\n#include "base/error.h"\n',
    "src/plan/plan.cpp": '#include "plan/plan.h"\n#include <nlohmann/json.hpp>\n',
    "src/stream/ring.cpp": "#include <liburing.h>\n",
    "include/headrace/llm.h": "#pragma once\n#include <string>\n",
    "apps/headrace/main.cpp": '#include "plan/plan.h"\n#include "stream/ring.h"\n',
    "tests/plan/plan_test.cpp": '#include "plan/plan.h"\n',
}


def findings(changes):
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name, content in (CLEAN | changes).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        return list(check_includes.check(root))


class CheckIncludesTest(unittest.TestCase):
    def assert_one_finding(self, changes, *parts):
        found = findings(changes)
        self.assertEqual(len(found), 1, found)
        for part in parts:
            self.assertIn(part, found[0])

    def test_clean_tree_has_no_findings(self):
        self.assertEqual(findings({}), [])

    def test_a_room_may_not_include_one_outside_its_list(self):
        self.assert_one_finding(
            {"src/stream/ring.cpp": '#include "plan/plan.h"\n'}, "src/stream/ring.cpp", "plan/plan.h")

    def test_a_commented_include_does_not_count(self):
        self.assertEqual(findings({"src/base/a.cpp": '// #include "plan/plan.h"\n'}), [])

    def test_relative_includes_are_refused(self):
        self.assert_one_finding({"src/plan/a.cpp": '#include "../base/error.h"\n'}, "full paths")

    def test_includes_are_paths_from_src(self):
        self.assert_one_finding({"src/plan/a.cpp": '#include "plan.h"\n'}, "not a path from src/")

    def test_rooms_may_include_public_headers_that_exist(self):
        self.assertEqual(findings({"src/plan/a.cpp": '#include "headrace/llm.h"\n'}), [])
        self.assert_one_finding({"src/plan/a.cpp": '#include "headrace/none.h"\n'}, "not a path from src/")

    def test_a_room_may_not_use_one_below_it(self):
        rooms = ROOMS.replace("headrace_room(base)", "headrace_room(base USES plan)")
        self.assert_one_finding({"src/CMakeLists.txt": rooms}, "base uses plan")

    def test_a_folder_must_be_declared(self):
        self.assert_one_finding({"src/attic/a.cpp": ""}, "src/attic", "not declared")

    def test_headers_begin_with_pragma_once(self):
        self.assert_one_finding({"src/plan/a.h": "#include <string>\n"}, "#pragma once")

    def test_own_header_comes_first(self):
        self.assert_one_finding(
            {"src/plan/plan.cpp": '#include <string>\n#include "plan/plan.h"\n'}, "plan/plan.h", "string")
        self.assert_one_finding({"src/plan/plan.cpp": "int x;\n"}, "plan/plan.h", "nothing")

    def test_libraries_only_where_they_are_linked(self):
        self.assert_one_finding(
            {"src/stream/a.cpp": "#include <nlohmann/json.hpp>\n"}, "nlohmann_json", "room stream")
        self.assert_one_finding({"src/plan/a.cpp": "#include <liburing.h>\n"}, "deps_uring")

    def test_fmt_stays_out_of_headers(self):
        self.assert_one_finding({"src/plan/a.h": "#pragma once\n#include <fmt/format.h>\n"}, "fmt")

    def test_cuda_has_its_place(self):
        self.assert_one_finding({"src/plan/a.cpp": "#include <cuda_runtime.h>\n"}, "kernels/cuda")

    def test_public_headers_are_plain(self):
        for line in ("#include <nlohmann/json.hpp>", "#include <fmt/core.h>", "#include <cuda.h>",
                     "#ifdef __linux__\n#endif", "#if 1\n#endif"):
            with self.subTest(line):
                self.assert_one_finding(
                    {"include/headrace/a.h": f"#pragma once\n{line}\n"}, "public headers")


if __name__ == "__main__":
    unittest.main()
