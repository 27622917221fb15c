// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "policy.hpp"
#include "rollouts.hpp"

/// Every response to one prompt of a task in which the policy writes all tokens, and the current policy's scores. Response y
/// has the digits of y in base V as tokens; its prefix of t tokens is y / V^(T - t).
class enumeration {
public:
    enumeration(model_shape const& shape, int horizon, std::int32_t prompt, vector<double> const& parameters);

    [[nodiscard]] std::size_t responses() const { return count_; }
    [[nodiscard]] std::size_t horizon() const { return horizon_; }
    /// All responses as a batch whose tokens are set and whose other streams wait for an engine.
    [[nodiscard]] rollouts const& batch() const { return batch_; }
    /// [n][T] log-probabilities and [n][T][V] logits of the current policy.
    [[nodiscard]] std::vector<double> const& logp() const { return logp_; }
    [[nodiscard]] std::vector<double> const& logits() const { return logits_; }
    /// d log pi(v | the first t tokens of y) / d parameters.
    [[nodiscard]] auto score(std::size_t y, std::size_t t, std::size_t v) const {
        return scores_.col(static_cast<Eigen::Index>(row(y, t) * vocabulary_ + v));
    }
    [[nodiscard]] auto score(std::size_t y, std::size_t t) const {
        return score(y, t, static_cast<std::size_t>(batch_.response(y)[t + 1]));
    }
    /// Which of the contexts of all lengths response y passes through at place t, from 0.
    [[nodiscard]] std::size_t row(std::size_t y, std::size_t t) const { return first_[t] + y / stride_[t]; }
    [[nodiscard]] std::size_t contexts() const { return first_.back(); }

private:
    void fill_scores(model_shape const& shape, vector<double> const& parameters);

    std::size_t vocabulary_, horizon_, count_ = 1;
    std::vector<std::size_t> stride_, first_;
    rollouts batch_;
    std::vector<double> logp_, logits_;
    matrix<double> scores_;
};
