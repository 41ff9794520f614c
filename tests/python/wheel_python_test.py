"""The wheels: what they hold, and that they work where nothing else of Headrace is.

Compilation goes through ccache as that of the build does, in a folder beside the build's (ccache
compares relative paths) and by the same name of the compiler, so that hardly anything is compiled twice.
"""

import os
import shutil
import subprocess
import sys
import unittest
import zipfile

from python_harness import ROOT, PythonTest

PROGRAM = """
import sys
import headrace
import tensorrt_llm.bindings.executor as trtllm
engine, profile, *prompt = sys.argv[1:]
with headrace.LLM(engine, device="cpu", profile_path=profile) as llm:
    print(*llm.generate(list(map(int, prompt)), max_tokens=4).token_ids)
assert trtllm.ExecutorConfig(0.5).gpu_weights_percent == 0.5
"""


class WheelTest(PythonTest):
    def make_wheel(self, source, *flags):
        wheels = self.folder / "wheels"
        environment = {"CC": "cc", "CXX": "c++", **os.environ, "CMAKE_BUILD_PARALLEL_LEVEL": "2"}
        if shutil.which("ccache"):
            environment["CMAKE_CXX_COMPILER_LAUNCHER"] = (
                f"env;CCACHE_BASEDIR={ROOT};CCACHE_NOHASHDIR=1;ccache")
        before = set(wheels.glob("*.whl"))
        subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps",
                        "--no-build-isolation", "--disable-pip-version-check",
                        "--wheel-dir", wheels, *flags, source], check=True, env=environment)
        (wheel,) = set(wheels.glob("*.whl")) - before
        return wheel

    def test_wheels_work_on_their_own(self):
        core = self.make_wheel(ROOT, "--config-settings", "cmake.define.HEADRACE_CUDA=OFF")
        compat_source = self.folder / "compat"
        shutil.copytree(ROOT / "python" / "tensorrt_llm_compat", compat_source,
                        ignore=shutil.ignore_patterns("__pycache__"))
        compat = self.make_wheel(compat_source)
        names = zipfile.ZipFile(core).namelist()
        self.assertFalse([name for name in names if "tensorrt_llm" in name])
        self.assertLessEqual({"headrace/py.typed", "headrace/_core.pyi", "headrace/llm.py"},
                             set(names))
        site = self.folder / "site"
        for wheel in (core, compat):
            zipfile.ZipFile(wheel).extractall(site)
        environment = {**os.environ, "PYTHONPATH": str(site)}
        process = subprocess.run(
            [sys.executable, "-c", PROGRAM, self.engine, self.profile, *map(str, self.prompt)],
            env=environment, cwd=self.folder, check=True, capture_output=True, text=True,
            timeout=120)
        self.assertEqual(process.stdout.split(), list(map(str, self.tokens[:4])))


if __name__ == "__main__":
    unittest.main()
