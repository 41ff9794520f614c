"""Makes the golden beam searches: what transformers' generate() finds in a model that is a table.

Writes beside itself beam_search.json:
  last, before_last, length  float32 [24][24]: after n tokens that end with b, a the logits are
              (last[a] + before_last[b]) + length[n mod 24]; b is 0 if there is only a. Without
              length outputs of the same pairs of tokens in another order would be equally good
  cases       the arguments of generate(), and the best sequences that it returned, best
                      first: generated tokens (with the end id, without padding) and scores
The table has four decimals, and everything is computed in float32 on the CPU without a cache. Needs
torch and transformers (scripts/install-deps golden).
"""

import itertools
import json
import pathlib

import torch
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput
from transformers.utils import logging

HERE = pathlib.Path(__file__).resolve().parent
VOCAB = 24
END, OTHER_END = 5, 11
SEED = 20261127

PROMPTS = [([3], 6), ([1, 7, 2], 12), ([20, 4, 4, 9, 15], 17)]  # and how many new tokens at most
SEARCHES = list(itertools.product([2, 4], [0.8, 1.0, 1.2], [True, False, "never"]))
# Each shows something that the grid above does not.
MORE = [
    dict(num_beams=3, length_penalty=0.0, early_stopping="never"),
    dict(num_beams=3, length_penalty=-0.7, early_stopping="never"),
    dict(num_beams=3, length_penalty=-0.7, early_stopping=False),
    dict(num_beams=8, length_penalty=2.0, early_stopping=False),
    dict(num_beams=12, length_penalty=1.0, early_stopping=True),
    dict(num_beams=4, length_penalty=1.0, early_stopping=False, min_new_tokens=5),
    dict(num_beams=4, length_penalty=1.0, early_stopping=True, no_repeat_ngram_size=1),
    dict(num_beams=4, length_penalty=1.0, early_stopping=True, no_repeat_ngram_size=2),
    dict(num_beams=2, length_penalty=1.2, early_stopping=False, no_repeat_ngram_size=3),
    dict(num_beams=4, length_penalty=1.0, early_stopping=False,
         bad_words_ids=[[17], [12, 3], [2, 2], [9, 15, 8], [20, 20, 20]]),
    dict(num_beams=4, length_penalty=0.9, early_stopping="never", min_new_tokens=3,
         no_repeat_ngram_size=2, bad_words_ids=[[0], [6, 13], [13, 6], [4, 1]]),
]


class TableConfig(PretrainedConfig):
    model_type = "headrace_table"


class TableModel(PreTrainedModel, GenerationMixin):
    config_class = TableConfig
    main_input_name = "input_ids"

    def __init__(self, config, tables):
        super().__init__(config)
        self.tables = torch.nn.Parameter(torch.tensor(tables), requires_grad=False)
        self.post_init()

    def _init_weights(self, module):
        pass

    def forward(self, input_ids, **_):
        padded = torch.cat([torch.zeros_like(input_ids[:, :1]), input_ids], dim=1)
        lengths = torch.arange(1, input_ids.shape[1] + 1) % VOCAB
        last, before_last, length = self.tables
        return CausalLMOutput(logits=last[input_ids] + before_last[padded[:, :-1]] + length[lengths])


def make_tables():
    generator = torch.Generator().manual_seed(SEED)
    tables = torch.randn(3, VOCAB, VOCAB, generator=generator)
    tables[0][:, END] += 1.5
    tables[0][:, OTHER_END] += 1.0
    return [[[round(value, 4) for value in row] for row in table] for table in tables.tolist()]


def search(model, prompt, new_tokens, end_ids, arguments):
    output = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False, max_new_tokens=new_tokens, eos_token_id=end_ids or None, pad_token_id=0,
        num_return_sequences=arguments["num_beams"], use_cache=False,
        return_dict_in_generate=True, output_scores=True, **arguments)
    lengths = (output.beam_indices >= 0).sum(dim=1).tolist()
    return {
        "prompt": prompt, "max_new_tokens": new_tokens, "end_ids": end_ids, **arguments,
        "tokens": [row[len(prompt):len(prompt) + n].tolist()
                   for row, n in zip(output.sequences, lengths)],
        "scores": [round(score, 6) for score in output.sequences_scores.tolist()],
    }


def main():
    logging.set_verbosity_error()
    tables = make_tables()
    model = TableModel(TableConfig(vocab_size=VOCAB), tables)
    grid = [dict(num_beams=n, length_penalty=penalty, early_stopping=stop)
            for n, penalty, stop in SEARCHES]
    cases = [search(model, prompt, new_tokens, end_ids, arguments)
             for arguments in grid + MORE
             for prompt, new_tokens in PROMPTS
             for end_ids in ([], [END], [END, OTHER_END])]
    rows = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    last, before_last, length = (
        ",\n".join(json.dumps(row, separators=(",", ":")) for row in table) for table in tables)
    (HERE / "beam_search.json").write_text(
        f'{{"last":[\n{last}],\n"before_last":[\n{before_last}],\n"length":[\n{length}],\n'
        f'"cases":[\n{rows}]}}\n')
    ended = sum(tokens[-1] in case["end_ids"] for case in cases for tokens in case["tokens"])
    total = sum(len(case["tokens"]) for case in cases)
    print(f"{len(cases)} searches, {total} sequences, {ended} of them end with an end id")


if __name__ == "__main__":
    main()
