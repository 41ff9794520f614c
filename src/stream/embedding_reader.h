#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/file.h"
#include "codec/row_layout.h"
#include "device/buffer.h"
#include "engine/engine_reader.h"
#include "stream/weight_stream.h"

namespace headrace {

/// Gathers rows of the token embedding table: from the arena where the table is tied to lm_head and
/// the row's tile is resident, otherwise from the engine file, just the row. Beside a backend with
/// memory of its own, the whole table is held in host memory. Confined to one thread.
class EmbeddingReader {
 public:
  /// `engine` and `stream` must outlive it. Reads the table if it is to be held; throws as gather()
  /// does.
  EmbeddingReader(const Engine& engine, WeightStream& stream);

  /// Writes rows `ids` to `out` [ids, hidden] in the engine's dtype, packed.
  /// Error{kInvalidArgument} for an id outside the vocabulary, {kIo} or {kCorrupt} for a row that
  /// cannot be read or does not match its checksum (rows of a tied table are covered by their
  /// tile's).
  void gather(std::span<const int32_t> ids, std::byte* out);

  /// Host memory that the table takes.
  uint64_t table_bytes() const { return table_.size_bytes(); }

 private:
  struct Place {
    const std::byte* resident = nullptr;  // null: read `offset` of the file
    uint64_t offset = 0;
    std::optional<RowLayout> code = {};  // of a row of a tied table that is coded
  };
  Place place_of(int32_t id) const;
  void load_table();
  void gather_from_table(std::span<const int32_t> ids, std::byte* out);
  void read_row(const Place& place, int32_t id, std::span<std::byte> out);
  /// The row's bytes as they are stored, restored to `out`.
  static void decode(const RowLayout& code, std::span<const std::byte> stored,
                     std::span<std::byte> out);
  void read_tied_row(const Place& place, std::span<std::byte> stored,
                     std::span<std::byte> out) const;
  void read_untied_row(uint64_t offset, int32_t id, std::span<std::byte> stored,
                       std::span<std::byte> out) const;

  const Engine& engine_;
  WeightStream& stream_;
  std::unique_ptr<RandomAccessFile> file_;  // its own, so that the advice of random reads is too
  uint64_t row_bytes_ = 0;
  std::vector<std::byte> stored_row_;  // an untied row with its checksum, or a coded one
  Buffer table_;                       // [vocab, hidden], packed; empty where rows are read singly
};

}  // namespace headrace
