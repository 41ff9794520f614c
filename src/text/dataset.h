#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"

namespace headrace {

/// One sample of a summarisation set, in CNN/DailyMail's terms.
struct Article {
  std::string id;          // empty if the file has none
  std::string article;     // the text to be summarised
  std::string highlights;  // the reference summary, a sentence a line
};

/// Reads articles one by one from a file or from the files of a folder: .jsonl and .json (an object
/// a line) and .csv (RFC 4180; the first row names the columns), with the columns article,
/// highlights and, if there is one, id. Of a folder's files those with "test" in their names are
/// read, or all if there is none, in the order of their names. Holds one article in memory.
/// Confined to one thread.
class ArticleReader {
 public:
  /// `fs` must outlive the reader. Error{kNotFound} if there is nothing to read.
  ArticleReader(FileSystem& fs, const std::string& path);
  ~ArticleReader();
  ArticleReader(const ArticleReader&) = delete;
  ArticleReader& operator=(const ArticleReader&) = delete;

  /// Reads the next article; false after the last. Error{kCorrupt} naming file and line for what is
  /// not an article: broken JSON or quoting, missing columns, values that are not text, more than
  /// 16 MiB.
  bool next(Article& article);

  /// The files that are read, in order.
  const std::vector<std::string>& files() const { return files_; }

  class Records;

 private:
  FileSystem& fs_;
  std::vector<std::string> files_;
  size_t next_file_ = 0;
  std::unique_ptr<Records> records_;  // of the file being read
};

}  // namespace headrace
