"""Trains the small tokenizers of this folder and writes what Hugging Face's `tokenizers` makes of
hostile texts with them.

Run it from anywhere, in an environment that has `tokenizers`; it overwrites <style>/tokenizer.json,
<style>/expected.json, normalized.json and smollm_gguf/. The styles have the pre-tokenizers, normalizers,
added tokens and post-processors of the published models; vocabularies are tiny."""

import json
import pathlib
import random

import hostile
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

HERE = pathlib.Path(__file__).parent
VOCAB = 1100
RANDOM_TEXTS = 150

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def byte_level(use_regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def split_then_bytes(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level(False)])


def corpus():
    text = (HERE.parents[2] / "LICENSE").read_text() + (HERE / "hostile.py").read_text()
    text += "\n".join(hostile.TEXTS * 3)
    return [text[i:i + 2000] for i in range(0, len(text), 2000)]


def train(pre_tokenizer, special, normalizer=None, ignore_merges=False):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, show_progress=False, special_tokens=special,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def gpt2():
    tokenizer = train(byte_level(True), ["<|endoftext|>"])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    # Kinds of added tokens that published vocabularies rarely combine.
    tokenizer.add_tokens([AddedToken("<sep>", lstrip=True), AddedToken("<mark>", rstrip=True),
                          AddedToken("word", single_word=True), AddedToken("   ", normalized=False)])
    return tokenizer, {"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}


def llama3():
    tokenizer = train(split_then_bytes(LLAMA3), [], ignore_merges=True)
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    special += [f"<|reserved_special_token_{i}|>" for i in range(20)]
    tokenizer.add_special_tokens(special)
    bos = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|> $B",
                                      special_tokens=[("<|begin_of_text|>", bos)]),
    ])
    return tokenizer, {"bos_token": "<|begin_of_text|>", "eos_token": {"content": "<|eot_id|>"}}


def qwen2():
    tokenizer = train(split_then_bytes(QWEN2), [], normalizer=normalizers.NFC())
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}


def smollm():
    pre = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level(True)])
    tokenizer = train(pre, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    return tokenizer, {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}


def llama2():
    """SentencePiece's BPE as Llama 2 has it in tokenizer.json: characters, bytes for unknown ones."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.pre_tokenizer = None
    trained = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, show_progress=False, special_tokens=special, limit_alphabet=120)
    trained.train_from_iterator(corpus(), trainer)
    model = json.loads(trained.to_str())["model"]
    tokenizer.model = models.BPE(vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]], unk_token="<unk>",
                                 fuse_unk=True, byte_fallback=True)
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B",
                                                             special_tokens=[("<s>", 1)])
    return tokenizer, {"bos_token": "<s>", "eos_token": "</s>"}


def special_texts(tokenizer):
    names = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
    texts = []
    for i in range(min(len(names), 6)):
        pair = (names[i], names[(i + 1) % len(names)])
        texts += [text.replace("{0}", pair[0]).replace("{1}", pair[1]) for text in hostile.SPECIAL_TEXTS]
    return texts


def cases(tokenizer):
    generator = random.Random(7)
    texts = hostile.TEXTS + [hostile.random_text(generator) for _ in range(RANDOM_TEXTS)] + special_texts(tokenizer)
    out = []
    for text in texts:
        ids = tokenizer.encode(text).ids
        bare = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = True
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = False
        case = {"text": text, "ids": ids, "decoded": tokenizer.decode(ids)}
        if bare != ids and len(out) < 20:
            case["bare_ids"] = bare
        if plain != bare:
            case["plain_ids"] = plain  # special tokens not recognised
        with_special = tokenizer.decode(ids, skip_special_tokens=False)
        if with_special != case["decoded"] and (len(out) < 20 or "<" in text):
            case["decoded_with_special"] = with_special
        out.append(case)
    return out


def write(path, value):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")


def gguf_export(tokenizer, config):
    """The same tokenizer as `headrace convert` would export it from a GGUF file."""
    document = json.loads(tokenizer.to_str())
    vocab = sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
    special = {token["content"] for token in document["added_tokens"] if token["special"]}
    added = {token["content"] for token in document["added_tokens"]}
    types = [3 if t in special else 4 if t in added else 1 for t, _ in vocab]
    ids = tokenizer.get_vocab(with_added_tokens=True)
    return {
        "format": "headrace-gguf-tokenizer", "model": "gpt2", "pre": "smollm",
        "tokens": [t for t, _ in vocab], "merges": [" ".join(m) for m in document["model"]["merges"]],
        "token_types": types, "bos_token_id": ids[config["bos_token"]], "eos_token_id": ids[config["eos_token"]],
        "padding_token_id": ids[config["pad_token"]], "unknown_token_id": 0, "add_bos_token": False,
        "add_space_prefix": False, "chat_template": "{{ messages[0]['content'] }}<|im_end|>",
    }


def main():
    for style in (gpt2, llama3, qwen2, smollm, llama2):
        tokenizer, config = style()
        folder = HERE / style.__name__
        document = json.loads(tokenizer.to_str())
        if style in (gpt2,):  # merges as older files write them
            document["model"]["merges"] = [" ".join(pair) for pair in document["model"]["merges"]]
        write(folder / "tokenizer.json", document)
        write(folder / "tokenizer_config.json", config)
        write(folder / "expected.json", cases(tokenizer))
        if style is smollm:
            write(HERE / "smollm_gguf" / "tokenizer_gguf.json", gguf_export(tokenizer, config))

    generator = random.Random(11)
    texts = hostile.TEXTS + [hostile.random_text(generator) for _ in range(60)]
    texts.append("a" + "\u0301\u0316\u0323\u0300" * 20)
    forms = {name: getattr(normalizers, name)() for name in ("NFC", "NFD", "NFKC", "NFKD")}
    write(HERE / "normalized.json",
          [{"text": t, **{name: form.normalize_str(t) for name, form in forms.items()}} for t in texts])


if __name__ == "__main__":
    main()
