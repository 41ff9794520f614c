"""Compares `headrace tokenize` with an installed tokenizer on random hostile texts.

  check_installed.py HEADRACE_BINARY GGUF_FILE [COUNT [SEED]]

Needs transformers, tokenizers and gguf. The GGUF file's tokenizer is compared twice: as transformers
saves it (tokenizer.json), and as headrace exports it (tokenizer_gguf.json). transformers does not know
the pre-tokenizer named "smollm" and splits as GPT-2 does; the published SmolLM2 splits digits off
first, and that is what the second comparison is with. Prints the differences; exit code 1 if any."""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(pathlib.Path(__file__).parent))

import gguf  # noqa: E402
import hostile  # noqa: E402
from tokenizers import pre_tokenizers  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402


def export(path):
    """What `headrace convert` writes from the file's metadata."""
    fields = gguf.GGUFReader(path).fields
    get = lambda name: fields[name].contents() if name in fields else None  # noqa: E731
    document = {"format": "headrace-gguf-tokenizer", "chat_template": get("tokenizer.chat_template")}
    for key, name in [("model", "model"), ("pre", "pre"), ("tokens", "tokens"), ("merges", "merges"),
                      ("token_types", "token_type"), ("bos_token_id", "bos_token_id"),
                      ("eos_token_id", "eos_token_id"), ("padding_token_id", "padding_token_id"),
                      ("add_bos_token", "add_bos_token"), ("add_space_prefix", "add_space_prefix")]:
        document[key] = get("tokenizer.ggml." + name)
    return {key: value for key, value in document.items() if value is not None}


def headrace_ids(binary, folder, text):
    with tempfile.NamedTemporaryFile("wb", suffix=".txt") as file:
        file.write(text.encode("utf-8"))
        file.flush()
        output = subprocess.run([binary, "tokenize", "--tokenizer_dir", folder, "--input_file", file.name, "--json"],
                                check=True, capture_output=True).stdout
    return json.loads(output)["ids"]


def compare(name, binary, folder, encode, special, texts):
    """All texts in one call, with a special token between them, which no merge crosses."""
    token, token_id = special
    ids = headrace_ids(binary, folder, token.join(texts))
    parts, start = [], 0
    for i, value in enumerate(ids + [token_id]):
        if value == token_id:
            parts.append(ids[start:i])
            start = i + 1
    assert len(parts) == len(texts), (len(parts), len(texts))
    differences = 0
    for text, ours in zip(texts, parts):
        theirs = encode(text)
        if ours != theirs:
            differences += 1
            if differences <= 5:
                print(f"  {text!r}\n    headrace {ours}\n    theirs   {theirs}")
    print(f"{name}: {len(texts)} texts, {differences} differences")
    return differences


def main():
    binary, path = sys.argv[1:3]
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 1000
    generator = random.Random(int(sys.argv[4]) if len(sys.argv) > 4 else 1)
    texts = hostile.TEXTS + [hostile.random_text(generator) for _ in range(count)]
    for _ in range(count // 2):  # anywhere in Unicode
        codes = [generator.randrange(0x110000) for _ in range(20)]
        texts.append("".join(chr(c) for c in codes if not 0xD800 <= c < 0xE000))

    reference = AutoTokenizer.from_pretrained(os.path.dirname(path), gguf_file=os.path.basename(path))
    special = (reference.eos_token, reference.eos_token_id)
    texts = [text for text in texts if special[0] not in text]
    backend = reference.backend_tokenizer
    differences = 0
    with tempfile.TemporaryDirectory() as folder:
        reference.save_pretrained(folder)
        differences += compare("tokenizer.json as transformers saves it", binary, folder,
                               lambda t: reference(t)["input_ids"], special, texts)
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "tokenizer_gguf.json").write_text(json.dumps(export(path)))
        plain = [backend.encode(t).ids for t in texts]
        if export(path).get("pre") == "smollm":
            backend.pre_tokenizer = pre_tokenizers.Sequence(
                [pre_tokenizers.Digits(individual_digits=True),
                 pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
        differences += compare("tokenizer_gguf.json", binary, folder, lambda t: backend.encode(t).ids, special, texts)
        split = [backend.encode(t).ids for t in texts]
        print(f"(transformers with and without the digit split: {sum(a != b for a, b in zip(plain, split))} differ)")
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
