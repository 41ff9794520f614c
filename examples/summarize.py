#!/usr/bin/env python3
"""`headrace summarize` under the name that it had in TensorRT-LLM's examples.

All flags are passed on. --test_hf alone is done here: it gives the same articles to the
transformers model in --hf_model_dir (a folder or a .gguf file) and prints its scores under
"Hugging Face".
"""

import argparse
import csv
import itertools
import json
import pathlib
import subprocess
import sys
import time

from headrace_command import CHECKOUT, find_binary, replace_process

REQUEST = "Summarize the following article in two sentences.\n\nArticle: "
RULE = "---------------------------------------------------------"
DATA_TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def parse_flags(flags):
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name, default in (("engine_dir", ""), ("hf_model_dir", ""), ("tokenizer_dir", ""),
                          ("dataset_dir", ""), ("output_dir", ""), ("data_type", "fp32")):
        parser.add_argument(f"--{name}", default=default)
    for name, default in (("batch_size", 1), ("max_ite", 20), ("output_len", 100),
                          ("max_input_length", 923), ("min_input_length", 0), ("num_beams", 1),
                          ("top_k", 1), ("random_seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("temperature", 1.0), ("top_p", 0.0), ("length_penalty", 1.0),
                          ("repetition_penalty", 1.0)):
        parser.add_argument(f"--{name}", type=float, default=default)
    for name in ("chat", "no_add_special_tokens"):
        parser.add_argument(f"--{name}", action="store_true")
    args = parser.parse_known_args(flags)[0]
    if not args.hf_model_dir:
        sys.exit("--test_hf needs --hf_model_dir")
    return args


def clamp_lengths(args):
    """The engine's limits, if there is one: both sides then see the same text."""
    config = pathlib.Path(args.engine_dir) / "config.json"
    if not args.engine_dir or not config.is_file():
        return
    limits = json.loads(config.read_text(encoding="utf-8"))["build_config"]
    total = limits["max_seq_len"]
    args.max_input_length = min(args.max_input_length, limits["max_input_len"], total - 1)
    args.output_len = min(args.output_len, total - args.max_input_length)


def read_articles(folder):
    """Yields (article, highlights), in the order in which headrace reads them."""
    path = pathlib.Path(folder or CHECKOUT / "examples/data/articles")
    files = [path] if path.is_file() else sorted(
        p for p in path.iterdir() if p.suffix in (".json", ".jsonl", ".csv"))
    files = [p for p in files if "test" in p.name] or files
    for file in files:
        with open(file, encoding="utf-8", newline="") as lines:
            rows = csv.DictReader(lines) if file.suffix == ".csv" else (
                json.loads(line) for line in lines if line.strip())
            for row in rows:
                yield row["article"], row["highlights"]


class HuggingFace:
    """The user's transformers, with one model."""

    def __init__(self, args):
        try:
            import torch
            import transformers
        except ImportError as error:
            sys.exit(f"--test_hf needs transformers and torch: {error}")
        self.torch, self.args = torch, args
        transformers.utils.logging.disable_progress_bar()
        torch.manual_seed(args.random_seed)
        place, options = self.location(args.hf_model_dir)
        tokenizer_place, tokenizer_options = self.location(args.tokenizer_dir or args.hf_model_dir)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(
            tokenizer_place, padding_side="left", **tokenizer_options)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        dtype = getattr(torch, DATA_TYPES.get(args.data_type, args.data_type))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            place, dtype=dtype, **options).to(device).eval()

    @staticmethod
    def location(path):
        path = pathlib.Path(path)
        return (path.parent, {"gguf_file": path.name}) if path.suffix == ".gguf" else (path, {})

    def encode(self, article):
        text = article.strip().replace(" n't", "n't")
        if self.args.chat:
            text = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": REQUEST + text}], tokenize=False,
                add_generation_prompt=True)
        else:
            text = (text + " TL;DR:").strip()
        special = not (self.args.chat or self.args.no_add_special_tokens)
        return self.tokenizer(text, add_special_tokens=special).input_ids

    def prompt(self, article):
        """Token ids of the request, the article's end cut off until they fit."""
        limit = self.args.max_input_length
        ids = self.encode(article)
        words = self.tokenizer(article, add_special_tokens=False).input_ids
        while len(ids) > limit and words:
            words = words[:limit - len(ids)]
            ids = self.encode(self.tokenizer.decode(words).rstrip("\ufffd"))
        return ids

    def generate(self, prompts):
        """The texts that follow the prompts, and how many tokens they took."""
        args = self.args
        batch = self.tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
        sample = {"do_sample": True, "top_k": args.top_k, "top_p": args.top_p or 1.0,
                  "temperature": args.temperature} if args.top_k != 1 else {"do_sample": False}
        with self.torch.no_grad():
            ids = self.model.generate(
                **batch.to(self.model.device), max_new_tokens=args.output_len,
                num_beams=args.num_beams, length_penalty=args.length_penalty,
                repetition_penalty=args.repetition_penalty,
                pad_token_id=self.tokenizer.pad_token_id, **sample)
        ids = ids[:, batch["input_ids"].shape[1]:]
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        ends = [row.tolist().index(self.tokenizer.eos_token_id) + 1
                if self.tokenizer.eos_token_id in row else len(row) for row in ids]
        return texts, sum(ends)


def print_sample(article, highlights, output):
    print(f"{RULE}\nHF Generated :\n Input : {article}\n\n Reference : {highlights}\n\n "
          f"Output : {output}\n{RULE}", flush=True)


def test_hugging_face(args):
    from rouge import rouge

    model = HuggingFace(args)
    articles = read_articles(args.dataset_dir)
    seconds, tokens, scores, lines = 0.0, 0, [], []
    for _ in range(args.max_ite):
        batch = list(itertools.islice(articles, args.batch_size))
        start = time.perf_counter()
        prompts = [(model.prompt(article), article, highlights) for article, highlights in batch]
        prompts = [item for item in prompts if len(item[0]) > args.min_input_length]
        if not prompts:
            if batch:
                continue
            break
        outputs, count = model.generate([item[0] for item in prompts])
        seconds += time.perf_counter() - start
        tokens += count
        for (_, article, highlights), output in zip(prompts, outputs):
            if not scores:
                print_sample(article, highlights, output)
            lines.append(f"[{len(scores)}] [Beam 0] {output}\n")
            scores.append(rouge(highlights, output))
    if not scores:
        sys.exit("no article was summarised: see --dataset_dir and --min_input_length")
    if args.output_dir:
        folder = pathlib.Path(args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hf.out").write_text("".join(lines), encoding="utf-8")
    print(f"Hugging Face (total latency: {seconds:.6f} sec)")
    print(f"Hugging Face (total output tokens: {tokens})")
    print(f"Hugging Face (tokens per second: {tokens / seconds:.6f})")
    print("Hugging Face beam 0 result")
    for name in ("rouge1", "rouge2", "rougeL", "rougeLsum"):
        print(f"  {name} : {100 * sum(score[name] for score in scores) / len(scores):.6f}")


def main(flags):
    if "--test_hf" not in flags:
        replace_process("summarize", flags)
    args = parse_flags(flags)
    if "--test_trt_llm" in flags:
        engine_flags = [flag for flag in flags if flag != "--test_hf"]
        code = subprocess.run([find_binary(), "summarize", *engine_flags], check=False).returncode
        if code:
            sys.exit(code)
    clamp_lengths(args)
    test_hugging_face(args)


if __name__ == "__main__":
    main(sys.argv[1:])
