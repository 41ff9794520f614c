"""Makes the golden beam searches of models: what transformers' generate() finds in the golden models.

Writes beside itself models.json: for each of the random Llamas in ../models/<model>/hf, after the
prompt in ../models/<model>/prompt.csv, the arguments of generate(), and the best sequences that it
returned, best first: generated tokens (with the end id, without padding) and scores. In float32 on
the CPU. An end id is a token that the search without one meets early. Searches whose tokens change
when noise of 1e-4 is added to the log probabilities are left out, so that rounding cannot turn one.
Run make_models.py first if the models are to change. Needs torch and transformers
(scripts/install-deps golden).
"""

import itertools
import json
import pathlib

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

HERE = pathlib.Path(__file__).resolve().parent
MODELS = ("odd_heads", "bias_llama3", "linear_k75", "shards_bf16")
NEW_TOKENS = 24
NOISE, TRIALS = 1e-4, 3
SOME = [(1.0, True), (0.8, False), (1.2, "never")]
ALL = itertools.product([0.8, 1.0, 1.2], [True, False, "never"])
SEARCHES = [dict(num_beams=n, length_penalty=penalty, early_stopping=stop)
            for n, pairs in ((2, SOME), (4, ALL)) for penalty, stop in pairs]


class Noise:
    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, input_ids, scores):
        return scores + NOISE * torch.randn(scores.shape, generator=self.generator)


def generate(model, prompt, end_id, arguments, processors=()):
    output = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=end_id, pad_token_id=0,
        num_return_sequences=arguments["num_beams"], return_dict_in_generate=True,
        output_scores=True, logits_processor=list(processors), **arguments)
    lengths = (output.beam_indices >= 0).sum(dim=1).tolist()
    tokens = [row[len(prompt):len(prompt) + n].tolist()
              for row, n in zip(output.sequences, lengths)]
    return tokens, [round(score, 6) for score in output.sequences_scores.tolist()]


def search(model, name, prompt, end_id, arguments):
    tokens, scores = generate(model, prompt, end_id, arguments)
    for seed in range(TRIALS):
        if generate(model, prompt, end_id, arguments, [Noise(seed)])[0] != tokens:
            return None
    return {"model": name, "max_new_tokens": NEW_TOKENS, "end_ids": [] if end_id is None else [end_id],
            **arguments, "tokens": tokens, "scores": scores}


def main():
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    cases, left_out = [], 0
    for name in MODELS:
        folder = HERE.parent / "models" / name
        prompt = [int(id) for id in (folder / "prompt.csv").read_text().split(",")]
        model = AutoModelForCausalLM.from_pretrained(
            folder / "hf", dtype=torch.float32, attn_implementation="eager").eval()
        model.generation_config.eos_token_id = None
        for arguments in SEARCHES:
            plain = generate(model, prompt, None, arguments)[0]
            for end_id in (None, plain[-1][NEW_TOKENS // 4]):
                case = search(model, name, prompt, end_id, arguments)
                left_out += case is None
                cases += [case] if case else []
    rows = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (HERE / "models.json").write_text(f"[\n{rows}]\n")
    print(f"{len(cases)} searches in models, {left_out} left out for small margins")


if __name__ == "__main__":
    main()
