#include "checkpoint/convert.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/output_directory.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "checkpoint/architecture.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/model_source.h"
#include "checkpoint/random_weights.h"
#include "checkpoint/safetensors_writer.h"
#include "checkpoint/tensor_layout.h"
#include "checkpoint/text_check.h"

namespace headrace {
namespace {

constexpr int64_t kPieceElements = int64_t{4} << 20;  // at most 16 MiB in and 16 MiB out
constexpr int64_t kGrain = int64_t{64} << 10;         // elements that a thread takes at a time

/// Writes the tensors of a checkpoint, front to back, and shows how far it came.
class WeightsWriter {
 public:
  WeightsWriter(WritableFile& file, const ModelConfig& config,
                const std::vector<CheckpointTensor>& tensors, Progress& progress)
      : writer_(file, list(config, tensors)), progress_(progress) {
    progress_.start("Converting", writer_.data_bytes(), "bytes");
  }

  uint64_t data_bytes() const { return writer_.data_bytes(); }
  void append(std::span<const std::byte> bytes) {
    writer_.append(bytes);
    done_ += bytes.size();
    progress_.update(done_);
  }
  void finish() {
    writer_.finish();
    progress_.finish();
  }

 private:
  static std::vector<TensorToWrite> list(const ModelConfig& config,
                                         const std::vector<CheckpointTensor>& tensors) {
    std::vector<TensorToWrite> all;
    for (const CheckpointTensor& tensor : tensors) {
      all.push_back({.name = tensor.full_name(), .dtype = config.dtype, .shape = tensor.shape});
    }
    return all;
  }

  SafetensorsWriter writer_;
  Progress& progress_;
  uint64_t done_ = 0;
};

/// Copies parts of a source to a checkpoint.
class Converter {
 public:
  Converter(const ModelSource& source, DType dtype, ThreadPool& pool, WeightsWriter& writer)
      : source_(source), dtype_(dtype), pool_(pool), writer_(writer) {}

  void copy(const SourcePart& part, ConvertReport& report) {
    const ModelSource::Stored stored = source_.find(part);
    uint64_t elements = 1;
    for (const int64_t size : part.shape) elements *= static_cast<uint64_t>(size);
    const auto count = static_cast<int64_t>(elements);
    for (int64_t begin = 0; begin < count; begin += kPieceElements) {
      const int64_t size = std::min(kPieceElements, count - begin);
      read(part, stored, begin, size);
      report.narrowing += convert(stored.type, size);
      writer_.append(out_);
    }
    if (is_narrowing(stored.type, dtype_)) report.narrowed_values += elements;
  }

 private:
  /// Bytes of `elements` stored ones, a whole number of blocks.
  static uint64_t stored_bytes(QuantType type, int64_t elements) {
    return static_cast<uint64_t>(elements / block_elements(type)) * block_bytes(type);
  }

  /// Reads elements [begin, begin + size) of our order.
  void read(const SourcePart& part, const ModelSource::Stored& stored, int64_t begin,
            int64_t size) {
    in_.resize(stored_bytes(stored.type, size));
    if (stored.interleaved_heads == 0) {
      source_.read(stored, stored_bytes(stored.type, begin), in_);
      return;
    }
    const int64_t rows = part.shape[0];
    const int64_t columns = part.shape.size() == 2 ? part.shape[1] : 1;
    const int64_t head_rows = rows / stored.interleaved_heads;
    for (int64_t done = 0; done < size;) {
      const int64_t row = (begin + done) / columns;
      const int64_t column = (begin + done) % columns;
      const int64_t length = std::min(columns - column, size - done);
      const int64_t in_head = row % head_rows;
      const int64_t half = head_rows / 2;
      const int64_t theirs = row - in_head + 2 * (in_head % half) + in_head / half;
      source_.read(stored, stored_bytes(stored.type, theirs * columns + column),
                   std::span(in_).subspan(stored_bytes(stored.type, done),
                                          stored_bytes(stored.type, length)));
      done += length;
    }
  }

  Narrowing convert(QuantType type, int64_t size) {
    out_.resize(static_cast<uint64_t>(size) * dtype_size(dtype_));
    Narrowing total;
    std::mutex mutex;
    pool_.parallel_for(size, kGrain, [&](int64_t begin, int64_t end) {
      const Narrowing narrowing = convert_values(
          type, std::span(in_).subspan(stored_bytes(type, begin), stored_bytes(type, end - begin)),
          dtype_,
          std::span(out_).subspan(static_cast<uint64_t>(begin) * dtype_size(dtype_),
                                  static_cast<uint64_t>(end - begin) * dtype_size(dtype_)));
      const std::lock_guard lock(mutex);
      total += narrowing;
    });
    return total;
  }

