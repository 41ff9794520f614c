#!/usr/bin/env python3
"""`headrace run` under the name that it had in TensorRT-LLM's examples."""

import sys

from headrace_command import replace_process

replace_process("run", sys.argv[1:])
