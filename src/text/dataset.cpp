#include "text/dataset.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace headrace {
namespace {

constexpr size_t kBufferBytes = size_t{256} << 10;
constexpr size_t kMaxRecordBytes = size_t{16} << 20;
constexpr size_t kMaxColumns = 1024;

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return result;
}

bool is_csv(std::string_view name) { return lower(name).ends_with(".csv"); }

bool is_article_file(std::string_view name) {
  const std::string lowered = lower(name);
  return !lowered.starts_with(".") &&
         (lowered.ends_with(".jsonl") || lowered.ends_with(".json") || lowered.ends_with(".csv"));
}

/// Characters of a file, one by one, with the number of the line that they stand in.
class CharacterReader {
 public:
  CharacterReader(FileSystem& fs, const std::string& path) : file_(fs.open(path)) {
    constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
    fill();
    if (std::string_view(buffer_).starts_with(kByteOrderMark)) at_ = kByteOrderMark.size();
  }

  const std::string& path() const { return file_->path(); }
  int64_t line() const { return line_; }

  std::optional<char> peek() {
    if (at_ == buffer_.size()) fill();
    if (at_ == buffer_.size()) return std::nullopt;
    return buffer_[at_];
  }
  std::optional<char> get() {
    const std::optional<char> c = peek();
    if (!c) return c;
    ++at_;
    if (*c == '\n') ++line_;
    return c;
  }

 private:
  void fill() {
    const uint64_t count = std::min<uint64_t>(kBufferBytes, file_->size() - offset_);
    buffer_.resize(static_cast<size_t>(count));
    at_ = 0;
    if (count > 0) file_->read(offset_, std::as_writable_bytes(std::span(buffer_)));
    offset_ += count;
  }

  std::unique_ptr<RandomAccessFile> file_;
  uint64_t offset_ = 0;
  std::string buffer_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

}  // namespace

/// The records of one file.
class ArticleReader::Records {
 public:
  Records(FileSystem& fs, const std::string& path) : in_(fs, path) {}
  virtual ~Records() = default;
  virtual bool next(Article& article) = 0;

 protected:
  template <typename... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> why, Args&&... args) const {
    fail(ErrorCode::kCorrupt, "[dataset] {} line {}: {}", in_.path(), line_,
         fmt::format(why, std::forward<Args>(args)...));
  }

  CharacterReader in_;
  int64_t line_ = 1;  // where the record begins
};

namespace {

class JsonRecords : public ArticleReader::Records {
 public:
  using Records::Records;

  bool next(Article& article) override {
    while (read_line()) {
      if (text_.find_first_not_of(" \t\r") == std::string::npos) continue;
      const nlohmann::json record =
          nlohmann::json::parse(text_, nullptr, /*allow_exceptions=*/false);
      if (!record.is_object()) {
        refuse("not a JSON object: every line is one, as in {}",
               R"({"article": "...", "highlights": "..."})");
      }
      article.article = text_field(record, "article", true);
      article.highlights = text_field(record, "highlights", true);
      article.id = text_field(record, "id", false);
      return true;
    }
    return false;
  }

 private:
  bool read_line() {
    text_.clear();
    line_ = in_.line();
    if (!in_.peek()) return false;
    while (const std::optional<char> c = in_.get()) {
      if (*c == '\n') break;
      if (text_.size() == kMaxRecordBytes) {
        refuse("longer than {} bytes: every line is one article", kMaxRecordBytes);
      }
      text_ += *c;
    }
    return true;
  }

  std::string text_field(const nlohmann::json& record, const char* key, bool needed) const {
    const auto found = record.find(key);
    if (found == record.end() && !needed) return "";
    if (found == record.end()) refuse("no \"{}\": an object needs article and highlights", key);
    if (found->is_number_integer() && !needed) return found->dump();
    if (!found->is_string()) refuse("\"{}\" is not text", key);
    return found->get<std::string>();
  }

  std::string text_;
};

class CsvRecords : public ArticleReader::Records {
 public:
  CsvRecords(FileSystem& fs, const std::string& path) : Records(fs, path) {
    if (!read_row()) refuse("the file is empty: the first row names the columns");
    columns_ = fields_.size();
    article_ = column("article");
    highlights_ = column("highlights");
    id_ = column("id");
    if (!article_ || !highlights_) {
      refuse("no column \"{}\": the first row names article and highlights",
             article_ ? "highlights" : "article");
    }
  }

