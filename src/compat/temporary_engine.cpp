#include "compat/temporary_engine.h"

#include <cerrno>
#include <fstream>

#include <stdlib.h>

#include "base/error.h"

namespace headrace::compat {

TemporaryEngine::TemporaryEngine(std::basic_string_view<uint8_t> weights,
                                 const std::string& config_json) {
  std::string name = (std::filesystem::temp_directory_path() / "headrace-engine-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) fail_io("[executor]", "create", name, errno);
  path_ = name;
  try {
    write("config.json", config_json);
    write("rank0.engine", {reinterpret_cast<const char*>(weights.data()), weights.size()});
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
    throw;
  }
}

TemporaryEngine::~TemporaryEngine() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void TemporaryEngine::write(const char* name, std::string_view content) {
  const std::filesystem::path path = path_ / name;
  std::ofstream out(path, std::ios::binary);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  out.close();
  if (!out) fail_io("[executor]", "write", path.string(), errno);
}

}  // namespace headrace::compat
