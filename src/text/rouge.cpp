#include "text/rouge.h"

#include <algorithm>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace headrace {
namespace {

using Word = uint32_t;  // equal words have equal numbers
using Words = std::vector<Word>;

/// Numbers words in the order in which they first appear.
class Vocabulary {
 public:
  Word number(const std::string& word) {
    return words_.try_emplace(word, static_cast<Word>(words_.size())).first->second;
  }
  size_t size() const { return words_.size(); }

 private:
  std::unordered_map<std::string, Word> words_;
};

/// Two letters beyond ASCII become ASCII ones in lower case: the Kelvin sign is k, and the dotted
/// capital I is i with a combining dot, which ends the word.
struct SpecialCase {
  std::string_view bytes;
  char letter;
  bool ends_word;
};
constexpr SpecialCase kSpecialCases[] = {{"\xE2\x84\xAA", 'k', false}, {"\xC4\xB0", 'i', true}};

Words tokenize(std::string_view text, Vocabulary& vocabulary) {
  Words words;
  std::string word;
  const auto end_word = [&] {
    if (!word.empty()) words.push_back(vocabulary.number(word));
    word.clear();
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
      word += c;
      continue;
    }
    if (c >= 'A' && c <= 'Z') {
      word += static_cast<char>(c - 'A' + 'a');
      continue;
    }
    const auto* special =
        std::find_if(std::begin(kSpecialCases), std::end(kSpecialCases),
                     [&](const SpecialCase& s) { return text.substr(i).starts_with(s.bytes); });
    if (special == std::end(kSpecialCases)) {
      end_word();
      continue;
    }
    word += special->letter;
    i += special->bytes.size() - 1;
    if (special->ends_word) end_word();
  }
  end_word();
  return words;
}

