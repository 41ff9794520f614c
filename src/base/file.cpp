#include "base/file.h"

#include <algorithm>

#include <unistd.h>

#include "base/error.h"

namespace headrace {

std::string read_text_file(FileSystem& fs, const std::string& path, uint64_t limit_bytes) {
  const auto file = fs.open(path);
  if (file->size() > limit_bytes) {
    fail(ErrorCode::kInvalidArgument, "[file] {} holds {} bytes; at most {} are read", path,
         file->size(), limit_bytes);
  }
  std::string text(file->size(), '\0');
  file->read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

void append_text(WritableFile& file, std::string_view text) {
  file.append(std::as_bytes(std::span(text)));
}

void write_file_atomically(FileSystem& fs, const std::string& path,
                           const std::function<void(WritableFile&)>& fill) {
  if (fs.is_special(path)) return fill(*fs.create(path));
  const std::string target = fs.resolved(path);
  const std::string temporary = fmt::format("{}.tmp{}", target, ::getpid());
  try {
    const auto file = fs.create(temporary);
    fill(*file);
    file->sync();
    fs.rename(temporary, target);
  } catch (...) {
    try {
      fs.remove(temporary);
    } catch (
        const Error&) {  // NOLINT(bugprone-empty-catch): the first failure is the one to report
    }
    throw;
  }
}

void write_text_file(FileSystem& fs, const std::string& path, std::string_view text) {
  write_file_atomically(fs, path, [&](WritableFile& file) { append_text(file, text); });
}

std::string join_path(std::string_view directory, std::string_view name) {
  if (directory.empty()) return std::string(name);
  std::string path(directory);
  if (path.back() != '/') path += '/';
  path += name;
  return path;
}

std::string file_name(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

}  // namespace headrace
