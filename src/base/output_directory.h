#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/file.h"

namespace headrace {

/// Writes a set of files into a folder so that either all of them appear under their final names or
/// none does. Files are staged in a hidden folder inside `path`; commit() syncs them and renames
/// them, `config.json` last and after the old one is gone, so that a crash in between leaves a
/// folder without config.json, which no reader accepts. Other files in the folder are left alone.
/// An object destroyed without commit() removes what it staged, and the folder too if it made it;
/// what a killed process left staged is removed when the folder is next written into.
/// Confined to one thread.
class OutputDirectory {
 public:
  OutputDirectory(FileSystem& fs, std::string path);
  ~OutputDirectory();
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;

  /// Opens `name` for writing in the staging folder. Close the file before commit().
  std::unique_ptr<WritableFile> create(const std::string& name);
  /// Writes, syncs and closes a small file.
  void write_text(const std::string& name, std::string_view text);
  /// Copies `source` byte for byte, 1 MiB at a time.
  void copy_file(const std::string& name, const std::string& source);
  void commit();

 private:
  void discard() noexcept;

  FileSystem& fs_;
  std::string path_;
  std::string staging_;
  std::vector<std::string> created_folders_;  // outermost first; removed by discard()
  std::vector<std::string> names_;
  std::unique_ptr<FolderLock> lock_;  // of the staging folder: says that somebody writes there
  bool committed_ = false;
};

}  // namespace headrace