/// The lines of a text that hold anything, tokenised. Lines without words count too.
std::vector<Words> tokenize_lines(std::string_view text, Vocabulary& vocabulary) {
  std::vector<Words> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (end > 0) lines.push_back(tokenize(text.substr(0, end), vocabulary));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

RougeScore make_score(size_t hits, size_t target_size, size_t prediction_size) {
  const auto share = [&](size_t of) {
    return static_cast<double>(hits) / static_cast<double>(std::max<size_t>(of, 1));
  };
  RougeScore score{.precision = share(prediction_size), .recall = share(target_size)};
  const double sum = score.precision + score.recall;
  if (sum > 0) score.f_measure = 2 * score.precision * score.recall / sum;
  return score;
}

std::unordered_map<uint64_t, size_t> count_ngrams(const Words& words, size_t n) {
  std::unordered_map<uint64_t, size_t> counts;
  for (size_t i = 0; i + n <= words.size(); ++i) {
    ++counts[n == 1 ? words[i] : uint64_t{words[i]} << 32 | words[i + 1]];
  }
  return counts;
}

/// REQUIRES: n is 1 or 2.
RougeScore score_ngrams(const Words& target, const Words& prediction, size_t n) {
  const auto target_counts = count_ngrams(target, n);
  const auto prediction_counts = count_ngrams(prediction, n);
  size_t hits = 0;
  for (const auto& [ngram, count] : target_counts) {
    const auto found = prediction_counts.find(ngram);
    if (found != prediction_counts.end()) hits += std::min(count, found->second);
  }
  const auto total = [n](const Words& words) {
    return words.size() < n ? 0 : words.size() - n + 1;
  };
  return make_score(hits, total(target), total(prediction));
}

/// Lengths of longest common subsequences, row by row: lengths[j] is the length for the rows seen
/// so far and the first j words of `b`.
class SubsequenceTable {
 public:
  explicit SubsequenceTable(const Words& b) : b_(b), above_(b.size() + 1), row_(b.size() + 1) {}

  void add_row(Word a) {
    row_.swap(above_);
    for (size_t j = 1; j <= b_.size(); ++j) {
      row_[j] = a == b_[j - 1] ? above_[j - 1] + 1 : std::max(above_[j], row_[j - 1]);
    }
  }
  uint32_t length() const { return row_.back(); }
  /// True where one word less of `b` loses less than one row less does.
  bool left_is_longer(size_t j) const { return row_[j - 1] > above_[j]; }

 private:
  const Words& b_;
  std::vector<uint32_t> above_;
  std::vector<uint32_t> row_;
};

RougeScore score_subsequence(const Words& target, const Words& prediction) {
  SubsequenceTable table(prediction);
  for (const Word word : target) table.add_row(word);
  return make_score(table.length(), target.size(), prediction.size());
}

/// Marks the positions of `target` on one longest common subsequence with `prediction`. Several may
/// exist; the one that the package's backtracking finds is taken, as the score depends on it.
void mark_subsequence(const Words& target, const Words& prediction, std::vector<bool>& marked) {
  const size_t columns = prediction.size() + 1;
  std::vector<bool> go_left((target.size() + 1) * columns);
  SubsequenceTable table(prediction);
  for (size_t i = 1; i <= target.size(); ++i) {
    table.add_row(target[i - 1]);
    for (size_t j = 1; j < columns; ++j) go_left[i * columns + j] = table.left_is_longer(j);
  }
  size_t i = target.size();
  size_t j = prediction.size();
  while (i > 0 && j > 0) {
    if (target[i - 1] == prediction[j - 1]) {
      marked[i - 1] = true;
      --i;
      --j;
    } else if (go_left[i * columns + j]) {
      --j;
    } else {
      --i;
    }
  }
}

/// Every hit uses up one occurrence of its word on both sides.
RougeScore score_summary(const std::vector<Words>& target, const std::vector<Words>& prediction,
                         size_t vocabulary_size) {
  std::vector<size_t> target_left(vocabulary_size);
  std::vector<size_t> prediction_left(vocabulary_size);
  size_t target_size = 0;
  size_t prediction_size = 0;
  for (const Words& line : target) {
    target_size += line.size();
    for (const Word word : line) ++target_left[word];
  }
  for (const Words& line : prediction) {
    prediction_size += line.size();
    for (const Word word : line) ++prediction_left[word];
  }
  size_t hits = 0;
  for (const Words& line : target) {
    std::vector<bool> marked(line.size());
    for (const Words& other : prediction) mark_subsequence(line, other, marked);
    for (size_t i = 0; i < line.size(); ++i) {
      if (!marked[i] || target_left[line[i]] == 0 || prediction_left[line[i]] == 0) continue;
      ++hits;
      --target_left[line[i]];
      --prediction_left[line[i]];
    }
  }
  return make_score(hits, target_size, prediction_size);
}

}  // namespace

RougeScores rouge(std::string_view target, std::string_view prediction) {
  Vocabulary vocabulary;
  const Words target_words = tokenize(target, vocabulary);
  const Words prediction_words = tokenize(prediction, vocabulary);
  const std::vector<Words> target_lines = tokenize_lines(target, vocabulary);
  const std::vector<Words> prediction_lines = tokenize_lines(prediction, vocabulary);
  return {.rouge1 = score_ngrams(target_words, prediction_words, 1),
          .rouge2 = score_ngrams(target_words, prediction_words, 2),
          .rouge_l = score_subsequence(target_words, prediction_words),
          .rouge_lsum = score_summary(target_lines, prediction_lines, vocabulary.size())};
}

void RougeMean::add(const RougeScores& scores) {
  ++samples_;
  rouge1_ += scores.rouge1.f_measure;
  rouge2_ += scores.rouge2.f_measure;
  rouge_l_ += scores.rouge_l.f_measure;
  rouge_lsum_ += scores.rouge_lsum.f_measure;
}

double RougeMean::mean(double sum) const {
  return samples_ == 0 ? 0 : 100 * sum / static_cast<double>(samples_);
}

}  // namespace headrace
