"""Texts that tokenizers get wrong, and a generator of random ones. Shared by the golden script and the
checks against installed tokenizers."""

import random

TEXTS = [
    "",
    " ",
    "\n",
    "a",
    "Hello, world!",
    "Hello world  two spaces   three    four",
    "I'm you're he'll we've they'd it's 'Twas DON'T I'LL YOU'RE",
    "\u2019s curly I\u2019m don\u2019t",
    "line one\nline two\r\nline three\rline four\n\n\nend",
    "trailing spaces   \n   leading spaces\n\t\ttabs \t mixed\u00a0nbsp\u3000ideographic",
    " \n \n\n  \n",
    "x" + " " * 40 + "y" + "\n" * 20 + "z" + "\t" * 17,
    "0 1 12 123 1234 12345 1234567890 3.14159 1,000,000 0x1F 1e-9",
    "\u0663\u0664\u0665 \u0967\u0968\u0969 \uff11\uff12\uff13 \u00bd \u00b2 \u2167 \u3289 \u4e8c\u5341",
    "  1  22 333  4444",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * 2; } // done",
    "def f(x):\n    if x is None:\n        return -1\n\n    return {'k': [1, 2, 3]}[\"k\"]\n",
    "<html><body class=\"a-b\">&amp; &lt; </body></html>",
    "https://example.com/a/b?c=d&e=f#g user@example.org",
    "\U0001F600\U0001F44D\U0001F3FD \U0001F468\u200d\U0001F469\u200d\U0001F467\u200d\U0001F466"
    " \U0001F1E9\U0001F1EA\U0001F1EB\U0001F1F7 \u2764\ufe0f \U0001F3F4\u200d\u2620\ufe0f",
    "e\u0301 \u00e9 a\u0300\u0316\u0323 \u1e69 s\u0323\u0307 \u212b \u2126 \ufb01 \ufb03 \u01c5 \u0149",
    "\u0915\u094d\u0937\u093f \u0e01\u0e33\u0e19\u0e49\u0e33 \u1019\u103c\u1014\u103a\u1019\u102c",
    "\u05e9\u05c1\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627\u064b \u202eabc\u202c \u200fx\u200e",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u3053\u3093\u306b\u3061\u306f\u30c6\u30b9\u30c8 \uc548\ub155 "
    "\u1112\u1161\u11ab",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5"
    " \u10d2\u10d0\u10db\u10d0\u10e0\u10ef\u10dd\u10d1\u10d0",
    "mixed\u4f60\u597dwords\u041f\u0440123\u0663abc_def-ghi\u00b7jkl",
    "nul\x00inside \x01\x02\x1b[31mred\x7f \x85next \x1c\x1d\x1e\x1f",
    "\ufeffbom \u200bzero\u2060width\u00adsoft \ufffd \uffff \U0010ffff \ue000",
    "\u180e mongolian\u180evowel \u1680ogham \u2028line\u2029para \u205fmath \u202fnarrow",
    "!!!??? ... --- ___ *** ((())) [[]] {{}} <<>> ~~~ `code` $$$ %%% ^^^ &&& |||",
    "\u2014 em \u2013 en \u2026 \u201cquoted\u201d \u00abguillemets\u00bb \u00a9 \u20ac \u00a3 \u2211 \u221e",
    "\u017f\u212a long s and kelvin: I'\u017f YOU'\u017f",
    "a" * 300,
    "ab" * 150,
    "\u00e9" * 100,
    "\U0001F600" * 50,
    "=" * 100 + "-" * 101 + "#" * 7,
    "\u0301\u0300\u0316 marks first",
    "UPPER lower Title camelCase snake_case kebab-case SCREAMING_SNAKE",
    "supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis",
    "\n\n\t \n x\n\n  y \r\n\r\n z",
    "'s't're've'm'll'd ''s '' ' 's",
    "\U0001d54f\U0001d555 \U00010348 \U000e0041 \U00020bb7",
]

# Text around special tokens; `{0}` and `{1}` stand for two of the tokenizer's own.
SPECIAL_TEXTS = [
    "{0}",
    "{0}{0}",
    "before {0} after",
    "  {0}  \n {1} x",
    "{0}user\nhi{1}\n{0}assistant\n",
    "x{0}123{1}456",
    "{0} {0}\n{1}\t{1}",
    "almost {0}".replace("{0}", "<|im_star") + " {1}",
    "<|{0}|><{1}>",
]

RANGES = [
    (0x20, 0x7E), (0x20, 0x7E), (0x20, 0x7E), (0x61, 0x7A), (0x30, 0x39), (0x00, 0x1F),
    (0x80, 0xFF), (0x100, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x590, 0x6FF),
    (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF), (0x1E00, 0x1EFF), (0x2000, 0x206F),
    (0x2070, 0x218F), (0x2190, 0x2BFF), (0x3000, 0x30FF), (0x4E00, 0x4FFF), (0xAC00, 0xACFF),
    (0xF900, 0xFAFF), (0xFE00, 0xFE0F), (0xFF00, 0xFFEF), (0x1D400, 0x1D7FF), (0x1F1E6, 0x1F1FF),
    (0x1F300, 0x1F64F), (0x1F3FB, 0x1F3FF), (0xE0000, 0xE007F),
]
WORDS = ["the", " the", "ing", "'s", "'LL", "  ", "\n\n", "\r\n", " \t", "12", "2024", "ness", "--", "\u200d",
         "    ", " a", "Headrace", "_", "();", " =", "\u4e16\u754c", "\u00e9", "e\u0301"]


def random_text(generator: random.Random) -> str:
    """Runs of characters from one block, words and white space, mixed."""
    parts = []
    for _ in range(generator.randint(1, 30)):
        if generator.random() < 0.35:
            parts.append(generator.choice(WORDS))
            continue
        low, high = generator.choice(RANGES)
        for _ in range(generator.randint(1, 8)):
            parts.append(chr(generator.randint(low, high)))
        if generator.random() < 0.3:
            parts.append(generator.choice(" \n\t") * generator.randint(1, 5))
    return "".join(parts)
