"""The same bits come out however the weights are streamed, and exactly the promised bytes move."""

import json
import os
import unittest

import numpy as np
from harness import BINARY, GOLDEN, EndToEndTest, read_rows, smollm2_gguf

PERCENTS = (0, 0.013, 0.2, 0.5, 0.97, 1.0)


def with_other_prompts(prompt):
    """The prompt as second of three."""
    return [prompt[3:14], prompt, prompt[::-1] * 2]


def lease_payloads(trace):
    """Payload bytes leased, by pass, from the spans of the requests."""
    sums = {}
    for event in trace["traceEvents"]:
        if event.get("name") == "lease":
            args = event["args"]
            sums[args["pass"]] = sums.get(args["pass"], 0) + args["payload_bytes"]
    return sums


class TinyModelTest(EndToEndTest):
    """All combinations on a random Llama whose K are 72, 60 and 100."""

    OUTPUT_LEN = 12
    DTYPES = ("float32", "float16", "bfloat16")

    def test_bits_do_not_depend_on_streaming(self):
        prompt = read_rows(GOLDEN / "odd_heads" / "prompt.csv")[0]
        for dtype in self.DTYPES:
            small = self.make_engine(GOLDEN / "odd_heads/hf", f"small-{dtype}", dtype,
                                     ("--tile_bytes", "64K"))
            large = self.make_engine(GOLDEN / "odd_heads/hf", f"large-{dtype}", dtype,
                                     ("--tile_bytes", "16M"))
            expected = self.run_ids(small, [prompt], self.OUTPUT_LEN).bits()
            for percent in PERCENTS:
                for ring, threads, chunk in ((2, 1, 7), (8, 2, 512), (2, 2, 512), (8, 1, 7)):
                    with self.subTest(dtype=dtype, percent=percent, ring=ring, chunk=chunk):
                        flags = ("--ring_requests", ring, "--threads", threads,
                                 "--prefill_chunk", chunk)
                        output = self.run_ids(small, [prompt], self.OUTPUT_LEN, *flags,
                                              percent=percent)
                        self.assertEqual(output.bits(), expected)
                        if percent < 1:
                            self.assertGreater(output.stats["stream"]["payload_bytes"], 0)
                with self.subTest(dtype=dtype, percent=percent, tile_bytes="16M"):
                    output = self.run_ids(large, [prompt], self.OUTPUT_LEN, percent=percent)
                    self.assertEqual(output.bits(), expected)

    def test_auto_keeps_a_small_model_resident(self):
        prompt = read_rows(GOLDEN / "odd_heads" / "prompt.csv")[0]
        for name, build_flags in (("streaming", ("--weight_streaming",)), ("plain", ())):
            with self.subTest(name):
                engine = self.folder / f"auto-{name}"
                checkpoint = self.folder / "auto-checkpoint"
                if not checkpoint.exists():
                    self.headrace("convert", "--model_dir", GOLDEN / "odd_heads/hf", "--output_dir",
                                  checkpoint, "--dtype", "float16")
                self.headrace("build", "--checkpoint_dir", checkpoint, "--output_dir", engine,
                              *build_flags)
                automatic = self.run_ids(engine, [prompt], self.OUTPUT_LEN, percent="auto")
                expected = self.run_ids(engine, [prompt], self.OUTPUT_LEN, percent=1.0)
                self.assertEqual(automatic.bits(), expected.bits())
                plan = automatic.stats["plan"]
                self.assertEqual(plan["resident_bytes"], plan["streamable_bytes"])
                self.assertEqual(automatic.stats["stream"]["payload_bytes"], 0)
                process = self.headrace("plan", "--engine_dir", engine, "--gpu_weights_percent",
                                        "auto", "--profile", self.profile, "--json")
                planned = json.loads(process.stdout)["plans"][0]
                self.assertEqual(planned["gpu_weights_percent"], 1.0)
                self.assertEqual(planned["bytes_by_home"]["device"], plan["streamable_bytes"])

    def test_bits_do_not_depend_on_the_batch(self):
        prompt = read_rows(GOLDEN / "linear_k75" / "prompt.csv")[0]
        engine = self.make_engine(GOLDEN / "linear_k75/hf", "batch", "bfloat16",
                                  ("--tile_bytes", "64K"))
        alone = self.run_ids(engine, [prompt], self.OUTPUT_LEN)
        batch = with_other_prompts(prompt)
        for percent, chunk in ((0, 7), (0.5, 512)):
            with self.subTest(percent=percent, chunk=chunk):
                output = self.run_ids(engine, batch, self.OUTPUT_LEN, "--prefill_chunk", chunk,
                                      percent=percent)
                begin = len(batch[0])
                np.testing.assert_array_equal(output.context[begin:begin + len(prompt)],
                                              alone.context)
                np.testing.assert_array_equal(output.generation[1], alone.generation[0])
                self.assertEqual(output.tokens[1], alone.tokens[0])


