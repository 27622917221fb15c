// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/detail/row_base.hpp>
#include <trm/logits/partial.hpp>

/// \file
/// One read of a row. Eight vectors at a time: their maximum is compared with a limit 8 nats above the base of the running
/// sums, which are rescaled only when it is exceeded, a few times per row.
///
/// Equal terms round in the same direction: a chain of n additions may be wrong by n / 2 roundings. Float sums are therefore
/// made in levels, a group, `groups_per_chain` groups, `chains_per_flush` of these, and then go to double: some 14 roundings at
/// most, whatever the length of the row.
///
/// Where 2^t overflows and underflows by itself (AVX-512), blocks are summed without looking at maxima first: the sums say
/// afterwards whether an entry was far above the base, and then the block, still in the L1 cache, is done again. Loads stay in
/// program order, which hardware prefetchers need; software prefetch costs a tenth of the speed then (Zen 4). Groups are
/// prefetched: with AVX2, Sapphire Rapids reads memory at 80% of the ceiling instead of 45%.

TRM_NAMESPACE_BEGIN
namespace logits_detail {

inline constexpr int group = 8;
inline constexpr int step = 4;  ///< vectors whose exponentials are computed side by side
inline constexpr int groups_per_chain = 8;
inline constexpr int chains_per_flush = 8;
/// Groups that are summed before anything is known about their maximum.
inline constexpr int groups_per_block = 16;

template <class V, bool Entropy>
struct row_sums {
    lazy_base<V> base;
    V sum, weighted;  ///< of this chain
    V chains, weighted_chains;  ///< of the chains before it
    double total = 0.0, total_weighted = 0.0;  ///< flushed, relative to the same base
    using T = typename V::value_type;

