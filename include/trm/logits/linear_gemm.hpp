// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/config.hpp>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <Eigen/Core>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <cstdint>

/// \file
/// The three products of the fused head on row-major f32 blocks. Eigen's, or BLAS where EIGEN_USE_BLAS is defined.

TRM_NAMESPACE_BEGIN
namespace logits_detail {

using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using block = Eigen::Map<row_major, Eigen::Unaligned, Eigen::OuterStride<>>;
using const_block = Eigen::Map<row_major const, Eigen::Unaligned, Eigen::OuterStride<>>;

inline block map(float* p, std::int64_t rows, std::int64_t cols, std::int64_t stride) {
    return {p, rows, cols, Eigen::OuterStride<>(stride)};
}
inline const_block map(float const* p, std::int64_t rows, std::int64_t cols, std::int64_t stride) {
    return {p, rows, cols, Eigen::OuterStride<>(stride)};
}

/// c [m, n] = a [m, k] b [n, k]^T
inline void product_nt(block c, const_block const& a, const_block const& b) { c.noalias() = a * b.transpose(); }
/// c [m, n] (+)= a [m, k] b [k, n]
inline void product_nn(block c, const_block const& a, const_block const& b, bool add) {
    if (add) {
        c.noalias() += a * b;
    } else {
        c.noalias() = a * b;
    }
}
/// c [m, n] (+)= a [k, m]^T b [k, n]
inline void product_tn(block c, const_block const& a, const_block const& b, bool add) {
    if (add) {
        c.noalias() += a.transpose() * b;
    } else {
        c.noalias() = a.transpose() * b;
    }
}

}  // namespace logits_detail
TRM_NAMESPACE_END
