"""What the tests of the Python packages share: engines, made by the program under test.

They run on $HEADRACE_TEST_DEVICE, which is cpu unless it says cuda.
"""

import os
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

import numpy as np  # noqa: E402

from harness import GOLDEN, ROOT, EndToEndTest  # noqa: E402, F401

TOKENIZER = ROOT / "tests" / "golden" / "text" / "smollm"
DEVICE = os.environ.get("HEADRACE_TEST_DEVICE", "cpu")
TEXT_VOCABULARY = 1104  # padded: the tokenizer has 1100 tokens


class PythonTest(EndToEndTest):
    """A test case with an engine of the golden model odd_heads, and what transformers made of it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        golden = GOLDEN / "odd_heads"
        cls.engine = cls.make_engine(golden / "hf", "odd_heads",
                                     build_flags=["--max_batch_size", 8, "--max_beam_width", 4])
        cls.prompt = np.loadtxt(golden / "prompt.csv", delimiter=",", dtype=np.int32)
        cls.tokens = np.loadtxt(golden / "tokens.csv", delimiter=",", dtype=np.int32).tolist()
        cls.context_logits = np.load(golden / "context_logits.npy")
        cls.options = {"profile_path": cls.profile, "device": DEVICE, "threads": 2}

    @classmethod
    def make_text_engine(cls):
        """An engine of random weights with a small tokenizer of SmolLM's kind."""
        checkpoint = cls.folder / "text-checkpoint"
        cls.headrace("convert", "--output_dir", checkpoint, "--dtype", "float32",
                     "--vocab_size", TEXT_VOCABULARY, "--n_positions", 256, "--n_layer", 2, "--n_head", 4,
                     "--n_embd", 64, "--inter_size", 96, "--random_weights", 7)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(TOKENIZER / name, checkpoint)
        (checkpoint / "chat_template.jinja").write_text(
            "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
            "{% if add_generation_prompt %}assistant:{% endif %}", encoding="utf-8")
        engine = cls.folder / "text-engine"
        cls.headrace("build", "--checkpoint_dir", checkpoint, "--output_dir", engine,
                     "--weight_streaming", "--max_batch_size", 8, "--max_beam_width", 2)
        return engine
