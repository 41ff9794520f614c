#include "kernels/cuda/cuda_backend.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/format.h"
#include "kernels/cuda/copy_queue.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/gated_rows.h"
#include "kernels/cuda/mapped_memory.h"
#include "kernels/cuda/matmul_run.h"
#include "kernels/numerics.h"

namespace headrace::cuda {
namespace {

constexpr size_t kMappedBytes = size_t{32} << 20;  // from which memory is mapped in granules
constexpr int kOverlapMajor = 9;      // compute capability from which kernels can overlap
constexpr int64_t kDecodedRows = 64;  // whole ones of them are decoded at a time
constexpr size_t kDecodedBytes = size_t{64} << 20;  // or as many rows
constexpr size_t kReadableTail = 64;                // after the last row of a run
constexpr size_t kTileWords = sizeof(RowTile) / sizeof(int32_t);

/// Bytes of a raw row.
size_t decoded_row_bytes(DType dtype, int64_t k) {
  constexpr size_t kAlignment = 16;
  const size_t bytes = static_cast<size_t>(k) * dtype_size(dtype);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

/// Of the rows that are decoded at a time.
size_t decoded_bytes(DType dtype, int64_t k) {
  return std::max(kDecodedBytes, decoded_row_bytes(dtype, k) * kDecodedRows);
}

int32_t splits_for(int64_t context) {
  return static_cast<int32_t>((context + numerics::kAttentionSplit - 1) /
                              numerics::kAttentionSplit);
}

/// Releases them in order.
struct HeldLeases {
  std::vector<Lease> held;
  ~HeldLeases() {
    for (Lease& lease : held) lease.release();
  }
};

KvView view(const KvLayer& layer) {
  return {.k = layer.k,
          .v = layer.v,
          .kv_heads = layer.shape.kv_heads,
          .head_dim = layer.shape.head_dim,
          .block_tokens = layer.shape.block_tokens,
          .block_stride = layer.shape.block_stride(),
          .dtype = layer.shape.dtype};
}

}  // namespace

CudaBackend::CudaBackend(int index) : index_(index) {
  check(cudaSetDevice(index), "choosing the device");
  // Kernels that divide a multiprocessor's memory alike can share it.
  check(cudaDeviceSetCacheConfig(cudaFuncCachePreferShared), "setting up the device");
  check(cudaStreamCreateWithFlags(&queue_.stream, cudaStreamNonBlocking), "creating a stream");
  const auto attribute = [&](cudaDeviceAttr which) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, which, index), "asking for the device's properties");
    return value;
  };
  queue_.multiprocessors = attribute(cudaDevAttrMultiProcessorCount);
  queue_.shared_bytes = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  queue_.can_overlap = attribute(cudaDevAttrComputeCapabilityMajor) >= kOverlapMajor;
  staging_ = std::make_unique<Staging>(queue_);
}

CudaBackend::~CudaBackend() {
  cudaStreamSynchronize(queue_.stream);
  meeting_.reset();
  gemm_.reset();
  staging_.reset();
  cudaStreamDestroy(queue_.stream);
}

std::string CudaBackend::description() const {
  cudaDeviceProp properties = {};
  check(cudaGetDeviceProperties(&properties, index_), "asking for the device's properties");
  return fmt::format("cuda {}, sm_{}{}, {} multiprocessors", properties.name, properties.major,
                     properties.minor, properties.multiProcessorCount);
}

Buffer CudaBackend::allocate(size_t size_bytes, const char* purpose) {
  if (size_bytes == 0) return {};
  std::optional<Buffer> buffer;
  if (size_bytes >= kMappedBytes) buffer = allocate_mapped(index_, size_bytes);
  if (!buffer) buffer = allocate_plain(size_bytes);
  if (!buffer) {
    fail(ErrorCode::kOutOfMemory, "[cuda] {} for {} do not fit: {} are free",
         format_bytes(size_bytes), purpose, format_bytes(free_memory_bytes().value_or(0)));
  }
  check(cudaMemsetAsync(buffer->data(), 0, buffer->size_bytes(), ops().interrupted()),
        "clearing memory");
  synchronize();  // copies on other streams may follow at once
  return std::move(*buffer);
}

