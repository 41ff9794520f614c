#!/usr/bin/env python3
"""Holds Headrace's logits and greedy tokens against Hugging Face transformers on the same device.

    bench/transformers_check.py [--headrace build/bin/headrace] [--device {cuda,cpu}] [--work DIR]
                                [--gguf FILE | --checkpoint DIR | --synthetic] [--threads N]

1. float32: random Llamas of odd shapes, converted, built and run with most weights streamed. The
   same greedy tokens, and no logit further off than 2e-3 of the logits' standard deviation.
2. float16: a real model (SmolLM2-135M-Instruct as GGUF, or the checkpoint that `headrace convert
   --dtype float16` makes of it; --synthetic: its shape with random weights). transformers continues
   a prompt of 200 tokens by 48; prompt and continuation are then fed to both, and the logits after
   every position compared, with transformers in float16 and, from the same weights, in float32.
   Left out if no model is given.

Prints a line per check and exits with 1 if one fails. Differences and bounds are shares of the
standard deviation of the reference's logits; the bound is that of the largest difference, and their
root mean square must stay under a sixth of it. A position is `clear` if the reference's best logit
leads the second by more than twice the bound: there the best token must be the same. `close` are
the others, where it may differ. Needs torch, transformers 5, safetensors, numpy and no network.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import subprocess
import sys

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

NEW_TOKENS = 48
STREAMED_PERCENT = 0.3  # of the weights in fast memory; the rest is streamed
FLOAT32_BOUND = 2e-3
FLOAT16_PROMPT_TOKENS = 200

# The bound of the float16 part. Rounding to float16 is a relative error of at most 2^-11, and of
# 2^-11 / sqrt(3) or less in the root mean square. Roundings are independent, and none weighs more
# than one of the whole stream of activations would: so the mean squares of all of them add up to
# that of the logits' error, as a share of the logits' variance, or more. Sums are fp32 in both
# programs and do not count.
FLOAT16_ROUNDING = 2.0**-11 / 3.0**0.5
# In one layer. Headrace: the inputs of the four groups of matrices, K and V (docs/numerics.md).
# transformers: the result of every operation, the residual stream too.
HEADRACE_ROUNDINGS = 6
TRANSFORMERS_ROUNDINGS = 25
# The largest of some 10^7 errors beside their root mean square: 5.3 if they were normal.
LARGEST_BESIDE_RMS = 6.0


def float16_bound(layers: int, roundings: int) -> float:
    """How far logits may lie off, as a share of their standard deviation."""
    return LARGEST_BESIDE_RMS * FLOAT16_ROUNDING * (roundings * layers) ** 0.5


LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
    "rope_theta": 10000.0,
}
PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
LINEAR_ROPE = {"rope_type": "linear", "factor": 2.5, "rope_theta": 500000.0}
COMMON = {"num_hidden_layers": 2, "max_position_embeddings": 512, "vocab_size": 1003}

# Each names what is odd about it, and has the lengths of its prompts.
MODELS = {
    # hidden size not heads x head_dim, one KV head, every bias, untied
    "odd_heads_biases": ((24, 37), dict(
        COMMON, hidden_size=72, num_attention_heads=3, num_key_value_heads=1, head_dim=20,
        intermediate_size=100, attention_bias=True, mlp_bias=True, rope_parameters=PLAIN_ROPE)),
    # llama3 rope whose scaling acts within the prompt, grouped heads, tied
    "llama3_grouped_tied": ((24, 61), dict(
        COMMON, hidden_size=72, num_attention_heads=6, num_key_value_heads=2, head_dim=12,
        intermediate_size=100, tie_word_embeddings=True, rms_norm_eps=1e-5,
        rope_parameters=LLAMA3_ROPE)),
    # K of 75, 80 and 100, linear rope, attention biases only
    "k75_linear": ((1, 24), dict(
        COMMON, vocab_size=517, hidden_size=75, num_attention_heads=5, num_key_value_heads=5,
        head_dim=16, intermediate_size=100, attention_bias=True, rope_parameters=LINEAR_ROPE)),
    # K of 100, 64 and 75, MLP biases only, tied
    "k100_k75_tied": ((7, 24, 33), dict(
        COMMON, vocab_size=1001, hidden_size=100, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, intermediate_size=75, mlp_bias=True, tie_word_embeddings=True,
        rope_parameters=PLAIN_ROPE)),
    # Sequences that grow past 256 positions, where attention is cut, before and while decoding
    "long_deep": ((230, 300), dict(
        COMMON, num_hidden_layers=5, hidden_size=136, num_attention_heads=4,
        num_key_value_heads=2, head_dim=64, intermediate_size=260, rope_parameters=LLAMA3_ROPE)),
}
SMOLLM2_SHAPE = ["--n_layer", 30, "--n_embd", 576, "--n_head", 9, "--n_kv_head", 3,
                 "--inter_size", 1536, "--vocab_size", 49152, "--n_positions", 8192,
                 "--rotary_base", 100000, "--rms_norm_eps", 1e-5, "--tie_word_embeddings"]


# Headrace


def cublas_folders() -> list[str]:
    """Where Python's packages keep the cuBLASLt that Headrace's CUDA backend loads."""
    packages = pathlib.Path(torch.__file__).resolve().parents[1] / "nvidia"
    return sorted({str(path.parent) for path in packages.glob("**/libcublasLt.so.13")})


@dataclasses.dataclass
class Output:
    """Of one `headrace run`: new tokens of each prompt, logits after the positions of all prompts
    [sum of lengths, vocab], and those that the new tokens came from [prompts, new, vocab]."""

    tokens: list[list[int]]
    context: np.ndarray
    generation: np.ndarray


class Headrace:
    """The program, and the folder for what it writes."""

    def __init__(self, binary: pathlib.Path, device: str, work: pathlib.Path, threads: int | None):
        self.binary, self.device, self.work = binary.resolve(), device, work
        self.threads = [] if threads is None else ["--threads", threads]
        path = [*filter(None, [os.environ.get("LD_LIBRARY_PATH")]), *cublas_folders()]
        self.environment = dict(os.environ, LD_LIBRARY_PATH=":".join(path))

    def __call__(self, *arguments: object) -> str:
        command = [str(a) for a in (self.binary, *arguments, *self.threads)]
        process = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                 env=self.environment, check=False)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}\nexit code {process.returncode}\n"
                             f"{process.stdout}\n{process.stderr}")
        return process.stdout

    def convert(self, name: str, dtype: str, *flags: object) -> pathlib.Path:
        checkpoint = self.work / name / "checkpoint"
        self("convert", "--output_dir", checkpoint, "--dtype", dtype, *flags)
        return checkpoint

    def build(self, name: str, checkpoint: pathlib.Path, *flags: object) -> pathlib.Path:
        engine = self.work / name / "engine"
        self("build", "--checkpoint_dir", checkpoint, "--output_dir", engine, "--weight_streaming",
             "--max_batch_size", 4, "--max_input_len", 512, "--max_seq_len", 512, *flags)
        return engine

    def run(self, engine: pathlib.Path, prompts: list[list[int]], count: int) -> Output:
        """Continues every prompt greedily by `count` tokens, all in one batch."""
        ids, logits = engine.parent / "ids.npy", engine.parent / "logits.npy"
        csv, stats = engine.parent / "prompts.csv", engine.parent / "stats.json"
        csv.write_text("".join(",".join(map(str, row)) + "\n" for row in prompts), encoding="utf-8")
        self("run", "--engine_dir", engine, "--device", self.device, "--input_file", csv,
             "--max_output_len", count, "--end_id", -1, "--output_npy", ids,
             "--output_logits_npy", logits, "--gpu_weights_percent", STREAMED_PERCENT,
             "--stats_json", stats)
        if not json.loads(stats.read_text(encoding="utf-8"))["stream"]["payload_bytes"]:
            raise SystemExit(f"{engine}: nothing was streamed")
        tokens = [row[len(prompt):len(prompt) + count].tolist()
                  for row, prompt in zip(np.load(ids), prompts)]
        context, generation = (np.load(logits.with_name(f"logits_{part}.npy"))
                               for part in ("context", "generation"))
        return Output(tokens, context, generation[:, 0])


# transformers


@torch.no_grad()
def greedy(model: LlamaForCausalLM, prompt: list[int], count: int) -> list[int]:
    ids = torch.tensor([prompt], device=model.device)
    model.generation_config.eos_token_id = None  # never stop early
    out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False,
                         max_new_tokens=count)
    return out[0, len(prompt):].tolist()


@torch.no_grad()
def all_logits(model: LlamaForCausalLM, ids: list[int]) -> np.ndarray:
    """float32 [len(ids), vocab], after every position, in one pass."""
    out = model(torch.tensor([ids], device=model.device), use_cache=False)
    return out.logits[0].float().cpu().numpy()


def margins(logits: np.ndarray) -> np.ndarray:
    """By how much the best logit of each row leads the second."""
    top = np.partition(logits, -2, axis=-1)[:, -2:]
    return top[:, 1] - top[:, 0]


# Checks


class Table:
    """Prints a line per check, and remembers whether any failed."""

    def __init__(self) -> None:
        self.failed = False
        print(f"{'Headrace':<34} {'transformers':<13} {'positions':>9} {'max':>9} {'rms':>9} "
              f"{'bound':>9} {'clear: same':>13} {'close: same':>11} {'tokens':>7}", flush=True)

    def row(self, name: str, reference_name: str, ours: np.ndarray, reference: np.ndarray,
            bound: float, tokens: str = "-", passed: bool = True, verdict: bool = True) -> float:
        """Compares logits [positions, vocab]; returns the differences' root mean square."""
        deviation = float(reference.std())
        difference = np.abs(ours - reference)
        worst = float(difference.max()) / deviation
        rms = float(np.sqrt(np.mean(np.square(difference), dtype=np.float64))) / deviation
        same = ours.argmax(-1) == reference.argmax(-1)
        clear = margins(reference) > 2 * bound * deviation
        # Written so that a NaN fails.
        small = worst <= bound and rms <= bound / LARGEST_BESIDE_RMS
        passed = passed and small and bool(same[clear].all())
        self.failed |= verdict and not passed
        print(f"{name:<34} {reference_name:<13} {len(ours):>9} {worst:>9.2e} {rms:>9.2e} "
              f"{bound:>9.2e} {f'{clear.sum()}: {same[clear].sum()}':>13} "
              f"{f'{(~clear).sum()}: {same[~clear].sum()}':>11} {tokens:>7}  "
              f"{('passed' if passed else 'FAILED') if verdict else ''}", flush=True)
        return rms


