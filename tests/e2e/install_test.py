"""An installed Headrace: what `cmake --install` brings is enough to build and run C++ programs.

The tree is moved after it was installed, so that nothing in it may name the place where it was made.
"""

import os
import pathlib
import re
import subprocess
import unittest

import harness

BUILD = pathlib.Path(harness.BINARY).parents[1]
EXAMPLES = harness.ROOT / "examples" / "cpp"
SHAPE = ("--vocab_size", 96, "--n_positions", 64, "--n_layer", 2, "--n_head", 4, "--n_embd", 64,
         "--inter_size", 96)
PROMPT = [1, 2, 3, 4]


class InstallTest(harness.EndToEndTest):
    """Installs once, moves the tree, and builds the examples against it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.call("cmake", "--install", BUILD, "--prefix", cls.folder / "installed")
        cls.prefix = cls.folder / "moved"
        (cls.folder / "installed").rename(cls.prefix)
        cls.call(cls.prefix / "bin" / "headrace", "convert", "--output_dir",
                 cls.folder / "checkpoint", "--random_weights", 1, *SHAPE)
        cls.engine = cls.folder / "engine"
        cls.headrace("build", "--checkpoint_dir", cls.folder / "checkpoint", "--output_dir",
                     cls.engine, "--weight_streaming", "--max_batch_size", 4)

    @classmethod
    def call(cls, *command, **variables):
        """Runs a program that must succeed; returns its standard output."""
        environment = {**os.environ, "XDG_CACHE_HOME": str(cls.folder / "cache"), **variables}
        process = subprocess.run(list(map(str, command)), capture_output=True, text=True,
                                 timeout=harness.TIMEOUT_S, check=False, env=environment)
        if process.returncode != 0:
            raise AssertionError(f"{command}\n{process.stdout}\n{process.stderr}")
        return process.stdout

    def library_folder(self):
        return next(self.prefix.rglob("libheadrace.so")).parent

    def check_programs(self, stream_tokens, client):
        """Both programs give the tokens that `headrace run` gives, at any percentage."""
        expected = self.run_ids(self.engine, [PROMPT], 8).tokens[0]
        for percent in (1.0, 0.3):
            lines = self.call(stream_tokens, self.engine, percent).splitlines()
            tokens = [int(line.split()[-1]) for line in lines if line.startswith("request 1:")]
            self.assertEqual(tokens, expected)
            self.assertEqual(len(lines), 24)
            log = self.call(client, self.engine, percent)
            shown = re.search(r"\[TensorRT-LLM\]\[INFO\] Tokens: \((.*)\)", log).group(1)
            self.assertEqual([int(token) for token in shown.split(",")], expected)

    def test_find_package(self):
        build = self.folder / "examples"
        self.call("cmake", "-S", EXAMPLES, "-B", build, f"-DCMAKE_PREFIX_PATH={self.prefix}")
        self.call("cmake", "--build", build)
        self.check_programs(build / "stream_tokens", build / "tensorrt_llm_client")

    def test_pkg_config(self):
        path = str(self.library_folder() / "pkgconfig")
        flags = self.call("pkg-config", "--cflags", "--libs", "headrace",
                          PKG_CONFIG_PATH=path).split()
        programs = []
        for name, standard in (("stream_tokens", "c++20"), ("tensorrt_llm_client", "c++17")):
            programs.append(self.folder / f"{name}-pc")
            self.call("c++", f"-std={standard}", EXAMPLES / f"{name}.cpp", "-o", programs[-1],
                      *flags, f"-Wl,-rpath,{self.library_folder()}")
        self.check_programs(*programs)

    def test_exports_are_the_public_interface(self):
        library = self.library_folder() / "libheadrace.so"
        symbols = self.call("nm", "-DC", "--defined-only", library).splitlines()
        public = re.compile(r"^[0-9a-f]+ \w (headrace::(Executor|Builder|BuildConfig)::|"
                            r"tensorrt_llm::|initTrtLlmPlugins|(typeinfo|typeinfo name|vtable) for )")
        strange = [line for line in symbols if not public.match(line)]
        self.assertEqual(strange, [])
        self.assertGreater(len(symbols), 50)

    def test_the_tree_names_no_place(self):
        for path in self.prefix.rglob("*"):
            if path.suffix in (".cmake", ".pc"):
                self.assertNotIn(str(self.folder), path.read_text(encoding="utf-8"), path)
                self.assertNotIn(str(harness.ROOT), path.read_text(encoding="utf-8"), path)


if __name__ == "__main__":
    unittest.main()
