// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "rollouts.hpp"
#include "weights.hpp"

#include <string>

/// How the rollout engine stores and computes. bf16: weights and, after every operation that an inference engine writes to
/// memory (state, gates' inputs, expert, logits), activations. int8: weights with one scale for each row, activations bf16.
enum class precision { f32, bf16, int8 };
precision precision_of(std::string const& name);  ///< throws std::invalid_argument

/// Samples responses token by token from its own copy of the weights. It computes the same function as policy.hpp in another
/// order, as an engine with two tensor-parallel ranks does: products are summed over each half of the hidden units, then
/// added; sequences are rows here. Only rounding distinguishes the two if the precision is f32 and the weights are the same.
class rollout_engine {
public:
    /// `noise`: standard deviation of a random error added to every logit, beyond what precision causes; nats.
    rollout_engine(model_shape const& shape, vector<float> const& parameters, precision p, double noise = 0);

    /// Decodes sequences [first, first + problems.size()) of `out`, whose size is set. Sampling and noise draw from the
    /// streams (seed, purpose, round, sequence): the chunk and the thread do not matter.
    void decode(std::span<problem const> problems, std::size_t first, std::uint64_t seed, std::uint64_t round,
                rollouts& out) const;
    /// Logits of given tokens instead of sampled ones: `tokens` and `loss_mask` of `out` are read, the rest is written.
    void score(std::size_t first, std::size_t sequences, std::uint64_t seed, std::uint64_t round, rollouts& out) const;

private:
    using rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    void run(std::span<problem const> problems, std::size_t first, std::size_t n, std::uint64_t seed,
             std::uint64_t round, rollouts& out) const;
    void mix(rows const& state, Eigen::Index place, std::size_t first, rollouts& out, rows& mixed) const;
    void round_all(rows& m) const;
    [[nodiscard]] rows product(rows const& x, rows const& w) const;

    model_shape shape_;
    bool rounds_;
    double noise_;
    rows input_, recurrent_, output_, router_, experts_;  ///< transposed: one row for each input unit
    Eigen::RowVectorXf candidate_bias_, output_bias_, router_bias_;
    rows expert_bias_;
};