def randomize(model: LlamaForCausalLM, generator: torch.Generator) -> None:
    """Weights of a scale at which attention, MLP and biases all matter, and at which a tied model
    does not repeat its last token."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if name.endswith("norm.weight"):
                values = 1.0 + 0.2 * values
            elif name.endswith("bias") or "embed_tokens" in name:
                values = 0.3 * values
            else:
                values = 1.5 * values / parameter.shape[1] ** 0.5
            parameter.copy_(values)


def random_model(settings: dict, lengths: tuple[int, ...], device: str) -> tuple[
        LlamaForCausalLM, list[list[int]], list[list[int]], list[np.ndarray]]:
    """A model, prompts, transformers' greedy tokens and its logits after every position but the
    last; of the first seed at which no greedy token is a close call."""
    config = LlamaConfig(bos_token_id=1, eos_token_id=2, attn_implementation="eager", **settings)
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
        randomize(model, generator)
        model.to(device)
        prompts = [torch.randint(3, config.vocab_size, (length,), generator=generator).tolist()
                   for length in lengths]
        tokens = [greedy(model, prompt, NEW_TOKENS) for prompt in prompts]
        logits = [all_logits(model, p + t[:-1]) for p, t in zip(prompts, tokens)]
        smallest = min(float((margins(rows[-NEW_TOKENS:]) / rows.std()).min()) for rows in logits)
        varied = all(len(set(row)) > NEW_TOKENS // 3 for row in tokens)
        if smallest > 2 * FLOAT32_BOUND and varied:
            return model, prompts, tokens, logits
    raise SystemExit("no seed has comfortable margins")


def continued(output: Output, prompts: list[list[int]], index: int, steps: int) -> np.ndarray:
    """Logits after every position of a prompt and of its continuation, but for the last token."""
    begin = sum(map(len, prompts[:index]))
    context = output.context[begin:begin + len(prompts[index])]
    return np.concatenate([context, output.generation[index, 1:steps]])


def leading_same(ours: list[int], reference: list[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(ours, reference)) if a != b), len(reference))


def check_float32(headrace: Headrace, table: Table) -> None:
    for name, (lengths, settings) in MODELS.items():
        model, prompts, tokens, logits = random_model(settings, lengths, headrace.device)
        folder = headrace.work / name / "hf"
        model.save_pretrained(folder)
        checkpoint = headrace.convert(name, "float32", "--model_dir", folder)
        engine = headrace.build(name, checkpoint, "--tile_bytes", "64K")
        output = headrace.run(engine, prompts, NEW_TOKENS)
        ours = np.concatenate([continued(output, prompts, i, NEW_TOKENS)
                               for i in range(len(prompts))])
        same = sum(map(leading_same, output.tokens, tokens))
        every = NEW_TOKENS * len(prompts)
        table.row(name, "float32", ours, np.concatenate(logits), FLOAT32_BOUND, f"{same}/{every}",
                  passed=output.tokens == tokens)


def hugging_face_state(checkpoint: pathlib.Path, config: dict) -> dict[str, torch.Tensor]:
    """The checkpoint's tensors under transformers' names.

    That the checkpoint holds what the GGUF file does is checked elsewhere (tests/golden/checkpoint
    and tests/golden/models)."""
    head_size = config["head_size"]
    query, key = (config[f"num_{kind}_heads"] * head_size for kind in ("attention", "key_value"))
    parts = {".input_layernorm.": ".input_layernorm.", ".mlp.gate.": ".mlp.up_proj.",
             ".post_layernorm.": ".post_attention_layernorm.", ".mlp.fc.": ".mlp.gate_proj.",
             ".attention.dense.": ".self_attn.o_proj.", ".mlp.proj.": ".mlp.down_proj.",
             ".vocab_embedding.": ".embed_tokens.", ".ln_f.": ".norm."}
    state = {}
    for name, tensor in load_file(checkpoint / "rank0.safetensors").items():
        name = name.replace("transformer.", "model.")
        if ".attention.qkv." in name:
            for letter, rows in zip("qkv", tensor.split([query, key, key])):
                state[name.replace(".attention.qkv.", f".self_attn.{letter}_proj.")] = rows
            continue
        part = next((part for part in parts if part in name), None)
        state[name.replace(part, parts[part]) if part else name] = tensor
    return state


def load_reference(checkpoint: pathlib.Path, dtype: torch.dtype, device: str) -> LlamaForCausalLM:
    """The checkpoint as a transformers model that computes in dtype."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    rope = dict(config["rotary_scaling"] or {"type": "default"}, rope_theta=config["rotary_base"])
    rope["rope_type"] = rope.pop("type")
    same = ("vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers",
            "num_attention_heads", "num_key_value_heads", "hidden_act", "intermediate_size",
            "mlp_bias", "tie_word_embeddings")
    model = LlamaForCausalLM(LlamaConfig(
        head_dim=config["head_size"], rms_norm_eps=config["norm_epsilon"], rope_parameters=rope,
        attention_bias=config["qkv_bias"], attn_implementation="eager",
        **{key: config[key] for key in same}))
    state = hugging_face_state(checkpoint, config)
    if config["tie_word_embeddings"]:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    for parameter in model.parameters():  # model.to() would round the rotary frequencies too
        parameter.data = parameter.data.to(dtype)
    return model.to(device).eval()


