#!/usr/bin/env python3
"""Files written by NumPy, and headers as it writes them; the outputs lie beside this script."""

import io
import json
import pathlib

import numpy as np

HERE = pathlib.Path(__file__).parent
INTS = np.array([[1, -2, 3], [2147483647, -2147483648, 0]])


def header(dtype, shape):
    array = np.lib.stride_tricks.as_strided(np.zeros(1, dtype), shape, (0,) * len(shape))
    description = {"descr": dtype, "fortran_order": False, "shape": array.shape}
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, description)
    return out.getvalue().hex()


def write_headers():
    shapes = [(0,), (1,), (5,), (3, 4), (2, 1, 3, 1000), (0, 7), (123456789012, 1)]
    # One digit more at a time, so that the description's end crosses a multiple of 64.
    shapes += [(1,) * n + (10,) for n in range(1, 31)]
    shapes += [(2, 10**n) for n in range(18)]
    cases = [
        {"dtype": dtype, "shape": shape, "header": header(dtype, shape)}
        for dtype in ("<f4", "<i4")
        for shape in shapes
    ]
    (HERE / "headers.json").write_text(json.dumps(cases, indent=0) + "\n")


def main():
    np.save(HERE / "int32_matrix.npy", INTS.astype("<i4"))
    np.save(HERE / "int64_matrix.npy", INTS.astype("<i8"))
    np.save(HERE / "int64_vector.npy", INTS[0].astype("<i8"))
    np.save(HERE / "float32_matrix.npy", (INTS * 0.5).astype("<f4"))
    np.save(HERE / "fortran_matrix.npy", np.asfortranarray(INTS.astype("<i4")))
    with open(HERE / "version2.npy", "wb") as file:
        np.lib.format.write_array(file, INTS.astype("<i4"), version=(2, 0))
    np.save(HERE / "float32_cube.npy", np.arange(24, dtype="<f4").reshape(2, 3, 4))
    write_headers()


if __name__ == "__main__":
    main()