class SmolLm2Test(EndToEndTest):
    """A real model in bfloat16: bits, bytes by the trace, bytes by the kernel's count.

    The raw engine has bytes that can be said beforehand; the others are coded.
    """

    OUTPUT_LEN = 8

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.prompt = read_rows(GOLDEN / "smollm2" / "prompt.csv")[1] * 3
        cls.engine = cls.make_engine(smollm2_gguf(), "smollm2", "bfloat16",
                                     ("--tile_codec", "none"))
        cls.expected = cls.run_ids(cls.engine, [cls.prompt], cls.OUTPUT_LEN).bits()

    def test_bits_do_not_depend_on_streaming(self):
        small = self.make_engine(smollm2_gguf(), "small", "bfloat16", ("--tile_bytes", "64K"))
        large = self.make_engine(smollm2_gguf(), "large", "bfloat16", ("--tile_bytes", "16M"))
        cases = ((self.engine, 0, 2, 1, 7), (self.engine, 0.013, 8, 2, 512),
                 (small, 0.2, 2, 2, 512), (large, 0.2, 2, 1, 512), (small, 0.5, 8, 1, 7),
                 (large, 0.5, 8, 2, 7), (self.engine, 0.97, 2, 2, 7), (large, 1.0, 8, 2, 512))
        for engine, percent, ring, threads, chunk in cases:
            with self.subTest(engine=engine.name, percent=percent, ring=ring, chunk=chunk):
                output = self.run_ids(engine, [self.prompt], self.OUTPUT_LEN, "--ring_requests",
                                      ring, "--threads", threads, "--prefill_chunk", chunk,
                                      percent=percent)
                self.assertEqual(output.bits(), self.expected)
                if percent < 1:
                    self.assertGreater(output.stats["stream"]["payload_bytes"], 0)

    def test_a_memory_limit_leaves_room_for_more_sequences_at_a_lower_percentage(self):
        process = self.headrace("plan", "--engine_dir", self.engine, "--profile", self.profile,
                                "--max_seq_len", 512, "--gpu_memory_limit", "500M", "--json")
        largest = {plan["gpu_weights_percent"]: plan["largest_batch"]
                   for plan in json.loads(process.stdout)["plans"]}
        self.assertGreater(largest[1.0], 0)
        self.assertGreater(largest[0.2], largest[1.0])
        self.assertLess(largest[0.2], 256)  # the engine's own limit is not what counts

    def test_reading_threads_give_the_same_bits_as_io_uring(self):
        for io in ("uring", "pread"):
            for direct in ("on", "off"):
                with self.subTest(io=io, direct=direct):
                    output = self.run_ids(self.engine, [self.prompt], self.OUTPUT_LEN, "--io", io,
                                          "--direct_io", direct, percent=0.1)
                    self.assertEqual(output.bits(), self.expected)

    def test_a_pass_leases_exactly_the_tiles_that_are_not_resident(self):
        # 30 layers of q 576, k and v 192 rows, dense 576, three of 1536 x 576; the tied lm_head.
        layer = (576 + 2 * 192) * 576 + 576 * 576 + 3 * 1536 * 576
        streamable = 2 * (30 * layer + 49152 * 576)
        for percent in (0, 0.2, 0.97):
            with self.subTest(percent=percent):
                output = self.run_ids(self.engine, [self.prompt], self.OUTPUT_LEN, percent=percent)
                plan = output.stats["plan"]
                self.assertEqual(plan["streamable_bytes"], streamable)
                self.assertEqual(plan["budget_bytes"], int(percent * streamable))
                self.assertLessEqual(plan["resident_bytes"], plan["budget_bytes"])
                self.assertLess(plan["budget_bytes"] - plan["resident_bytes"], 1 << 20)
                streamed = streamable - plan["resident_bytes"]
                # The first pass is the prefill, and gives the first token.
                self.assertEqual(lease_payloads(output.trace),
                                 {i: streamed for i in range(self.OUTPUT_LEN)})
                self.assertEqual(output.stats["stream"]["payload_bytes"],
                                 self.OUTPUT_LEN * streamed)

    def test_the_kernel_counts_the_same_bytes(self):
        stats = self.folder / "io-stats.json"
        command = [BINARY, "run", "--engine_dir", str(self.engine),
                   "--input_text", "The sea", "--max_output_len", "8", "--end_id", "-1",
                   "--gpu_weights_percent", "0.2", "--direct_io", "on", "--profile",
                   str(self.profile), "--stats_json", str(stats)]
        pid = os.posix_spawn(command[0], command, os.environ)
        _, status, usage = os.wait4(pid, 0)
        self.assertEqual(status, 0)
        total = json.loads(stats.read_text(encoding="utf-8"))["stream_total"]
        counted = (total["read_bytes"] + total["resident_load_bytes"]
                   + total["embedding_read_bytes"])
        self.assertGreater(counted, 100e6)
        self.assertLessEqual(abs(usage.ru_inblock * 512 - counted), 0.01 * counted)


if __name__ == "__main__":
    unittest.main()
