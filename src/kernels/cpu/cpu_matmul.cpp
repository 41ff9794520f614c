#include <algorithm>

#include "base/error.h"
#include "kernels/cpu/cpu_backend.h"

namespace headrace {
namespace {

/// Bytes of weights that a thread takes at a time when few token rows are multiplied.
constexpr int64_t kLeastPieceBytes = 32 * 1024;
constexpr int64_t kMostPieceBytes = 256 * 1024;
/// Elements of x below which packing it on one thread is quicker.
constexpr int64_t kInlinePackElements = 16 * 1024;

int64_t count_rows(std::span<const WeightRun> runs) {
  int64_t rows = 0;
  for (const WeightRun& run : runs) rows += run.rows;
  return rows;
}

}  // namespace

void CpuBackend::matmul(const MatmulArgs& args, WeightFeed& weights) {
  reserve_for(args.tokens, args.k);
  const cpu::LeafOrder order(args.k, kernels_.lanes);
  const bool few = args.tokens <= cpu::kFewTokens;
  few_x_ = {.packed = packed_x_.floats(), .reordered = reordered_x_.floats()};
  if (!few) pack_x(args, order);
  Lease lease;
  while (weights.next(lease)) {
    cut_into_pieces(args, lease.runs());
    if (few) {
      few_.prepare_x(lease.runs(), args.dtype, args.x, args.x_stride_bytes, args.tokens, args.k,
                     few_x_);
    }
    if (pieces_.size() == 1) {
      multiply(args, order, pieces_[0], thread_scratch(0));
    } else {
      std::atomic<size_t> next{0};
      pool_.run([&](int thread) {
        for (size_t i = next.fetch_add(1); i < pieces_.size(); i = next.fetch_add(1)) {
          multiply(args, order, pieces_[i], thread_scratch(thread));
        }
      });
    }
    lease.release();  // before the next call waits for a slot of the ring
  }
}

void CpuBackend::pack_x(const MatmulArgs& args, const cpu::LeafOrder& order) {
  float* packed = packed_x_.floats();
  const int64_t row_floats = order.vectors * kernels_.lanes;
  const auto tiles = [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t t = tile * cpu::kTileTokens;
      kernels_.pack_tokens(args.dtype, args.x + static_cast<size_t>(t) * args.x_stride_bytes,
                           args.x_stride_bytes,
                           std::min<int64_t>(cpu::kTileTokens, args.tokens - t), order, args.k,
                           packed + t * row_floats);
    }
  };
  const int64_t count = (args.tokens + cpu::kTileTokens - 1) / cpu::kTileTokens;
  if (args.tokens * args.k < kInlinePackElements) return tiles(0, count);
  pool_.parallel_for(count, 4, tiles);
}

int64_t CpuBackend::rows_of_a_piece(const MatmulArgs& args, std::span<const WeightRun> runs) const {
  const int64_t rows = count_rows(runs);
  if (args.tokens <= cpu::kFewTokens) {
    const int64_t row_bytes = args.k * static_cast<int64_t>(dtype_size(args.dtype));
    const int64_t bytes =
        std::clamp(rows * row_bytes / (pool_.size() * 8), kLeastPieceBytes, kMostPieceBytes);
    return (bytes / row_bytes + 8) / 8 * 8;
  }
  const int64_t share = rows / (pool_.size() * 4) + 1;
  const int64_t whole_tiles = (share + cpu::kTileRows - 1) / cpu::kTileRows * cpu::kTileRows;
  return std::min(whole_tiles, cpu::MatmulBlocking(args.k).block_rows);
}

void CpuBackend::cut_into_pieces(const MatmulArgs& args, std::span<const WeightRun> runs) {
  const int64_t piece_rows = rows_of_a_piece(args, runs);
  pieces_.clear();
  for (const WeightRun& run : runs) {
    HR_CHECK(run.matrix < args.outputs.size());
    HR_CHECK(run.row_begin >= 0 && run.row_begin + run.rows <= args.outputs[run.matrix].rows);
    for (int64_t begin = 0; begin < run.rows; begin += piece_rows) {
      pieces_.push_back({&run, begin, std::min(piece_rows, run.rows - begin)});
    }
  }
}

void CpuBackend::multiply(const MatmulArgs& args, const cpu::LeafOrder& order, const Piece& piece,
                          float* scratch) const {
  const WeightRun& run = *piece.run;
  const MatrixOutput& output = args.outputs[run.matrix];
  const int64_t row = run.row_begin + piece.begin;
  const auto decoder =
      cpu::RowDecoder::of(few_.coded, run, args.dtype, args.k,
                          reinterpret_cast<std::byte*>(scratch + decoded_floats_at_));
  const cpu::MatrixRows rows = {
      .dtype = args.dtype,
      .weights = run.data + static_cast<size_t>(piece.begin) * run.row_stride_bytes,
      .row_stride_bytes = run.row_stride_bytes,
      .rows = piece.rows,
      .k = args.k,
      .tokens = args.tokens,
      .out = output.out + row,
      .stride = output.stride,
      .bias = output.bias == nullptr ? nullptr : output.bias + row,
      .accumulate = output.accumulate,
      .decoder = run.codec == CodecId::kRaw ? nullptr : &decoder,
  };
  if (args.tokens <= cpu::kFewTokens) {
    few_.multiply(rows, few_x_);
  } else {
    kernels_.matmul_many(rows, order, packed_x_.floats(), scratch);
  }
}

}  // namespace headrace