    explicit TRM_INLINE row_sums(double temperature) noexcept : base(temperature) { clear(); }
    TRM_INLINE void clear() noexcept { sum = weighted = chains = weighted_chains = V(T(0)); }
    TRM_INLINE void add(V x) noexcept {
        V const t = floor_exponent(base.exponent(x));
        V const e = simd::exp2(t);
        sum = sum + e;
        if constexpr (Entropy) weighted = fma(e, t, weighted);
    }
    /// `add` of a group.
    TRM_INLINE void add_group(V const* x) noexcept {
        V w;
        TRM_UNROLL for (int k = 0; k < group; k += step) {
            V t[step], e[step];
            TRM_UNROLL for (int i = 0; i < step; ++i) e[i] = t[i] =
                simd::in_order(floor_exponent(base.exponent(x[k + i])));
            simd::exp2_each(e);
            sum = sum + ((e[0] + e[1]) + (e[2] + e[3]));
            if constexpr (Entropy)
                TRM_UNROLL for (int i = 0; i < step; ++i) w = k + i == 0 ? e[i] * t[i] : fma(e[i], t[i], w);
        }
        if constexpr (Entropy) weighted = weighted + w;
    }
    /// A larger maximum turned up: move base and sums to it. Rare, but inlined and without calls: a call, or an address
    /// taken, would push the loop's sums out of their registers.
    TRM_INLINE void rise(V top) noexcept {
        T const old = base.b;
        base.set(simd::reduce_max(top));
        T const d = base.above(old);
        V const vd(d < T(-1000) ? T(-1000) : d);
        V const f = simd::exp2(floor_exponent(vd));
        using D = simd::vec<double, simd::scalar>;
        double const dd = static_cast<double>(d);
        double const df = dd < -1000.0 ? 0.0 : simd::exp2(D(dd)).r;
        if constexpr (Entropy) {
            weighted = f * fma(vd, sum, weighted);
            weighted_chains = f * fma(vd, chains, weighted_chains);
            total_weighted = df == 0.0 ? 0.0 : df * (total_weighted + dd * total);
        }
        sum = f * sum;
        chains = f * chains;
        total *= df;
    }
    /// `rise` if the largest lane is above the base and finite; true if so.
    TRM_INLINE bool rise_to(V top) noexcept {
        T const best = simd::reduce_max(top);
        if (!(best > base.m && is_finite(best))) return false;
        rise(top);
        return true;
    }
    TRM_INLINE void end_chain() noexcept {
        chains = chains + sum;
        sum = V(T(0));
        if constexpr (Entropy) {
            weighted_chains = weighted_chains + weighted;
            weighted = V(T(0));
        }
    }
    TRM_INLINE void flush() noexcept {
        total += simd::sum(chains + sum);
        if constexpr (Entropy) total_weighted += simd::sum(weighted_chains + weighted);
        clear();
    }
};

/// Two vectors for sums, in any order where nothing but the sum depends on it.
template <class V, class S, class M>
TRM_INLINE void load_pair(V& a, V& b, S const* x, std::int64_t i, M mask) noexcept {
    constexpr std::int64_t w = static_cast<std::int64_t>(V::size);
    if constexpr (std::is_same_v<M, whole_row>) {
        simd::load_two(x + i, a, b);
        a = simd::in_order(a);
        b = simd::in_order(b);
    } else {
        a = mask.apply(simd::in_order(simd::load<V>(x + i)), i);
        b = mask.apply(simd::in_order(simd::load<V>(x + i + w)), i + w);
    }
}
template <class V, class S, class M>
TRM_INLINE void load_group(V* v, S const* x, std::int64_t i, M mask) noexcept {
    constexpr std::int64_t w = static_cast<std::int64_t>(V::size);
    TRM_UNROLL for (int k = 0; k < group; k += 2) load_pair(v[k], v[k + 1], x, i + k * w, mask);
}
template <class V>
TRM_INLINE V top_of(V const* v) noexcept {
    return (simd::max)((simd::max)((simd::max)(v[0], v[1]), (simd::max)(v[2], v[3])),
                       (simd::max)((simd::max)(v[4], v[5]), (simd::max)(v[6], v[7])));
}

/// Maximum of `groups` groups from x[i] on.
template <class V, class S, class M>
TRM_INLINE V top_of_groups(S const* x, std::int64_t i, int groups, M mask) noexcept {
    V top(nothing<typename V::value_type>);
    for (int g = 0; g < groups; ++g, i += group * static_cast<std::int64_t>(V::size)) {
        V v[group];
        load_group(v, x, i, mask);
        top = (simd::max)(top_of(v), top);
    }
    return top;
}

/// Whole blocks from the start of a row, until one has NaN or infinities that it cannot take. Result: where it stopped.
template <class V, bool Entropy, class S, class M>
TRM_INLINE std::int64_t sum_blocks(row_sums<V, Entropy>& s, S const* x, std::int64_t n, M mask) noexcept {
    using T = typename V::value_type;
    constexpr int lanes = group / step, chains = groups_per_block / groups_per_chain;
    constexpr std::int64_t w = static_cast<std::int64_t>(V::size), size = groups_per_block * group * w;
    V const most(T(2981));  // e^8: no entry of a block whose lanes stay below is more than 8 nats above the base
    if (size <= n) s.rise_to(top_of_groups<V>(x, 0, 1, mask));
    std::int64_t i = 0;
    for (int done = 1; i + size <= n; i += size, ++done) {
        for (bool again = false;; again = true) {
            V const c = s.base.vc, b = s.base.vb;
            V all_e(T(0)), all_w(T(0));
            for (std::int64_t from = i; from < i + size; from += size / chains) {
                V sum[lanes], weighted[lanes];
                TRM_UNROLL for (int k = 0; k < lanes; ++k) sum[k] = weighted[k] = V(T(0));
                for (std::int64_t at = from; at < from + size / chains; at += group * w)
                    TRM_UNROLL for (int lane = 0; lane < lanes; ++lane) {
                        V t[step], e[step];
                        TRM_UNROLL for (int k = 0; k < step; k += 2)
                            load_pair(t[k], t[k + 1], x, at + (lane * step + k) * w, mask);
                        TRM_UNROLL for (int k = 0; k < step; ++k) {
                            t[k] = offset_product(t[k], c, b);
                            e[k] = simd::exp2(t[k]);
                        }
                        sum[lane] = sum[lane] + ((e[0] + e[1]) + (e[2] + e[3]));
                        if constexpr (Entropy)
                            weighted[lane] =
                                weighted[lane] + fma(e[3], t[3], fma(e[2], t[2], fma(e[1], t[1], e[0] * t[0])));
                    }
                all_e = all_e + (sum[0] + sum[1]);
                all_w = all_w + (weighted[0] + weighted[1]);
            }
            // -infinity: 2^t is 0, but t 2^t is NaN
            if (all((all_e <= most) & finite(all_w))) [[likely]] {
                s.chains = s.chains + all_e;
                if constexpr (Entropy) s.weighted_chains = s.weighted_chains + all_w;
                break;
            }
            if (again || !s.rise_to(top_of_groups<V>(x, i, groups_per_block, mask))) {
                s.flush();
                return i;
            }
        }
        if (done % chains_per_flush == 0) s.flush();
    }
    s.flush();
    return i;
}

template <class V, bool Entropy, class S, class M>
[[nodiscard]] TRM_INLINE logits_partial sum_row_in(S const* x, std::int64_t n, double temperature, M mask) noexcept {
    constexpr std::int64_t w = static_cast<std::int64_t>(V::size);
    row_sums<V, Entropy> s(temperature);
    std::int64_t i = 0;
    if constexpr (simd::exp2_saturates<V>) i = sum_blocks(s, x, n, mask);
    for (int chain = 1; i + group * w <= n; ++chain) {
        std::int64_t const left = (n - i) / (group * w);
        std::int64_t const stop = i + (left < groups_per_chain ? left : groups_per_chain) * (group * w);
        for (; i < stop; i += group * w) {
            V v[group];
            load_group(v, x, i, mask);
            TRM_UNROLL for (std::size_t line = 0; line < group * V::size * sizeof(S); line += 64)
                simd::prefetch(x + i, 2048 + line);
            V const top = top_of(v);
            if (any(top > s.base.limit)) [[unlikely]]
                s.rise(top);
            s.add_group(v);
        }
        s.end_chain();
        if (chain % chains_per_flush == 0) s.flush();
    }
    for (; i < n; i += w) {
        V const v = n - i >= w ? mask.apply(simd::load<V>(x + i), i)
                               : mask.apply_n(simd::load_n<V>(x + i, static_cast<std::size_t>(n - i)), i,
                                              static_cast<std::size_t>(n - i));
        if (any(v > s.base.limit)) s.rise(v);
        s.add(v);
    }
    s.flush();
    if (s.base.m == nothing<typename V::value_type> && !is_nan(s.total)) return {};
    double const total = s.base.resolved() ? s.total : std::numeric_limits<double>::quiet_NaN();
    return {s.base.shift(temperature), total, s.total_weighted * ln2, logits_partial{}.target_logit};
}
/// `V`: simd::registers.
template <class V, bool Entropy, class S, class M>
[[nodiscard]] logits_partial sum_row(S const* x, std::int64_t n, double temperature, M mask) noexcept {
    logits_partial p;
    simd::on_unit<typename V::arch>([&]<class Unit>(Unit) TRM_INLINE_LAMBDA {
        p = sum_row_in<typename V::template on<Unit>, Entropy>(x, n, temperature, mask);
    });
    return p;
}

}  // namespace logits_detail
TRM_NAMESPACE_END
