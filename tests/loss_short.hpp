// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "catch.hpp"
#include "loss_batch.hpp"

#include <trm/loss/masked_loss.hpp>
#include <trm/policy/penalty_kl.hpp>
#include <trm/policy/surrogates.hpp>

#include <cstring>

/// Batches of many short sequences, which go through a pass in groups, and losses of them.
namespace short_sequences {

using namespace trm;

template <class S>
struct run {
    result r;
    std::vector<default_arithmetic_t<S>> grad;
};
template <class S, class Loss>
run<S> evaluate(Loss loss, batch_view<S> const& view, bool diagnose, bool accumulate = false) {
    using T = default_arithmetic_t<S>;
    if constexpr (requires { loss.options; }) loss.options.diagnose = diagnose;
    else loss.diagnose = diagnose;
    run<S> got{{}, std::vector<T>(static_cast<std::size_t>(view.layout.extent()), T(0.5))};
    outputs<T> out;
    out.grad = got.grad;
    out.accumulate = accumulate;
    workspace scratch;
    got.r = loss(view, out, scratch);
    INFO(got.r.status.what);
    REQUIRE(got.r.status.ok());
    return got;
}
template <class T>
bool same(std::vector<T> const& a, std::vector<T> const& b) {
    return std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}
/// Loss, outputs and diagnostics do not depend on which outputs are wanted: those that a call with reasons writes are what other calls
/// write, with a gradient and without.
template <class S, class Loss>
void same_outputs(Loss loss, batch_view<S> const& view) {
    using T = default_arithmetic_t<S>;
    auto const n = static_cast<std::size_t>(view.layout.extent());
    struct written {
        std::vector<T> grad, weights;
        std::vector<std::uint8_t> keep;
    };
    for (bool const diagnose : {true, false}) {
        if constexpr (requires { loss.options; }) loss.options.diagnose = diagnose;
        else loss.diagnose = diagnose;
        std::vector<std::uint16_t> reasons(n);
        auto const call = [&](bool grad, bool weights, bool keep, bool all, written& w) {
            w = {std::vector<T>(n, T(7)), std::vector<T>(n, T(7)), std::vector<std::uint8_t>(n, std::uint8_t{7})};
            outputs<T> out;
            if (grad) out.grad = w.grad;
            if (weights) out.weights = w.weights;
            if (keep) out.keep = w.keep;
            if (all) out.reasons = reasons;
            workspace scratch;
            return loss(view, out, scratch);
        };
        written want, got;
        result const all = call(true, true, true, true, want);
        REQUIRE(all.status.ok());
        for (int which = 1; which < 8; ++which) {
            bool const grad = (which & 1) != 0, weights = (which & 2) != 0, keep = (which & 4) != 0;
            INFO((diagnose ? "diagnostics " : "")
                 << (grad ? "gradient " : "") << (weights ? "weights " : "") << (keep ? "keep" : ""));
            result const r = call(grad, weights, keep, false, got);
            CHECK(r.loss == all.loss);
            CHECK(std::memcmp(&r.diagnostics, &all.diagnostics, sizeof r.diagnostics) == 0);
            CHECK(same(got.grad, grad ? want.grad : std::vector<T>(n, T(7))));
            CHECK(same(got.weights, weights ? want.weights : std::vector<T>(n, T(7))));
            CHECK(got.keep == (keep ? want.keep : std::vector<std::uint8_t>(n, std::uint8_t{7})));
        }
    }
}
inline masked_loss const sequences{
    sequence_mask{k2{}, stat::max, at_most(0.25)} && sequence_mask{k3{}, stat::mean, at_most(0.045)},
    ppo_clip{0.2, 0.28, 3.0}, token_mean{}};
inline masked_loss const tokens{token_mask{ratio{}, within(0.6, 1.7)} &&
                                    sequence_mask{k1{}, stat::min, at_least(-0.7)} &&
                                    token_mask{abs_log_ratio{}, at_most(0.45)},
                                importance_ratio{},
                                seq_mean_token_mean{},
                                token_weight{truncate_above(1.2)},
                                kl_penalty{k3{}, 0.1},
                                squared_log_ratio{0.01}};

/// Statistics of sequences come first, their constants then go into a second pass.
inline masked_loss const in_two_passes{
    sequence_mask{k1{}, stat::mean, within(-0.3, 0.3)} && token_mask{ratio{}, within(0.4, 2.5)}, gspo{0.2, 0.3},
    seq_mean_token_mean{}, sequence_weight{stat::mean, truncate_above(1.5)}};

template <class S>
batches::ragged<S> sample(double outliers, std::uint64_t seed) {
    auto lengths = batches::short_lengths(700, seed);
    lengths[40] = 1500;  // one that is far longer than the others
    return batches::make<S>({lengths, false, 0.3, outliers}, seed + 1);
}
template <class S>
batch_view<S> plain(batches::ragged<S> const& b) {
    batch_view<S> v = b.view();
    v.proximal_logp = {};
    v.token_weights = {};
    v.loss_mask = {};
    v.group_of = {};
    return v;
}

/// f(view) for views of short sequences: with and without exceptions, with one advantage per sequence, under a loss_mask of ones
/// and with holes, with a proximal policy.
template <class S, class F>
void each_view(F const& f) {
    for (double const outliers : {0.0, 0.0005}) {  // none; in some of the groups
        auto const b = sample<S>(outliers, 5);
        batch_view<S> const v = plain(b);
        f(v);
        batch_view<S> three = v;
        three.proximal_logp = b.proximal;
        f(three);
        batch_view<S> one = v;
        one.advantages = {};
        auto per_sequence = b.sequence_advantages;
        one.sequence_advantages = per_sequence;
        f(one);
        per_sequence[100] = static_cast<default_arithmetic_t<S>>(batches::nan);
        f(one);
        std::vector<std::uint8_t> mask(b.tokens(), std::uint8_t{1});
        batch_view<S> masked = v;
        masked.loss_mask = mask;
        f(masked);
        mask[700] = mask[2000] = 0;
        f(masked);
    }
}

}  // namespace short_sequences