std::unique_ptr<GrowableMemory> CudaBackend::allocate_growable(size_t most_bytes,
                                                               const char* /*purpose*/) {
  return reserve_growable(index_, most_bytes);
}

void CudaBackend::upload(std::byte* to, std::span<const std::byte> from) {
  enqueue_waiting_op();
  staging_->upload(to, from);
}

void CudaBackend::upload_rows(std::byte* to, size_t row_bytes, int64_t rows,
                              const RowWriter& write) {
  enqueue_waiting_op();
  staging_->upload_rows(to, row_bytes, rows, write);
}

void CudaBackend::download(std::span<std::byte> to, const std::byte* from) {
  check(cudaMemcpyAsync(to.data(), from, to.size(), cudaMemcpyDeviceToHost, ops().interrupted()),
        "downloading");
  synchronize();
}

void CudaBackend::copy(std::byte* to, const std::byte* from, size_t size_bytes) {
  check(cudaMemcpyAsync(to, from, size_bytes, cudaMemcpyDeviceToDevice, ops().interrupted()),
        "copying on the device");
}

void CudaBackend::synchronize() {
  ops();
  check(cudaGetLastError(), "launching a kernel");
  if (meeting_) meeting_->lend_a_hand();
  check(cudaStreamSynchronize(queue_.stream), "running kernels");
  if (meeting_) meeting_->check_deadlines();
}

void CudaBackend::widen(DType dtype, const std::byte* rows, int64_t tokens, int64_t width,
                        float* out) {
  cuda::widen(dtype, rows, tokens * width, out, ops());
}

void CudaBackend::widen_places(DType dtype, const std::byte* rows, std::span<const int32_t> places,
                               int64_t width, float* out) {
  std::byte* const own = grown(places_, places.size_bytes(), "places of rows").data();
  upload_rows(own, sizeof(int32_t), static_cast<int64_t>(places.size()),
              [&](int64_t first, std::span<std::byte> to) {
                std::memcpy(to.data(), places.data() + first, to.size());
              });
  cuda::widen_places(dtype, rows, reinterpret_cast<const int32_t*>(own),
                     static_cast<int64_t>(places.size()), width, out, ops());
}

Queue& CudaBackend::ops() {
  staging_->send();
  enqueue_waiting_op();
  return queue_;
}

void CudaBackend::enqueue_waiting_op() {
  if (norm_) cuda::rms_norm(*std::exchange(norm_, std::nullopt), queue_);
  if (rope_) cuda::rope_and_store(*std::exchange(rope_, std::nullopt), queue_);
}

void CudaBackend::rms_norm(const float* x, const float* weight, float epsilon, int64_t tokens,
                           int64_t width, DType out_dtype, std::byte* out) {
  ops();
  norm_ = NormRows{.x = x,
                   .weight = weight,
                   .epsilon = epsilon,
                   .tokens = tokens,
                   .width = width,
                   .out_dtype = out_dtype,
                   .out = out};
  if (tokens > kMostNormedTokens) ops();
}

void CudaBackend::silu_multiply(const float* a, const float* b, int64_t tokens, int64_t width,
                                DType out_dtype, std::byte* out) {
  cuda::silu_multiply(a, b, tokens * width, out_dtype, out, ops());
}

bool CudaBackend::canonical(int64_t pass_tokens) const {
  return canonical_rows_ == 0 || pass_tokens <= canonical_rows_;
}

bool CudaBackend::canonical(const MatmulArgs& args, uint32_t matrix) const {
  HR_CHECK(matrix < args.outputs.size());
  return canonical(std::max(args.tokens, args.pass_tokens)) ||
         !Gemm::supports(args, args.outputs[matrix]);
}

void CudaBackend::matmul(const MatmulArgs& args, WeightFeed& weights) {
  const std::span<const WeightRun> of_host = weights.host_runs();
  if (!of_host.empty()) {
    HR_CHECK(meeting_ != nullptr);
    ops();  // x
    meeting_->begin(args, of_host);
  }
  Lease lease;
  while (weights.next(lease)) {
    multiply(args, lease.runs());
    lease.release();
  }
  if (!of_host.empty()) meeting_->finish(args, of_host);
}

