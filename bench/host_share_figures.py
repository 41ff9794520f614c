#!/usr/bin/env python3
"""Measures passes that host and link share, on a machine with a GPU, and prints a table.

    bench/host_share_figures.py [--headrace PROGRAM] [--rounds N]

Llama-7B's shape, whole decode steps at context 256. What is compared runs in turn, N rounds (default
3): raw weights by the link alone, then with the host, float16 and bfloat16 in 3-bit codes with the
host, and bfloat16 codes at batch 8 and 32. A line has the median of its milliseconds a step, all of
them, what the first plan said before, how far off the prediction is at most that the same passes have
corrected, how many times quicker than raw weights by the link alone it is, and the goal. Standard
library only; about six minutes on an H200.
"""

import argparse
import collections
import csv
import pathlib
import re
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
STEPS = 31  # after the first token
LINK_ONLY = ("float16 none, link only", 1, 0.0)
# (dtype and codec, batch, percent): the goal, as a multiple of LINK_ONLY's speed, or in ms.
GOALS = {
    ("float16 none", 1, 0.0): ("x", 2.6),
    ("bfloat16 e3", 1, 0.0): ("x", 3.6),
    ("float16 e3", 1, 0.0): ("x", 2.9),
    ("bfloat16 e3", 8, 0.0): ("x", 1.9),
    ("bfloat16 e3", 32, 0.0): ("x", 1.37),
    ("bfloat16 e3", 1, 0.2): ("ms", 52.0),
}


def plan_of(text):
    """The milliseconds that bench predicted, and corrected; None where the host had no share."""
    corrected = re.search(r"by that a decode pass takes ([\d.]+) ms", text)
    return float(text.split(" ms", 1)[0]), float(corrected[1]) if corrected else None


def measure(program, name, batches, percents, runs, results):
    """Runs `headrace bench`, and adds (ms a step, predicted ms, corrected ms) to results by line."""
    dtype, codec = name.split(",")[0].split()
    command = [
        program, "bench", "--device", "cuda", "-m", "llama_7b", "--dtype", dtype, "--tile_codec", codec,
        "--batch_size", batches, "--gpu_weights_percent", percents, "--max_batch_size", "128",
        "--input_output_len", f"256,{STEPS + 1}", "--warm_up", "1", "--num_runs", str(runs),
        "--duration", "0", "--csv", "--log_level", "info",
    ]  # fmt: skip
    if "link only" in name:
        command += ["--host_threads", "0"]
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stdout + done.stderr
    if done.returncode != 0:
        raise SystemExit(f"{said}\n{name} failed: {' '.join(map(str, command))}")
    plans = [plan_of(text) for text in done.stderr.split("Predicted: ")[1:]]
    lines = [line for line in done.stdout.splitlines() if line.count(",") > 20]
    rows = list(csv.DictReader(lines))
    assert len(rows) == len(plans), said
    for row, plan in zip(rows, plans):
        line = (name, int(row["batch_size"]), float(row["gpu_weights_percent"]))
        results[line].append((float(row["generation_time(ms)"]) / STEPS, *plan))
        predicted, corrected = plan
        print(f"  {line[0]}, batch {line[1]}, {line[2]}: {results[line][-1][0]:.2f} ms, predicted {predicted}"
              + (f", corrected {corrected}" if corrected else ""), flush=True)  # fmt: skip


def print_table(results):
    median = {line: statistics.median(ms for ms, *_ in seen) for line, seen in results.items()}
    print("\n| weights | batch | resident | ms a step, median | all | predicted | off, corrected | over raw by link | goal |")
    print("|---|---|---|---|---|---|---|---|---|")
    for line, seen in results.items():
        kind, goal = GOALS.get(line, ("", ""))
        runs = ", ".join(f"{ms:.1f}" for ms, *_ in seen)
        off = [abs(corrected / ms - 1) for ms, _, corrected in seen if corrected]
        off = f"{100 * max(off):.0f} %" if off else ""
        ratio = median[LINK_ONLY] / median[line]
        print(
            f"| {line[0]} | {line[1]} | {line[2]} | {median[line]:.1f} | {runs} | {seen[0][1]:.1f} | {off} | "
            f"{ratio:.2f} | {goal} {kind} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--headrace", default=ROOT / "build" / "bin" / "headrace", type=pathlib.Path)
    parser.add_argument("--rounds", default=3, type=int)
    flags = parser.parse_args()
    results = collections.defaultdict(list)
    for _ in range(flags.rounds):
        measure(flags.headrace, LINK_ONLY[0], "1", "0.0", 1, results)
        measure(flags.headrace, "float16 none", "1", "0.0", 2, results)
        measure(flags.headrace, "bfloat16 e3", "1", "0.0;0.2", 3, results)
        measure(flags.headrace, "float16 e3", "1", "0.0", 3, results)
        measure(flags.headrace, "bfloat16 e3", "8;32", "0.0;0.2", 1, results)
    print_table(results)


if __name__ == "__main__":
    main()
