#!/usr/bin/env python3
"""Scores of the package rouge_score (no stemmer) for pairs of texts; writes pairs.json beside itself."""

import json
import pathlib
import random

from rouge_score import rouge_scorer

WRITTEN = [
    ("", ""),
    ("", "a word"),
    ("a word", ""),
    ("!?., --", "..."),
    ("same", "same"),
    ("The quick brown fox jumps over the lazy dog", "The quick brown fox jumps over the lazy dog"),
    ("The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log."),
    ("police killed the gunman", "police kill the gunman"),
    ("police killed the gunman", "the gunman kill police"),
    ("one", "two"),
    ("one two", "one"),
    ("a a a a", "a a"),
    ("a b a b a b", "b a b a"),
    ("It's 3.14, isn't it?", "its 3 14 isn t it"),
    ("UPPER lower MiXeD", "upper LOWER mixed"),
    ("snake_case and CamelCase", "snake case and camelcase"),
    ("caf\u00e9 na\u00efve \u00fcber", "cafe naive uber"),
    ("caf\u00e9 au lait", "caf au lait"),
    ("\u65e5\u672c\u8a9e text", "text \u65e5\u672c"),
    ("\u041c\u043e\u0441\u043a\u0432\u0430 2024", "2024 moscow"),
    ("300 \u212aelvin is 300 Kelvin", "300 kelvin is 300 \u212aelvin"),
    ("\u0130stanbul and \u0131stanbul", "istanbul and stanbul"),
    ("\U0001f600 smile \U0001f468\u200d\U0001f469\u200d\U0001f467", "smile \U0001f600"),
    ("zero\u200bwidth non\u00a0breaking\ttab", "zero width non breaking tab"),
    ("first line\nsecond line", "second line\nfirst line"),
    ("first line\nsecond line", "first line second line"),
    ("first line\r\nsecond line\r\n", "first line\nsecond"),
    ("\n\n\n", "words"),
    ("words here\n\n\n--\n", "\nwords\n\nhere\n"),
    ("w1 w2 w3 w4 w5", "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5"),
    ("a b c\nb c d\nc d e", "e d c\nd c b\nc b a"),
    ("the cat sat\nthe cat ran", "the cat\nthe cat\nthe cat"),
    ("a b c d\na b c d", "a b\nc d"),
    (
        "Port Ellisan's car ferry sails again on Saturday, eleven months after a storm.\n"
        "The repair cost 14 million crowns, two million less than planned.",
        "The ferry sails again on Saturday after eleven months.\n"
        "Repairs cost 14 million crowns - two million less than planned!",
    ),
]


def random_text(rng, words, lines, length):
    """Lines of words from a small vocabulary, so that subsequences tie in many ways."""
    return "\n".join(
        " ".join(rng.choice(words) for _ in range(rng.randrange(length))) for _ in range(lines)
    )


def pairs():
    yield from WRITTEN
    rng = random.Random(7)
    for words in ("ab", "abc", "abcdef", ["the", "cat", "sat", "on", "a", "mat", "7"]):
        for lines in (1, 2, 3, 5):
            for _ in range(4):
                yield random_text(rng, words, lines, 14), random_text(rng, words, rng.randint(1, 4), 14)


def main():
    names = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    scorer = rouge_scorer.RougeScorer(names, use_stemmer=False)
    cases = []
    for target, prediction in pairs():
        scores = scorer.score(target, prediction)
        cases.append(
            {"target": target, "prediction": prediction}
            | {name: list(scores[name]) for name in names}
        )
    path = pathlib.Path(__file__).with_name("pairs.json")
    path.write_text(json.dumps(cases, indent=0) + "\n")


if __name__ == "__main__":
    main()
