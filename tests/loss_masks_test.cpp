// SPDX-License-Identifier: Apache-2.0
// Every divergence and every mask statistic against the oracle. One loss carries many criteria: the reasons output shows
// each by itself.
#include "every_divergence.hpp"
#include "loss_parity.hpp"

using namespace trm;

namespace {

/// Each statistic per sequence, of values with and without exp.
auto const sequence_criteria =
    sequence_mask{k1{}, stat::sum, within(-2.3, 3.1)} && sequence_mask{k1{}, stat::mean, within(-0.07, 0.08)} &&
    sequence_mask{k2{}, stat::max, at_most(0.31)} && sequence_mask{k3{}, stat::mean, at_most(0.05)} &&
    sequence_mask{abs_log_ratio{}, stat::mean, at_most(0.23)} && sequence_mask{ratio{}, stat::min, at_least(0.51)} &&
    sequence_mask{binary_tv{}, stat::max, at_most(0.23)} && sequence_mask{given{}, stat::max, at_most(0.097)} &&
    sequence_mask{given{}, stat::min, at_most(0.021)};

/// The other pairs of policies.
auto const other_ratios = sequence_mask{over<ratio_kind::proximal_over_rollout>(k3{}), stat::mean, at_most(0.0123)} &&
                          token_mask{over<ratio_kind::current_over_proximal>(ratio{}), within(0.6, 1.7)} &&
                          token_mask{over<ratio_kind::proximal_over_rollout>(abs_log_ratio{}), at_most(0.37)} &&
                          sequence_mask{over<ratio_kind::current_over_proximal>(k2{}), stat::max, at_most(0.7)} &&
                          token_mask{over<ratio_kind::correction>(k1{}), at_least(-0.31)};

/// Values that are smaller than this are compared with it: p - mu, for example, is no more accurate than p is.
constexpr double value_size = 0.1;
template <class T>
constexpr double value_bound = sizeof(T) == 8 ? 1e-12 : 2e-6;

/// Rejections that a criterion must cause, and not everywhere, for the comparison to mean something.
void check_bites(reference::evaluation const& e, int criteria) {
    for (int i = 0; i < criteria; ++i) {
        INFO("criterion " << i << " rejects " << e.diagnostics.rejected_tokens[i] << " of " << e.diagnostics.tokens);
        CHECK(e.diagnostics.rejected_tokens[i] > 0);
        CHECK(e.diagnostics.rejected_tokens[i] < e.diagnostics.finite_tokens());
    }
}

template <class T, class S, class Mask>
void compare(Mask const& mask, batches::shape const& shape, std::uint64_t seed, int criteria) {
    auto const b = batches::make<S>(shape, seed);
    masked_loss const loss{mask, importance_ratio{}, token_mean{}};
    check_bites(parity::compare<T>(loss, b.view()), criteria);
}

batches::shape edges() { return {batches::edge_lengths()}; }
batches::shape many() { return {batches::short_lengths(400, 11), true, 0.3, 0.001}; }

/// All divergences of the catalogue as token masks, each with a two-sided band; fourteen to a loss.
template <class T, std::size_t First = 0>
void compare_masks() {
    using divergences = every::some<First, 14>;
    auto const mask = every::middle_of(divergences{}, batches::make<T>(edges(), 1).view());
    compare<T, T>(mask, edges(), 1, static_cast<int>(divergences::size));
    if constexpr (First + 14 < catalogue::divergences::size) compare_masks<T, First + 14>();
}

/// Value, and slope where it has one, of a divergence in registers of T that are read from S.
template <class T, class S, class D>
void compare_values() {
    using V = simd::vec<T>;
    auto const b = batches::make<S>({batches::edge_lengths(), false, 0.3, 0}, 3);
    for (std::size_t at = 0; at < b.tokens(); at += V::size) {
        std::size_t const n = std::min<std::size_t>(V::size, b.tokens() - at);
        log_ratio<V> l;
        set_log_ratio(l, simd::load_n<V>(&b.logp[at], n), simd::load_n<V>(&b.rollout[at], n), simd::first_n<V>(n),
                      V(-20), V(20));
        T values[V::size], slopes[V::size] = {};
        simd::store_n(values, D{}(l), n);
        if constexpr (estimator_policy<D>) simd::store_n(slopes, D{}.slope(l), n);
        for (std::size_t i = 0; i < n; ++i) {
            auto const in_kernel = [](S v) { return static_cast<double>(static_cast<T>(to_float(v))); };
            reference::token t;
            t.logp = in_kernel(b.logp[at + i]);
            t.rollout = in_kernel(b.rollout[at + i]);
            double const want = reference::divergence_at(D{}, t), value = static_cast<double>(values[i]);
            bool same = parity::near(value, want, value_size, value_bound<T>);
            if constexpr (estimator_policy<D>)
                same = same && parity::near(double(slopes[i]),
                                            reference::slope(D{}, reference::pair_of(t, D::over, t.clamps.mask).x),
                                            value_size, value_bound<T>);
            if (same) continue;
            INFO(D::name << " of " << t.logp << " and " << t.rollout << ": " << value << ", expected " << want
                         << ", slope " << slopes[i]);
            CHECK(same);
            return;
        }
    }
}
template <class T, class S>
void compare_every_value() {
    any_type(catalogue::divergences{}, []<class D>(std::type_identity<D>) {
        if constexpr (requires(log_ratio<simd::vec<T>> const& l) { D{}(l); }) compare_values<T, S, D>();  // not `given`
        return false;
    });
}

}  // namespace

TEST_CASE("a token mask of every divergence matches the oracle", "[loss][parity]") { compare_masks<float>(); }

TEST_CASE("values and slopes of every divergence match the oracle's", "[loss][parity]") {
    SECTION("f32") { compare_every_value<float, float>(); }
    SECTION("f64") { compare_every_value<double, double>(); }
    SECTION("bf16") { compare_every_value<float, bf16>(); }
    SECTION("f16") { compare_every_value<float, f16>(); }
    SECTION("f32, computed in f64") { compare_every_value<double, float>(); }
    SECTION("f64, computed in f32") { compare_every_value<float, double>(); }
}

TEST_CASE("sequence masks match the oracle", "[loss][parity]") {
    SECTION("f32") { compare<float, float>(sequence_criteria, many(), 1, 9); }
    SECTION("f64") { compare<double, double>(sequence_criteria, many(), 1, 9); }
}

TEST_CASE("masks over other pairs of policies match the oracle", "[loss][parity]") {
    compare<double, double>(other_ratios, many(), 1, 5);
}

TEST_CASE("masks of other storage and arithmetic match the oracle", "[loss][parity]") {
    auto const mask = token_mask{k3{}, at_most(0.21)} && sequence_mask{k2{}, stat::max, at_most(0.9)};
    SECTION("bf16") { compare<float, bf16>(mask, edges(), 2, 2); }
    SECTION("f16") { compare<float, f16>(mask, edges(), 2, 2); }
    SECTION("f32, computed in f64") { compare<double, float>(mask, edges(), 2, 2); }
    SECTION("f64, computed in f32") { compare<float, double>(mask, edges(), 2, 2); }
}
