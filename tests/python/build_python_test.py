"""headrace.BuildConfig, Builder, build and plan, against what the program does."""

import json
import pickle
import unittest

import headrace
from python_harness import PythonTest


class BuildTest(PythonTest):
    def test_config_goes_through_dicts_files_and_pickles(self):
        config = headrace.BuildConfig(max_batch_size=16, max_seq_len=100, weight_streaming=True,
                                      canonical_rows="all")
        config.update(max_input_len=50)
        plain = config.to_dict()
        self.assertEqual((plain["max_input_len"], plain["weight_streaming"]), (50, True))
        self.assertEqual(plain["plugin_config"]["gemm_plugin"], "disable")
        self.assertEqual(headrace.BuildConfig.from_dict(plain), config)
        self.assertEqual(pickle.loads(pickle.dumps(config)), config)
        path = self.folder / "build_config.json"
        path.write_text(json.dumps(plain), encoding="utf-8")
        self.assertEqual(headrace.BuildConfig.from_json_file(path), config)
        built = headrace.BuildConfig.from_json_file(self.engine / "config.json")
        self.assertEqual((built.max_batch_size, built.max_beam_width), (8, 4))
        path.write_text("[1]", encoding="utf-8")
        with self.assertRaises(ValueError):
            headrace.BuildConfig.from_json_file(path)

    def test_defaults_are_the_programs(self):
        defaults = headrace.BuildConfig()
        self.assertEqual(headrace.BuildConfig.from_dict({"what_is_this": 1}), defaults)
        self.assertEqual(headrace.BuildConfig.from_dict(defaults.to_dict()), defaults)
        self.assertFalse(defaults.weight_streaming)

    def test_what_a_config_refuses(self):
        with self.assertRaisesRegex(ValueError, "max_batch_size"):
            headrace.BuildConfig.from_dict({"max_batch_size": "many"})
        with self.assertRaisesRegex(AttributeError, "no field 'max_batch'"):
            headrace.BuildConfig().update(max_batch=1)
        with self.assertRaises(FileNotFoundError):
            headrace.BuildConfig.from_json_file(self.folder / "nowhere.json")

    def test_builder_builds_what_the_program_builds(self):
        builder = headrace.Builder()
        config = builder.create_builder_config("float32", weight_streaming=True, max_batch_size=8,
                                               max_beam_width=4)
        self.assertTrue(config.to_dict()["builder_config"]["weight_streaming"])
        checkpoint = self.folder / "odd_heads-checkpoint-float32"
        report = builder.build(checkpoint, self.folder / "built", config)
        self.assertGreater(report.streamable_bytes, 0)
        self.assertEqual(report.codec_shares, {})  # no codec is for float32
        for name in ("rank0.engine", "config.json"):
            self.assertEqual((self.folder / "built" / name).read_bytes(),
                             (self.engine / name).read_bytes())
        half = self.folder / "half"
        self.headrace("convert", "--random_weights", 1, "--vocab_size", 500, "--n_positions", 64,
                      "--n_layer", 1, "--n_head", 4, "--n_embd", 512, "--inter_size", 512,
                      "--dtype", "bfloat16", "--output_dir", half)
        shares = builder.build(half, self.folder / "half-engine",
                               builder.create_builder_config("bfloat16")).codec_shares
        self.assertEqual(sorted(shares), ["e3", "e4"])
        self.assertTrue(all(0.6 < share < 1 for share in shares.values()), shares)
        for precision in ("fp32", "auto"):
            again = builder.create_builder_config(precision, max_batch_size=8)
            builder.build(checkpoint, self.folder / precision, again)
        with self.assertRaisesRegex(ValueError, "--dtype float16"):
            builder.build(checkpoint, self.folder / "never",
                          builder.create_builder_config("float16"))
        self.assertFalse((self.folder / "never").exists())
        config.build_config.plugin_config.gemm_plugin = "float16"
        with self.assertRaisesRegex(ValueError, "--gemm_plugin disable"):
            builder.build(checkpoint, self.folder / "never", config)

    def test_plan_is_the_programs(self):
        options = {"device": "cpu", "profile_path": self.profile,
                   "memory_limit_bytes": 1 << 30}
        flags = ["plan", "--engine_dir", self.engine, "--device", "cpu", "--profile", self.profile,
                 "--gpu_memory_limit", 1 << 30, "--json"]
        one = headrace.plan(self.engine, gpu_weights_percent=0.3, batch_size=2, **options)
        printed = self.headrace(*flags, "--gpu_weights_percent", 0.3, "--batch_size", 2).stdout
        self.assertEqual(one, json.loads(printed))
        table = headrace.plan(self.engine, table=True, **options)
        self.assertEqual(table, json.loads(self.headrace(*flags).stdout))
        self.assertEqual(len(table["plans"]), 11)
        with self.assertRaises(FileNotFoundError):
            headrace.plan(self.folder / "nowhere")
        with self.assertRaisesRegex(ValueError, "host_threads -1"):
            headrace.plan(self.engine, host_threads=-1, **options)
        for name, wrong in (("batch_size", -1), ("batch_size", 0), ("batch_size", 1 << 70),
                            ("max_seq_len", -5), ("max_seq_len", 1 << 31)):
            with self.assertRaisesRegex(ValueError, rf"\[plan\] {name} {wrong}: use 1 to 1073741824"):
                headrace.plan(self.engine, **{name: wrong}, **options)
        with self.assertRaisesRegex(TypeError, r"\[plan\] batch_size cannot be '8'"):
            headrace.plan(self.engine, batch_size="8", **options)


if __name__ == "__main__":
    unittest.main()