  const ModelSource& source_;
  const DType dtype_;
  ThreadPool& pool_;
  WeightsWriter& writer_;
  std::vector<std::byte> in_;
  std::vector<std::byte> out_;
};

/// A tensor that nobody reads could change what the model says: refuse it.
void check_nothing_left_over(const ModelSource& source, const std::string& model_path,
                             const std::vector<CheckpointTensor>& tensors) {
  std::set<std::string> used;
  for (const CheckpointTensor& tensor : tensors) {
    for (const SourcePart& part : source.architecture().parts(source.config(), tensor)) {
      source.find(part);  // all are there, before anything is written
      used.insert(source.name_of(part));
    }
  }
  for (const std::string& name : source.tensor_names()) {
    if (used.contains(name) || source.architecture().may_ignore(name)) continue;
    fail(ErrorCode::kUnsupported,
         "[convert] {} holds the tensor {}, which a {} with this configuration does not have",
         model_path, printable(name), source.architecture().name);
  }
}

void add_companions(const ModelSource& source, OutputDirectory& output) {
  for (const CompanionFile& file : source.companion_files()) {
    if (file.path.empty()) {
      output.write_text(file.name, file.text);
    } else {
      output.copy_file(file.name, file.path);
    }
  }
}

/// A tokenizer that an earlier model left in the folder must not serve this one.
void remove_stale_companions(FileSystem& fs, const std::string& output_dir,
                             const std::vector<CompanionFile>& ours) {
  if (!fs.is_directory(output_dir)) return;
  for (const std::string& name : fs.list(output_dir)) {
    const bool kept =
        std::ranges::any_of(ours, [&](const CompanionFile& file) { return file.name == name; });
    if (is_companion_file(name) && !kept) fs.remove(join_path(output_dir, name));
  }
}

float deviation_of(const CheckpointTensor& tensor) {
  if (tensor.kind == TensorKind::kBias) return 0.02f;
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(tensor.shape.back())));
}

/// Fills `out` with elements from `first` of a tensor of a model that nobody trained.
void invent(const CheckpointTensor& tensor, std::optional<uint64_t> stream, uint64_t first,
            DType dtype, std::span<std::byte> out) {
  if (!stream) {
    std::ranges::fill(out, std::byte{0});
  } else if (tensor.kind == TensorKind::kNorm) {
    const float one = 1.0f;
    const auto one_bytes = std::as_bytes(std::span(&one, 1));
    for (size_t i = 0; i < out.size(); i += dtype_size(dtype)) {
      convert_values(QuantType::kF32, one_bytes, dtype, out.subspan(i, dtype_size(dtype)));
    }
  } else {
    fill_random(*stream, first, deviation_of(tensor), dtype, out);
  }
}

void write_invented(const CheckpointTensor& tensor, std::optional<uint64_t> stream, DType dtype,
                    ThreadPool& pool, WeightsWriter& writer) {
  const auto count = static_cast<int64_t>(tensor.elements());
  std::vector<std::byte> piece;
  for (int64_t begin = 0; begin < count; begin += kPieceElements) {
    const int64_t size = std::min(kPieceElements, count - begin);
    piece.resize(static_cast<size_t>(size) * dtype_size(dtype));
    pool.parallel_for(size, kGrain, [&](int64_t from, int64_t to) {
      invent(tensor, stream, static_cast<uint64_t>(begin + from), dtype,
             std::span(piece).subspan(static_cast<size_t>(from) * dtype_size(dtype),
                                      static_cast<size_t>(to - from) * dtype_size(dtype)));
    });
    writer.append(piece);
  }
}

}  // namespace

ConvertReport convert_model(const std::string& model_path, const std::string& output_dir,
                            std::optional<DType> dtype, Context& context) {
  check_output_folder(context.fs, output_dir, "convert", "rank0.engine");
  const auto source = open_model_source(context.fs, context.log, model_path);
  ConvertReport report;
  report.config = source->config();
  if (dtype) report.config.dtype = *dtype;
  const std::vector<CheckpointTensor> tensors = checkpoint_tensors(report.config);
  check_nothing_left_over(*source, model_path, tensors);
  report.tensors = tensors.size();

  OutputDirectory output(context.fs, output_dir);
  {
    const auto file = output.create(std::string(kCheckpointWeightsFile));
    WeightsWriter writer(*file, report.config, tensors, context.progress);
    Converter converter(*source, report.config.dtype, context.pool, writer);
    for (const CheckpointTensor& tensor : tensors) {
      for (const SourcePart& part : source->architecture().parts(report.config, tensor)) {
        converter.copy(part, report);
      }
    }
    writer.finish();
    report.bytes = writer.data_bytes();
    file->sync();
  }
  add_companions(*source, output);
  output.write_text("config.json", model_config_to_json(report.config));
  remove_stale_companions(context.fs, output_dir, source->companion_files());
  output.commit();
  return report;
}

ConvertReport make_checkpoint(const ModelConfig& config, std::optional<uint64_t> seed,
                              const std::string& output_dir, Context& context) {
  check_output_folder(context.fs, output_dir, "convert", "rank0.engine");
  validate_model_config(config, "the model's shape");
  ConvertReport report;
  report.config = config;
  const std::vector<CheckpointTensor> tensors = checkpoint_tensors(config);
  report.tensors = tensors.size();
  OutputDirectory output(context.fs, output_dir);
  {
    const auto file = output.create(std::string(kCheckpointWeightsFile));
    WeightsWriter writer(*file, config, tensors, context.progress);
    for (size_t i = 0; i < tensors.size(); ++i) {
      const auto stream = seed ? std::optional(random_stream(*seed, i)) : std::nullopt;
      write_invented(tensors[i], stream, config.dtype, context.pool, writer);
    }
    writer.finish();
    report.bytes = writer.data_bytes();
    file->sync();
  }
  output.write_text("config.json", model_config_to_json(config));
  remove_stale_companions(context.fs, output_dir, {});
  output.commit();
  return report;
}

}  // namespace headrace