void CudaBackend::gated_matmul(const MatmulArgs& args, WeightFeed& weights, std::byte* out) {
  HR_CHECK(args.outputs.size() == 2 && args.outputs[0].rows == args.outputs[1].rows);
  if (canonical(args, 0) || !gemm_->gates(args) || !weights.host_runs().empty() ||
      !weights.can_hold_rest()) {
    return Backend::gated_matmul(args, weights, out);
  }
  HeldLeases leases;
  std::vector<WeightRun> runs;
  for (Lease lease; weights.next(lease);) {
    runs.insert(runs.end(), lease.runs().begin(), lease.runs().end());
    leases.held.push_back(std::move(lease));
  }
  ops();  // x
  if (!gemm_->multiply_gated(args, gated_rows(args, runs, out))) {
    multiply(args, runs);
    silu_multiply(args.outputs[0].out, args.outputs[1].out, args.tokens, args.outputs[0].rows,
                  args.dtype, out);
  }
}

/// Whether the norm that waits makes the product's x, and nothing that the product writes is the
/// norm's own.
bool CudaBackend::writes_x(const MatmulArgs& args) const {
  if (!norm_ || norm_->out != args.x || norm_->tokens != args.tokens || norm_->width != args.k ||
      norm_->out_dtype != args.dtype ||
      args.x_stride_bytes != static_cast<size_t>(args.k) * dtype_size(args.dtype)) {
    return false;
  }
  const float* const end = norm_->x + norm_->tokens * norm_->width;
  return std::ranges::none_of(args.outputs, [&](const MatrixOutput& output) {
    return output.out < end && output.out + args.tokens * output.stride > norm_->x;
  });
}

void CudaBackend::multiply(const MatmulArgs& args, std::span<const WeightRun> runs) {
  std::array<MatmulRun, kMaxRunsPerLaunch> launch;
  MatmulRuns matmul = {.dtype = args.dtype,
                       .runs = launch.data(),
                       .x = args.x,
                       .x_stride_bytes = args.x_stride_bytes,
                       .tokens = args.tokens,
                       .k = args.k};
  bool in_order = false;  // the canonical one: of the runs that wait
  const auto flush = [&] {
    if (matmul.run_count > 0) multiply(args, matmul, in_order);
    matmul.run_count = 0;
  };
  for (const WeightRun& run : runs) {
    const bool next_in_order = canonical(args, run.matrix);
    if (next_in_order != in_order || run.codec != matmul.codec ||
        matmul.run_count == kMaxRunsPerLaunch) {
      flush();
    }
    in_order = next_in_order;
    matmul.codec = run.codec;
    launch[static_cast<size_t>(matmul.run_count++)] = run_of(args, run);
  }
  flush();
}

/// Runs of one class and codec.
void CudaBackend::multiply(const MatmulArgs& args, const MatmulRuns& matmul, bool in_order) {
  const bool raw = matmul.codec == CodecId::kRaw;
  if (!in_order) {
    if (!raw) return multiply_decoded(args, matmul, in_order);
    ops();
    gemm_->multiply(matmul);
    return;
  }
  if (!raw && !canonical_coded_fits(matmul, queue_)) {
    return multiply_decoded(args, matmul, in_order);
  }
  const auto norm = writes_x(args) ? std::exchange(norm_, std::nullopt) : std::nullopt;
  const auto product = raw ? canonical_matmul : canonical_matmul_coded;
  product(matmul, norm ? &*norm : nullptr, ops());
}

