#pragma once

#include <cstdint>

#include "kernels/numerics.h"

namespace headrace::cpu {

/// How a row of K elements is laid out for the canonical matrix kernels of an instruction set with
/// `lanes` lanes. The 256 partial sums are 256 / lanes vectors, the leaves of the summation tree;
/// leaf c takes the elements [i * 256 + c * lanes, ... + lanes) for i = 0, 1, .... A packed row
/// holds the vectors of one leaf after the other, and the leaves in bit-reversed order (0, 8, 4,
/// 12, ... for 16), in which the tree adds neighbours: then at most log2(leaves) sums wait at any
/// time.
struct LeafOrder {
  static constexpr int kMostLeaves = 64;

  LeafOrder(int64_t k, int lanes) : leaves(static_cast<int>(numerics::kPartials) / lanes) {
    vectors = (k + lanes - 1) / lanes;
    for (int place = 0; place < leaves; ++place) {
      int leaf = 0;
      for (int bit = 1, mirror = leaves / 2; bit < leaves; bit *= 2, mirror /= 2) {
        if ((place & bit) != 0) leaf += mirror;
      }
      begin_of_leaf[leaf] = begin[place];
      begin[place + 1] = begin[place] + (vectors - leaf + leaves - 1) / leaves;
    }
  }

  int leaves;
  int64_t vectors;                          // of a row
  int64_t begin[kMostLeaves + 1] = {};      // first vector of the leaf at a place of the order
  int64_t begin_of_leaf[kMostLeaves] = {};  // the same by leaf number
};

}  // namespace headrace::cpu
