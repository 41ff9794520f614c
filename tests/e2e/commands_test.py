"""The commands that TensorRT-LLM's users know, as they write them, and the demo's path."""

import csv
import os
import pathlib
import re
import shutil
import subprocess
import unittest

from harness import BINARY, ROOT, TIMEOUT_S, EndToEndTest, smollm2_gguf
from huggingface_folder import make_folder

# The format that the model's users' scripts parse.
RESULT_LINES = (
    r"TensorRT-LLM \(total latency: \d+\.\d+ sec\)",
    r"TensorRT-LLM \(total output tokens: \d+\)",
    r"TensorRT-LLM \(tokens per second: \d+\.\d+\)",
    r"TensorRT-LLM beam 0 result",
    r"  rouge1 : \d+\.\d+", r"  rouge2 : \d+\.\d+",
    r"  rougeL : \d+\.\d+", r"  rougeLsum : \d+\.\d+",
)
COLUMNS = (
    "model_name,world_size,num_heads,num_kv_heads,num_layers,hidden_size,vocab_size,precision,"
    "batch_size,gpu_weights_percent,input_length,output_length,gpu_peak_mem(gb),build_time(s),"
    "tokens_per_sec,percentile95(ms),percentile99(ms),latency(ms),compute_cap,quantization,"
    "generation_time(ms),total_generated_tokens,generation_tokens_per_second,link_gb_per_s,"
    "link_share,weights_mem(gb),predicted_latency(ms)").split(",")


