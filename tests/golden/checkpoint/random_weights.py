"""Prints the first values of random_weights.h's sequences, for tests/checkpoint/random_weights_test.cpp.

An implementation of its own, in whole numbers and NumPy's float32 arithmetic.
"""

import numpy as np

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(value):
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def stream(seed, index):
    return mix((mix((seed + GOLDEN) & MASK) + index) & MASK)


def value(of_stream, position, deviation):
    bits = mix((of_stream + (position + 1) * GOLDEN) & MASK)
    total = sum((bits >> shift) & 0xFFFF for shift in (0, 16, 32, 48))
    scale = np.float32(float(np.float32(deviation)) / 37837.22653)
    return np.float32(total - 131070) * scale


if __name__ == "__main__":
    for seed, index in ((1, 0), (1, 7), (2**64 - 1, 3)):
        s = stream(seed, index)
        values = [value(s, i, 0.02) for i in range(4)]
        print(seed, index, hex(s))
        print("  float32", ", ".join(hex(v.view(np.uint32)) for v in values))
        print("  float16", ", ".join(hex(np.float16(v).view(np.uint16)) for v in values))
