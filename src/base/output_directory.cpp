#include "base/output_directory.h"

#include <algorithm>

#include <unistd.h>

#include "base/error.h"

namespace headrace {
namespace {

constexpr std::string_view kLastFile = "config.json";
constexpr std::string_view kStagingPrefix = ".headrace-tmp-";  // and the process that writes

std::string parent_path(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return "";
  return slash == 0 ? "/" : path.substr(0, slash);
}

bool names_staging(std::string_view name) {
  if (!name.starts_with(kStagingPrefix)) return false;
  name.remove_prefix(kStagingPrefix.size());
  return !name.empty() && name.find_first_not_of("0123456789") == std::string_view::npos;
}

/// What a killed process left in a folder is as large as what it was to make.
void remove_left_behind(FileSystem& fs, const std::string& folder) {
  for (const std::string& name : fs.list(folder)) {
    if (!names_staging(name)) continue;
    const std::string staging = join_path(folder, name);
    const auto lock = fs.lock_folder(staging);
    if (!lock) continue;
    try {
      for (const std::string& file : fs.list(staging)) fs.remove(join_path(staging, file));
      fs.remove(staging);
    } catch (const Error&) {  // NOLINT(bugprone-empty-catch): nothing depends on it
    }
  }
}

}  // namespace

OutputDirectory::OutputDirectory(FileSystem& fs, std::string path)
    : fs_(fs), path_(std::move(path)) {
  while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
  if (path_.empty()) fail(ErrorCode::kInvalidArgument, "[output] the output folder has no name");
  for (std::string p = path_; !p.empty() && !fs_.exists(p); p = parent_path(p)) {
    created_folders_.insert(created_folders_.begin(), p);
  }
  staging_ = join_path(path_, fmt::format("{}{}", kStagingPrefix, ::getpid()));
  try {
    if (created_folders_.empty()) remove_left_behind(fs_, path_);
    fs_.create_directories(staging_);
    lock_ = fs_.lock_folder(staging_);
  } catch (...) {
    discard();
    throw;
  }
}

OutputDirectory::~OutputDirectory() {
  if (!committed_) discard();
}

std::unique_ptr<WritableFile> OutputDirectory::create(const std::string& name) {
  HR_CHECK(std::find(names_.begin(), names_.end(), name) == names_.end());
  names_.push_back(name);
  return fs_.create(join_path(staging_, name));
}

void OutputDirectory::write_text(const std::string& name, std::string_view text) {
  const auto file = create(name);
  append_text(*file, text);
  file->sync();
}

void OutputDirectory::copy_file(const std::string& name, const std::string& source) {
  constexpr uint64_t kChunkBytes = 1 << 20;
  const auto from = fs_.open(source);
  const auto to = create(name);
  std::vector<std::byte> chunk(std::min(kChunkBytes, from->size()));
  while (to->size() < from->size()) {
    const std::span<std::byte> piece(chunk.data(),
                                     std::min(kChunkBytes, from->size() - to->size()));
    from->read(to->size(), piece);
    to->append(piece);
  }
  to->sync();
}

void OutputDirectory::commit() {
  HR_CHECK(!committed_);
  std::stable_partition(names_.begin(), names_.end(),
                        [](const std::string& name) { return name != kLastFile; });
  fs_.sync_directory(staging_);
  fs_.remove(join_path(path_, kLastFile));
  for (const std::string& name : names_) {
    fs_.rename(join_path(staging_, name), join_path(path_, name));
  }
  committed_ = true;
  fs_.sync_directory(path_);
  fs_.remove(staging_);
}

void OutputDirectory::discard() noexcept {
  const auto attempt = [&](const std::string& path) {
    try {
      fs_.remove(path);
    } catch (const Error&) {  // best effort: the first error is already on its way to the user
    }
  };
  for (const std::string& name : names_) attempt(join_path(staging_, name));
  attempt(staging_);
  for (auto it = created_folders_.rbegin(); it != created_folders_.rend(); ++it) attempt(*it);
}

}  // namespace headrace
