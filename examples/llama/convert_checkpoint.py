#!/usr/bin/env python3
"""`headrace convert` under the name that it had in TensorRT-LLM's examples."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from headrace_command import replace_process  # noqa: E402

replace_process("convert", sys.argv[1:])
