// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "weights.hpp"

#include <cstdint>
#include <span>
#include <vector>

/// A gated recurrent unit (Cho et al., arXiv 1406.1078; the reset gate after the product, as in cuDNN), optionally a mixture
/// of experts of which a router chooses one (Fedus et al., arXiv 2101.03961), and a linear head:
///
///     r, z = sigmoid(W x + U h),  u = U_n h + b,  n = tanh(W_n x + r u),  h' = n + z (h - n)
///     m = h' + g tanh(A_k h' + b_k),  k = argmax of the router's logits, g = its softmax at k;  logits = O m + o
///
/// Sequences of a chunk run side by side: column t B + b of every matrix belongs to place t of sequence b.
template <class T>
struct activations {
    Eigen::Index sequences = 0, horizon = 0;
    matrix<T> state;  ///< H x (T + 1) B: h, zero in the first B columns
    matrix<T> reset, update, candidate;  ///< H x T B
    matrix<T> recurrent;  ///< H x T B: u
    matrix<T> routing;  ///< E x T B: the router's softmax
    std::vector<int> chosen;  ///< T B: expert
    matrix<T> expert;  ///< H x T B: tanh(A_k h' + b_k)
    matrix<T> mixed;  ///< H x T B: m
    matrix<T> logits;  ///< V x T B
};

/// Logits of every place. `tokens`: B rows of horizon + 1 ids, of which the first `horizon` are read.
template <class T>
void forward(model_shape const& shape, vector<T> const& parameters, std::span<std::int32_t const> tokens,
             Eigen::Index sequences, activations<T>& a);

/// Adds d loss / d parameters to `gradient`, given d loss / d logits (V x T B). The choice of the expert is a constant.
template <class T>
void backward(model_shape const& shape, vector<T> const& parameters, std::span<std::int32_t const> tokens,
              activations<T> const& a, matrix<T> const& d_logits, vector<T>& gradient);

/// Random weights; biases of the update gates such that half of the units forget within `horizon` places instead of a few.
vector<float> initial_parameters(model_shape const& shape, int horizon, std::uint64_t seed);
