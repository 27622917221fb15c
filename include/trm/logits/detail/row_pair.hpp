// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/detail/row_sum.hpp>
#include <trm/logits/divergence_partial.hpp>

/// \file
/// One read of two rows at once. Each row has its own lazy base; the sums that mix both follow when either moves.

TRM_NAMESPACE_BEGIN
namespace logits_detail {

/// Registers for a pair of rows: of double if either row is.
template <class S1, class S2, class Arch>
using pair_registers = simd::registers<
    std::conditional_t<std::is_same_v<default_arithmetic_t<S1>, double>, double, default_arithmetic_t<S2>>, Arch>;

/// Groups of `step` pairs of vectors in a chain.
inline constexpr int pairs_per_chain = 16;

/// Exponents are kept down to -2^28, so that KL stays exact where one policy is millions of nats below the other.
template <class Base, class V>
TRM_INLINE V wide_exponent(Base const& b, V x) noexcept {
    return (simd::max)(V(least_exponent<typename V::value_type>), b.exponent(x));
}

/// Entries that one policy can produce and the other cannot make one of the KLs infinite.
struct support {
    bool mu_outside = false, pi_outside = false;
    template <class V>
    TRM_INLINE void note(V x, V y) noexcept {
        V const none(nothing<typename V::value_type>);
        mu_outside = mu_outside || any((x > none) & (y <= none));
        pi_outside = pi_outside || any((x <= none) & (y > none));
    }
};

template <class V>
struct pair_sums {
    using T = typename V::value_type;
    struct side {
        V sum, diff;  ///< of this chain, see row_sum.hpp
        V sums, diffs;  ///< of the chains before it
        double total = 0.0, total_diff = 0.0;
    };
    lazy_base<V> mu, pi;
    side m, p;

