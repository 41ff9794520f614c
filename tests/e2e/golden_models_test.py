"""Models in float32 give transformers' logits and greedy tokens (tests/golden/models)."""

import unittest

import numpy as np
from harness import GOLDEN, EndToEndTest, read_rows, smollm2_gguf

NEW_TOKENS = 48


class RandomLlamaTest(EndToEndTest):
    """Odd shapes: K of 72, 75, 80 and 100, biases, rope scalings, tied and not, shards."""

    def check(self, name):
        golden = GOLDEN / name
        prompts = read_rows(golden / "prompt.csv")
        engine = self.make_engine(golden / "hf", name, build_flags=("--tile_bytes", "64K"))
        output = self.run_ids(engine, prompts, NEW_TOKENS, percent=0.3)
        self.assertGreater(output.stats["stream"]["payload_bytes"], 0)
        self.assertEqual(output.tokens, read_rows(golden / "tokens.csv"))
        self.assert_close(output.context, np.load(golden / "context_logits.npy"))
        self.assert_close(output.generation[:, 0, -1], np.load(golden / "last_logits.npy"))

    def test_odd_heads(self):
        self.check("odd_heads")

    def test_bias_llama3(self):
        self.check("bias_llama3")

    def test_linear_k75(self):
        self.check("linear_k75")

    def test_shards_bf16(self):
        self.check("shards_bf16")


class SmolLm2Test(EndToEndTest):
    """A real model from its GGUF file, three prompts in one batch."""

    def test_smollm2(self):
        golden = GOLDEN / "smollm2"
        prompts = read_rows(golden / "prompt.csv")
        engine = self.make_engine(smollm2_gguf(), "smollm2")
        output = self.run_ids(engine, prompts, NEW_TOKENS, percent=0.9)
        self.assertGreater(output.stats["stream"]["payload_bytes"], 0)
        self.assertEqual(output.tokens, read_rows(golden / "tokens.csv"))
        ends = np.cumsum([len(prompt) for prompt in prompts]) - 1
        self.assert_close(output.context[ends], np.load(golden / "last_logits.npy"))


if __name__ == "__main__":
    unittest.main()
