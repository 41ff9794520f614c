#!/usr/bin/env python3
"""Writes a Llama-7B-shaped GGUF of random float16 weights, for llama.cpp's benchmarks.

    random_gguf.py OUT.gguf

Needs numpy and gguf (llama.cpp's gguf-py folder on PYTHONPATH will do). All layers share one layer's
arrays, so a 13.5 GB file takes little memory to make.
"""

import sys

import gguf
import numpy as np

LAYERS, HIDDEN, INTERMEDIATE, HEADS, VOCAB, CONTEXT = 32, 4096, 11008, 32, 32000, 4096
MATRICES = {
    "attn_q": (HIDDEN, HIDDEN),
    "attn_k": (HIDDEN, HIDDEN),
    "attn_v": (HIDDEN, HIDDEN),
    "attn_output": (HIDDEN, HIDDEN),
    "ffn_gate": (INTERMEDIATE, HIDDEN),
    "ffn_up": (INTERMEDIATE, HIDDEN),
    "ffn_down": (HIDDEN, INTERMEDIATE),
}


def random_matrix(shape: tuple[int, int], seed: int) -> np.ndarray:
    """float16 of standard deviation 0.02: one block of it, repeated to the shape."""
    block = np.random.default_rng(seed).standard_normal(1 << 20, dtype=np.float32) * 0.02
    return np.resize(block.astype(np.float16), shape)


def write_header(writer: gguf.GGUFWriter) -> None:
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCAB)
    writer.add_tokenizer_model("no_vocab")  # the benchmarks feed token ids


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    writer = gguf.GGUFWriter(sys.argv[1], "llama")
    write_header(writer)
    ones = np.ones(HIDDEN, np.float32)
    layer = {name: random_matrix(shape, seed) for seed, (name, shape) in enumerate(MATRICES.items())}
    writer.add_tensor("token_embd.weight", random_matrix((VOCAB, HIDDEN), 100))
    for i in range(LAYERS):
        writer.add_tensor(f"blk.{i}.attn_norm.weight", ones)
        writer.add_tensor(f"blk.{i}.ffn_norm.weight", ones)
        for name, values in layer.items():
            writer.add_tensor(f"blk.{i}.{name}.weight", values)
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("output.weight", random_matrix((VOCAB, HIDDEN), 101))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
