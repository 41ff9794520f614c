#!/usr/bin/env python3
"""Hugging Face transformers with accelerate's offload, as a peer: milliseconds per decode step of a
random Llama-7B in float16 with a share of its layers on the GPU and the rest in host memory.

    bench/accelerate_peer.py [--batch_sizes 1 32] [--percents 0 0.2] [--input 256] [--steps 4]

Needs torch, transformers and accelerate; scripts/gpu_check.sh peers runs it where they are.
"""
import argparse
import statistics
import time

import torch
from accelerate import dispatch_model
from transformers import LlamaConfig, LlamaForCausalLM


def make_model(layers_on_gpu):
    config = LlamaConfig(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
                         num_attention_heads=32, vocab_size=32000)
    with torch.device("meta"):
        model = LlamaForCausalLM(config).half()
    model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.01)
        rotary = model.model.rotary_emb
        frequencies = 1.0 / (10000.0 ** (torch.arange(0, 128, 2).float() / 128))
        rotary.inv_freq = frequencies
        rotary.original_inv_freq = frequencies
    places = {f"model.layers.{i}": 0 if i < layers_on_gpu else "cpu" for i in range(32)}
    places |= {"model.embed_tokens": 0, "model.norm": 0, "model.rotary_emb": 0, "lm_head": 0}
    return dispatch_model(model.eval(), device_map=places)


@torch.no_grad()
def decode_ms(model, batch_size, length, steps):
    ids = torch.randint(0, 32000, (batch_size, length), device="cuda")
    out = model(ids, use_cache=True, logits_to_keep=1)
    times = []
    for _ in range(steps):
        token = out.logits[:, -1:].argmax(-1)
        torch.cuda.synchronize()
        begin = time.perf_counter()
        out = model(token, past_key_values=out.past_key_values, use_cache=True)
        torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch_sizes", type=int, nargs="*", default=[1, 32])
    parser.add_argument("--percents", type=float, nargs="*", default=[0.0, 0.2])
    parser.add_argument("--input", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    for percent in options.percents:
        model = make_model(round(percent * 32))
        for batch_size in options.batch_sizes:
            ms = decode_ms(model, batch_size, options.input, options.steps)
            print(f"accelerate: {percent:.2f} of the layers on the GPU, batch {batch_size}: "
                  f"{ms:.1f} ms a decode step", flush=True)
        del model
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
