"""Bad flags and broken files: one error line, exit code 1 (2 for usage), nothing half-written."""

import json
import os
import resource
import shutil
import signal
import unittest

import numpy as np
from gguf_writer import GGUF_STRING, GGUF_UINT32, write_gguf
from harness import GOLDEN, EndToEndTest, read_rows, smollm2_gguf
from huggingface_folder import CONTROL, write_tokenizer

MODEL = GOLDEN / "odd_heads/hf"
SHARDED = GOLDEN / "shards_bf16/hf"


def flip_bit(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def safetensors_header(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8:8 + size]), data[8 + size:]


def write_safetensors(path, header, payload):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + payload)


class BadInputTest(EndToEndTest):
    def assert_one_error(self, process, words=()):
        """Standard error holds one error line, which names what was wrong; warnings may precede."""
        lines = process.stderr.strip().splitlines()
        errors = [line for line in lines if "error" in line.lower()]
        self.assertEqual(len(errors), 1, process.stderr)
        self.assertEqual(errors[0], lines[-1])
        for word in words:
            self.assertIn(word, errors[0])

    def refuse(self, *args, expect=1, words=(), **options):
        self.assert_one_error(self.headrace(*args, expect=expect, **options), words)

    def copy(self, source, name):
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        return target


class UsageTest(BadInputTest):
    """Exit code 2, and the flag is named."""

    def test_unknown_flag(self):
        for command in (("convert",), ("build",), ("build", "--checkpoint_dir", "c"), ("plan",),
                        ("inspect",), ("inspect", "p"), ("tokenize",),
                        ("tokenize", "--input_text", "t"), ("run",), ("summarize",), ("bench",)):
            with self.subTest(command):
                self.refuse(*command, "--no_such_flag", "1", expect=2, words=["no_such_flag"])

    def test_unknown_command_or_none(self):
        self.refuse("no_such_command", expect=2, words=["no_such_command"])
        self.headrace(expect=2)

    def test_a_number_that_is_none(self):
        self.refuse("run", "--max_output_len", "ten", expect=2, words=["max_output_len"])


