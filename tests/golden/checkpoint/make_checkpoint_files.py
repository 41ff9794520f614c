"""Makes the small files that the tests of src/checkpoint read, with the formats' own Python packages.

Writes beside itself:
  types.safetensors      a tensor of every shape and type that matters, written by `safetensors`
  types.json             what is in it: {"name": {"dtype", "shape", "hex"}}
  quants.gguf            a tensor of each type that can be read, metadata of every type, written by `gguf`
  quants.json            {"name": {"type", "shape", "values"}}: values as gguf's own dequantize gives them
  metadata.json          the metadata of quants.gguf
  unreadable.gguf        a tensor of type Q5_0
Needs numpy, torch, safetensors and gguf (scripts/install-deps golden).
"""

import json
import pathlib

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent


def make_safetensors():
    generator = torch.Generator().manual_seed(7)
    tensors = {
        "matrix.f32": torch.randn(3, 5, generator=generator),
        "matrix.f16": torch.randn(4, 2, generator=generator).to(torch.float16),
        "matrix.bf16": torch.randn(2, 3, generator=generator).to(torch.bfloat16),
        "vector.f32": torch.tensor([0.0, -0.0, float("inf"), -1e-45, 3.5]),
        "scalar.f64": torch.tensor(2.5, dtype=torch.float64),
        "empty.f32": torch.zeros(0, 4),
        "ids.i64": torch.tensor([1, -2, 3]),
        "flags.bool": torch.tensor([True, False, True]),
        "cube.u8": torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4),
        "näme \"quoted\"": torch.ones(2),
    }
    save_file(tensors, HERE / "types.safetensors", metadata={"made": "for tests", "format": "pt"})
    described = {}
    for name, tensor in tensors.items():
        raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        described[name] = {"dtype": str(tensor.dtype).removeprefix("torch."),
                           "shape": list(tensor.shape), "hex": raw.hex()}
    write_json("types.json", described)


METADATA = {
    "test.u8": ("uint8", 200), "test.i8": ("int8", -100), "test.u16": ("uint16", 60000),
    "test.i16": ("int16", -30000), "test.u32": ("uint32", 4000000000),
    "test.i32": ("int32", -2000000000), "test.u64": ("uint64", 2**62),
    "test.i64": ("int64", -(2**62)), "test.f32": ("float32", 0.5), "test.f64": ("float64", 0.1),
    "test.yes": ("bool", True), "test.no": ("bool", False), "test.text": ("string", "grüß dich"),
}
LISTS = {
    "test.integers": [1, -2, 300000],
    "test.fractions": [0.25, -1.5],
    "test.texts": ["a", "", "Ġthe"],
    "test.truths": [True, False, True],
}


def make_gguf():
    rng = np.random.default_rng(11)
    writer = gguf.GGUFWriter(HERE / "quants.gguf", "llama")
    for key, (kind, value) in METADATA.items():
        getattr(writer, f"add_{kind}")(key, value)
    for key, value in LISTS.items():
        writer.add_array(key, value)
    described = {}
    kinds = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"]
    for kind in kinds:
        quant = gguf.GGMLQuantizationType[kind]
        values = (rng.standard_normal((3, 64)) * 2).astype(np.float32)
        values[1, 32:] = 0  # a block of zeros: its scale is zero
        values[2] *= 1e-6   # scales that are denormal in float16
        stored = gguf.quantize(values, quant)
        writer.add_tensor(f"{kind}.weight", stored, raw_dtype=quant)
        read = gguf.dequantize(stored, quant)
        described[f"{kind}.weight"] = {
            "type": kind, "shape": list(values.shape),
            "values": [float(v) for v in np.asarray(read, dtype=np.float32).reshape(-1)]}
    vector = np.linspace(-1, 1, 7, dtype=np.float32)
    writer.add_tensor("vector", vector)
    described["vector"] = {"type": "F32", "shape": [7], "values": [float(v) for v in vector]}
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    write_json("quants.json", described)
    write_json("metadata.json", {"general.architecture": "llama",
                                 **{key: value for key, (_, value) in METADATA.items()}, **LISTS})


def make_unreadable():
    quant = gguf.GGMLQuantizationType.Q5_0
    writer = gguf.GGUFWriter(HERE / "unreadable.gguf", "llama")
    stored = gguf.quantize(np.ones((2, 32), dtype=np.float32), quant)
    writer.add_tensor("some.weight", stored, raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_json(name, value):
    (HERE / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


make_safetensors()
make_gguf()
make_unreadable()
