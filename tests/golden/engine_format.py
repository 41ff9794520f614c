"""An independent writer and reader of docs/engine-format.md, version 1, for tests.

    engine_format.py write FOLDER          writes the golden engine (pass "." for the committed one)
    engine_format.py digest FOLDER         reads any engine, checks every hash and rule, and prints one
                                           line per tensor: name, shape, SHA-256 of the packed payload

Needs the package xxhash. The golden engine is a one-layer Llama of odd shapes, bfloat16, untied, with
a bias on qkv, cut into tiles of 4096 bytes. Every weight follows from its tensor's number and index
alone (see `element`), so that a test can derive it too.
"""

import hashlib
import json
import os
import struct
import sys

import xxhash

PAGE = 4096
ROLES = {"qkv": 0, "dense": 1, "fc": 2, "gate": 3, "proj": 4, "lm_head": 5, "input_norm": 16,
         "post_norm": 17, "final_norm": 18, "qkv_bias": 19, "dense_bias": 20, "fc_bias": 21,
         "gate_bias": 22, "proj_bias": 23}
ROLE_NAMES = {number: name for name, number in ROLES.items()}
DTYPES = {"float32": (0, 4), "float16": (1, 2), "bfloat16": (2, 2)}
DTYPE_SIZES = {0: 4, 1: 2, 2: 2}

CONFIG = {
    "architecture": "LlamaForCausalLM", "dtype": "bfloat16", "logits_dtype": "float32",
    "vocab_size": 131, "max_position_embeddings": 64, "hidden_size": 20, "num_hidden_layers": 1,
    "num_attention_heads": 3, "num_key_value_heads": 1, "head_size": 6, "hidden_act": "silu",
    "intermediate_size": 75, "norm_epsilon": 1e-05, "position_embedding_type": "rope_gpt_neox",
    "rotary_base": 10000.0, "rotary_scaling": None, "qkv_bias": True, "dense_bias": False,
    "mlp_bias": False, "attn_bias": True, "tie_word_embeddings": False,
    "mapping": {"world_size": 1, "tp_size": 1, "pp_size": 1},
    "quantization": {"quant_algo": None, "kv_cache_quant_algo": None},
}
BUILD = {
    "max_batch_size": 4, "max_input_len": 32, "max_seq_len": 64, "max_num_tokens": 128,
    "max_beam_width": 1, "tokens_per_block": 16, "weight_streaming": True, "strongly_typed": False,
    "gather_context_logits": False, "gather_generation_logits": False, "tile_bytes": 4096,
    "canonical_rows": "all",
    "plugin_config": {"gemm_plugin": "disable", "gpt_attention_plugin": "auto", "context_fmha": True,
                      "paged_kv_cache": True, "remove_input_padding": True, "tokens_per_block": 16},
}


def up(value, alignment):
    return (value + alignment - 1) // alignment * alignment


def xxh3(data):
    return xxhash.xxh3_64_intdigest(data)


def element(tensor, index):
    """A bfloat16 bit pattern with exponents around that of 1."""
    mixed = (tensor * 0x9E3779B1 + index * 0x85EBCA6B) & 0xFFFFFFFF
    mixed ^= mixed >> 15
    return (mixed & 0x807F) | (0x3E00 + ((mixed >> 7) & 0x180))


def rows_per_tile(stride, tile_bytes):
    quantum = 64 * stride
    while quantum % PAGE:
        quantum *= 2
    if quantum > tile_bytes:
        quantum = 64 * stride
    return max(1, tile_bytes // quantum) * quantum // stride


def write(folder):
    c = CONFIG
    qkv = (c["num_attention_heads"] + 2 * c["num_key_value_heads"]) * c["head_size"]
    q = c["num_attention_heads"] * c["head_size"]
    h, inter, vocab = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    matrices = [(0, "qkv", qkv, h), (0, "dense", h, q), (0, "fc", inter, h), (0, "gate", inter, h),
                (0, "proj", h, inter), (-1, "lm_head", vocab, h)]
    vectors = [(0, "input_norm", h), (0, "post_norm", h), (0, "qkv_bias", qkv), (-1, "final_norm", h)]
    dtype, size = DTYPES[c["dtype"]]
    data = bytearray(PAGE)
    matrix_records, tile_records, vector_records = b"", b"", b""
    tensor = tiles = 0
    for layer, role, rows, k in matrices:
        stride = up(k * size, 16)
        step = rows_per_tile(stride, BUILD["tile_bytes"])
        first = tiles
        for begin in range(0, rows, step):
            count = min(step, rows - begin)
            data += bytes(up(len(data), PAGE) - len(data))
            offset = len(data)
            for row in range(begin, begin + count):
                payload = b"".join(struct.pack("<H", element(tensor, row * k + i)) for i in range(k))
                data += payload + bytes(stride - len(payload))
            tile_records += struct.pack("<QQQIIIBBHII", offset, count * stride, xxh3(data[offset:]), begin,
                                        count, stride, 0, 0, 0, 0, 0)
            tiles += 1
        matrix_records += struct.pack("<iHBBiIIIqq", layer, ROLES[role], dtype, 0, -1, first,
                                      tiles - first, 0, rows, k)
        data += bytes(up(len(data) + 64, PAGE) - len(data))
        tensor += 1
    embedding, stride = len(data), up(h * size + 8, 16)
    for row in range(vocab):
        payload = b"".join(struct.pack("<H", element(tensor, row * h + i)) for i in range(h))
        data += payload + bytes(stride - 8 - len(payload)) + struct.pack("<Q", xxh3(payload))
    tensor += 1
    data += bytes(up(len(data), PAGE) - len(data))
    for layer, role, count in vectors:
        data += bytes(up(len(data), 64) - len(data))
        values = b"".join(struct.pack("<I", element(tensor, i) << 16) for i in range(count))
        vector_records += struct.pack("<iHHQQQ", layer, ROLES[role], 0, count, len(data), xxh3(values))
        data += values
        tensor += 1
    data += bytes(up(len(data), PAGE) - len(data))
    manifest = struct.pack("<IIIIQQIIQQQ", len(matrices), tiles, len(vectors), 0, BUILD["tile_bytes"],
                           embedding, stride, 0, 0, 0, 0)
    manifest += matrix_records + tile_records + vector_records
    place = len(data)
    data += manifest
    data += bytes(up(len(data), PAGE) - len(data))
    header = b"HRENGINE" + struct.pack("<IIQQQQII", 1, 1, place, len(manifest), xxh3(manifest), len(data),
                                       0, 1)
    header += struct.pack("<Q", xxh3(header))
    data[:64] = header
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "rank0.engine"), "wb") as file:
        file.write(data)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump({"version": "golden", "pretrained_config": CONFIG, "build_config": BUILD}, file, indent=1)
        file.write("\n")


