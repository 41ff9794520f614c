#include <algorithm>
#include <array>
#include <limits>
#include <numeric>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/text_check.h"

namespace headrace {
namespace {

constexpr size_t kMaxDimensions = 8;
constexpr const char* kMetadataKey = "__metadata__";

struct StoredType {
  const char* name;
  uint32_t size_bytes;
  std::optional<DType> dtype;
};
constexpr std::array kStoredTypes = {
    StoredType{"F32", 4, DType::kFloat32},   StoredType{"F16", 2, DType::kFloat16},
    StoredType{"BF16", 2, DType::kBFloat16}, StoredType{"F64", 8, std::nullopt},
    StoredType{"I64", 8, std::nullopt},      StoredType{"U64", 8, std::nullopt},
    StoredType{"I32", 4, std::nullopt},      StoredType{"U32", 4, std::nullopt},
    StoredType{"I16", 2, std::nullopt},      StoredType{"U16", 2, std::nullopt},
    StoredType{"I8", 1, std::nullopt},       StoredType{"U8", 1, std::nullopt},
    StoredType{"BOOL", 1, std::nullopt},     StoredType{"F8_E4M3", 1, std::nullopt},
    StoredType{"F8_E5M2", 1, std::nullopt},
};

template <typename... Args>
[[noreturn]] void corrupt(std::string_view where, fmt::format_string<Args...> format,
                          Args&&... args) {
  fail(ErrorCode::kCorrupt, "[safetensors] {}: {}", where,
       fmt::format(format, std::forward<Args>(args)...));
}

const StoredType& stored_type(const TensorEntry& entry, std::string_view where) {
  const auto* found = std::ranges::find_if(
      kStoredTypes, [&](const StoredType& type) { return entry.stored_type == type.name; });
  if (found == kStoredTypes.end()) {
    fail(ErrorCode::kUnsupported, "[safetensors] {}: tensor {} has the unknown type '{}'", where,
         printable(entry.name), printable(entry.stored_type));
  }
  return *found;
}

/// Receives the header's JSON token by token, so that nothing is kept but the entries, no name can
/// hide behind a second one, and nesting costs nothing. Every callback returns true or throws.
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderHandler(uint64_t data_begin, std::string_view where)
      : data_begin_(data_begin), where_(where) {}

