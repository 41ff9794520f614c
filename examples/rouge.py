"""ROUGE-1, -2, -L and -Lsum as the package rouge_score computes them, without its stemmer.

For `summarize.py --test_hf`, which must need nothing but transformers; headrace scores its own
summaries in C++.
"""

import collections
import re


def tokenize(text):
    return re.findall(r"[a-z0-9]+", text.lower())


def f_measure(matches, predicted, target):
    if not matches:
        return 0.0
    precision, recall = matches / predicted, matches / target
    return 2 * precision * recall / (precision + recall)


def ngram_score(target, prediction, n):
    counts = [collections.Counter(zip(*(words[i:] for i in range(n))))
              for words in (target, prediction)]
    matches = sum((counts[0] & counts[1]).values())
    return f_measure(matches, sum(counts[1].values()), sum(counts[0].values()))


def common_subsequence(target, prediction):
    """Indices into `target` of a longest common subsequence (the last one by position)."""
    lengths = [[0] * (len(prediction) + 1) for _ in range(len(target) + 1)]
    for i, word in enumerate(target, 1):
        for j, other in enumerate(prediction, 1):
            lengths[i][j] = (lengths[i - 1][j - 1] + 1 if word == other
                             else max(lengths[i - 1][j], lengths[i][j - 1]))
    indices, i, j = [], len(target), len(prediction)
    while i and j:
        if target[i - 1] == prediction[j - 1]:
            i, j = i - 1, j - 1
            indices.append(i)
        elif lengths[i][j - 1] > lengths[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return indices


def summary_score(target, prediction):
    """ROUGE-Lsum: for every line of the target, the union of its subsequences with all others."""
    targets = [tokenize(line) for line in target.split("\n") if line]
    predictions = [tokenize(line) for line in prediction.split("\n") if line]
    left_target = collections.Counter(word for line in targets for word in line)
    left_prediction = collections.Counter(word for line in predictions for word in line)
    matches = 0
    for line in targets:
        union = {i for other in predictions for i in common_subsequence(line, other)}
        for word in (line[i] for i in sorted(union)):
            if left_target[word] > 0 and left_prediction[word] > 0:
                left_target[word] -= 1
                left_prediction[word] -= 1
                matches += 1
    return f_measure(matches, sum(map(len, predictions)), sum(map(len, targets)))


def rouge(target, prediction):
    """F-measures, 0 to 1, by name."""
    words = tokenize(target), tokenize(prediction)
    longest = len(common_subsequence(*words))
    return {
        "rouge1": ngram_score(*words, 1),
        "rouge2": ngram_score(*words, 2),
        "rougeL": f_measure(longest, len(words[1]), len(words[0])),
        "rougeLsum": summary_score(target, prediction),
    }
