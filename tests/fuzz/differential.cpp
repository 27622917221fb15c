// SPDX-License-Identifier: Apache-2.0
// One loss, many ways: from types and from text (C interface), one thread and three, packed, padded and segments, on the widest
// vector unit and on one lane. What must agree agrees bit for bit, and everything agrees with the oracle within its bounds.
#include "../interop_c.hpp"
#include "fuzz.hpp"

#include <trm/loss/masked_loss.hpp>
#include <trm/loss/spec.hpp>
#include <trm/loss/to_spec.hpp>
#include <trm/policy/catalogue.hpp>
#include <trm/reference/loss.hpp>

#include <atomic>
#include <thread>

using namespace trm;

namespace {

/// A batch whose shape and contents follow the input: ordinary tokens, and what is not.
template <class S>
batches::ragged<S> batch_from(fuzz::bytes& in) {
    batches::shape shape;
    shape.lengths.resize(static_cast<std::size_t>(1 + in.below(12)));
    for (auto& l : shape.lengths) l = in.below(8) == 0 ? 16 * in.below(40) : in.below(40);
    shape.holes = in.flag();
    shape.spread = 0.02 * (1 + in.below(40));
    shape.outliers = in.below(3) == 0 ? 0.05 : 0;
    auto b = batches::make<S>(shape, in.take<std::uint32_t>());
    double const odd[] = {batches::nan, batches::inf, -batches::inf, -1e30, -88,   0.0,
                          -0.0,         0.125,        -1e-30,        -3e4,  -1e-3, -20};
    auto const put = [&](auto& stream, double v) {
        using E = typename std::remove_cvref_t<decltype(stream)>::value_type;
        stream[in.take<std::uint16_t>() % stream.size()] = batches::narrow<E>(v);
    };
    for (int i = in.below(16); i > 0 && b.tokens() > 0; --i) {
        double const v = odd[static_cast<std::size_t>(in.below(12))];
        switch (in.below(6)) {
            case 0:
                put(b.logp, v);
                break;
            case 1:
                put(b.rollout, v);
                break;
            case 2:
                put(b.proximal, v);
                break;
            case 3:
                put(b.ref, v);
                break;
            case 4:
                put(b.advantages, v > -1e4 || !is_finite(v) ? v : 2.0);
                break;
            default:
                put(b.mask, 0);
        }
    }
    return b;
}

struct three_threads {
    template <class F>
    void operator()(std::int64_t n, F&& f) const {
        std::atomic<std::int64_t> next{0};
        auto const work = [&] {
            for (std::int64_t i = next++; i < n; i = next++) f(i);
        };
        std::thread a(work), b(work);
        work();
        a.join();
        b.join();
    }
};

template <class T>
struct outcome {
    std::vector<T> grad, weights;
    std::vector<std::uint8_t> keep;
    std::vector<std::uint16_t> reasons;
    trm::result result;

    explicit outcome(std::size_t n) : grad(n, T(7)), weights(n, T(7)), keep(n, 7), reasons(n, 7) {}
    outputs<T> view() { return {grad, keep, reasons, weights, false, 1.0}; }
};
template <class A>
bool same_bits(A const& a, A const& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof a[0]) == 0);
}
template <class T>
void require_same(outcome<T> const& a, outcome<T> const& b) {
    TRM_FUZZ_REQUIRE(a.result.status == b.result.status);
    TRM_FUZZ_REQUIRE(std::memcmp(&a.result.loss, &b.result.loss, sizeof(double)) == 0);
    TRM_FUZZ_REQUIRE(same_bits(a.grad, b.grad) && same_bits(a.weights, b.weights));
    TRM_FUZZ_REQUIRE(same_bits(a.keep, b.keep) && same_bits(a.reasons, b.reasons));
}
/// The outputs of a rearranged batch, where the tokens were.
template <class T, class S>
outcome<T> restored(outcome<T> const& r, batches::ragged<S> const& from, std::size_t n) {
    outcome<T> to(n);
    to.result = r.result;
    to.grad = batches::at_origin(r.grad, from, n);
    to.weights = batches::at_origin(r.weights, from, n);
    to.keep = batches::at_origin(r.keep, from, n);
    to.reasons = batches::at_origin(r.reasons, from, n);
    return to;
}
bool near(double value, double want, double size, double bound) {
    return std::fabs(value - want) <= bound * std::fmax(std::fabs(want), size);
}
/// Where no decision is closer than rounding: the same tokens, and gradients, weights and loss within `bound`.
template <class T>
void require_near(outcome<T> const& r, reference::evaluation const& want, double bound) {
    if (!(want.nearest_decision > (sizeof(T) == 8 ? 1e-9 : 1e-4))) return;
    for (std::size_t i = 0; i < r.grad.size(); ++i) {
        TRM_FUZZ_REQUIRE(r.keep[i] == want.keep[i] && r.reasons[i] == want.reasons[i]);
        TRM_FUZZ_REQUIRE(near(double(r.grad[i]), want.grad[i], want.grad_size[i], bound));
        TRM_FUZZ_REQUIRE(near(double(r.weights[i]), want.weights[i], 0, bound));
    }
    TRM_FUZZ_REQUIRE(near(r.result.loss, want.loss, want.loss_size, bound));
}