/// Decodes coded runs, as many rows at a time as there is room for, and multiplies by them.
void CudaBackend::multiply_decoded(const MatmulArgs& args, const MatmulRuns& coded, bool in_order) {
  staging_->send();  // not ops(): the product takes the norm that waits along
  const auto row_bytes = decoded_row_bytes(args.dtype, args.k);
  const auto room = static_cast<int64_t>(decoded_bytes(args.dtype, args.k) / row_bytes) /
                    kDecodedRows * kDecodedRows;
  std::byte* const memory =
      grown(decoded_, decoded_bytes(args.dtype, args.k) + kReadableTail, "decoded weights").data();
  std::array<MatmulRun, kMaxRunsPerLaunch> launch;
  MatmulRuns matmul = coded;
  matmul.codec = CodecId::kRaw;
  matmul.runs = launch.data();
  matmul.run_count = 0;
  int64_t decoded = 0;  // rows of those that wait
  const auto flush = [&] {
    if (matmul.run_count == 0) return;
    queue_.interrupted();  // products read weights before they wait for the kernel before them
    multiply(args, matmul, in_order);
    matmul.run_count = 0;
    decoded = 0;
  };
  for (const MatmulRun& run : std::span(coded.runs, static_cast<size_t>(coded.run_count))) {
    for (int64_t begin = 0; begin < run.rows;) {
      if (decoded == room || matmul.run_count == kMaxRunsPerLaunch) flush();
      const int64_t rows = std::min(run.rows - begin, room - decoded);
      std::byte* const to = memory + static_cast<size_t>(decoded) * row_bytes;
      decode_rows({.codec = coded.codec,
                   .dtype = args.dtype,
                   .k = args.k,
                   .rows = run.weights + static_cast<size_t>(begin) * run.row_stride_bytes,
                   .row_stride_bytes = run.row_stride_bytes,
                   .count = rows,
                   .out = to},
                  queue_);
      MatmulRun& part = launch[static_cast<size_t>(matmul.run_count++)] = run;
      part.weights = to;
      part.row_stride_bytes = row_bytes;
      part.out += begin;
      if (part.bias != nullptr) part.bias += begin;
      part.rows = static_cast<int32_t>(rows);
      begin += rows;
      // Cuts are multiples of kDecodedRows: the next run begins at one.
      decoded = std::min(room, (decoded + rows + kDecodedRows - 1) / kDecodedRows * kDecodedRows);
    }
  }
  flush();
}

void CudaBackend::rope_and_store(const RopeStoreArgs& args) {
  HR_CHECK(args.tokens == pass_.tokens);
  ops();
  rope_ = RopeParams{.tiles = pass_.sequences,
                     .tile_count = pass_.sequence_count,
                     .most_rows = pass_.most_rows,
                     .blocks = pass_.blocks,
                     .heads = args.heads,
                     .qkv = args.qkv,
                     .cos = args.cos,
                     .sin = args.sin,
                     .kv = view(args.kv)};
}

/// The part of a rotation that waits which attention can do on its way; the rest is enqueued.
FusedRope CudaBackend::take_rope(const AttentionParams& params) {
  if (!rope_ || rope_->qkv != params.qkv || rope_->kv.k != params.kv.k ||
      !attention_is_specialized(params.kv, params.out_dtype)) {
    return {};
  }
  const bool stores = pass_.most_rows == 1;
  if (!stores && !params.matrix_class) return {};
  const FusedRope fused = {.cos = rope_->cos, .sin = rope_->sin, .stores = stores};
  if (stores) {
    rope_.reset();
  } else {
    rope_->keep_q = true;
    ops();
  }
  return fused;
}

void CudaBackend::attention(const AttentionArgs& args) {
  HR_CHECK(args.tokens == pass_.tokens);
  AttentionParams params = {.blocks = pass_.blocks,
                            .heads = args.heads,
                            .scale = args.scale,
                            .qkv = args.qkv,
                            .qkv_stride = args.qkv_stride,
                            .kv = view(args.kv),
                            .out_dtype = args.out_dtype,
                            .out = args.out};
  params.matrix_class =
      !canonical(args.tokens) && attention_is_specialized(params.kv, args.out_dtype);
  params.rope = take_rope(params);
  const auto attend_tiles = [&](int32_t first, int32_t last, bool whole_steps) {
    if (first == last) return;
    params.tiles = pass_.tiles + first;
    params.tile_count = last - first;
    params.whole_steps = whole_steps;
    attention_many_rows(params, ops());
  };
  const int32_t whole = params.matrix_class ? pass_.whole_step_count : 0;
  attend_tiles(0, whole, true);
  attend_tiles(whole, pass_.tile_count, false);
  if (pass_.single_row_count > 0) {
    const int64_t count = pass_.single_row_count;
    params.tiles = pass_.single_rows;
    params.tile_count = pass_.single_row_count;
    params.max_splits = pass_.single_row_splits;
    const int64_t floats =
        attention_partial_floats(count, args.heads, params.max_splits, args.head_dim);
    params.partials =
        grown(attention_partials_, static_cast<size_t>(floats) * sizeof(float), "attention sums")
            .floats();
    params.counters = reinterpret_cast<int32_t*>(
        grown(attention_counters_, static_cast<size_t>(count * args.heads) * sizeof(int32_t),
              "attention counters")
            .data());
    attention_one_row(params, ops());
  }
}