class FamiliarCommandsTest(EndToEndTest):
    """Run in an empty folder, with the build's bin/ on PATH, on SmolLM2 as a Hugging Face folder."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = cls.folder / "llama-7b-hf"
        make_folder(smollm2_gguf(), cls.model)
        cls.shell("python3 examples/llama/convert_checkpoint.py --model_dir llama-7b-hf/ "
                  "--output_dir CKPT --dtype float16",
                  "Total time of converting checkpoints: 00:0")
        cls.shell("trtllm-build --checkpoint_dir CKPT --output_dir ENGINE --weight_streaming "
                  "--gemm_plugin disable --max_batch_size 128 --max_input_len 512 "
                  "--max_seq_len 562", "Total time of building all engines: 00:0")

    @classmethod
    def shell(cls, line, expected=""):
        """Runs a command line of the documentation; the checkout's scripts by their names there."""
        for folder in ("examples", "benchmarks"):
            if not (cls.folder / folder).exists():
                (cls.folder / folder).symlink_to(ROOT / folder)
        path = f"{pathlib.Path(BINARY).parent}:/usr/bin:/bin"
        process = subprocess.run(
            line, shell=True, cwd=cls.folder, capture_output=True, text=True, timeout=TIMEOUT_S,
            check=False, stdin=subprocess.DEVNULL,
            env={"PATH": path, "HOME": os.environ["HOME"], "HEADRACE_BINARY": BINARY})
        if process.returncode or expected not in process.stdout:
            raise AssertionError(f"{line}\n{process.returncode}\n{process.stdout}\n{process.stderr}")
        return process

    def test_summarize(self):
        process = self.shell(
            "python3 examples/summarize.py --engine_dir ENGINE --batch_size 1 --test_trt_llm "
            "--hf_model_dir llama-7b-hf/ --data_type fp16 --gpu_weights_percent 0.2 --max_ite 2")
        for line in RESULT_LINES:
            self.assertRegex(process.stdout, re.compile(f"^{line}$", re.MULTILINE))
        for word in ("Input : ", "Reference : ", "Output : "):
            self.assertIn(word, process.stdout)
        self.assertIn("Set gpu weights percent to 0.2, which is 53791948 bytes. "
                      "Valid range: 0 bytes ~ 268959744 bytes.", process.stderr + process.stdout)

    def test_benchmark(self):
        process = self.shell(
            'python3 benchmarks/python/benchmark.py --engine_dir ENGINE --batch_size "1;4" '
            '--input_output_len "32,4" --gpu_weights_percent "0.0;0.6;1.0" --dtype float16 --csv '
            "--log_level verbose --warm_up 0 --num_runs 1 --duration 0")
        lines = process.stdout.splitlines()
        begin = lines.index(",".join(COLUMNS))
        rows = list(csv.DictReader(lines[begin:begin + 7]))
        self.assertEqual([(row["batch_size"], float(row["gpu_weights_percent"])) for row in rows],
                         [(batch, percent) for batch in ("1", "4") for percent in (0, 0.6, 1)])
        for row in rows:
            self.assertEqual((row["input_length"], row["output_length"]), ("32", "4"))
            self.assertGreater(float(row["tokens_per_sec"]), 0)
        written = list(self.folder.glob("*.csv"))
        self.assertEqual(len(written), 1, written)
        self.assertEqual(len(written[0].read_text(encoding="utf-8").splitlines()), 7)

    def test_run(self):
        process = self.shell("python3 examples/run.py --engine_dir ENGINE --max_output_len 8 "
                             "--input_text 'The three largest rivers of South America are'")
        self.assertIn('Input [Text 0]: "The three largest rivers of South America are"',
                      process.stdout)
        self.assertIn('Output [Text 0 Beam 0]: " the Amazon, the Amazon River, and"',
                      process.stdout)

    def test_trtllm_build_through_a_symbolic_link(self):
        link = self.folder / "elsewhere" / "trtllm-build"
        link.parent.mkdir()
        link.symlink_to(pathlib.Path(BINARY).parent / "trtllm-build")
        process = subprocess.run([link, "--help"], capture_output=True, text=True, check=True,
                                 env={"PATH": "/usr/bin:/bin"})
        self.assertIn("--weight_streaming", process.stdout)

    def test_the_gguf_file_in_place_of_the_folder(self):
        of_folder = self.make_engine(self.model, "folder", "bfloat16")
        of_file = self.make_engine(smollm2_gguf(), "file", "bfloat16")
        self.assertEqual((of_folder / "rank0.engine").read_bytes(),
                         (of_file / "rank0.engine").read_bytes())

    def test_the_demo_s_path(self):
        self.headrace("plan", "--engine_dir", self.folder / "ENGINE", "--profile", self.profile)
        process = self.headrace(
            "summarize", "--engine_dir", self.folder / "ENGINE", "--chat", "--profile", self.profile,
            "--gpu_weights_percent", 0.2, "--max_ite", 2, "--output_len", 40)
        score = float(re.search(r"rouge1 : (\d+\.\d+)", process.stdout).group(1))
        self.assertGreater(score, 15)

    def test_summarize_scores_every_beam(self):
        engine = self.folder / "BEAMS"
        self.headrace("build", "--checkpoint_dir", self.folder / "CKPT", "--output_dir", engine,
                      "--max_batch_size", 1, "--max_beam_width", 2, "--max_input_len", 256,
                      "--max_seq_len", 276)
        process = self.headrace(
            "summarize", "--engine_dir", engine, "--profile", self.profile, "--num_beams", 2,
            "--max_ite", 2, "--output_len", 20, "--max_input_length", 256, "--output_dir",
            self.folder / "summaries", "--hf_model_dir", self.model)
        begin = process.stdout.index("TensorRT-LLM (total latency")
        lines = process.stdout[begin:].splitlines()
        for beam in range(2):
            block = lines[3 + 5 * beam:8 + 5 * beam]
            self.assertEqual(block[0], f"TensorRT-LLM beam {beam} result")
            for line, name in zip(block[1:], ("rouge1", "rouge2", "rougeL", "rougeLsum")):
                self.assertRegex(line, rf"  {name} : \d+\.\d+")
        self.assertNotEqual(lines[4:8], lines[9:13])
        text = (self.folder / "summaries/trtllm.out").read_text(encoding="utf-8")
        self.assertEqual(re.findall(r"^\[(\d)\] \[Beam (\d)\]", text, re.M),
                         [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")])
        tokens = int(re.search(r"output tokens: (\d+)", process.stdout).group(1))
        self.assertGreater(tokens, 2 * 20)  # of two summaries, each by two beams

    def test_a_checkout_elsewhere_needs_no_environment(self):
        checkout = self.folder / "some where"
        (checkout / "build/bin").mkdir(parents=True)
        (checkout / "build/bin/headrace").symlink_to(BINARY)
        shutil.copytree(ROOT / "examples", checkout / "examples")
        process = subprocess.run(
            ["python3", checkout / "examples/run.py", "--help"], capture_output=True, text=True,
            check=True, cwd=self.folder, env={"PATH": "/usr/bin:/bin"})
        self.assertIn("--gpu_weights_percent", process.stdout)

    def test_without_a_binary_the_scripts_say_what_to_do(self):
        checkout = self.folder / "unbuilt"
        shutil.copytree(ROOT / "examples", checkout / "examples")
        process = subprocess.run(
            ["python3", checkout / "examples/run.py"], capture_output=True, text=True, check=False,
            env={"PATH": "/usr/bin:/bin"})
        self.assertEqual(process.returncode, 1)
        self.assertIn("run `make`", process.stderr)


if __name__ == "__main__":
    unittest.main()