template <class T, class Loss, class S>
outcome<T> run(Loss const& loss, batches::ragged<S> const& b, bool threads = false) {
    outcome<T> r(b.tokens());
    r.result = threads ? loss(b.view(), r.view(), three_threads{}) : loss(b.view(), r.view());
    return r;
}

template <class S, class Loss>
void compare(Loss const& loss, batches::ragged<S> const& b, double bound) {
    using T = default_arithmetic_t<S>;
    auto const want = run<T>(loss, b);
    TRM_FUZZ_REQUIRE(want.result.status.ok());
    require_same(run<T>(loss, b, true), want);
    auto const rows = batches::padded(b, 3);
    require_same(restored(run<T>(loss, rows), rows, b.tokens()), want);
    auto const whole = batches::segmented(b, batches::whole_sequences(b.cu));
    require_same(restored(run<T>(loss, whole, true), whole, b.tokens()), want);

    c::loss const same = c::from_text(print_spec(to_spec(loss)));
    TRM_FUZZ_REQUIRE(same != nullptr);
    for (auto const* layout : {&b, &rows}) {
        outcome<T> r(layout->tokens());
        trm_batch const batch = c::batch_of(*layout);
        trm_outputs out = trm_outputs_init();
        out.grad.data = r.grad.data();
        out.weights.data = r.weights.data();
        out.keep.data = r.keep.data();
        out.reasons.data = r.reasons.data();
        TRM_FUZZ_REQUIRE(trm_loss_call(same.get(), &batch, &out, nullptr, nullptr, &r.result.loss, nullptr, nullptr) ==
                         TRM_OK);
        require_same(restored(r, *layout, b.tokens()), want);
    }
    auto const view = b.view();
    auto const oracle = reference::evaluate(loss, view);
    require_near(want, oracle, bound);
    require_near(run<T>(loss.on(simd::scalar{}), b), oracle, bound);
}

template <class S>
void compare_some(fuzz::bytes& in) {
    bool const wide = std::is_same_v<default_arithmetic_t<S>, double>;
    double const term = wide ? 1e-11 : 4e-6, product = wide ? 1e-9 : 3e-4;
    auto const threshold = [&](double most) { return most * (1 + in.below(255)) / 255; };
    auto const divide = in.flag() ? over_all : over_kept;
    switch (in.below(4)) {
        case 0: {
            double const t = threshold(0.5);
            masked_loss loss{token_mask{ratio{}, within(1 - t, 1 / (1 - t))} &&
                                 sequence_mask{k2{}, stat::max, at_most(threshold(2))},
                             ppo_clip{0.2, 0.28, 3.0}, token_mean{divide}, token_weight{truncate_above(1 + t)},
                             kl_penalty{k3{}, 0.1}};
            return compare(loss, batch_from<S>(in), term);
        }
        case 1: {
            masked_loss loss{sequence_mask{k3{}, stat::mean, at_most(threshold(0.3))}, importance_ratio{},
                             seq_mean_token_mean{divide}, sequence_weight{stat::mean, clamp_to(0.9, 1.1)}};
            return compare(loss, batch_from<S>(in), product);
        }
        case 2: {
            masked_loss loss{
                prefix_mask{abs_log_ratio{}, at_most(threshold(2))} && dppo_kl(threshold(0.2), threshold(0.2)),
                cispo{0.5, 2.0}, seq_mean_token_sum{divide}};
            return compare(loss, batch_from<S>(in), term);
        }
        default: {
            masked_loss loss{budget_mask{k2{}, threshold(0.1)}, gspo{0.01, 0.02, 0.0}, seq_mean_token_mean{divide}};
            return compare(loss, batch_from<S>(in), product);
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    fuzz::bytes in(data, size);
    if (in.flag()) compare_some<double>(in);
    else compare_some<float>(in);
    return 0;
}
