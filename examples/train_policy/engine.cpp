// SPDX-License-Identifier: Apache-2.0
#include "engine.hpp"

#include <trm/core/dtype.hpp>
#include <trm/logits/log_prob.hpp>
#include <trm/loss/checked.hpp>

#include <cmath>
#include <stdexcept>

namespace {

float as_bf16(float x) { return trm::to_float(trm::to_bf16(x)); }

/// Weights as they are after being stored and loaded. Rows are output units.
matrix<float> stored(matrix<float> w, precision p) {
    if (p == precision::bf16) return w.unaryExpr(&as_bf16);
    if (p == precision::f32) return w;
    for (auto row : w.rowwise()) {
        float const scale = row.cwiseAbs().maxCoeff() / 127;
        if (scale > 0) row = (row / scale).array().round() * scale;
    }
    return w;
}

}  // namespace

precision precision_of(std::string const& name) {
    if (name == "f32") return precision::f32;
    if (name == "bf16") return precision::bf16;
    if (name == "int8") return precision::int8;
    throw std::invalid_argument("unknown precision \"" + name + "\": f32, bf16, int8");
}

rollout_engine::rollout_engine(model_shape const& shape, vector<float> const& parameters, precision p, double noise)
    : shape_(shape), rounds_(p != precision::f32), noise_(noise) {
    weights<float const> const w(parameters.data(), shape);
    Eigen::Index const h = shape.hidden;
    input_ = stored(w.input, p).transpose();
    recurrent_ = stored(w.recurrent, p).transpose();
    output_ = stored(w.output, p).transpose();
    router_ = stored(w.router, p).transpose();
    experts_.resize(h, h * shape.experts);
    for (Eigen::Index k = 0; k < shape.experts; ++k)
        experts_.middleCols(k * h, h) = stored(w.expert.middleCols(k * h, h), p).transpose();
    candidate_bias_ = w.candidate_bias.transpose();
    output_bias_ = w.output_bias.transpose();
    router_bias_ = w.router_bias.transpose();
    expert_bias_ = w.expert_bias.transpose();
}

void rollout_engine::round_all(rows& m) const {
    if (rounds_) m = m.unaryExpr(&as_bf16);
}

rollout_engine::rows rollout_engine::product(rows const& x, rows const& w) const {
    Eigen::Index const left = x.cols() / 2, right = x.cols() - left;
    rows const second = x.rightCols(right) * w.bottomRows(right);
    rows sum = x.leftCols(left) * w.topRows(left);
    sum += second;
    return sum;
}

void rollout_engine::mix(rows const& state, Eigen::Index place, std::size_t first, rollouts& out, rows& mixed) const {
    Eigen::Index const h = shape_.hidden;
    rows routing = product(state, router_).rowwise() + router_bias_;
    round_all(routing);
    for (Eigen::Index s = 0; s < state.rows(); ++s) {
        Eigen::Index k = 0;
        float const largest = routing.row(s).maxCoeff(&k);
        float const share = 1 / (routing.row(s).array() - largest).exp().sum();
        rows y = state.row(s) * experts_.middleCols(k * h, h) + expert_bias_.row(k);
        mixed.row(s) += share * y.array().tanh().matrix();
        out.experts[(first + static_cast<std::size_t>(s)) * out.horizon + static_cast<std::size_t>(place)] =
            static_cast<int>(k);
    }
    round_all(mixed);
}

void rollout_engine::decode(std::span<problem const> problems, std::size_t first, std::uint64_t seed,
                            std::uint64_t round, rollouts& out) const {
    for (std::size_t i = 0; i < problems.size(); ++i) {
        out.tokens[(first + i) * (out.horizon + 1)] = problems[i].forced[0];
        for (std::size_t t = 0; t < out.horizon; ++t)
            out.loss_mask[(first + i) * out.horizon + t] = problems[i].forced[t + 1] < 0;
    }
    run(problems, first, problems.size(), seed, round, out);
}

void rollout_engine::score(std::size_t first, std::size_t sequences, std::uint64_t seed, std::uint64_t round,
                           rollouts& out) const {
    run({}, first, sequences, seed, round, out);
}

void rollout_engine::run(std::span<problem const> problems, std::size_t first, std::size_t n, std::uint64_t seed,
                         std::uint64_t round, rollouts& out) const {
    Eigen::Index const h = shape_.hidden, b = static_cast<Eigen::Index>(n), v = shape_.vocabulary;
    std::vector<random_stream> sampling, noise;
    for (std::size_t i = 0; i < n; ++i) {
        sampling.emplace_back(seed, for_sampling, round, first + i);
        noise.emplace_back(seed, for_noise, round, first + i);
    }
    rows state = rows::Zero(b, h), input(b, 3 * h);
    for (std::size_t t = 0; t < out.horizon; ++t) {
        for (std::size_t i = 0; i < n; ++i)
            input.row(static_cast<Eigen::Index>(i)) = input_.row(out.tokens[(first + i) * (out.horizon + 1) + t]);
        rows gates = product(state, recurrent_);
        round_all(gates);
        gates.leftCols(2 * h) = (gates.leftCols(2 * h) + input.leftCols(2 * h)).array().logistic();
        gates.rightCols(h).rowwise() += candidate_bias_;
        auto const reset = gates.leftCols(h).array(), update = gates.middleCols(h, h).array();
        rows const candidate = (input.rightCols(h).array() + reset * gates.rightCols(h).array()).tanh();
        state = update * state.array() + (1 - update) * candidate.array();
        round_all(state);
        rows mixed = state;
        if (shape_.experts > 0) mix(state, static_cast<Eigen::Index>(t), first, out, mixed);
        rows logits = product(mixed, output_).rowwise() + output_bias_;
        round_all(logits);
        for (std::size_t i = 0; i < n; ++i) {
            auto row = logits.row(static_cast<Eigen::Index>(i));
            if (noise_ > 0)
                for (float& x : row) x += static_cast<float>(noise_ * noise[i].normal());
            std::copy_n(row.data(), v, &out.logits[((first + i) * out.horizon + t) * out.vocabulary]);
            if (problems.empty()) continue;
            std::int32_t token = problems[i].forced[t + 1];
            if (token < 0) {
                auto const p = (row.array() - row.maxCoeff()).exp().eval();
                float left = static_cast<float>(sampling[i].uniform()) * p.sum();
                for (token = 0; token + 1 < v && (left -= p(token)) >= 0;) ++token;
            }
            out.tokens[(first + i) * (out.horizon + 1) + t + 1] = token;
        }
    }
    for (std::size_t i = first; i < first + n; ++i) {
        trm::logits_view<float> const view{.data = &out.logits[i * out.horizon * out.vocabulary],
                                           .rows = static_cast<std::int64_t>(out.horizon),
                                           .vocab = v};
        trm::throw_if(
            trm::log_prob(view, out.response(i).subspan(1),
                          trm::log_prob_out<float>{.logp = std::span(out.logp).subspan(i * out.horizon, out.horizon)}));
    }
}
