#!/usr/bin/env python3
"""`headrace bench` under the name that it had in TensorRT-LLM's benchmarks."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples"))

from headrace_command import replace_process  # noqa: E402

replace_process("bench", sys.argv[1:])