  std::vector<TensorEntry> take_entries() { return std::move(entries_); }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("true or false"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return unexpected("a fraction"); }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ == State::kShape) {
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        corrupt(where_, "tensor {} has a dimension of {}", name(), value);
      }
      if (entries_.back().shape.size() == kMaxDimensions) {
        corrupt(where_, "tensor {} has more than {} dimensions", name(), kMaxDimensions);
      }
      entries_.back().shape.push_back(static_cast<int64_t>(value));
    } else if (state_ == State::kOffsets && offset_count_ < offsets_.size()) {
      offsets_[offset_count_++] = value;
    } else {
      unexpected("a number");
    }
    return true;
  }

  bool string(string_t& value) override {
    if (state_ == State::kMetadata) return true;
    if (state_ != State::kTensor || field_ != Field::kDType) return unexpected("a string");
    entries_.back().stored_type = value;
    field_ = Field::kNone;
    return true;
  }

  bool start_object(std::size_t) override {
    if (state_ == State::kStart) {
      state_ = State::kRoot;
    } else if (state_ == State::kRoot) {
      state_ = next_is_metadata_ ? State::kMetadata : State::kTensor;
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool key(string_t& value) override {
    if (state_ == State::kRoot) {
      next_is_metadata_ = value == kMetadataKey;
      if (next_is_metadata_) return true;
      entries_.emplace_back().name = value;
      seen_ = 0;
    } else if (state_ == State::kTensor) {
      begin_field(value);
    }
    return true;
  }

  bool end_object() override {
    if (state_ == State::kTensor) finish_tensor();
    state_ = state_ == State::kRoot ? State::kEnd : State::kRoot;
    return true;
  }

  bool start_array(std::size_t) override {
    if (state_ == State::kTensor && field_ == Field::kShape) {
      state_ = State::kShape;
    } else if (state_ == State::kTensor && field_ == Field::kOffsets) {
      state_ = State::kOffsets;
      offset_count_ = 0;
    } else {
      unexpected("a list");
    }
    return true;
  }

  bool end_array() override {
    if (state_ == State::kOffsets && offset_count_ != offsets_.size()) {
      corrupt(where_, "tensor {}: data_offsets are not two numbers", name());
    }
    state_ = State::kTensor;
    field_ = Field::kNone;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception&) override {
    corrupt(where_, "the header is not JSON (byte {} of it)", position);
  }

 private:
  enum class State { kStart, kRoot, kMetadata, kTensor, kShape, kOffsets, kEnd };
  enum class Field : unsigned { kNone = 0, kDType = 1, kShape = 2, kOffsets = 4 };
  static constexpr unsigned kAllFields = 7;

  std::string name() const { return entries_.empty() ? "(none)" : printable(entries_.back().name); }

  bool unexpected(const char* what) {
    if (entries_.empty()) corrupt(where_, "the header holds {} where it should not", what);
    corrupt(where_, "the header holds {} where it should not, at tensor {}", what, name());
  }

  void begin_field(const std::string& key) {
    if (key == "dtype") {
      field_ = Field::kDType;
    } else if (key == "shape") {
      field_ = Field::kShape;
    } else if (key == "data_offsets") {
      field_ = Field::kOffsets;
    } else {
      corrupt(where_, "tensor {} has an unknown field '{}'", name(), printable(key));
    }
    const auto bit = static_cast<unsigned>(field_);
    if ((seen_ & bit) != 0) corrupt(where_, "tensor {} has '{}' twice", name(), key);
    seen_ |= bit;
  }

  void finish_tensor() {
    if (seen_ != kAllFields) {
      corrupt(where_, "tensor {} lacks dtype, shape or data_offsets", name());
    }
    TensorEntry& entry = entries_.back();
    const StoredType& type = stored_type(entry, where_);
    uint64_t bytes = type.size_bytes;
    bool overflow = false;
    for (const int64_t dimension : entry.shape) {
      overflow |= __builtin_mul_overflow(bytes, static_cast<uint64_t>(dimension), &bytes);
    }
    const auto [begin, end] = offsets_;
    if (overflow || end < begin || end - begin != bytes ||
        end > std::numeric_limits<uint64_t>::max() - data_begin_) {
      corrupt(where_, "tensor {}: data_offsets {} to {} are not those of its shape and type",
              name(), begin, end);
    }
    entry.dtype = type.dtype;
    entry.offset = data_begin_ + begin;
    entry.size_bytes = bytes;
  }

  const uint64_t data_begin_;
  const std::string_view where_;
  std::vector<TensorEntry> entries_;
  State state_ = State::kStart;
  Field field_ = Field::kNone;
  unsigned seen_ = 0;
  bool next_is_metadata_ = false;
  std::array<uint64_t, 2> offsets_{};
  size_t offset_count_ = 0;
};

void check_names(std::span<const TensorEntry> entries, std::string_view where) {
  std::vector<std::string_view> names;
  names.reserve(entries.size());
  for (const TensorEntry& entry : entries) names.push_back(entry.name);
  std::ranges::sort(names);
  const auto twice = std::ranges::adjacent_find(names);
  if (twice != names.end()) corrupt(where, "tensor {} is there twice", printable(*twice));
}

void check_coverage(std::span<const TensorEntry> entries, uint64_t data_begin, uint64_t file_bytes,
                    std::string_view where) {
  uint64_t next = data_begin;
  for (const TensorEntry& entry : entries) {
    if (entry.offset < next) {
      corrupt(where, "the data of tensor {} overlaps another's", printable(entry.name));
    }
    if (entry.offset > next) {
      corrupt(where, "{} bytes in front of tensor {} belong to no tensor", entry.offset - next,
              printable(entry.name));
    }
    next += entry.size_bytes;
    if (next > file_bytes) {
      corrupt(where, "tensor {} ends at byte {} of a file of {}: was it cut short?",
              printable(entry.name), next, file_bytes);
    }
  }
  if (next != file_bytes) {
    corrupt(where, "the last {} bytes belong to no tensor", file_bytes - next);
  }
}

}  // namespace

uint64_t TensorEntry::elements() const {
  return std::accumulate(shape.begin(), shape.end(), uint64_t{1},
                         [](uint64_t n, int64_t d) { return n * static_cast<uint64_t>(d); });
}

std::vector<TensorEntry> parse_safetensors_header(std::string_view text, uint64_t data_begin,
                                                  uint64_t file_bytes, std::string_view where) {
  HeaderHandler handler(data_begin, where);
  nlohmann::json::sax_parse(text, &handler);
  std::vector<TensorEntry> entries = handler.take_entries();
  std::ranges::sort(entries, [](const TensorEntry& a, const TensorEntry& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.size_bytes < b.size_bytes;
  });
  check_names(entries, where);
  check_coverage(entries, data_begin, file_bytes, where);
  return entries;
}

}  // namespace headrace