class RunTest(BadInputTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.engine = cls.make_engine(MODEL, "tiny", build_flags=(
            "--tile_bytes", "64K", "--max_batch_size", 2, "--max_input_len", 40,
            "--max_seq_len", 60))
        cls.prompt = cls.folder / "prompt.csv"
        shutil.copy(GOLDEN / "odd_heads/prompt.csv", cls.prompt)

    def refuse_run(self, *flags, engine=None, expect=1, words=(), prompts=None,
                   output_len=4):
        folder = self.folder / "outputs"
        folder.mkdir(exist_ok=True)
        if prompts is not None:
            (self.folder / "bad.csv").write_text(prompts, encoding="utf-8")
        self.refuse("run", "--engine_dir", engine or self.engine, "--input_file",
                    self.prompt if prompts is None else self.folder / "bad.csv",
                    "--max_output_len", output_len, "--profile", self.profile, "--output_npy",
                    folder / "ids.npy", "--output_csv", folder / "ids.csv", "--output_logits_npy",
                    folder / "logits.npy", *flags, expect=expect, words=words)
        self.assertEqual(os.listdir(folder), [])

    def test_percent(self):
        for percent in ("-0.1", "1.1", "nan", "inf"):
            with self.subTest(percent):
                self.refuse_run(f"--gpu_weights_percent={percent}", words=["percent"])
        for percent in ("abc", "", "0.5x", "1e400"):
            with self.subTest(percent):
                self.refuse_run(f"--gpu_weights_percent={percent}", expect=2, words=["percent"])

    def test_percent_needs_weight_streaming(self):
        checkpoint = self.folder / "tiny-checkpoint-float32"
        engine = self.folder / "whole"
        self.headrace("build", "--checkpoint_dir", checkpoint, "--output_dir", engine)
        self.refuse_run("--gpu_weights_percent", "0.5", engine=engine, words=[
            "Engine built without weight streaming. Cannot set gpu_weights_percent to a value "
            "other than 1."])

    def test_prompt_longer_than_the_engine_allows(self):
        self.refuse_run(prompts=",".join(["5"] * 41) + "\n", words=["41", "40"])
        self.refuse_run(output_len=40, words=["60"])

    def test_empty_prompt(self):
        for rows in ("", "\n", ",\n", "1,,2\n"):
            with self.subTest(rows=rows):
                self.refuse_run(prompts=rows)

    def test_tokens_outside_the_vocabulary(self):
        for token in ("1003", "-1", "99999999999", "a"):
            with self.subTest(token):
                self.refuse_run(prompts=f"5,{token}\n")

    def test_more_prompts_than_the_engine_allows(self):
        self.refuse_run(prompts="5\n6\n7\n", words=["2"])

    def test_text_without_a_tokenizer(self):
        self.refuse("run", "--engine_dir", self.engine, "--input_text", "hello",
                    words=["tokenizer"])

    def test_sizes_that_cannot_be(self):
        self.refuse_run(output_len=0, words=["max_output_len"])
        self.refuse_run("--threads=0", expect=2, words=["threads"])
        for flag, value, word in (("ring_requests", 1, "ring of 1"),
                                  ("prefill_chunk", -1, "chunk of -1"),
                                  ("top_p", 1.5, "top_p"), ("temperature", -1, "temperature")):
            with self.subTest(flag):
                self.refuse_run("--gpu_weights_percent=0.5", f"--{flag}={value}", words=[word])

    def test_batches_of_none(self):
        self.refuse("summarize", "--engine_dir", self.engine, "--batch_size", 0,
                    words=["batch_size"])
        self.refuse("bench", "--engine_dir", self.engine, "--batch_size", 0, words=["batch_size"])

    def test_bench_takes_percents_from_0_to_1(self):
        message = "--gpu_weights_percent only accepts values between 0.0 and 1.0."
        for percents in ("1.1", "0.5;-0.1", "0.5;nan"):
            with self.subTest(percents):
                self.refuse("bench", "--engine_dir", self.engine, "--gpu_weights_percent", percents,
                            words=[message])

    def test_beams_that_cannot_be(self):
        self.refuse("run", "--engine_dir", self.engine, "--input_file", self.prompt,
                    "--max_output_len", 4, "--profile", self.profile, "--num_beams", 2,
                    words=["2 beams", "max_beam_width is 1"])
        self.refuse_run("--num_beams", 0, words=["beam_width"])
        self.refuse_run("--num_beams", 2, "--length_penalty", "nan", words=["length_penalty"])

    def test_cuda_is_not_there(self):
        self.refuse_run("--device", "cuda", words=["CUDA"])

    def test_missing_engine(self):
        self.refuse_run(engine=self.folder / "nowhere", words=["nowhere"])

    def test_truncated_engine(self):
        size = (self.engine / "rank0.engine").stat().st_size
        for keep in (0, 7, 64, 4096, size // 2, size - 1):
            with self.subTest(keep=keep):
                engine = self.copy(self.engine, "truncated")
                os.truncate(engine / "rank0.engine", keep)
                self.refuse_run(engine=engine)

    def test_flipped_bits_anywhere_in_the_engine(self):
        size = (self.engine / "rank0.engine").stat().st_size
        found = 0
        offsets = list(range(0, 64, 5)) + np.linspace(64, size - 1, 60).astype(int).tolist()
        expected = self.run_ids(self.engine, read_rows(self.prompt), 4, percent=0.3).bits()
        for offset in offsets:
            engine = self.copy(self.engine, "flipped")
            flip_bit(engine / "rank0.engine", offset)
            with self.subTest(offset=offset):
                try:
                    output = self.run_ids(engine, read_rows(self.prompt), 4, percent=0.3)
                except AssertionError:
                    self.refuse_run("--gpu_weights_percent", 0.3, engine=engine)
                    found += 1
                else:  # padding, or an embedding row that was not used
                    self.assertEqual(output.bits(), expected)
        self.assertGreater(found, len(offsets) // 3)

    def test_a_broken_config(self):
        good = json.loads((self.engine / "config.json").read_text(encoding="utf-8"))
        cases = ["", "{", "[]", "null", "{}", '{"version": 1}', "\x00" * 100, "[" * 100000]
        for key, value in (("hidden_size", 2**40), ("hidden_size", -1), ("num_hidden_layers", "2"),
                           ("vocab_size", 1002), ("head_size", 21), ("architecture", "Other")):
            config = json.loads(json.dumps(good))
            config["pretrained_config"][key] = value
            cases.append(json.dumps(config))
        for text in cases:
            with self.subTest(text[:40]):
                engine = self.copy(self.engine, "config")
                (engine / "config.json").write_text(text, encoding="utf-8")
                self.refuse_run(engine=engine)


class ConvertTest(BadInputTest):
    def refuse_convert(self, model, *flags, expect=1, words=()):
        target = self.folder / "checkpoint"
        self.refuse("convert", "--model_dir", model, "--output_dir", target, *flags, expect=expect,
                    words=words)
        self.assertFalse(target.exists(), list(target.glob("**/*")) if target.exists() else "")

    def change_header(self, name, change):
        model = self.copy(MODEL, name)
        header, payload = safetensors_header(model / "model.safetensors")
        header = change(header) or header
        write_safetensors(model / "model.safetensors", header, payload)
        return model

    def change_config(self, **values):
        model = self.copy(MODEL, "config")
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        config.update(values)
        (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return model

    def test_missing_model(self):
        self.refuse_convert(self.folder / "nowhere", words=["nowhere"])
        (self.folder / "empty").mkdir()
        self.refuse_convert(self.folder / "empty", words=["config.json"])

    def test_truncated_safetensors(self):
        for keep in (0, 7, 8, 100, 100000):
            with self.subTest(keep=keep):
                model = self.copy(MODEL, "truncated")
                os.truncate(model / "model.safetensors", keep)
                self.refuse_convert(model, words=["model.safetensors"])

    def test_forged_safetensors(self):
        name = "model.layers.0.mlp.up_proj.weight"
        other = "model.layers.1.mlp.up_proj.weight"

        def setting(key, value):
            def change(header):
                header[name][key] = value
            return change

        def overlap(header):
            header[name]["data_offsets"] = header[other]["data_offsets"]

        def twice(header):
            text = json.dumps(header)
            return (text[:-1] + f', "{name}": {json.dumps(header[name])}}}').encode()

        forgeries = {
            "past the end": setting("data_offsets", [0, 2**62]),
            "backwards": setting("data_offsets", [28800, 0]),
            "negative": setting("data_offsets", [-4, 28796]),
            "huge shape": setting("shape", [2**33, 2**33]),
            "overflowing shape": setting("shape", [2**63, 2]),
            "wrong shape": setting("shape", [72, 100]),
            "no shape": setting("shape", []),
            "wrong dtype": setting("dtype", "I32"),
            "unknown dtype": setting("dtype", "F7"),
            "dtype of another size": setting("dtype", "F64"),
            "not an object": lambda header: {**header, name: 7},
            "missing tensor": lambda header: {k: v for k, v in header.items() if k != name},
            "overlap": overlap,
            "duplicate name": twice,
            "deep nesting": lambda header: b"[" * 100000,
            "not JSON": lambda header: b"\xff\xfe{}",
        }
        for what, change in forgeries.items():
            with self.subTest(what):
                self.refuse_convert(self.change_header("forged", change))

    def test_huge_header(self):
        model = self.copy(MODEL, "huge")
        for size in (2**63, 2**40, 10**9):
            with self.subTest(size=size):
                (model / "model.safetensors").write_bytes(size.to_bytes(8, "little") + b"{}")
                self.refuse_convert(model)

    def test_missing_shard(self):
        for victim in ("model-00002-of-00005.safetensors", "model.safetensors.index.json"):
            with self.subTest(victim):
                model = self.copy(SHARDED, "sharded")
                (model / victim).unlink()
                self.refuse_convert(model)

    def test_index_that_leaves_the_folder(self):
        model = self.copy(SHARDED, "sharded")
        index = model / "model.safetensors.index.json"
        text = index.read_text(encoding="utf-8")
        index.write_text(text.replace("model-00002", "../x/model-00002"), encoding="utf-8")
        self.refuse_convert(model)

    def test_what_is_not_supported_is_named(self):
        for key, value in (("architectures", ["PhiForCausalLM"]), ("hidden_act", "gelu"),
                           ("rope_parameters", {"rope_type": "yarn", "factor": 2.0,
                                                "rope_theta": 10000.0})):
            with self.subTest(key):
                word = value[0] if isinstance(value, list) else value
                word = word["rope_type"] if isinstance(word, dict) else word
                self.refuse_convert(self.change_config(**{key: value}), words=[word])

    def test_configs_that_contradict_the_tensors(self):
        for values in ({"hidden_size": 73}, {"num_key_value_heads": 2}, {"vocab_size": 10**12},
                       {"num_hidden_layers": 3}, {"intermediate_size": 0}, {"head_dim": 7},
                       {"num_attention_heads": -3}, {"rms_norm_eps": "x"}):
            with self.subTest(values):
                self.refuse_convert(self.change_config(**values))

    def test_dtype(self):
        self.refuse_convert(MODEL, "--dtype", "int4", expect=2, words=["int4"])

    def test_tensor_parallelism_comes_later(self):
        self.refuse_convert(MODEL, "--tp_size", 2, words=["tp_size"])


class GgufTest(BadInputTest):
    def refuse_gguf(self, data, words=()):
        path = self.folder / "bad.gguf"
        path.write_bytes(data)
        target = self.folder / "checkpoint"
        self.refuse("convert", "--model_dir", path, "--output_dir", target, words=words)
        self.assertFalse(target.exists())

    def test_truncated(self):
        with open(smollm2_gguf(), "rb") as file:
            head = file.read(4 << 20)
        for keep in (0, 3, 4, 23, 24, 1000, 1 << 20, 4 << 20):
            with self.subTest(keep=keep):
                self.refuse_gguf(head[:keep])

    def test_forged(self):
        arch = ("general.architecture", GGUF_STRING, "llama")
        tensor = ("token_embd.weight", [32, 4], 0, 0)
        payload = bytes(512)
        good = write_gguf([arch], [tensor], payload)
        cases = {
            "magic": b"GGML" + good[4:],
            "version": good[:4] + (99).to_bytes(4, "little") + good[8:],
            "huge tensor count": good[:8] + (2**60).to_bytes(8, "little") + good[16:],
            "huge key count": good[:16] + (2**60).to_bytes(8, "little") + good[24:],
            "huge string": good[:24] + (2**62).to_bytes(8, "little") + good[32:],
            "architecture": write_gguf([("general.architecture", GGUF_STRING, "rwkv")], [tensor],
                                       payload),
            "architecture is a number": write_gguf([("general.architecture", GGUF_UINT32, 7)],
                                                   [tensor], payload),
            "duplicate key": write_gguf([arch, arch], [tensor], payload),
            "duplicate tensor": write_gguf([arch], [tensor, tensor], payload),
            "huge shape": write_gguf([arch], [("a", [2**40, 2**40], 0, 0)], payload),
            "overflowing shape": write_gguf([arch], [("a", [2**63, 2], 0, 0)], payload),
            "past the end": write_gguf([arch], [("a", [32, 4], 0, 2**40)], payload),
            "unaligned": write_gguf([arch], [("a", [32], 0, 5)], payload),
            "unknown type": write_gguf([arch], [("a", [32, 4], 77, 0)], payload),
            "alignment of 0": write_gguf([arch, ("general.alignment", GGUF_UINT32, 0)], [tensor],
                                         payload),
            "no model in it": good,
        }
        for what, data in cases.items():
            with self.subTest(what):
                self.refuse_gguf(data)


class BuildTest(BadInputTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.make_engine(MODEL, "tiny")
        cls.checkpoint = cls.folder / "tiny-checkpoint-float32"

    def refuse_build(self, *flags, checkpoint=None, words=(), **options):
        target = self.folder / "engine"
        self.refuse("build", "--checkpoint_dir", checkpoint or self.checkpoint, "--output_dir",
                    target, *flags, words=words, **options)
        self.assertFalse(target.exists())

    def test_flags(self):
        for flag, value in (("--max_batch_size", 0), ("--max_input_len", 0), ("--max_seq_len", 0),
                            ("--max_num_tokens", 0), ("--tile_bytes", "0"), ("--tile_bytes", "x"),
                            ("--canonical_rows", "0"), ("--tokens_per_block", 0),
                            ("--tile_codec", "zip"),
                            ("--max_seq_len", 2**60)):
            with self.subTest(flag=flag, value=value):
                self.refuse_build(f"{flag}={value}", words=[flag.strip("-")])

    def test_plugins_own_their_weights(self):
        self.refuse_build("--weight_streaming", "--gemm_plugin", "float16", words=["gemm_plugin"])

    def test_broken_checkpoint(self):
        for victim, keep in (("config.json", 10), ("rank0.safetensors", 1000),
                             ("rank0.safetensors", 0), ("rank0.safetensors", None)):
            with self.subTest(victim=victim, keep=keep):
                checkpoint = self.copy(self.checkpoint, "broken")
                if keep is None:
                    (checkpoint / victim).unlink()
                else:
                    os.truncate(checkpoint / victim, keep)
                self.refuse_build(checkpoint=checkpoint)


class TokenizerTest(BadInputTest):
    """A tokenizer of the 256 bytes and one merge, broken in every place."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        model = cls.folder / "model"
        shutil.copytree(MODEL, model)
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [byte for byte in range(256) if byte not in printable]
        letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
        tokens = ["<end>", *letters, "ab"]
        write_tokenizer({
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": [CONTROL] + [1] * (len(tokens) - 1),
            "tokenizer.ggml.merges": ["a b"], "llama.context_length": 256,
            "tokenizer.chat_template": "{{ messages[0]['content'] }}",
            **{f"tokenizer.ggml.{name}_token_id": 0
               for name in ("bos", "eos", "unknown", "padding")},
        }, model)
        cls.engine = cls.make_engine(model, "tokens")
        cls.good = (cls.engine / "tokenizer.json").read_text(encoding="utf-8")

    def tokenize(self, engine, expect=0):
        return self.headrace("tokenize", "--engine_dir", engine, "--input_text", "cab", "--json",
                             expect=expect)

    def test_it_works_unbroken(self):
        pieces = json.loads(self.tokenize(self.engine).stdout)["pieces"]
        self.assertEqual(pieces, ["c", "ab"])

    def test_broken_tokenizers(self):
        value = json.loads(self.good)

        def changed(change):
            copy = json.loads(self.good)
            change(copy)
            return json.dumps(copy)

        vocab = value["model"]["vocab"]
        cases = [self.good[:-1], self.good[:1000], "", "{}", "[]", "[" * 100000, "\x00\xff",
                 changed(lambda t: t["model"].update(vocab=dict(vocab, ab=2**40))),
                 changed(lambda t: t["model"].update(vocab=dict(vocab, ab=-1))),
                 changed(lambda t: t["model"].update(vocab=dict(vocab, ab=5))),
                 changed(lambda t: t["model"].update(vocab="x")),
                 changed(lambda t: t["model"].update(merges=["a b c"])),
                 changed(lambda t: t["model"].update(merges=[7])),
                 changed(lambda t: t["model"].update(merges=["a q"])),
                 changed(lambda t: t["model"].update(type="Sorcery")),
                 changed(lambda t: t["added_tokens"][0].update(id=2**40, content="<new>")),
                 changed(lambda t: t["pre_tokenizer"].update(type="Sorcery"))]
        for case, text in enumerate(cases):
            with self.subTest(case=case):
                engine = self.copy(self.engine, "broken")
                (engine / "tokenizer.json").write_text(text, encoding="utf-8")
                self.assert_one_error(self.tokenize(engine, expect=1))


class FullDiskTest(BadInputTest):
    """A disk that fills up, which a limit on a file's size stands for."""

    @staticmethod
    def limit(size):
        def set_limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error, as a full disk gives
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        return set_limit

    def test_nothing_half_written(self):
        engine = self.make_engine(MODEL, "tiny")
        checkpoint = self.folder / "tiny-checkpoint-float32"
        target = self.folder / "target"
        for limit in (0, 100, 300_000):
            with self.subTest(limit=limit):
                self.refuse("convert", "--model_dir", MODEL, "--output_dir", target,
                            preexec_fn=self.limit(limit))
                self.assertFalse(target.exists())
                self.refuse("build", "--checkpoint_dir", checkpoint, "--output_dir", target,
                            preexec_fn=self.limit(limit))
                self.assertFalse(target.exists())
        outputs = self.folder / "outputs"
        outputs.mkdir()
        self.refuse("run", "--engine_dir", engine, "--input_file", GOLDEN / "odd_heads/prompt.csv",
                    "--max_output_len", 4, "--profile", self.profile, "--output_logits_npy",
                    outputs / "logits.npy", preexec_fn=self.limit(2000))
        self.assertEqual(os.listdir(outputs), [])

    def test_a_benchmark_adds_whole_lines(self):
        engine = self.make_engine(MODEL, "measured")
        folder = self.folder / "figures"
        folder.mkdir()
        arguments = ("bench", "--engine_dir", engine, "--batch_size", 1, "--input_output_len", "4,2",
                     "--warm_up", 0, "--num_runs", 1, "--duration", 0, "--csv", "--profile",
                     self.profile)
        self.refuse(*arguments, cwd=folder, preexec_fn=self.limit(10))
        self.assertEqual(os.listdir(folder), [])
        self.headrace(*arguments, cwd=folder)
        [name] = os.listdir(folder)
        before = (folder / name).read_text(encoding="utf-8")
        self.refuse(*arguments, cwd=folder, preexec_fn=self.limit(len(before) + 10))
        self.assertEqual((folder / name).read_text(encoding="utf-8"), before)

    def test_an_older_engine_survives(self):
        engine = self.make_engine(MODEL, "kept")
        prompts = read_rows(GOLDEN / "odd_heads/prompt.csv")
        before = self.run_ids(engine, prompts, 4).bits()
        self.refuse("build", "--checkpoint_dir", self.folder / "kept-checkpoint-float32",
                    "--output_dir", engine, "--tile_bytes", "16M", preexec_fn=self.limit(300_000))
        self.assertEqual(self.run_ids(engine, prompts, 4).bits(), before)


if __name__ == "__main__":
    unittest.main()
