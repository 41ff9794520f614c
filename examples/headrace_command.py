"""Finds the headrace program for the example scripts, which only pass their flags on to it."""

import os
import pathlib
import shutil
import sys

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]


def find_binary():
    """$HEADRACE_BINARY, else build/bin/headrace of this checkout, else headrace on PATH."""
    chosen = os.environ.get("HEADRACE_BINARY")
    if chosen:
        return chosen
    built = CHECKOUT / "build" / "bin" / "headrace"
    if built.is_file():
        return str(built)
    found = shutil.which("headrace")
    if found:
        return found
    sys.exit(f"headrace is not built: run `make` in {CHECKOUT}, or put headrace on PATH")


def replace_process(command, flags):
    """Becomes `headrace <command> <flags>`; does not return."""
    binary = find_binary()
    try:
        os.execv(binary, [binary, command, *flags])
    except OSError as error:
        sys.exit(f"{binary} cannot be run: {error.strerror}")
