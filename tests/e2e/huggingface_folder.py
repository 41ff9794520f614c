"""Makes a Hugging Face folder of a Llama GGUF file with a byte-level tokenizer of SmolLM's kind.

    python3 huggingface_folder.py MODEL.gguf FOLDER

Needs numpy only. Weights are dequantised (F32, Q4_1, Q8_0), Q and K rows put back into Hugging
Face's order, and stored as bfloat16.
"""

import json
import mmap
import pathlib
import struct
import sys

import numpy as np

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
           12: "d"}
STRING, ARRAY = 8, 9
F32, Q4_1, Q8_0 = 0, 3, 8
CONTROL = 3  # a token type

NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class Gguf:
    """Keys and tensors of a GGUF file."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.at = 4
        _, tensor_count, key_count = self.take("<IQQ")
        self.keys = {}
        for _ in range(key_count):
            name = self.take_string()
            self.keys[name] = self.take_value(*self.take("<I"))
        infos = []
        for _ in range(tensor_count):
            name = self.take_string()
            (dimensions,) = self.take("<I")
            shape = self.take(f"<{dimensions}Q")[::-1]
            infos.append((name, shape, *self.take("<IQ")))
        begin = self.at + -self.at % self.keys.get("general.alignment", 32)
        self.tensors = {name: (shape, kind, begin + at) for name, shape, kind, at in infos}

    def take(self, layout):
        values = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return values

    def take_string(self):
        (size,) = self.take("<Q")
        self.at += size
        return self.data[self.at - size:self.at].decode()

    def take_value(self, kind):
        if kind == STRING:
            return self.take_string()
        if kind == ARRAY:
            element, count = self.take("<IQ")
            return [self.take_value(element) for _ in range(count)]
        return self.take("<" + SCALARS[kind])[0]

    def tensor(self, name):
        """A tensor as float32."""
        shape, kind, begin = self.tensors[name]
        count = int(np.prod(shape))
        if kind == F32:
            return np.frombuffer(self.data, "<f4", count, begin).reshape(shape)
        if kind == Q4_1:
            layout = np.dtype([("d", "<f2"), ("m", "<f2"), ("q", "u1", 16)])
            blocks = np.frombuffer(self.data, layout, count // 32, begin)
            levels = np.concatenate([blocks["q"] & 15, blocks["q"] >> 4], axis=1)
            values = (blocks["d"].astype("f4")[:, None] * levels.astype("f4")
                      + blocks["m"].astype("f4")[:, None])
        elif kind == Q8_0:
            layout = np.dtype([("d", "<f2"), ("q", "i1", 32)])
            blocks = np.frombuffer(self.data, layout, count // 32, begin)
            values = blocks["d"].astype("f4")[:, None] * blocks["q"].astype("f4")
        else:
            raise ValueError(f"{name}: type {kind}")
        return values.reshape(shape)


def to_bfloat16(values):
    """Bits of the nearest bfloat16, ties to even (no NaN among weights)."""
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def restore_rows(matrix, heads):
    """GGUF interleaves the two halves of every head; Hugging Face keeps them apart."""
    rows, k = matrix.shape
    return matrix.reshape(heads, rows // heads // 2, 2, k).swapaxes(1, 2).reshape(rows, k)


def hugging_face_name(name):
    if name.startswith("blk."):
        _, layer, part, kind = name.split(".")
        return f"model.layers.{layer}.{NAMES[part]}.{kind}"
    return {"token_embd.weight": "model.embed_tokens.weight",
            "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}[name]


def write_weights(gguf, path):
    heads = {"attn_q": gguf.keys["llama.attention.head_count"],
             "attn_k": gguf.keys["llama.attention.head_count_kv"]}
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (shape, _, _) in gguf.tensors.items():
        size = 2 * int(np.prod(shape))
        header[hugging_face_name(name)] = {"dtype": "BF16", "shape": list(shape),
                                           "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in gguf.tensors:
            values = gguf.tensor(name)
            part = name.split(".")[2] if name.startswith("blk.") else ""
            if part in heads:
                values = restore_rows(values, heads[part])
            file.write(to_bfloat16(values).tobytes())


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")


def write_tokenizer(keys, folder):
    tokens = keys["tokenizer.ggml.tokens"]
    special = [i for i, kind in enumerate(keys["tokenizer.ggml.token_type"]) if kind == CONTROL]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": True}
    write_json(folder / "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True} for i in special],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(tokens)},
                  "merges": keys["tokenizer.ggml.merges"]}})

    def named(key):
        return tokens[keys[f"tokenizer.ggml.{key}_token_id"]]

    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "GPT2Tokenizer", "model_max_length": keys["llama.context_length"],
        "bos_token": named("bos"), "eos_token": named("eos"), "unk_token": named("unknown"),
        "pad_token": named("padding"), "add_prefix_space": False,
        "clean_up_tokenization_spaces": False, "chat_template": keys["tokenizer.chat_template"]})


def write_config(gguf, folder):
    keys = gguf.keys
    write_json(folder / "config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "vocab_size": keys["llama.vocab_size"], "hidden_size": keys["llama.embedding_length"],
        "intermediate_size": keys["llama.feed_forward_length"],
        "num_hidden_layers": keys["llama.block_count"],
        "num_attention_heads": keys["llama.attention.head_count"],
        "num_key_value_heads": keys["llama.attention.head_count_kv"],
        "max_position_embeddings": keys["llama.context_length"],
        "rms_norm_eps": float(f"{keys['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        "rope_theta": keys["llama.rope.freq_base"], "rope_scaling": None, "hidden_act": "silu",
        "attention_bias": False, "mlp_bias": False,
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
        "bos_token_id": keys["tokenizer.ggml.bos_token_id"],
        "eos_token_id": keys["tokenizer.ggml.eos_token_id"],
        "pad_token_id": keys["tokenizer.ggml.padding_token_id"]})


def make_folder(gguf_path, folder):
    gguf = Gguf(gguf_path)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_config(gguf, folder)
    write_tokenizer(gguf.keys, folder)
    write_weights(gguf, folder / "model.safetensors")


if __name__ == "__main__":
    make_folder(sys.argv[1], sys.argv[2])
