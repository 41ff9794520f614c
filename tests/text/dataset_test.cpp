#include "text/dataset.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/error_matchers.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

using testing::expect_error;

class DatasetTest : public ::testing::Test {
 protected:
  std::string write(std::string_view name, std::string_view text) {
    const std::string path = folder_ / name;
    write_text_file(fs_, path, text);
    return path;
  }

  std::vector<Article> read(const std::string& path) {
    ArticleReader reader(fs_, path);
    std::vector<Article> articles;
    Article article;
    while (reader.next(article)) articles.push_back(article);
    return articles;
  }

  void expect_corrupt(std::string_view name, std::string_view text, const std::string& part) {
    const std::string path = write(name, text);
    expect_error(ErrorCode::kCorrupt, part, [&] { read(path); });
  }

  FileSystem& fs_ = posix_file_system();
  testing::TemporaryDirectory folder_;
};

TEST_F(DatasetTest, ReadsJsonLines) {
  const auto articles =
      read(write("a.jsonl",
                 "{\"article\": \"One.\\nTwo \\u00e9\", \"highlights\": \"H\", \"id\": "
                 "\"x\"}\r\n\n  \n{\"highlights\": \"\", \"article\": \"Z\", "
                 "\"other\": [1, {}], \"id\": 7}"));
  ASSERT_EQ(articles.size(), 2u);
  EXPECT_EQ(articles[0].article, "One.\nTwo \xc3\xa9");
  EXPECT_EQ(articles[0].highlights, "H");
  EXPECT_EQ(articles[0].id, "x");
  EXPECT_EQ(articles[1].article, "Z");
  EXPECT_EQ(articles[1].highlights, "");
  EXPECT_EQ(articles[1].id, "7");
}

TEST_F(DatasetTest, ReadsCsvWithQuotesAndNewlines) {
  const auto articles =
      read(write("a.csv",
                 "\xEF\xBB\xBFid,article,highlights\r\n"
                 "1,plain,h1\r\n"
                 "\"2\",\"with \"\"quotes\"\", commas\nand a line\",\"h\r\n2\"\r\n"
                 "\n"
                 "3,,\"\""));
  ASSERT_EQ(articles.size(), 3u);
  EXPECT_EQ(articles[0].id, "1");
  EXPECT_EQ(articles[0].article, "plain");
  EXPECT_EQ(articles[1].id, "2");
  EXPECT_EQ(articles[1].article, "with \"quotes\", commas\nand a line");
  EXPECT_EQ(articles[1].highlights, "h\r\n2");
  EXPECT_EQ(articles[2].article, "");
  EXPECT_EQ(articles[2].highlights, "");
}

TEST_F(DatasetTest, CsvColumnsComeInAnyOrder) {
  const auto articles = read(write("a.csv", "highlights,x,article\nH,1,A\n"));
  ASSERT_EQ(articles.size(), 1u);
  EXPECT_EQ(articles[0].article, "A");
  EXPECT_EQ(articles[0].highlights, "H");
  EXPECT_EQ(articles[0].id, "");
}

TEST_F(DatasetTest, FieldsMayCrossTheBuffer) {
  const std::string text(1'000'003, 'x');  // larger than the reader's buffer
  const auto articles =
      read(write("a.csv", "article,highlights\n\"" + text + "\n\"\"\"," + text + "\nA,H\n"));
  ASSERT_EQ(articles.size(), 2u);
  EXPECT_EQ(articles[0].article, text + "\n\"");
  EXPECT_EQ(articles[0].highlights, text);
  EXPECT_EQ(articles[1].article, "A");
}

TEST_F(DatasetTest, PrefersTheTestSplit) {
  write("train.csv", "article,highlights\ntrain,h\n");
  write("test.csv", "article,highlights\ntest,h\n");
  write("validation.jsonl", "{\"article\": \"validation\", \"highlights\": \"h\"}\n");
  const auto articles = read(folder_.path());
  ASSERT_EQ(articles.size(), 1u);
  EXPECT_EQ(articles[0].article, "test");
}

TEST_F(DatasetTest, ReadsAllFilesInOrderWithoutATestSplit) {
  write("b.jsonl", "{\"article\": \"b\", \"highlights\": \"h\"}\n");
  write("a.csv", "article,highlights\na,h\n");
  write("c.json", "{\"article\": \"c\", \"highlights\": \"h\"}\n");
  write(".hidden.csv", "nonsense");
  write("README.md", "nonsense");
  const auto articles = read(folder_.path());
  ASSERT_EQ(articles.size(), 3u);
  EXPECT_EQ(articles[0].article, "a");
  EXPECT_EQ(articles[1].article, "b");
  EXPECT_EQ(articles[2].article, "c");
}

TEST_F(DatasetTest, NothingToRead) {
  expect_error(ErrorCode::kNotFound, "holds no articles", [&] { read(folder_.path()); });
  expect_error(ErrorCode::kNotFound, "does not exist", [&] { read(folder_ / "none"); });
  expect_error(ErrorCode::kUnsupported, ".jsonl", [&] { read(write("a.parquet", "PAR1")); });
  EXPECT_TRUE(read(write("empty.jsonl", "")).empty());
}

TEST_F(DatasetTest, BrokenJsonNamesFileAndLine) {
  const std::string good = "{\"article\": \"a\", \"highlights\": \"h\"}\n";
  expect_corrupt("a.jsonl", good + "\n{\"article\": \"a\"", "a.jsonl line 3: not a JSON object");
  expect_corrupt("a.jsonl", good + "[]\n", "line 2");
  expect_corrupt("a.jsonl", "{\"article\": \"a\"}\n", "no \"highlights\"");
  expect_corrupt("a.jsonl", "{\"article\": 3, \"highlights\": \"h\"}\n", "\"article\" is not text");
  expect_corrupt("a.jsonl", "{\"article\": \"\xff\", \"highlights\": \"h\"}\n", "line 1");
  expect_corrupt("a.jsonl", std::string(17 << 20, ' '), "longer than");
  expect_corrupt("a.jsonl", std::string(1 << 20, '['), "line 1");
}

TEST_F(DatasetTest, BrokenCsvNamesFileAndLine) {
  const std::string header = "article,highlights\n";
  expect_corrupt("a.csv", "", "empty");
  expect_corrupt("a.csv", "article,summary\n", "no column \"highlights\"");
  expect_corrupt("a.csv", "text,highlights\n", "no column \"article\"");
  expect_corrupt("a.csv", header + "\"a\nb\",h\na,b,c\n", "a.csv line 4: 3 fields");
  expect_corrupt("a.csv", header + "a\n", "1 fields");
  expect_corrupt("a.csv", header + "\"a,h\n", "does not end");
  expect_corrupt("a.csv", header + "\"a\"b,h\n", "closing quote");
  expect_corrupt("a.csv", header + "a\"b,h\n", "not quoted");
  expect_corrupt("a.csv", std::string(2000, ','), "columns");
  expect_corrupt("a.csv", header + "\"" + std::string(17 << 20, 'x'), "longer than");
}

}  // namespace
}  // namespace headrace
