#pragma once

#include <array>
#include <utility>
#include <vector>

#include "tests/kernels/kernel_cases.h"

namespace headrace::testing {

/// One matrix and some token rows.
struct MatmulCase {
  DType dtype;
  int64_t rows;
  int64_t k;
  int64_t tokens;
  bool bias = false;
  bool accumulate = false;
  CodecId codec = CodecId::kRaw;
};

class MatmulProblem {
 public:
  MatmulProblem(const MatmulCase& shape, Data data, uint32_t seed)
      : shape_(shape),
        numbers_(seed, data),
        weights_(shape.dtype, shape.rows, shape.k, numbers_, shape.codec),
        x_(numbers_.elements(shape.dtype, static_cast<size_t>(shape.tokens * shape.k))),
        bias_(numbers_.floats(static_cast<size_t>(shape.rows))),
        before_(numbers_.floats(static_cast<size_t>(shape.rows * shape.tokens))) {}

  std::vector<float> run(Backend& backend, std::vector<std::vector<WeightRun>> leases) const {
    return run_first(backend, shape_.tokens, std::move(leases));
  }
  /// Of the first `tokens` token rows alone.
  std::vector<float> run_first(Backend& backend, int64_t tokens,
                               std::vector<std::vector<WeightRun>> leases) const {
    std::vector<float> out = before_;
    const std::array outputs = {MatrixOutput{.rows = shape_.rows,
                                             .out = out.data(),
                                             .stride = shape_.rows,
                                             .bias = shape_.bias ? bias_.data() : nullptr,
                                             .accumulate = shape_.accumulate}};
    const size_t count = leases.size();
    ListFeed feed(std::move(leases));
    backend.matmul({.dtype = shape_.dtype,
                    .tokens = tokens,
                    .k = shape_.k,
                    .x = x_.data(),
                    .x_stride_bytes = static_cast<size_t>(shape_.k) * dtype_size(shape_.dtype),
                    .outputs = outputs},
                   feed);
    EXPECT_EQ(feed.released, count);
    return out;
  }
  std::vector<float> run(Backend& backend) const { return run(backend, weights_.whole()); }
  std::vector<float> expected() const { return run(*make_reference_backend()); }

  const StoredMatrix& weights() const { return weights_; }
  const std::vector<std::byte>& x() const { return x_; }

 private:
  MatmulCase shape_;
  Numbers numbers_;
  StoredMatrix weights_;
  std::vector<std::byte> x_;
  std::vector<float> bias_;
  std::vector<float> before_;
};

}  // namespace headrace::testing
