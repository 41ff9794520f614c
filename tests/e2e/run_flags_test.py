"""Flags of `headrace run` that choose what is generated, and how the KV cache is used."""

import json
import unittest

import numpy as np
from harness import EndToEndTest, write_rows

NEW = 24
VOCABULARY = 1104  # padded: the tokenizer has 1100 tokens


class RunFlagsTest(EndToEndTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.engine = cls.make_text_engine("flags", VOCABULARY, 128, build_flags=(
            "--max_batch_size", 8, "--max_beam_width", 4, "--tokens_per_block", 4))
        cls.prompts = [list(range(20, 40)), [7, 8, 9]]
        write_rows(cls.folder / "prompts.csv", cls.prompts)

    def run_prompts(self, *flags, new=NEW, expect=0):
        return self.headrace("run", "--engine_dir", self.engine, "--profile", self.profile,
                             "--input_file", self.folder / "prompts.csv", "--max_output_len", new,
                             "--end_id", -1, *flags, expect=expect)

    def results(self, *flags, new=NEW):
        return json.loads(self.run_prompts("--json", *flags, new=new).stdout)

    def test_several_sequences_are_drawn_apart(self):
        drawn = ("--top_k", 0, "--top_p", 0.95, "--temperature", 2.0, "--random_seed", 5)
        files = ("--output_npy", self.folder / "ids.npy", "--output_logits_npy",
                 self.folder / "x.npy", "--output_log_probs_npy", self.folder / "log_probs.npy")
        single = self.results(*drawn, *files)
        context = np.load(self.folder / "x_context.npy")
        several = self.results(*drawn, *files, "--num_return_sequences", 3)
        ids = np.load(self.folder / "ids.npy")
        self.assertEqual(ids.shape, (6, len(self.prompts[0]) + NEW))
        self.assertEqual(np.load(self.folder / "log_probs.npy").shape, (2, 3, NEW))
        generation = np.load(self.folder / "x_generation.npy")
        self.assertEqual(generation.shape, (2, 3, NEW, VOCABULARY))
        self.assertEqual(np.load(self.folder / "x_context.npy").tobytes(), context.tobytes())
        for number, (prompt, result) in enumerate(zip(self.prompts, several)):
            sequences = [sequence["output_ids"] for sequence in result["sequences"]]
            self.assertEqual(sequences[0], single[number]["output_ids"])
            self.assertEqual(result["output_ids"], sequences[0])
            self.assertEqual(len({tuple(sequence) for sequence in sequences}), 3)
            own = ids[3 * number:3 * number + 3, len(prompt):len(prompt) + NEW]
            self.assertEqual(own.tolist(), sequences)
            for sequence in range(3):  # the first token of each is drawn from the same logits
                np.testing.assert_array_equal(generation[number, sequence, 0],
                                              generation[number, 0, 0])
        printed = self.run_prompts(*drawn, "--num_return_sequences", 3).stdout
        for number in range(2):
            for sequence in range(3):
                self.assertIn(f"Output [Text {number} Beam {sequence}]: ", printed)
        streamed = self.run_prompts(*drawn, "--num_return_sequences", 2, "--streaming").stdout
        self.assertIn("[Text 1 Beam 1] ", streamed)

    def test_the_best_beams_alone(self):
        beams = ("--num_beams", 4)
        files = ("--output_npy", self.folder / "ids.npy", "--output_logits_npy",
                 self.folder / "x.npy")
        every = self.results(*beams, *files)
        logits = np.load(self.folder / "x_generation.npy")
        two = self.results(*beams, *files, "--num_return_sequences", 2)
        for all_of_it, best in zip(every, two):
            self.assertEqual(best["beams"], all_of_it["beams"][:2])
        self.assertEqual(np.load(self.folder / "ids.npy").shape[0], 4)
        np.testing.assert_array_equal(np.load(self.folder / "x_generation.npy"), logits[:, :2])
        for flags in ((*beams, "--num_return_sequences", 5), ("--num_return_sequences", 0)):
            process = self.run_prompts(*flags, expect=1)
            self.assertIn(f"--num_return_sequences {flags[-1]}: use 1 to ", process.stderr)
        process = self.headrace("run", "--engine_dir", self.engine, "--profile", self.profile,
                                "--interactive", "--num_return_sequences", 2, expect=1)
        self.assertIn("use 1", process.stderr)

    def test_bad_words_are_not_written(self):
        plain = self.results()
        for result in plain:
            piece = self.headrace("tokenize", "--engine_dir", self.engine, "--decode",
                                  result["output_ids"][0]).stdout.rstrip("\n")
            banned = self.results("--bad_words", piece)
            ids = json.loads(self.headrace("tokenize", "--engine_dir", self.engine, "--no_special",
                                           "--json", "--input_text", piece).stdout)["ids"]
            self.assertEqual(ids, result["output_ids"][:1])
            for other in banned:
                self.assertNotIn(ids[0], other["output_ids"])
        for flags in ((), ("--interactive",)):
            process = self.headrace("run", "--engine_dir", self.engine, "--profile", self.profile,
                                    "--bad_words", "", *flags, expect=1)
            self.assertIn("give a text", process.stderr)
            self.assertNotIn("Predicted", process.stderr)  # before weights are loaded

    def test_streaming_leaves_json_alone(self):
        self.assertEqual(self.results("--streaming", "--num_return_sequences", 2),
                         self.results("--num_return_sequences", 2))

    def test_no_repeat_ngram_size(self):
        def repeats(result):
            pairs = [*zip(result["output_ids"], result["output_ids"][1:])]
            return len(pairs) != len(set(pairs))
        self.assertTrue(any(map(repeats, self.results(new=100))))
        kept = self.results("--no_repeat_ngram_size", 2, new=100)
        self.assertFalse(any(map(repeats, kept)))
        self.assertIn("no_repeat_ngram_size",
                      self.run_prompts("--no_repeat_ngram_size", -1, expect=1).stderr)

    def test_an_attention_window_that_leaves_positions_out_is_refused(self):
        longest = len(self.prompts[0]) + NEW
        process = self.run_prompts("--max_attention_window_size", longest - 1, expect=1)
        self.assertIn(f"--max_attention_window_size {longest - 1}: ", process.stderr)
        self.assertIn(f"up to {longest} tokens", process.stderr)
        self.run_prompts("--max_attention_window_size", longest)

    def test_the_kv_cache_s_flags_change_no_token(self):
        plain = self.results()
        for flags in (("--kv_cache_free_gpu_memory_fraction", 0.5), ("--kv_cache_enable_block_reuse",),
                      ("--enable_chunked_context",)):
            self.assertEqual(self.results(*flags), plain, flags)
        lines = ("run", "--engine_dir", self.engine, "--profile", self.profile, "--interactive",
                 "--max_output_len", 12, "--end_id", -1)
        said = "Once upon a time there was a little dog, a cat and a bird\n" * 2
        stats = self.folder / "stats.json"
        answers = []
        for flags in ((), ("--kv_cache_enable_block_reuse",)):
            answers.append(self.headrace(*lines, "--stats_json", stats, *flags, input=said).stdout)
            reused = json.loads(stats.read_text(encoding="utf-8"))["generation"]["reused_blocks"]
            self.assertEqual(reused > 0, bool(flags))
        self.assertEqual(answers[0], answers[1])
        several = ("--num_return_sequences", 3, "--output_logits_npy", self.folder / "x.npy")
        logits = []
        for flags in ((), ("--kv_cache_enable_block_reuse",)):
            self.results(*several, *flags)
            logits.append([np.load(self.folder / f"x_{part}.npy").tobytes()
                           for part in ("context", "generation")])
        self.assertEqual(logits[0], logits[1])
        for fraction in (0, 1.5, "nan"):
            process = self.run_prompts("--kv_cache_free_gpu_memory_fraction", fraction, expect=1)
            self.assertIn("use more than 0.0, up to 1.0", process.stderr)
        process = self.run_prompts("--kv_cache_free_gpu_memory_fraction", 1e-12, expect=1)
        self.assertIn("block of KV cache", process.stderr)


class PaddedVocabularyTest(EndToEndTest):
    """Most ids of this model are beyond the tokenizer's: they count as tokens and have no text."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.engine = cls.make_text_engine("padded", 3000, 1024, build_flags=("--max_beam_width", 2))

    def test_run_and_summarize_go_on(self):
        engine = ("--engine_dir", self.engine, "--profile", self.profile)
        for flags in ((), ("--streaming",), ("--num_beams", 2), ("--json",)):
            process = self.headrace("run", *engine, "--input_text", "Once", "--max_output_len", 24,
                                    "--end_id", -1, *flags)
        (result,) = json.loads(process.stdout)
        self.assertEqual(len(result["output_ids"]), 24)
        self.assertGreater(max(result["output_ids"]), 1100)
        process = self.headrace("summarize", *engine, "--max_ite", 1, "--batch_size", 1,
                                "--output_len", 8)
        self.assertIn("TensorRT-LLM (total output tokens: 8)", process.stdout)


if __name__ == "__main__":
    unittest.main()
