#!/usr/bin/env python3
"""Measures streaming from disk on a random 2 GB Llama and prints a table.

    bench/streaming_figures.py [--work DIR] [--rounds N] [--tokens N]

Needs fio (Debian package) for the limit: a bare deep-queue O_DIRECT read of the engine file, run in
turn with decoding at 0 % so that a noisy disk disturbs both alike. Prints, as medians over the rounds,
the rate of decoding as a share of that read, the share of decode time in which a ring slot was free
and no read was in flight, and for each percentage the peak memory of the process beside the planned
bytes. Standard library only.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEADRACE = ROOT / "build" / "bin" / "headrace"
SHAPE = [  # 1.1e9 parameters: 2.2 GB in float16
    "--vocab_size", "32000", "--n_positions", "2048", "--n_layer", "22", "--n_head", "32",
    "--n_kv_head", "4", "--n_embd", "2048", "--inter_size", "5632",
]  # fmt: skip
PERCENTAGES = ["0.0", "0.2", "0.5", "0.97", "1.0"]
ALLOWANCE_BYTES = 100e6


def headrace(*arguments):
    subprocess.run([HEADRACE, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def make_engine(work):
    engine = work / "engine"
    if not (engine / "config.json").exists():
        checkpoint = work / "checkpoint"
        headrace("convert", "--random_weights", "1", "--dtype", "float16", *SHAPE,
                 "--output_dir", checkpoint)  # fmt: skip
        headrace("build", "--checkpoint_dir", checkpoint, "--output_dir", engine,
                 "--weight_streaming")  # fmt: skip
    return engine


def raw_read_gbps(file, seconds):
    command = [
        "fio", "--name=read", f"--filename={file}", "--readonly", "--rw=read", "--direct=1",
        "--ioengine=io_uring", "--bs=16M", "--iodepth=16", "--iomem=mmap", "--fixedbufs=1",
        "--time_based", f"--runtime={seconds}",
        "--output-format=json",
    ]  # fmt: skip
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return report["jobs"][0]["read"]["bw_bytes"] / 1e9


def decode(engine, work, percent, tokens):
    """Runs one prompt and returns (stats, peak resident bytes of the process)."""
    prompt = work / "prompt.csv"
    prompt.write_text("1,15043,3186\n")
    stats = work / "stats.json"
    command = [
        HEADRACE, "run", "--engine_dir", engine, "--input_file", prompt, "--max_output_len", tokens,
        "--end_id", -1, "--gpu_weights_percent", percent, "--stats_json", stats,
        "--log_level", "error",
    ]  # fmt: skip
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"failed: {' '.join(map(str, command))}")
    return json.loads(stats.read_text()), usage.ru_maxrss * 1024


def show_streaming(engine, work, rounds, tokens):
    shares, starved, rates = [], [], []
    for _ in range(rounds):
        limit = raw_read_gbps(engine / "rank0.engine", 4)
        stats, _ = decode(engine, work, "0.0", tokens)
        seconds = (stats["generation"]["prefill_ms"] + stats["generation"]["decode_ms"]) / 1e3
        rate = stats["stream"]["payload_bytes"] / seconds / 1e9
        rates.append(rate)
        shares.append(rate / limit)
        starved.append(stats["stream"]["starved_ns"] / 1e9 / seconds)
        print(f"raw read {limit:.2f} GB/s, decode {rate:.2f} GB/s, share {shares[-1]:.3f}, "
              f"starved {100 * starved[-1]:.2f} %")  # fmt: skip
    print(f"median: decode {statistics.median(rates):.2f} GB/s, "
          f"share of the raw read {statistics.median(shares):.3f}, "
          f"starved {100 * statistics.median(starved):.2f} % of decode")  # fmt: skip


def show_memory(engine, work):
    print("percent  planned MB  peak MB  peak - planned MB (allowed 100)")
    for percent in PERCENTAGES:
        stats, peak = decode(engine, work, percent, 4)
        planned = stats["memory"]["total_bytes"]
        excess = (peak - planned) / 1e6
        mark = "" if peak <= planned + ALLOWANCE_BYTES else "  TOO MUCH"
        print(f"{percent:>7}  {planned / 1e6:10.1f}  {peak / 1e6:7.1f}  {excess:8.1f}{mark}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "streaming_figures")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=8)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    engine = make_engine(options.work)
    show_memory(engine, options.work)
    show_streaming(engine, options.work, options.rounds, options.tokens)


if __name__ == "__main__":
    main()
