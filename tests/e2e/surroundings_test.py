"""What stands around the program: closed streams, devices, links, limits of the system."""

import fcntl
import json
import os
import resource
import shutil
import subprocess
import unittest

from harness import BINARY, GOLDEN, EndToEndTest

MODEL = GOLDEN / "odd_heads/hf"


class SurroundingsTest(EndToEndTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.engine = cls.make_engine(MODEL, "tiny", build_flags=(
            "--max_batch_size", 2, "--max_input_len", 40, "--max_seq_len", 60))
        cls.checkpoint = cls.folder / "tiny-checkpoint-float32"
        cls.prompt = cls.folder / "prompt.csv"
        shutil.copy(GOLDEN / "odd_heads/prompt.csv", cls.prompt)

    def run_ids_with(self, *flags, output_len=3, **options):
        return self.headrace("run", "--engine_dir", self.engine, "--input_file", self.prompt,
                             "--max_output_len", output_len, "--profile", self.profile, *flags,
                             **options)

    def test_output_that_does_not_arrive_is_an_error(self):
        command = [BINARY, "inspect", str(self.engine), "--json"]
        with open("/dev/full", "w", encoding="utf-8") as full:
            process = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True,
                                     check=False)
        self.assertEqual(process.returncode, 1)
        self.assertIn("[stdout]", process.stderr)
        process = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False,
                                 preexec_fn=lambda: os.close(1))
        self.assertEqual(process.returncode, 1)
        self.assertIn("[stdout]", process.stderr)

    def test_links_stay_links(self):
        target = self.folder / "target.csv"
        link = self.folder / "link.csv"
        target.write_text("old", encoding="utf-8")
        link.symlink_to(target)
        self.run_ids_with("--output_csv", link)
        self.assertTrue(link.is_symlink())
        self.assertTrue(target.read_text(encoding="utf-8").startswith(
            self.prompt.read_text(encoding="utf-8").strip()))

    def test_pipes_are_written_to(self):
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self.run_ids_with("--stats_json", pipe)
        stats = json.loads(os.read(reader, 1 << 16))
        os.close(reader)
        self.assertIn("plan", stats)
        self.assertTrue(pipe.is_fifo())

    def test_threads_that_the_system_refuses(self):
        limit = 60 << 20
        process = self.headrace(
            "inspect", self.engine, "--threads", 200, expect=1,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
        self.assertIn("--threads", process.stderr)

    def test_a_model_keeps_its_config(self):
        model = self.folder / "model"
        shutil.copytree(MODEL, model)
        before = (model / "config.json").read_bytes()
        process = self.headrace("build", "--checkpoint_dir", self.checkpoint, "--output_dir", model,
                                expect=1)
        self.assertIn("config.json", process.stderr)
        self.assertEqual((model / "config.json").read_bytes(), before)

    def test_a_build_removes_what_a_killed_one_left(self):
        output = self.folder / "output"
        killed, running, others = (output / f".headrace-tmp-{who}" for who in (1, 2, "notes"))
        elsewhere = self.folder / "elsewhere"
        for folder in (killed, running, others, elsewhere):
            folder.mkdir(parents=True)
            (folder / "rank0.engine").write_bytes(b"part")
        (output / ".headrace-tmp-3").symlink_to(elsewhere)
        lock = os.open(running, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        self.headrace("build", "--checkpoint_dir", self.checkpoint, "--output_dir", output)
        os.close(lock)
        self.assertFalse(killed.exists())
        for folder in (running, others, elsewhere):
            self.assertTrue((folder / "rank0.engine").exists())
        self.assertTrue((output / "config.json").exists())

    def test_a_build_clears_a_staging_folder_of_its_own_number(self):
        output = self.folder / "own"  # as in containers, where numbers repeat
        output.mkdir()
        command = [str(part) for part in (BINARY, "build", "--checkpoint_dir", self.checkpoint,
                                          "--output_dir", output)]
        script = 'mkdir "$0/.headrace-tmp-$$" && touch "$0/.headrace-tmp-$$/old" && exec "$@"'
        subprocess.run(["sh", "-c", script, str(output), *command], check=True,
                       capture_output=True)
        self.assertEqual([path.name for path in output.iterdir() if path.name.startswith(".")], [])

    def test_ids_need_no_tokenizer(self):
        (self.engine / "tokenizer.json").write_text("{}", encoding="utf-8")
        process = self.run_ids_with()
        self.assertIn("token ids alone", process.stderr)
        (self.engine / "tokenizer.json").unlink()

    def test_json_stays_json(self):
        process = self.run_ids_with("--json", "--run_profiling")
        json.loads(process.stdout)
        self.assertIn("batch_size: 1", process.stderr)

    def test_numbers_that_cannot_be(self):
        process = self.run_ids_with(output_len=2**63 - 1, expect=1)
        self.assertIn("max_output_len", process.stderr)
        for flag, value, code in (("--end_id", -2, 1),
                                  ("--end_id", 1003, 1), ("--end_id", 2**32, 1),
                                  ("--end_id", 0.5, 1), ("--max_input_length", -3, 2),
                                  ("--random_seed", -1, 2), ("--streaming_interval", 0, 2)):
            with self.subTest(flag=flag, value=value):
                process = self.run_ids_with(f"{flag}={value}", expect=code)
                self.assertIn(flag.strip("-"), process.stderr)
        for flag in ("--max_seq_len=-1", "--batch_size=-1"):
            self.headrace("plan", "--engine_dir", self.engine, flag, expect=2)

    def test_flags_that_contradict_one_another(self):
        self.run_ids_with("--input_text", "hello", expect=2)
        self.run_ids_with("--gpu_weights_percent", 0.5, "--gpu_weights_budget", "1K", expect=2)

    def test_a_tensor_that_the_index_forgets(self):
        model = self.folder / "sharded"
        shutil.copytree(GOLDEN / "shards_bf16/hf", model)
        path = model / "model.safetensors.index.json"
        index = json.loads(path.read_text(encoding="utf-8"))
        forgotten = next(name for name in index["weight_map"] if "norm" in name)
        del index["weight_map"][forgotten]
        path.write_text(json.dumps(index), encoding="utf-8")
        process = self.headrace("convert", "--model_dir", model, "--output_dir",
                                self.folder / "checkpoint", expect=1)
        self.assertIn(forgotten, process.stderr)
        self.assertIn("does not list", process.stderr)


if __name__ == "__main__":
    unittest.main()