  bool next(Article& article) override {
    do {
      if (!read_row()) return false;
    } while (fields_.size() == 1 && fields_[0].empty());  // an empty line
    if (fields_.size() != columns_) {
      refuse("{} fields, the first row has {}", fields_.size(), columns_);
    }
    article.article = std::move(fields_[*article_]);
    article.highlights = std::move(fields_[*highlights_]);
    article.id = id_ ? std::move(fields_[*id_]) : "";
    return true;
  }

 private:
  std::optional<size_t> column(std::string_view name) const {
    const auto found = std::find(fields_.begin(), fields_.end(), name);
    if (found == fields_.end()) return std::nullopt;
    return static_cast<size_t>(found - fields_.begin());
  }

  /// Reads fields up to the end of a row; false at the end of the file.
  bool read_row() {
    fields_.clear();
    row_bytes_ = 0;
    line_ = in_.line();
    if (!in_.peek()) return false;
    while (true) {
      if (fields_.size() == kMaxColumns) refuse("more than {} columns", kMaxColumns);
      fields_.emplace_back();
      if (in_.peek() == '"') {
        read_quoted(fields_.back());
      } else {
        read_plain(fields_.back());
      }
      const std::optional<char> end = in_.get();
      if (end == ',') continue;
      if (end == '\r' && in_.peek() == '\n') in_.get();
      return true;
    }
  }

  void read_quoted(std::string& field) {
    in_.get();
    while (true) {
      const std::optional<char> c = in_.get();
      if (!c) refuse("a quoted field does not end");
      if (*c == '"' && in_.peek() != '"') break;
      if (*c == '"') in_.get();
      add(field, *c);
    }
    if (!at_field_end())
      refuse("something follows a closing quote: double the quotes within a field");
  }

  void read_plain(std::string& field) {
    while (!at_field_end()) {
      const char c = *in_.get();
      if (c == '"') refuse("a quote within a field that is not quoted: quote the field");
      add(field, c);
    }
  }

  bool at_field_end() {
    const std::optional<char> c = in_.peek();
    return !c || *c == ',' || *c == '\n' || *c == '\r';
  }

  void add(std::string& field, char c) {
    if (++row_bytes_ > kMaxRecordBytes) {
      refuse("longer than {} bytes: is a closing quote missing?", kMaxRecordBytes);
    }
    field += c;
  }

  std::vector<std::string> fields_;
  size_t row_bytes_ = 0;
  size_t columns_ = 0;
  std::optional<size_t> article_;
  std::optional<size_t> highlights_;
  std::optional<size_t> id_;
};

std::vector<std::string> article_files(FileSystem& fs, const std::string& path) {
  if (!fs.exists(path)) {
    fail(ErrorCode::kNotFound, "[dataset] {} does not exist: pass a folder or file of articles",
         path);
  }
  if (!fs.is_directory(path)) {
    if (is_article_file(file_name(path))) return {path};
    fail(ErrorCode::kUnsupported, "[dataset] {}: articles are read from .jsonl, .json and .csv",
         path);
  }
  std::vector<std::string> test;
  std::vector<std::string> all;
  for (const std::string& name : fs.list(path)) {
    if (!is_article_file(name)) continue;
    all.push_back(join_path(path, name));
    if (lower(name).find("test") != std::string::npos) test.push_back(all.back());
  }
  if (all.empty()) {
    fail(ErrorCode::kNotFound, "[dataset] {} holds no articles: put a .jsonl or .csv file there",
         path);
  }
  return test.empty() ? all : test;
}

}  // namespace

ArticleReader::ArticleReader(FileSystem& fs, const std::string& path)
    : fs_(fs), files_(article_files(fs, path)) {}

ArticleReader::~ArticleReader() = default;

bool ArticleReader::next(Article& article) {
  while (true) {
    if (records_ != nullptr && records_->next(article)) return true;
    records_.reset();
    if (next_file_ == files_.size()) return false;
    const std::string& path = files_[next_file_++];
    if (is_csv(path)) {
      records_ = std::make_unique<CsvRecords>(fs_, path);
    } else {
      records_ = std::make_unique<JsonRecords>(fs_, path);
    }
  }
}

}  // namespace headrace