SUBJECTS = ("The old ferry", "A young engineer", "The town council", "My grandmother", "The river",
            "Every spring the school", "A small museum near the harbour", "The night train")
VERBS = ("crossed", "repaired", "remembered", "sold", "measured", "painted", "lost", "described")
OBJECTS = ("the stone bridge", "three boxes of letters", "a map of the northern islands",
           "the price of bread", "two thousand photographs", "the clock in the market square")
ENDINGS = ("in 1987.", "after the storm, although nobody had asked.", "for 14 crowns.",
           "because the winter had been long.", "while the children were asleep.",
           "and wrote a short report about it.")


def prompt_ids(headrace: Headrace, checkpoint: pathlib.Path) -> list[int]:
    """A fixed text of random sentences as ids; without a tokenizer, random ids."""
    source = random.Random(5)
    vocabulary = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    if not any(checkpoint.glob("*tokenizer*")):
        return [source.randrange(3, vocabulary) for _ in range(FLOAT16_PROMPT_TOKENS)]
    text = " ".join(source.choice(words) for _ in range(FLOAT16_PROMPT_TOKENS // 8)
                    for words in (SUBJECTS, VERBS, OBJECTS, ENDINGS))
    printed = headrace("tokenize", "--tokenizer_dir", checkpoint, "--input_text", text, "--json")
    return json.loads(printed)["ids"][:FLOAT16_PROMPT_TOKENS]


def check_float16(headrace: Headrace, table: Table, name: str, checkpoint: pathlib.Path) -> None:
    model = load_reference(checkpoint, torch.float16, headrace.device)
    layers = model.config.num_hidden_layers
    prompt = prompt_ids(headrace, checkpoint)
    tokens = greedy(model, prompt, NEW_TOKENS)
    ids = prompt + tokens
    half = all_logits(model, ids)
    full = all_logits(load_reference(checkpoint, torch.float32, headrace.device), ids)
    references = (
        ("float16", half, float16_bound(layers, HEADRACE_ROUNDINGS + TRANSFORMERS_ROUNDINGS)),
        ("float32", full, float16_bound(layers, HEADRACE_ROUNDINGS)))
    own = table.row(f"({name}, transformers float16)", "float32", half, full,
                    float16_bound(layers, TRANSFORMERS_ROUNDINGS), verdict=False)
    errors = {"transformers": own}
    for rows in ("8", "all") if headrace.device == "cuda" else ("all",):
        kind = f"{name}, {'matrix class' if rows == '8' else 'canonical'}"
        engine = headrace.build(name, checkpoint, "--canonical_rows", rows)
        context = headrace.run(engine, [ids], 1).context
        output = headrace.run(engine, [prompt], NEW_TOKENS)
        same = leading_same(output.tokens[0], tokens)
        # Until the first token that differs, both have seen the same ones.
        decoded = continued(output, [prompt], 0, min(same + 1, NEW_TOKENS))[len(prompt) - 1:]
        decoding = slice(len(prompt) - 1, len(prompt) - 1 + len(decoded))
        for dtype, reference, bound in references:
            rms = table.row(kind, dtype, context, reference, bound)
            if dtype == "float32":
                errors[f"Headrace ({kind})"] = rms
            table.row(f"{kind}, decode", dtype, decoded, reference[decoding], bound,
                      f"{same}/{NEW_TOKENS}" if dtype == "float16" else "-")
    print("nearest to float32 first: " +
          ", ".join(f"{who} {rms:.2e}" for who, rms in sorted(errors.items(), key=lambda e: e[1])))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--headrace", type=pathlib.Path, default="build/bin/headrace")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--work", type=pathlib.Path, default="transformers_check")
    parser.add_argument("--threads", type=int, help="Headrace's compute threads (default: all)")
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--gguf", type=pathlib.Path, help="model of the float16 part")
    model.add_argument("--checkpoint", type=pathlib.Path, help="the same, converted to float16")
    model.add_argument("--synthetic", action="store_true", help="the same, with random weights")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    # fp32 sums throughout: split-K would add its parts in float16.
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    logging.disable_progress_bar()
    options.work.mkdir(parents=True, exist_ok=True)
    headrace = Headrace(options.headrace, options.device, options.work.resolve(), options.threads)

    table = Table()
    check_float32(headrace, table)
    if options.gguf:
        checkpoint = headrace.convert("gguf", "float16", "--model_dir", options.gguf)
        check_float16(headrace, table, "gguf", checkpoint)
    elif options.checkpoint:
        check_float16(headrace, table, "checkpoint", options.checkpoint)
    elif options.synthetic:
        checkpoint = headrace.convert("synthetic", "float16", "--random_weights", 1, *SMOLLM2_SHAPE)
        check_float16(headrace, table, "synthetic", checkpoint)
    else:
        print("float16: left out, as neither --gguf, --checkpoint nor --synthetic is given")
    return int(table.failed)


if __name__ == "__main__":
    sys.exit(main())
