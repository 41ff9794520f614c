"""Rotary frequencies, cosines and sines as transformers computes them in float32.

Needs torch and transformers. Writes rope.json beside this file: for each configuration the inverse
frequencies, and cos and sin at a few positions, as hexadecimal floats (exact).
"""

import json
import pathlib

import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

CASES = {
    "plain": dict(head_dim=64, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
    "odd": dict(head_dim=20, rope_parameters={"rope_type": "default", "rope_theta": 500000.0}),
    "linear": dict(
        head_dim=32, rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    ),
    "llama3": dict(
        head_dim=128,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    ),
}
POSITIONS = [0, 1, 7, 100, 2047, 8191, 100000]


def hexes(values):
    return [float(v).hex() for v in values]


def main():
    out = {}
    for name, case in CASES.items():
        config = LlamaConfig(
            hidden_size=case["head_dim"] * 4,
            num_attention_heads=4,
            max_position_embeddings=131072,
            **case,
        )
        rope = LlamaRotaryEmbedding(config)
        half = case["head_dim"] // 2
        x = torch.zeros(1, 1, 1)
        entry = {"head_dim": case["head_dim"], "rope": case["rope_parameters"]}
        entry["inverse_frequencies"] = hexes(rope.inv_freq)
        entry["positions"] = []
        for position in POSITIONS:
            cos, sin = rope(x, torch.tensor([[position]]))
            entry["positions"].append(
                {"position": position, "cos": hexes(cos[0, 0, :half]), "sin": hexes(sin[0, 0, :half])}
            )
        out[name] = entry
    path = pathlib.Path(__file__).with_name("rope.json")
    path.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
