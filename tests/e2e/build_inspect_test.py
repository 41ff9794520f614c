"""`headrace build` and `headrace inspect` as a user runs them."""

import json
import os
import shutil
import unittest

import harness


class BuildInspectTest(harness.EndToEndTest):
    """One random model of odd shapes, built in several ways."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.checkpoint = cls.folder / "checkpoint"
        cls.headrace("convert", "--random_weights", 3, "--vocab_size", 1003, "--n_positions", 256,
                     "--n_layer", 2, "--n_head", 4, "--n_kv_head", 2, "--n_embd", 72,
                     "--inter_size", 100, "--dtype", "bfloat16", "--output_dir", cls.checkpoint)

    def build(self, name, *flags, expect=0):
        return self.headrace("build", "--checkpoint_dir", self.checkpoint, "--output_dir",
                             self.folder / name, "--max_input_len", 64, *flags, expect=expect)

    def inspect(self, path, *flags):
        return json.loads(self.headrace("inspect", path, "--json", *flags).stdout)

    def test_the_program_and_its_engines_say_their_version(self):
        version = self.headrace("--version").stdout.split()
        self.assertEqual(version[0], "headrace")
        self.build("versioned")
        config = json.loads((self.folder / "versioned/config.json").read_text(encoding="utf-8"))
        self.assertEqual(version[1:], [config["version"]])

    def test_the_command_of_upstreams_documentation(self):
        process = self.headrace(
            "build", "--checkpoint_dir", self.checkpoint, "--output_dir", self.folder / "upstream",
            "--weight_streaming", "--gemm_plugin", "disable", "--max_batch_size", 128,
            "--max_input_len", 512, "--max_seq_len", 250)
        self.assertRegex(process.stdout.splitlines()[-1],
                         r"^Total time of building all engines: \d\d:\d\d:\d\d$")
        self.assertIn("--max_input_len 512", process.stderr)  # clipped, with a warning
        config = json.loads((self.folder / "upstream" / "config.json").read_text())
        self.assertLessEqual({"version", "pretrained_config", "build_config"}, set(config))
        build = config["build_config"]
        self.assertEqual((build["max_batch_size"], build["max_input_len"], build["max_seq_len"]),
                         (128, 250, 250))
        self.assertTrue(build["weight_streaming"])
        self.assertEqual(build["plugin_config"]["gemm_plugin"], "disable")

    def test_both_spellings_of_weight_streaming(self):
        for spelling in ("--weight_streaming", "--weight-streaming"):
            self.build("spelling", spelling)
            self.assertTrue(self.inspect(self.folder / "spelling")["build_config"]["weight_streaming"])
        self.build("spelling")
        self.assertFalse(self.inspect(self.folder / "spelling")["build_config"]["weight_streaming"])

    def test_plugin_switches_give_one_warning(self):
        process = self.build("switches", "--gpt_attention_plugin", "float16", "--context_fmha",
                             "enable", "--paged_kv_cache", "enable", "--remove_input_padding",
                             "enable", "--strongly_typed", "--gather_context_logits",
                             "--gather_generation_logits", "--workers", 1)
        warnings = [line for line in process.stderr.splitlines() if line.startswith("[WARNING]")]
        self.assertEqual(len(warnings), 1, warnings)
        self.assertIn("--remove_input_padding", warnings[0])

    def test_a_gemm_plugin_cannot_stream(self):
        process = self.build("plugin", "--weight_streaming", "--gemm_plugin", "float16", expect=1)
        self.assertIn("--gemm_plugin disable", process.stderr)
        self.assertFalse((self.folder / "plugin").exists())
        self.build("plugin", "--gemm_plugin", "float16")

    def test_build_says_what_codes_save(self):
        self.assertIn("weights (no smaller in e3 or e4), ", self.build("narrow").stderr)
        self.assertIn("weights (no smaller in e4), ",
                      self.build("narrow", "--tile_codec", "e4").stderr)
        self.assertIn("weights, ", self.build("narrow", "--tile_codec", "none").stderr)
        wide = self.folder / "wide"
        self.headrace("convert", "--random_weights", 3, "--vocab_size", 500, "--n_positions", 64,
                      "--n_layer", 1, "--n_head", 4, "--n_embd", 512, "--inter_size", 512,
                      "--dtype", "bfloat16", "--output_dir", wide)
        coded = r"weights coded in [\d.]+ MB \(0\.\d\d\d of them"
        for codec, alone in (("auto", r"; e3 0\.\d\d\d, e4 0\.\d\d\d alone"), ("e4", "")):
            process = self.headrace("build", "--checkpoint_dir", wide, "--output_dir",
                                    self.folder / "coded", "--tile_codec", codec)
            self.assertRegex(process.stderr, coded + alone + r"\), ")

    def test_inspect_tells_what_is_there(self):
        self.build("inspected", "--tile_bytes", "16K", "--canonical_rows", 8)
        report = self.inspect(self.folder / "inspected")
        self.assertEqual(report["kind"], "engine")
        self.assertEqual(report["build_config"]["canonical_rows"], 8)
        # bfloat16: qkv (4 + 2 + 2) * 18 rows of 72, dense 72 x 72, three of 100 x 72; twice; lm_head
        payload = 2 * (2 * (144 * 72 + 72 * 72 + 3 * 100 * 72) + 1003 * 72)
        self.assertEqual(report["streamable_bytes"], payload)
        self.assertEqual(sum(tile["raw_bytes"] for tile in report["tiles"]), payload)
        weights = self.folder / "inspected" / "rank0.engine"
        self.assertEqual(report["file_bytes"], weights.stat().st_size)
        text = self.headrace("inspect", self.folder / "inspected").stdout
        self.assertIn("LlamaForCausalLM, bfloat16, 2 layers", text)
        checkpoint = self.inspect(self.checkpoint)
        self.assertEqual(checkpoint["kind"], "checkpoint")
        self.assertEqual(checkpoint["tensor_bytes"], payload + 2 * (1003 * 72 + 5 * 72))
        weights = self.inspect(self.checkpoint / "rank0.safetensors")
        self.assertEqual((weights["kind"], weights["tensors"]),
                         ("safetensors", checkpoint["tensors"]))

    def test_inspect_reads_gguf(self):
        report = self.inspect(harness.smollm2_gguf())
        self.assertEqual(report["kind"], "gguf")
        self.assertEqual(report["metadata"]["llama.embedding_length"], 576)
        shapes = {tensor["name"]: tensor["shape"] for tensor in report["tensors"]}
        self.assertEqual(shapes["blk.0.ffn_down.weight"], [576, 1536])

    def test_verify_names_a_damaged_tile(self):
        self.build("whole", "--tile_bytes", "16K")
        self.assertEqual(self.inspect(self.folder / "whole", "--verify")["damaged"], [])
        damaged = self.folder / "damaged"
        shutil.copytree(self.folder / "whole", damaged)
        tiles = self.inspect(damaged)["tiles"]
        with open(damaged / "rank0.engine", "r+b") as file:
            file.seek(tiles[5]["offset"])
            byte = file.read(1)[0]
            file.seek(tiles[5]["offset"])
            file.write(bytes([byte ^ 1]))
        process = self.headrace("inspect", damaged, "--verify", expect=1)
        self.assertIn("tile 5 (layer 0 ", process.stderr)
        self.assertEqual(process.stderr.count("error:"), 1)
        self.headrace("inspect", damaged)  # the manifest is whole

    def test_a_checkpoint_is_never_overwritten(self):
        before = (self.checkpoint / "config.json").read_bytes()
        process = self.headrace("build", "--checkpoint_dir", self.checkpoint, "--output_dir",
                                self.checkpoint, expect=1)
        self.assertIn("holds rank0.safetensors", process.stderr)
        self.assertEqual((self.checkpoint / "config.json").read_bytes(), before)

    def test_memory_does_not_grow_with_the_model(self):
        checkpoint = self.folder / "large"
        self.headrace("convert", "--vocab_size", 32000, "--n_layer", 1, "--n_head", 32, "--n_embd",
                      2048, "--inter_size", 5632, "--dtype", "float16", "--output_dir", checkpoint)
        size = (checkpoint / "rank0.safetensors").stat().st_size
        self.assertGreater(size, 350e6)
        command = [harness.BINARY, "build", "--checkpoint_dir", checkpoint, "--output_dir",
                   self.folder / "large-engine", "--tile_bytes", "64M"]
        quiet = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_WRONLY, 0) for stream in (1, 2)]
        child = os.posix_spawn(command[0], list(map(str, command)), os.environ, file_actions=quiet)
        _, status, usage = os.wait4(child, 0)
        self.assertEqual(status, 0)
        self.assertLess(usage.ru_maxrss * 1024, 64e6)  # 14 MB when this was written


if __name__ == "__main__":
    unittest.main()
