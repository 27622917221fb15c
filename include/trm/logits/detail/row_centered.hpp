// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/detail/row_pair.hpp>
#include <trm/logits/topk.hpp>
#include <trm/policy/weight.hpp>
#include <trm/simd/narrow.hpp>

/// \file
/// One row of score centering: a pair of rows of logits, or one list of most likely tokens.

TRM_NAMESPACE_BEGIN
namespace logits_detail {

/// The listed tokens of one row as probabilities, and what they leave over.
template <arithmetic_type T>
class centering_head {
public:
    centering_head(topk_view<T> const& list, std::size_t row) noexcept
        : v(list), first(row * static_cast<std::size_t>(list.k)) {
        for (std::size_t i = first; i < first + static_cast<std::size_t>(v.k); ++i) {
            if (!is_first(i)) continue;
            mass_q += q(i);
            mass_p += p(i);
        }
    }
    [[nodiscard]] double p(std::size_t i) const noexcept { return std::exp(static_cast<double>(v.pi_logp[i])); }
    [[nodiscard]] double q(std::size_t i) const noexcept { return std::exp(static_cast<double>(v.mu_logp[i])); }
    [[nodiscard]] double rest_q() const noexcept { return mass_q < 1.0 ? 1.0 - mass_q : 0.0; }
    [[nodiscard]] double rest_p() const noexcept { return mass_p < 1.0 - 1e-6 ? 1.0 - mass_p : 1e-6; }
    /// Is slot i used, not listed before, and possible under the current policy?
    [[nodiscard]] bool counts(std::size_t i) const noexcept { return is_first(i) && p(i) > 0.0; }

private:
    [[nodiscard]] bool is_first(std::size_t i) const noexcept {
        return v.ids[i] >= 0 && slot_of(v, first, i, v.ids[i]) == i;
    }
    topk_view<T> const& v;
    std::size_t first;
    double mass_q = 0.0, mass_p = 0.0;
};

/// Both rows as probabilities: m = w(p / q) q and p, a vector at a time.
template <class V>
struct centered_row {
    using T = typename V::value_type;
    static constexpr std::int64_t width = static_cast<std::int64_t>(V::size);
    known_base<V> mu, pi;
    V q_scale, p_scale, lower, upper, below, above;
    bool weighted;

    TRM_INLINE centered_row(double mu_temperature, double mu_lse, double pi_temperature, double pi_lse,
                            bool is_weighted, weight_bound const& b) noexcept
        : mu(mu_temperature, mu_lse),
          pi(pi_temperature, pi_lse),
          q_scale(static_cast<T>(std::exp2(mu.residue))),
          p_scale(static_cast<T>(std::exp2(pi.residue))),
          lower(simd::broadcast<V>(b.lower)),
          upper(simd::broadcast<V>(b.upper)),
          below(simd::broadcast<V>(b.below)),
          above(simd::broadcast<V>(b.above)),
          weighted(is_weighted),
          temperature(pi_temperature) {}
    /// m and p of a vector of logits of each row.
    struct parts {
        V m, p;
    };
    [[nodiscard]] TRM_INLINE parts at(V x, V y) const noexcept {
        V const q = exp2_wide(wide_exponent(mu, x)) * q_scale;
        V const p = exp2_wide(wide_exponent(pi, y)) * p_scale;
        if (!weighted) return {q, p};
        return {select(p < lower * q, below * q, select(p > upper * q, above * q, p)), p};
    }
    /// f(index, how many, m, p) over the row.
    template <class S1, class S2, class F>
    TRM_INLINE void each(S1 const* x, optional_mask x_mask, S2 const* y, optional_mask y_mask, std::int64_t n,
                         F&& f) const noexcept {
        std::int64_t i = 0;
        for (; i + width <= n; i += width)
            f(i, static_cast<std::size_t>(width),
              at(x_mask.apply(simd::load<V>(x + i), i), y_mask.apply(simd::load<V>(y + i), i)));
        if (i == n) return;
        auto const k = static_cast<std::size_t>(n - i);
        f(i, k, at(x_mask.apply_n(simd::load_n<V>(x + i, k), i, k), y_mask.apply_n(simd::load_n<V>(y + i, k), i, k)));
    }
    /// sum_v m_v.
    template <class S1, class S2>
    [[nodiscard]] TRM_INLINE double sum(S1 const* x, optional_mask x_mask, S2 const* y, optional_mask y_mask,
                                        std::int64_t n) const noexcept {
        double total = 0;
        V chain(T(0));
        int links = 0;
        each(x, x_mask, y, y_mask, n, [&](std::int64_t, std::size_t, parts const& k) TRM_INLINE_LAMBDA {
            chain = chain + k.m;
            if (++links < 16) return;
            total += simd::sum(chain);
            chain = V(T(0));
            links = 0;
        });
        return total + simd::sum(chain);
    }
    /// d = (m of_m - p of_p) / temperature, or added to what is there.
    template <class S1, class S2, class O>
    TRM_INLINE void write(S1 const* x, optional_mask x_mask, S2 const* y, optional_mask y_mask, std::int64_t n,
                          double of_p, double of_m, O* d, bool add) const noexcept {
        V const up_p = simd::broadcast<V>(-of_p / temperature), up_m = simd::broadcast<V>(of_m / temperature);
        each(x, x_mask, y, y_mask, n, [&](std::int64_t i, std::size_t count, parts const& k) TRM_INLINE_LAMBDA {
            V g = fma(k.m, up_m, k.p * up_p);
            if (add) g = g + simd::load_n<V>(d + i, count);
            count == V::size ? simd::store_as(d + i, g) : simd::store_as_n(d + i, g, count);
        });
    }

private:
    double temperature;
};

}  // namespace logits_detail
TRM_NAMESPACE_END
