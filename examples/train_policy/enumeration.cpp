// SPDX-License-Identifier: Apache-2.0
#include "enumeration.hpp"

#include <trm/logits/log_prob.hpp>
#include <trm/loss/checked.hpp>

enumeration::enumeration(model_shape const& shape, int horizon, std::int32_t prompt, vector<double> const& parameters)
    : vocabulary_(static_cast<std::size_t>(shape.vocabulary)), horizon_(static_cast<std::size_t>(horizon)) {
    for (std::size_t t = 0; t < horizon_; ++t) count_ *= vocabulary_;
    std::size_t prefixes = 1, before = 0;
    for (std::size_t t = 0; t <= horizon_; ++t) {
        stride_.push_back(count_ / prefixes);
        first_.push_back(before);
        before += prefixes;
        prefixes *= vocabulary_;
    }
    batch_.resize(count_, horizon_, vocabulary_, shape.experts > 0);
    std::fill(batch_.loss_mask.begin(), batch_.loss_mask.end(), std::uint8_t{1});
    for (std::size_t y = 0; y < count_; ++y) {
        batch_.tokens[y * (horizon_ + 1)] = prompt;
        for (std::size_t t = 0; t < horizon_; ++t)
            batch_.tokens[y * (horizon_ + 1) + t + 1] = static_cast<std::int32_t>(y / stride_[t + 1] % vocabulary_);
    }
    activations<double> a;
    forward<double>(shape, parameters, batch_.tokens, static_cast<Eigen::Index>(count_), a);
    logits_.resize(count_ * horizon_ * vocabulary_);
    logp_.resize(count_ * horizon_);
    for (std::size_t y = 0; y < count_; ++y)
        for (std::size_t t = 0; t < horizon_; ++t) {
            auto const column = a.logits.col(static_cast<Eigen::Index>(t * count_ + y));
            std::copy_n(column.data(), vocabulary_, &logits_[(y * horizon_ + t) * vocabulary_]);
        }
    for (std::size_t y = 0; y < count_; ++y) {
        trm::logits_view<double> const view{.data = &logits_[y * horizon_ * vocabulary_],
                                            .rows = static_cast<std::int64_t>(horizon_),
                                            .vocab = static_cast<std::int64_t>(vocabulary_)};
        trm::throw_if(
            trm::log_prob(view, batch_.response(y).subspan(1),
                          trm::log_prob_out<double>{.logp = std::span(logp_).subspan(y * horizon_, horizon_)}));
    }
    fill_scores(shape, parameters);
}

void enumeration::fill_scores(model_shape const& shape, vector<double> const& parameters) {
    scores_.resize(parameters.size(), static_cast<Eigen::Index>(contexts() * vocabulary_));
    activations<double> a;
    vector<double> gradient;
    for (std::size_t t = 0; t < horizon_; ++t)
        for (std::size_t prefix = 0; prefix * stride_[t] < count_; ++prefix) {
            // One token more than the prefix, which `forward` does not read.
            auto const tokens = batch_.response(prefix * stride_[t]).first(t + 2);
            forward<double>(shape, parameters, tokens, 1, a);
            auto const last = static_cast<Eigen::Index>(t);
            Eigen::ArrayXd const shifted = a.logits.col(last).array() - a.logits.col(last).maxCoeff();
            Eigen::VectorXd const p = shifted.exp() / shifted.exp().sum();
            for (std::size_t v = 0; v < vocabulary_; ++v) {
                matrix<double> d = matrix<double>::Zero(p.size(), last + 1);
                d.col(last) = -p;
                d(static_cast<Eigen::Index>(v), last) += 1;
                gradient.setZero(parameters.size());
                backward<double>(shape, parameters, tokens, a, d, gradient);
                scores_.col(static_cast<Eigen::Index>((first_[t] + prefix) * vocabulary_ + v)) = gradient;
            }
        }
}
