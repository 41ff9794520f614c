#include "checkpoint/safetensors_header.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/quote.h"

namespace headrace {
namespace {

using nlohmann::json;

constexpr size_t kMaxDimensions = 8;
constexpr uint64_t kLargestDimension = uint64_t{1} << 62;

struct ElementType {
  std::string_view name;
  uint64_t bytes;
  std::optional<DType> dtype;
};

constexpr std::array kElementTypes = {
    ElementType{"F32", 4, DType::kFloat32},
    ElementType{"F16", 2, DType::kFloat16},
    ElementType{"BF16", 2, DType::kBFloat16},
    ElementType{"F64", 8, {}},
    ElementType{"I64", 8, {}},
    ElementType{"U64", 8, {}},
    ElementType{"I32", 4, {}},
    ElementType{"U32", 4, {}},
    ElementType{"I16", 2, {}},
    ElementType{"U16", 2, {}},
    ElementType{"I8", 1, {}},
    ElementType{"U8", 1, {}},
    ElementType{"BOOL", 1, {}},
    ElementType{"F8_E4M3", 1, {}},
    ElementType{"F8_E5M2", 1, {}},
    ElementType{"F8_E8M0", 1, {}},
};

/// Receives the header's tokens. {"name": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0,
/// 12]},
/// ..., "__metadata__": {"any": "text"}}
class HeaderHandler : public nlohmann::json_sax<json> {
 public:
  explicit HeaderHandler(const std::string& path) : path_(path) {}

  std::vector<TensorEntry> take_entries() { return std::move(entries_); }

  bool start_object(size_t) override {
    if (depth_ == 1 && names_.empty()) bad("has an object without a name");
    if (depth_ >= 2) bad("is nested too deeply");
    if (++depth_ == 2 && !in_metadata_) {
      entry_ = {.name = name_, .type = {}, .dtype = {}, .shape = {}};
      fields_ = 0;
    }
    return true;
  }
  bool key(string_t& text) override {
    if (depth_ == 1) {
      if (!names_.insert(text).second) bad(fmt::format("names {} twice", quote(text)));
      name_ = text;
      in_metadata_ = text == "__metadata__";
      return true;
    }
    if (in_metadata_) return true;
    field_ = text == "dtype" ? kType : text == "shape" ? kShape : kOffsets;
    if (field_ == kOffsets && text != "data_offsets") {
      bad(fmt::format("has an unknown field {} in {}", quote(text), quote(name_)));
    }
    if ((fields_ & field_) != 0) bad(fmt::format("says {} twice in {}", text, quote(name_)));
    fields_ |= field_;
    return true;
  }
  bool string(string_t& text) override {
    if (depth_ != 2) bad("has text where a tensor should be");
    if (in_metadata_) return true;
    if (field_ != kType || in_array_) bad_field();
    entry_.type = text;
    return true;
  }
  bool start_array(size_t) override {
    if (depth_ != 2 || in_metadata_ || in_array_ || field_ == kType) bad("has a misplaced list");
    in_array_ = true;
    numbers_.clear();
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (!in_array_) bad("has a misplaced number");
    if (value > kLargestDimension || numbers_.size() >= kMaxDimensions) bad_field();
    numbers_.push_back(value);
    return true;
  }
  bool end_array() override {
    in_array_ = false;
    if (field_ == kShape) {
      for (const uint64_t size : numbers_) entry_.shape.push_back(static_cast<int64_t>(size));
      return true;
    }
    if (numbers_.size() != 2 || numbers_[0] > numbers_[1]) bad_field();
    entry_.offset = numbers_[0];
    entry_.size_bytes = numbers_[1] - numbers_[0];
    return true;
  }
  bool end_object() override {
    if (--depth_ == 1 && !in_metadata_) finish_entry();
    return true;
  }

  bool null() override { bad("has a null"); }
  bool boolean(bool) override { bad("has a truth value"); }
  bool number_integer(number_integer_t) override { bad("has a negative number"); }
  bool number_float(number_float_t, const string_t&) override { bad("has a fraction"); }
  bool binary(binary_t&) override { bad("has binary data"); }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    bad(fmt::format("is not JSON at byte {}", position));
  }

