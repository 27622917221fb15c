// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/detail/row_base.hpp>
#include <trm/simd/narrow.hpp>

/// \file
/// One row of the backward pass: p (a + b t) with p = 2^t, t = (z - logsumexp) / ln 2, read and written once. No software
/// prefetch: next to stores it costs more than it brings.

TRM_NAMESPACE_BEGIN
namespace logits_detail {

/// Upstream gradients of the log-probability and the entropy of one row, and its entropy if d_entropy is not 0.
struct row_upstream {
    double d_logp, d_entropy, entropy;
    [[nodiscard]] bool any() const noexcept { return d_logp != 0.0 || d_entropy != 0.0; }
};
/// What d logits of one row follow from. `further`: sum of the upstream gradients of its further tokens.
struct row_gradient {
    double temperature, lse, d_logp, d_entropy, entropy;
    double at_target;  ///< d_logp of the target alone, by temperature

    row_gradient(double t, double logsumexp, row_upstream const& up, double further) noexcept
        : temperature(t),
          lse(logsumexp),
          d_logp(up.d_logp + further),
          d_entropy(up.d_entropy),
          entropy(up.entropy),
          at_target(up.d_logp / t) {}
    [[nodiscard]] bool has_entropy() const noexcept { return d_entropy != 0.0; }
    [[nodiscard]] double target(double x) const noexcept {
        double const lp = x / temperature - lse, p = std::exp(lp);
        return at_target + (p > 0.0 ? p * (-d_logp - d_entropy * (lp + entropy)) / temperature : 0.0);
    }
};

/// The same, folded into two coefficients.
template <class V>
struct row_coefficients {
    using T = typename V::value_type;
    known_base<V> base;
    V slope, offset;

    explicit TRM_INLINE row_coefficients(row_gradient const& g) noexcept : base(g.temperature, g.lse) {
        double const f = std::exp2(base.residue) / g.temperature;
        double const s = -g.d_entropy * ln2;
        slope = V(static_cast<T>(s * f));
        offset = V(static_cast<T>((-g.d_logp - g.d_entropy * g.entropy + s * base.residue) * f));
    }
    /// d logits of each x in its place.
    template <bool Entropy, std::size_t n>
    TRM_INLINE void at(V (&x)[n]) const noexcept {
        V t[n];
        TRM_UNROLL for (std::size_t i = 0; i < n; ++i) {
            t[i] = base.exponent(x[i]);
            if constexpr (Entropy) t[i] = (simd::max)(V(least_exponent<T>), t[i]);  // 0 times infinity would be NaN
            x[i] = t[i];
        }
        simd::exp2_or_zero_each(x);
        TRM_UNROLL for (std::size_t i = 0; i < n; ++i) x[i] = x[i] * (Entropy ? fma(slope, t[i], offset) : offset);
    }
};

template <bool Entropy, bool Accumulate, bool Stream, class V, class S, class O, class M>
TRM_INLINE void write_row_in(row_coefficients<V> const& g, S const* x, O* d, std::int64_t n, M mask) noexcept {
    constexpr std::int64_t w = static_cast<std::int64_t>(V::size);
    constexpr int unroll = 4;
    auto const part = [&](std::int64_t i, std::int64_t count) TRM_INLINE_LAMBDA {
        auto const k = static_cast<std::size_t>(count);
        V y[] = {mask.apply_n(simd::load_n<V>(x + i, k), i, k)};
        g.template at<Entropy>(y);
        if constexpr (Accumulate) y[0] = y[0] + simd::load_n<V>(d + i, k);
        simd::store_as_n(d + i, y[0], k);
    };
    std::int64_t i = 0;
    if constexpr (Stream) {
        auto const off = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(d) % sizeof(V) / sizeof(O));
        std::int64_t const head = off == 0 ? 0 : (w - off < n ? w - off : n);
        if (head > 0) part(0, head);
        i = head;
    }
    for (; i + unroll * w <= n; i += unroll * w) {
        V y[unroll];
        TRM_UNROLL for (int k = 0; k < unroll; ++k) y[k] = mask.apply(simd::load<V>(x + i + k * w), i + k * w);
        g.template at<Entropy>(y);
        if constexpr (Accumulate)
            TRM_UNROLL for (int k = 0; k < unroll; ++k) y[k] = y[k] + simd::load<V>(d + i + k * w);
        TRM_UNROLL for (int k = 0; k < unroll; ++k) {
            if constexpr (Stream) {
                simd::stream(d + i + k * w, y[k]);
            } else {
                simd::store_as(d + i + k * w, y[k]);
            }
        }
    }
    for (; i < n; i += w) part(i, n - i < w ? n - i : w);
}
/// `V`: simd::registers.
template <bool Entropy, bool Accumulate, bool Stream, class V, class S, class O, class M>
void write_row(row_gradient const& g, S const* x, O* d, std::int64_t n, M mask) noexcept {
    simd::on_unit<typename V::arch>([&]<class Unit>(Unit) TRM_INLINE_LAMBDA {
        row_coefficients<typename V::template on<Unit>> const folded(g);
        write_row_in<Entropy, Accumulate, Stream>(folded, x, d, n, mask);
    });
}

}  // namespace logits_detail
TRM_NAMESPACE_END