    TRM_INLINE pair_sums(double mu_temperature, double pi_temperature) noexcept
        : mu(mu_temperature), pi(pi_temperature) {
        clear();
    }
    TRM_INLINE void clear() noexcept {
        clear_chain();
        m.sums = m.diffs = p.sums = p.diffs = V(T(0));
    }
    TRM_INLINE void clear_chain() noexcept { m.sum = m.diff = p.sum = p.diff = V(T(0)); }
    /// Adds n pairs of vectors, to each other first.
    template <std::size_t n>
    TRM_INLINE void add(V const (&x)[n], V const (&y)[n]) noexcept {
        V sx, sy, dx, dy;
        TRM_UNROLL for (std::size_t k = 0; k < n; ++k) {
            V const tx = wide_exponent(mu, x[k]), ty = wide_exponent(pi, y[k]);
            V const d = tx - ty, ex = exp2_wide(tx), ey = exp2_wide(ty);
            sx = k == 0 ? ex : sx + ex;
            sy = k == 0 ? ey : sy + ey;
            dx = k == 0 ? ex * d : fma(ex, d, dx);
            dy = k == 0 ? ey * d : fma(ey, d, dy);
        }
        m.sum = m.sum + sx;
        p.sum = p.sum + sy;
        m.diff = m.diff + dx;
        p.diff = p.diff + dy;
    }
    /// Move the base of one row: `own` are its sums, `other` those of the other row; `sign` is +1 for mu, -1 for pi.
    static TRM_INLINE void rise(lazy_base<V>& base, side& own, side& other, T sign, V top) noexcept {
        bool const first = base.m == nothing<T>;  // nothing but impossible entries so far
        T const old = base.b;
        base.set(simd::reduce_max(top));
        T const d = first ? T(0) : base.above(old);
        V const vd(d < least_exponent<T> ? least_exponent<T> : d), f = first ? V(T(0)) : exp2_wide(vd);
        double const dd = static_cast<double>(d), sd = static_cast<double>(sign) * dd;
        double const df = first || dd < -1000.0 ? 0.0 : simd::exp2(simd::vec<double, simd::scalar>(dd)).r;
        V const shift(sign * d);
        auto const move = [&](V& own_diff, V& own_sum, V& other_diff, V other_sum) TRM_INLINE_LAMBDA {
            own_diff = f * fma(shift, own_sum, own_diff);
            own_sum = f * own_sum;
            other_diff = fma(shift, other_sum, other_diff);
        };
        move(own.diff, own.sum, other.diff, other.sum);
        move(own.diffs, own.sums, other.diffs, other.sums);
        own.total_diff = df * (own.total_diff + sd * own.total);
        own.total *= df;
        other.total_diff += sd * other.total;
    }
    TRM_INLINE void watch(V top_x, V top_y) noexcept {
        if (any(top_x > mu.limit)) [[unlikely]]
            rise(mu, m, p, T(1), top_x);
        if (any(top_y > pi.limit)) [[unlikely]]
            rise(pi, p, m, T(-1), top_y);
    }
    TRM_INLINE void end_chain() noexcept {
        m.sums = m.sums + m.sum;
        p.sums = p.sums + p.sum;
        m.diffs = m.diffs + m.diff;
        p.diffs = p.diffs + p.diff;
        clear_chain();
    }
    TRM_INLINE void flush() noexcept {
        end_chain();
        m.total += simd::sum(m.sums);
        p.total += simd::sum(p.sums);
        m.total_diff += simd::sum(m.diffs);
        p.total_diff += simd::sum(p.diffs);
        m.sums = m.diffs = p.sums = p.diffs = V(T(0));
    }
};

template <class V, class S1, class S2, class M1, class M2>
[[nodiscard]] TRM_INLINE divergence_partial sum_pair_in(S1 const* x, double x_temperature, M1 x_mask, S2 const* y,
                                                        double y_temperature, M2 y_mask, std::int64_t n) noexcept {
    using T = typename V::value_type;
    constexpr std::int64_t w = static_cast<std::int64_t>(V::size);
    constexpr int half = step;
    pair_sums<V> s(x_temperature, y_temperature);
    support holes;
    std::int64_t i = 0;
    for (int chain = 1; i + half * w <= n; ++chain) {
        std::int64_t const left = (n - i) / (half * w);
        std::int64_t const stop = i + (left < pairs_per_chain ? left : pairs_per_chain) * (half * w);
        for (; i < stop; i += half * w) {
            V a[half], b[half];
            TRM_UNROLL for (int k = 0; k < half; ++k) {
                a[k] = x_mask.apply(simd::in_order(simd::load<V>(x + i + k * w)), i + k * w);
                b[k] = y_mask.apply(simd::in_order(simd::load<V>(y + i + k * w)), i + k * w);
            }
            s.watch((simd::max)((simd::max)(a[0], a[1]), (simd::max)(a[2], a[3])),
                    (simd::max)((simd::max)(b[0], b[1]), (simd::max)(b[2], b[3])));
            V const least = (simd::min)((simd::min)((simd::min)(a[0], a[1]), (simd::min)(a[2], a[3])),
                                        (simd::min)((simd::min)(b[0], b[1]), (simd::min)(b[2], b[3])));
            if (any(least <= V(nothing<T>))) [[unlikely]]
                TRM_UNROLL for (int k = 0; k < half; ++k) holes.note(a[k], b[k]);
            s.add(a, b);
        }
        s.end_chain();
        if (chain % chains_per_flush == 0) s.flush();
    }
    for (; i < n; i += w) {
        auto const k = static_cast<std::size_t>(n - i < w ? n - i : w);
        V const a[] = {x_mask.apply_n(simd::load_n<V>(x + i, k), i, k)},
                b[] = {y_mask.apply_n(simd::load_n<V>(y + i, k), i, k)};
        s.watch(a[0], b[0]);
        holes.note(a[0], b[0]);
        s.add(a, b);
    }
    s.flush();
    divergence_partial out;
    if (s.mu.m != nothing<T>) out.mu_shift = s.mu.shift(x_temperature), out.mu_sum = s.m.total;
    if (s.pi.m != nothing<T>) out.pi_shift = s.pi.shift(y_temperature), out.pi_sum = s.p.total;
    auto const broken = [](double total, lazy_base<V> const& base) {
        return is_nan(total) || (base.m != nothing<T> && !base.resolved());
    };
    if (broken(s.m.total, s.mu) || broken(s.p.total, s.pi))
        out.mu_sum = out.pi_sum = std::numeric_limits<double>::quiet_NaN();
    out.mu_diff = s.m.total_diff * ln2;
    out.pi_diff = s.p.total_diff * ln2;
    out.mu_outside = holes.mu_outside;
    out.pi_outside = holes.pi_outside;
    return out;
}
/// `V`: simd::registers.
template <class V, class S1, class S2, class M1, class M2>
[[nodiscard]] divergence_partial sum_pair(S1 const* x, double x_temperature, M1 x_mask, S2 const* y,
                                          double y_temperature, M2 y_mask, std::int64_t n) noexcept {
    divergence_partial out;
    simd::on_unit<typename V::arch>([&]<class Unit>(Unit) TRM_INLINE_LAMBDA {
        out = sum_pair_in<typename V::template on<Unit>>(x, x_temperature, x_mask, y, y_temperature, y_mask, n);
    });
    return out;
}

struct normalised_sums {
    double kl_mu_pi = 0.0, kl_pi_mu = 0.0, tv = 0.0;
    support holes{};
};

/// TV, and with `Kl` both KLs, of a pair of rows whose logsumexp is known.
template <bool Kl, class V, class S1, class S2, class M1, class M2>
[[nodiscard]] TRM_INLINE normalised_sums sum_normalised_in(S1 const* x, double x_temperature, double x_lse, M1 x_mask,
                                                           S2 const* y, double y_temperature, double y_lse, M2 y_mask,
                                                           std::int64_t n) noexcept {
    using T = typename V::value_type;
    constexpr std::int64_t w = static_cast<std::int64_t>(V::size);
    known_base<V> const bx(x_temperature, x_lse), by(y_temperature, y_lse);
    double const shift = bx.residue - by.residue, fx = std::exp2(bx.residue), fy = std::exp2(by.residue);
    V const ratio(static_cast<T>(std::exp2(-shift)));  // p - q = fx (2^tx - ratio 2^ty)
    constexpr std::int64_t per_chain = groups_per_chain * step * w, per_flush = chains_per_flush * per_chain;
    normalised_sums out;
    std::int64_t i = 0;
    while (i < n) {
        V kx(T(0)), ky(T(0)), tv(T(0));
        std::int64_t const stop = n - i < per_flush ? n : i + per_flush;
        while (i < stop) {  // a chain, see row_sum.hpp
            V cx[2] = {V(T(0)), V(T(0))}, cy[2] = {V(T(0)), V(T(0))}, ct[2] = {V(T(0)), V(T(0))};
            auto const add = [&](V a, V b, int lane) TRM_INLINE_LAMBDA {
                V const tx = wide_exponent(bx, a), ty = wide_exponent(by, b);
                V const p = exp2_wide(tx), q = exp2_wide(ty);
                if constexpr (Kl) {
                    V const d = tx - ty;
                    cx[lane] = fma(p, d, cx[lane]);
                    cy[lane] = fma(q, d, cy[lane]);
                    if (any((simd::min)(a, b) <= V(nothing<T>))) [[unlikely]]
                        out.holes.note(a, b);
                }
                ct[lane] = ct[lane] + abs(fma(ratio, -q, p));
            };
            std::int64_t const end = stop - i < per_chain ? stop : i + per_chain;
            for (; i + 2 * w <= end; i += 2 * w) TRM_UNROLL for (int k = 0; k < 2; ++k) {
                    add(x_mask.apply(simd::in_order(simd::load<V>(x + i + k * w)), i + k * w),
                        y_mask.apply(simd::in_order(simd::load<V>(y + i + k * w)), i + k * w), k);
                }
            for (; i < end; i += w) {
                auto const k = static_cast<std::size_t>(end - i < w ? end - i : w);
                add(x_mask.apply_n(simd::load_n<V>(x + i, k), i, k), y_mask.apply_n(simd::load_n<V>(y + i, k), i, k),
                    0);
            }
            kx = kx + (cx[0] + cx[1]);
            ky = ky + (cy[0] + cy[1]);
            tv = tv + (ct[0] + ct[1]);
        }
        out.kl_mu_pi += simd::sum(kx);
        out.kl_pi_mu -= simd::sum(ky);
        out.tv += simd::sum(tv);
    }
    out.kl_mu_pi = (fx * out.kl_mu_pi + shift) * ln2;
    out.kl_pi_mu = (fy * out.kl_pi_mu - shift) * ln2;
    out.tv *= 0.5 * fx;
    return out;
}
/// `V`: simd::registers.
template <bool Kl, class V, class S1, class S2, class M1, class M2>
[[nodiscard]] normalised_sums sum_normalised(S1 const* x, double x_temperature, double x_lse, M1 x_mask, S2 const* y,
                                             double y_temperature, double y_lse, M2 y_mask, std::int64_t n) noexcept {
    normalised_sums out;
    simd::on_unit<typename V::arch>([&]<class Unit>(Unit) TRM_INLINE_LAMBDA {
        out = sum_normalised_in<Kl, typename V::template on<Unit>>(x, x_temperature, x_lse, x_mask, y, y_temperature,
                                                                   y_lse, y_mask, n);
    });
    return out;
}

}  // namespace logits_detail
TRM_NAMESPACE_END
