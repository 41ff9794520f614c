#include <algorithm>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "headrace/app.h"
#include "headrace/inspect_report.h"

namespace headrace::app {
namespace {

constexpr const char* kExample = R"(Examples:
  headrace inspect engine_outputs
  headrace inspect engine_outputs --verify
  headrace inspect model.gguf --json)";

struct InspectFlags {
  std::string path;
  bool verify = false;
  bool json = false;
};

std::string parent_folder(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

/// First bytes of a file, fewer if it is shorter.
std::string first_bytes(FileSystem& fs, const std::string& path) {
  const auto file = fs.open(path);
  std::string bytes(std::min<uint64_t>(file->size(), 8), '\0');
  file->read(0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

InspectReport inspect_file(const InspectFlags& flags, Context& context) {
  const std::string magic = first_bytes(context.fs, flags.path);
  if (magic == "HRENGINE") {
    return inspect_engine(parent_folder(flags.path), flags.verify, context);
  }
  if (magic.starts_with("GGUF")) return inspect_gguf(flags.path, context);
  return inspect_safetensors(flags.path, context);
}

InspectReport inspect_path(const InspectFlags& flags, Context& context) {
  FileSystem& fs = context.fs;
  if (!fs.exists(flags.path)) {
    fail(ErrorCode::kNotFound, "[inspect] File does not exist: {}", flags.path);
  }
  if (!fs.is_directory(flags.path)) return inspect_file(flags, context);
  if (fs.exists(join_path(flags.path, "rank0.engine"))) {
    return inspect_engine(flags.path, flags.verify, context);
  }
  if (fs.exists(join_path(flags.path, "rank0.safetensors"))) {
    return inspect_checkpoint(flags.path, context);
  }
  return inspect_safetensors(flags.path, context);
}

int inspect(const InspectFlags& flags, Context& context) {
  const InspectReport report = inspect_path(flags, context);
  if (flags.verify && report.json.at("kind") != "engine") {
    context.log.warning("--verify: only engines hold checksums; the structure has been checked");
  }
  if (flags.json) {
    const auto replace = nlohmann::ordered_json::error_handler_t::replace;
    std::printf("%s\n", report.json.dump(1, ' ', false, replace).c_str());
  } else {
    std::fputs(report.text.c_str(), stdout);
  }
  if (report.damaged.empty()) return 0;
  fail(ErrorCode::kCorrupt,
       "[inspect] {}: {} of its parts are damaged, the first is {}: build the engine again",
       flags.path, report.damaged.size(), report.damaged.front());
}

}  // namespace

void add_inspect_command(App& app) {
  CLI::App* command = app.cli.add_subcommand(
      "inspect", "Describe an engine, a checkpoint, a GGUF or a safetensors file");
  command->footer(kExample);
  const auto flags = std::make_shared<InspectFlags>();  // shared with the callback, which is copied
  command->add_option("path", flags->path, "File or folder")->required();
  command->add_flag("--verify", flags->verify, "Check every checksum and coded row of an engine");
  command->add_flag("--json", flags->json, "Print JSON");
  add_common_flags(app, *command);
  command->final_callback(
      [&app, flags] { app.body = [flags](Context& context) { return inspect(*flags, context); }; });
}

}  // namespace headrace::app