def digest(folder):
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)["pretrained_config"]
    with open(os.path.join(folder, "rank0.engine"), "rb") as file:
        data = file.read()
    assert data[:8] == b"HRENGINE"
    container, meaning, place, length, check, total, rank, ranks = struct.unpack("<IIQQQQII", data[8:56])
    assert (container, meaning, rank, ranks, total) == (1, 1, 0, 1, len(data)) and total % PAGE == 0
    assert struct.unpack("<Q", data[56:64])[0] == xxh3(data[:56])
    manifest = data[place:place + length]
    assert place % PAGE == 0 and xxh3(manifest) == check
    n_matrix, n_tile, n_vector, n_param, tile_bytes, embedding, emb_stride, tied, *zeros = struct.unpack(
        "<IIIIQQIIQQQ", manifest[:64])
    assert length == 64 + 40 * n_matrix + 48 * n_tile + 32 * n_vector + n_param and not any(zeros)
    tile_at, vector_at = 64 + 40 * n_matrix, 64 + 40 * n_matrix + 48 * n_tile
    used = [(0, 64), (place, place + length)]
    size = k = None
    for m in range(n_matrix):
        layer, role, dtype, z, expert, first, tiles, z2, rows, k = struct.unpack(
            "<iHBBiIIIqq", manifest[64 + 40 * m:104 + 40 * m])
        assert (z, z2, expert) == (0, 0, -1)
        size = DTYPE_SIZES[dtype]
        packed, end, stride = hashlib.sha256(), 0, up(k * size, 16)
        for t in range(first, first + tiles):
            offset, stored, check, begin, count, row_stride, *rest = struct.unpack(
                "<QQQIIIBBHII", manifest[tile_at + 48 * t:tile_at + 48 * t + 48])
            step = rows_per_tile(stride, tile_bytes)
            assert not any(rest) and row_stride == stride and stored == count * stride
            assert begin == (t - first) * step and count == min(step, rows - begin)
            assert offset % PAGE == 0 and (t == first or offset == up(end, PAGE))
            body = data[offset:offset + stored]
            assert xxh3(body) == check
            for row in range(count):
                packed.update(body[row * stride:row * stride + k * size])
                assert not any(body[row * stride + k * size:(row + 1) * stride])
            used.append((offset, offset + stored))
            end = offset + stored
        assert not any(data[end:up(end + 64, PAGE)])
        used.append((end, end + 64))
        print(name(layer, role), f"[{rows},{k}]", packed.hexdigest())
    if not tied:
        packed = hashlib.sha256()
        for row in range(config["vocab_size"]):
            body = data[embedding + row * emb_stride:embedding + (row + 1) * emb_stride]
            assert struct.unpack("<Q", body[-8:])[0] == xxh3(body[:k * size])
            packed.update(body[:k * size])
        used.append((embedding, embedding + config["vocab_size"] * emb_stride))
        print("embedding", f"[{config['vocab_size']},{k}]", packed.hexdigest())
    for v in range(n_vector):
        layer, role, z, count, offset, check = struct.unpack(
            "<iHHQQQ", manifest[vector_at + 32 * v:vector_at + 32 * v + 32])
        body = data[offset:offset + 4 * count]
        assert z == 0 and offset % 16 == 0 and xxh3(body) == check
        used.append((offset, offset + 4 * count))
        print(name(layer, role), f"[{count}]", hashlib.sha256(body).hexdigest())
    used.sort()
    assert all(a[1] <= b[0] for a, b in zip(used, used[1:])) and used[-1][1] <= total


def name(layer, role):
    return ROLE_NAMES[role] if layer < 0 else f"layer {layer} {ROLE_NAMES[role]}"


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("write", "digest"):
        sys.exit(__doc__)
    {"write": write, "digest": digest}[sys.argv[1]](sys.argv[2])