Buffer& CudaBackend::grown(Buffer& buffer, size_t size_bytes, const char* purpose) {
  if (buffer.size_bytes() < size_bytes) {
    ops();  // an op that waits may use the old one
    buffer = {};
    buffer = allocate(size_bytes, purpose);
  }
  return buffer;
}

size_t CudaBackend::reserve(const PassLimits& limits) {
  canonical_rows_ = limits.canonical_rows;
  if (canonical_rows_ > 0 && gemm_ == nullptr && limits.dtype != DType::kFloat32) {
    gemm_ = std::make_unique<Gemm>(queue_);
    gemm_->check_family(limits.dtype);
  }
  const int64_t floats = attention_partial_floats(limits.max_sequences, limits.heads,
                                                  splits_for(limits.max_context), limits.head_dim);
  grown(attention_partials_, static_cast<size_t>(floats) * sizeof(float), "attention sums");
  grown(attention_counters_,
        static_cast<size_t>(limits.max_sequences * limits.heads) * sizeof(int32_t),
        "attention counters");
  reserve_best(static_cast<size_t>(limits.max_sequences) *
               (sizeof(TopLogit) + kMostBestTokens * sizeof(uint64_t)));
  if (limits.coded) {
    grown(decoded_, decoded_bytes(limits.dtype, limits.max_k) + kReadableTail, "decoded weights");
  }
  const auto most_tiles =
      static_cast<size_t>(limits.max_tokens / kPrefillTileRows + 3 * limits.max_sequences);
  const auto most_blocks = static_cast<size_t>(limits.max_sequences * limits.max_context);
  grown(pass_memory_, (most_tiles * kTileWords + most_blocks) * sizeof(int32_t), "block tables");
  grown(places_, static_cast<size_t>(limits.max_tokens) * sizeof(int32_t), "places of rows");
  return attention_partials_.size_bytes() + attention_counters_.size_bytes() +
         pass_memory_.size_bytes() + places_.size_bytes() +
         (limits.coded ? decoded_.size_bytes() : 0) + (gemm_ ? gemm_->workspace_bytes() : 0);
}

