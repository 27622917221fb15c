// SPDX-License-Identifier: Apache-2.0
// The last tokens of a sequence, which do not fill a register: losses composed at run time take them apart from the others, and
// must give the bits of losses composed of types, wherever an exception is and whatever the length.
#include "catch.hpp"
#include "loss_batch.hpp"

#include <trm/loss/any_loss_extern.hpp>
#include <trm/loss/masked_loss.hpp>
#include <trm/loss/to_spec.hpp>
#include <trm/policy/penalty_kl.hpp>
#include <trm/policy/surrogates.hpp>

#include <cstring>

using namespace trm;

namespace {

enum class planted { nothing, nonfinite, beyond_clamp, positive, left_out };

/// Two sequences of n tokens, of which the second has something at token `at`.
template <class S>
batches::ragged<S> pair_of(std::int64_t n, planted what, std::int64_t at) {
    auto b = batches::make<S>({{n, n, 3}, false, 0.1, 0}, static_cast<std::uint64_t>(n));
    if (what == planted::nothing) return b;
    auto const t = static_cast<std::size_t>(n + at);
    if (what == planted::nonfinite) b.logp[t] = batches::narrow<S>(batches::nan);
    if (what == planted::beyond_clamp) b.rollout[t] = batches::narrow<S>(-60);
    if (what == planted::positive) b.rollout[t] = batches::narrow<S>(0.25);
    if (what == planted::left_out) b.mask[t] = 0;
    return b;
}

template <class S>
struct got {
    result r;
    std::vector<default_arithmetic_t<S>> grad;
};
template <class S, class Loss>
got<S> evaluate(Loss const& loss, batch_view<S> const& view, bool accumulate) {
    using T = default_arithmetic_t<S>;
    got<S> g{{}, std::vector<T>(static_cast<std::size_t>(view.layout.extent()), T(0.5))};
    outputs<T> out;
    out.grad = g.grad;
    out.accumulate = accumulate;
    g.r = loss(view, out);
    INFO(g.r.status.what);
    REQUIRE(g.r.status.ok());
    return g;
}
template <class S, class Loss>
void same(Loss loss, batch_view<S> const& view) {
    for (bool const diagnose : {false, true})
        for (bool const accumulate : {false, true}) {
            loss.options.diagnose = diagnose;
            any_loss dynamic{to_spec(loss)};
            dynamic.diagnose = diagnose;
            auto const a = evaluate(loss, view, accumulate), b = evaluate(dynamic, view, accumulate);
            INFO("diagnose " << diagnose << ", accumulate " << accumulate);
            CHECK(std::memcmp(&a.r.loss, &b.r.loss, sizeof a.r.loss) == 0);
            CHECK(std::memcmp(a.grad.data(), b.grad.data(), a.grad.size() * sizeof a.grad[0]) == 0);
            if (diagnose) CHECK(std::memcmp(&a.r.diagnostics, &b.r.diagnostics, sizeof a.r.diagnostics) == 0);
        }
}

masked_loss const sequences{
    sequence_mask{k2{}, stat::max, at_most(0.5)} && sequence_mask{ratio{}, stat::mean, at_most(1.5)},
    ppo_clip{0.2, 0.28, 3.0}, token_mean{}};
masked_loss const tokens{token_mask{ratio{}, within(0.8, 1.25)} && token_mask{k3{}, at_most(0.03)}, importance_ratio{},
                         seq_mean_token_mean{}};
masked_loss const weighted{token_mask{abs_log_ratio{}, at_most(0.3)}, gspo{0.03, 0.04}, token_mean{},
                           token_weight{truncate_above(1.1)}, kl_penalty{k3{}, 0.1}};

template <class S>
void ends() {
    int const width = simd::width<default_arithmetic_t<S>>();
    int const tile = 64 * width;  // tokens: of one tile or two
    for (std::int64_t const n : {1, width - 1, width, width + 1, 5 * width + 2, tile / 2 - 1, tile + 3 * width + 1})
        for (planted const what :
             {planted::nothing, planted::nonfinite, planted::beyond_clamp, planted::positive, planted::left_out})
            for (std::int64_t const at : {std::int64_t{0}, n / 2, n - 1}) {
                INFO("length " << n << ", planted " << static_cast<int>(what) << " at " << at);
                auto const b = pair_of<S>(n, what, at);
                for (int streams = 0; streams < 4; ++streams) {
                    INFO("streams " << streams);
                    auto view = b.view();
                    if (what != planted::left_out) view.loss_mask = {};
                    if ((streams & 1) == 0) view.proximal_logp = {};
                    if ((streams & 2) == 0) {
                        view.advantages = {};
                        view.sequence_advantages = b.sequence_advantages;
                    }
                    view.token_weights = {};
                    same(sequences, view);
                    same(tokens, view);
                    same(weighted, view);
                }
            }
}

}  // namespace

TEST_CASE("ends of sequences have the bits of losses composed of types, f32", "[loss][parity]") { ends<float>(); }
TEST_CASE("ends of sequences have the bits of losses composed of types, bf16", "[loss][parity]") { ends<bf16>(); }
