"""`headrace bench` on presets: models of random weights, which need no file."""

import csv
import json
import re
import unittest

from harness import EndToEndTest

PERCENTS = (0.0, 0.5, 1.0)


class BenchPresetTest(EndToEndTest):
    """llama_15m stands for all: the others differ in size only."""

    def bench(self, *args, expect=0):
        return self.headrace("bench", *args, "--profile", self.profile, "--warm_up", 0,
                             "--num_runs", 1, "--duration", 0, cwd=self.folder, expect=expect)

    def test_the_same_tokens_at_every_percentage(self):
        process = self.bench("-m", "llama_15m", "--batch_size", "1;3", "--input_output_len", "24,6",
                             "--gpu_weights_percent", "0.0;0.5;1.0", "--max_num_tokens", 10,
                             "--csv", "--log_level", "verbose", "--stats_json", "stats.json")
        rows = list(csv.DictReader(process.stdout.splitlines()))
        self.assertEqual([(row["batch_size"], float(row["gpu_weights_percent"])) for row in rows],
                         [(batch, percent) for batch in ("1", "3") for percent in PERCENTS])
        for row in rows:
            self.assertEqual(row["model_name"], "llama_15m")
            self.assertEqual((row["num_layers"], row["precision"]), ("6", "float16"))
            self.assertGreater(float(row["tokens_per_sec"]), 0)
            self.assertEqual(float(row["link_gb_per_s"]) > 0,
                             float(row["gpu_weights_percent"]) < 1)
        tokens = re.findall(r"Tokens of the first sequence: ([\d ]+)", process.stderr)
        self.assertEqual(len(tokens), 6)
        self.assertEqual(len(set(tokens)), 1, tokens)
        self.assertEqual(len(tokens[0].split()), 6)
        self.assertIn("synthetic weights", process.stderr)
        self.assertEqual([path.name for path in self.folder.glob("*.csv")],
                         ["llama_15m_float16_tp1_cpu_sm0.csv"])
        # 3 prompts of 24 tokens, at most 10 rows a pass.
        stats = json.loads((self.folder / "stats.json").read_text(encoding="utf-8"))
        self.assertEqual(stats["generation"]["prefill_passes"], 8)

    def test_beams(self):
        process = self.bench("-m", "llama_15m", "--batch_size", "1;2", "--input_output_len", "12,5",
                             "--gpu_weights_percent", "0.0;1.0", "--num_beams", 3, "--csv",
                             "--log_level", "verbose", "--stats_json", "stats.json")
        rows = list(csv.DictReader(process.stdout.splitlines()))
        self.assertEqual([row["batch_size"] for row in rows], ["1", "1", "2", "2"])
        for row in rows:
            # As upstream: tokens behind the first pass by all beams, but a rate of requests' tokens.
            self.assertEqual(int(row["total_generated_tokens"]), 3 * int(row["batch_size"]) * 4)
            rate = int(row["batch_size"]) * 5 / float(row["latency(ms)"]) * 1e3
            self.assertAlmostEqual(float(row["tokens_per_sec"]) / rate, 1, places=2)
        tokens = re.findall(r"Tokens of the first sequence: ([\d ]+)", process.stderr)
        self.assertEqual(len(set(tokens)), 1, tokens)
        self.assertEqual(len(tokens[0].split()), 5)

    def test_beams_that_cannot_be(self):
        for beams, words in ((0, "beam_width 0 cannot be"), (-1, "beam_width -1 cannot be")):
            self.assertIn(words, self.bench("-m", "llama_15m", "--num_beams", beams,
                                            expect=1).stderr)
        engine = self.folder / "narrow"
        self.bench("-m", "llama_15m", "--output_dir", engine, "--build_only")
        process = self.bench("--engine_dir", engine, "--num_beams", 2, "--input_output_len", "8,2",
                             expect=1)
        self.assertIn("max_beam_width is 1", process.stderr)

    def test_limits_of_the_engine(self):
        process = self.bench("--model", "llama_15m", "--dtype", "bfloat16", "--max_batch_size", 2,
                             "--max_input_len", 8, "--max_seq_len", 12, "--tile_bytes", "64K",
                             "--canonical_rows", "all", "--batch_size", "2;3",
                             "--input_output_len", "8,4;9,3", "--gpu_weights_percent", 0.3)
        lines = process.stdout.splitlines()
        self.assertEqual([line.split()[0] for line in lines],
                         ["[BENCHMARK]", "[WARNING]", "[WARNING]"])
        self.assertIn(" precision bfloat16 batch_size 2 ", lines[0])
        self.assertIn("batch_size 3 skipped", lines[1])
        self.assertIn("input_output_len 9,3 skipped", lines[2])

    def test_share_of_the_memory_that_the_kv_cache_takes(self):
        flag = "--kv_cache_free_gpu_memory_fraction"
        case = ("-m", "llama_15m", "--batch_size", 2, "--input_output_len", "8,2")
        self.assertIn("[BENCHMARK]", self.bench(*case, flag, 0.5).stdout)
        too_little = self.bench(*case, flag, 1e-12)
        self.assertIn("[WARNING] batch_size 2, input_output_len 8,2", too_little.stdout)
        self.assertIn("less than a block of KV cache", too_little.stdout)
        self.assertIn("use more than 0.0, up to 1.0", self.bench(*case, flag, 2, expect=1).stderr)

    def test_an_engine_that_is_built(self):
        engine = self.folder / "kept"
        self.bench("-m", "llama_15m", "--output_dir", engine, "--build_only")
        process = self.bench("--engine_dir", engine, "--input_output_len", "8,2",
                             "--gpu_weights_percent", 0.0)
        self.assertIn("model_name llama ", process.stdout)

    def test_presets_that_are_not_there(self):
        later = self.bench("-m", "opt_30b", expect=1)
        self.assertIn("[bench] preset 'opt_30b' is of the OPT family, which is not there yet: "
                      "use llama_7b, ", later.stderr)
        unknown = self.bench("-m", "lama_7b", expect=1)
        self.assertIn("[bench] there is no preset 'lama_7b': use llama_7b, ", unknown.stderr)
        self.bench(expect=2)
        self.bench("-m", "llama_15m", "--engine_dir", "somewhere", expect=2)

    def test_settings_that_made_up_weights_cannot_honour(self):
        for flag, value in (("--io", "uring"), ("--direct_io", "on"), ("--verify", "always"),
                            ("--max_num_tokens", 0), ("--tile_bytes", "x"),
                            ("--canonical_rows", 0)):
            with self.subTest(flag):
                process = self.bench("-m", "llama_15m", flag, value, expect=1)
                self.assertIn(flag.lstrip("-"), process.stderr)


if __name__ == "__main__":
    unittest.main()