 private:
  enum Field : unsigned { kType = 1, kShape = 2, kOffsets = 4 };

  [[noreturn]] void bad(const std::string& what) const {
    fail(ErrorCode::kCorrupt, "[safetensors] {}: the header {}", path_, what);
  }
  [[noreturn]] void bad_field() const {
    bad(fmt::format("has a wrong {} for {}",
                    field_ == kType    ? "dtype"
                    : field_ == kShape ? "shape"
                                       : "data_offsets",
                    quote(name_)));
  }

  void finish_entry() {
    if (fields_ != (kType | kShape | kOffsets)) {
      bad(fmt::format("lacks dtype, shape or data_offsets for {}", quote(name_)));
    }
    const auto* type = std::find_if(kElementTypes.begin(), kElementTypes.end(),
                                    [&](const ElementType& t) { return t.name == entry_.type; });
    if (type == kElementTypes.end()) {
      fail(ErrorCode::kUnsupported, "[safetensors] {}: {} has the unknown element type {}", path_,
           quote(name_), quote(entry_.type));
    }
    entry_.dtype = type->dtype;
    uint64_t bytes = type->bytes;
    for (const int64_t size : entry_.shape) {
      if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes)) {
        bad(fmt::format("gives {} a shape that no file can hold", quote(name_)));
      }
    }
    if (bytes != entry_.size_bytes) {
      bad(fmt::format("gives {} {} bytes of data, its shape needs {}", quote(name_),
                      entry_.size_bytes, bytes));
    }
    entries_.push_back(std::move(entry_));
  }

  const std::string& path_;
  int depth_ = 0;
  bool in_array_ = false;
  bool in_metadata_ = false;
  unsigned fields_ = 0;  // those seen in this entry
  Field field_ = kType;
  std::string name_;
  TensorEntry entry_;
  std::vector<uint64_t> numbers_;
  std::set<std::string, std::less<>> names_;
  std::vector<TensorEntry> entries_;
};

/// Makes offsets absolute. The data must fill the file without gaps or overlaps.
void place_entries(std::vector<TensorEntry>& entries, uint64_t data_offset, uint64_t file_bytes,
                   const std::string& path) {
  std::stable_sort(entries.begin(), entries.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::pair(a.offset, a.size_bytes) < std::pair(b.offset, b.size_bytes);
  });
  uint64_t end = 0;
  for (TensorEntry& entry : entries) {
    if (entry.offset != end) {
      fail(ErrorCode::kCorrupt, "[safetensors] {}: the data of {} {} what lies before it", path,
           quote(entry.name), entry.offset < end ? "overlap" : "leave a gap behind");
    }
    if (entry.size_bytes > file_bytes - data_offset - end) {
      fail(ErrorCode::kCorrupt,
           "[safetensors] {}: the data of {} end behind the file's end: it is "
           "truncated or was forged",
           path, quote(entry.name));
    }
    end += entry.size_bytes;
    entry.offset += data_offset;
  }
  if (end != file_bytes - data_offset) {
    fail(ErrorCode::kCorrupt, "[safetensors] {}: {} bytes behind the last tensor belong to none",
         path, file_bytes - data_offset - end);
  }
}

}  // namespace

std::vector<TensorEntry> parse_safetensors_header(std::string_view json_text, uint64_t data_offset,
                                                  uint64_t file_bytes, const std::string& path) {
  HR_CHECK(data_offset <= file_bytes);
  HeaderHandler handler(path);
  const size_t first = json_text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || json_text[first] != '{') {
    fail(ErrorCode::kCorrupt, "[safetensors] {}: the header is not a JSON object", path);
  }
  json::sax_parse(json_text.begin(), json_text.end(), &handler);
  std::vector<TensorEntry> entries = handler.take_entries();
  place_entries(entries, data_offset, file_bytes, path);
  return entries;
}

}  // namespace headrace