void CudaBackend::begin_pass(std::span<const SequenceRows> sequences) {
  ops();
  pass_ = {};
  std::vector<RowTile> all;
  std::vector<RowTile> single;
  std::vector<RowTile> tiles;
  std::vector<RowTile> cut_tiles;  // those that begin within a step
  std::vector<int32_t> blocks;
  for (const SequenceRows& sequence : sequences) {
    RowTile tile = {.row_begin = static_cast<int32_t>(sequence.row_begin),
                    .rows = static_cast<int32_t>(sequence.rows),
                    .position = static_cast<int32_t>(sequence.position),
                    .table_begin = static_cast<int32_t>(blocks.size())};
    blocks.insert(blocks.end(), sequence.blocks.begin(), sequence.blocks.end());
    pass_.tokens += sequence.rows;
    pass_.most_rows = std::max(pass_.most_rows, tile.rows);
    all.push_back(tile);
    if (tile.rows == 1) {
      single.push_back(tile);
      pass_.single_row_splits =
          std::max(pass_.single_row_splits, splits_for(sequence.position + 1));
      continue;
    }
    for (int32_t left = tile.rows; left > 0; left -= kPrefillTileRows) {
      tile.rows = std::min(left, kPrefillTileRows);
      (tile.position % numerics::kAttentionStep == 0 ? tiles : cut_tiles).push_back(tile);
      tile.row_begin += tile.rows;
      tile.position += tile.rows;
    }
  }
  pass_.whole_step_count = static_cast<int32_t>(tiles.size());
  tiles.insert(tiles.end(), cut_tiles.begin(), cut_tiles.end());
  pass_words_.clear();
  const auto append_tiles = [&](const std::vector<RowTile>& list) {
    const auto* words = reinterpret_cast<const int32_t*>(list.data());
    pass_words_.insert(pass_words_.end(), words, words + list.size() * kTileWords);
  };
  append_tiles(all);
  append_tiles(single);
  append_tiles(tiles);
  pass_words_.insert(pass_words_.end(), blocks.begin(), blocks.end());

  const size_t bytes = pass_words_.size() * sizeof(int32_t);
  const std::byte* memory = grown(pass_memory_, bytes, "block tables").data();
  upload_rows(pass_memory_.data(), sizeof(int32_t), static_cast<int64_t>(pass_words_.size()),
              [&](int64_t first, std::span<std::byte> to) {
                std::memcpy(to.data(), pass_words_.data() + first, to.size());
              });
  pass_.sequences = reinterpret_cast<const RowTile*>(memory);
  pass_.sequence_count = static_cast<int32_t>(all.size());
  pass_.single_rows = pass_.sequences + all.size();
  pass_.single_row_count = static_cast<int32_t>(single.size());
  pass_.tiles = pass_.single_rows + single.size();
  pass_.tile_count = static_cast<int32_t>(tiles.size());
  pass_.blocks = reinterpret_cast<const int32_t*>(pass_.tiles + tiles.size());
}

std::unique_ptr<CopyQueue> CudaBackend::make_copy_queue(int slots) {
  return std::make_unique<CudaCopyQueue>(queue_, slots);
}

std::optional<uint64_t> CudaBackend::free_memory_bytes() const {
  size_t free = 0;
  size_t total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for free memory");
  return free;
}

std::optional<uint64_t> CudaBackend::used_memory_bytes() const {
  size_t free = 0;
  size_t total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for used memory");
  return total - free;
}

void CudaBackend::use_host_workers(const HostWorkersFactory& make_workers, int64_t max_k,
                                   int64_t max_rows) {
  meeting_.reset();
  meeting_ = std::make_unique<HostMeeting>(queue_, make_workers, max_k, max_rows);
}

void CudaBackend::end_host_products() {
  if (meeting_) meeting_->abandon();
}

const HostWorkers* CudaBackend::host_workers() const {
  return meeting_ == nullptr ? nullptr : &meeting_->workers();
}

std::string CudaBackend::compute_capability() const {
  int major = 0;
  int minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index_),
        "asking for the device's properties");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index_),
        "asking for the device's properties");
  return fmt::format("sm{}{}", major, minor);
}

void CudaBackend::pin(std::span<std::byte> memory) {
  check(cudaSetDevice(index_), "choosing the device");  // it is the thread's own
  const cudaError_t result =
      cudaHostRegister(memory.data(), memory.size(), cudaHostRegisterDefault);
  if (result == cudaSuccess) return;
  cudaGetLastError();
  fail(ErrorCode::kOutOfMemory,
       "[cuda] the system refuses to pin {} bytes of host memory ({}): keep more of the weights on "
       "the device, or raise the limit of locked memory (ulimit -l)",
       memory.size(), cudaGetErrorString(result));
}

void CudaBackend::unpin(std::span<std::byte> memory) { cudaHostUnregister(memory.data()); }

}  // namespace headrace::cuda

/// What kernels/cuda_library.cpp looks up. Null, and the reason in `reason`, if there is no usable
/// device.
extern "C" headrace::Backend* headrace_make_cuda_backend(int index, char* reason,
                                                         size_t reason_bytes) {
  int count = 0;
  const cudaError_t result = cudaGetDeviceCount(&count);
  if (result != cudaSuccess || count <= index) {
    const char* const text =
        result != cudaSuccess ? cudaGetErrorString(result) : "there is no device with this index";
    const size_t size = std::min(std::char_traits<char>::length(text), reason_bytes - 1);
    std::char_traits<char>::copy(reason, text, size);
    reason[size] = 0;
    return nullptr;
  }
  return new headrace::cuda::CudaBackend(index);
}
