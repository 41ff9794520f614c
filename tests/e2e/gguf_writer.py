"""Writes small GGUF files (version 3), good or forged."""

import struct

GGUF_UINT32 = 4
GGUF_STRING = 8
ALIGNMENT = 32


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def write_gguf(keys, tensors, payload):
    """keys: (name, type, value); tensors: (name, dimensions, ggml type, offset in the payload)."""
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    for name, kind, value in keys:
        out += text(name) + struct.pack("<I", kind)
        out += text(value) if kind == GGUF_STRING else struct.pack("<I", value)
    for name, dimensions, kind, offset in tensors:
        out += text(name) + struct.pack("<I", len(dimensions))
        out += struct.pack(f"<{len(dimensions)}Q", *dimensions) + struct.pack("<IQ", kind, offset)
    return out + bytes(-len(out) % ALIGNMENT) + payload
