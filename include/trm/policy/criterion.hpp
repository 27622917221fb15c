// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/status.hpp>
#include <trm/policy/divergence.hpp>

#include <concepts>
#include <cstdint>
#include <tuple>
#include <type_traits>

/// \file
/// What criteria of masks have in common: several joined with &&, their kinds and what they read, and the scores of those that
/// look at a divergence.

TRM_NAMESPACE_BEGIN

/// Criteria that must all hold. Criterion i owns bit i of the reasons; the last bit means not finite.
template <class... Ms>
struct all_of {
    static_assert(sizeof...(Ms) <= 15, "trm: a mask has at most 15 criteria, one reason bit each");
    std::tuple<Ms...> criteria;
};
using no_mask = all_of<>;
inline constexpr int max_criteria = 15;
inline constexpr std::uint16_t reason_nonfinite = 1u << 15;

/// Criteria come in three kinds: per token (`test`), per sequence (`measure`, `value`), and selections, which compare
/// tokens with each other and are worked out before the kernel runs (policy/selection.hpp).
template <class T>
inline constexpr bool selects = requires { requires T::is_selection; };
template <class T>
inline constexpr bool is_criterion = requires(T m) {
    { m.is_sequence } -> std::convertible_to<bool>;
    { m.maxima } -> std::convertible_to<int>;
    { m.validate() } -> std::same_as<status>;
};
/// A criterion that looks at the log-ratio of its divergence besides the divergence, to see where a token moves.
template <class M>
inline constexpr bool looks_at_ratio = requires { requires M::looks_at_ratio; };
/// Are statistics taken after the token criteria?
template <class M>
inline constexpr bool measures_passing = requires { requires M::of_passing; };
/// The log-ratio that a criterion looks at, and everything it reads. Criteria without a divergence say it themselves.
template <class M>
inline constexpr ratio_kind criterion_over = [] {
    if constexpr (requires { M::divergence; }) {
        return decltype(M::divergence)::over;
    } else {
        return M::over;
    }
}();
template <class M>
[[nodiscard]] constexpr unsigned needs_of_criterion() noexcept {
    unsigned bits = 0;
    if constexpr (requires { M::divergence; }) bits |= needs_of(decltype(M::divergence){});
    if constexpr (requires { M::needs(); }) bits |= M::needs();
    return bits;
}
template <class T>
inline constexpr bool is_conjunction = false;
template <class... Ms>
inline constexpr bool is_conjunction<all_of<Ms...>> = true;
/// A criterion, or several joined with &&.
template <class T>
concept mask_policy = is_criterion<T> || is_conjunction<T>;

template <mask_policy M>
[[nodiscard]] constexpr auto as_conjunction(M m) noexcept {
    if constexpr (is_conjunction<M>) {
        return m;
    } else {
        return all_of<M>{{m}};
    }
}
template <mask_policy A, mask_policy B>
[[nodiscard]] constexpr auto operator&&(A a, B b) noexcept {
    return std::apply(
        [&](auto... as) {
            return std::apply([&](auto... bs) { return all_of<decltype(as)..., decltype(bs)...>{{as..., bs...}}; },
                              as_conjunction(b).criteria);
        },
        as_conjunction(a).criteria);
}

namespace detail {

/// What a criterion reads that looks at A and at the log-ratio of D. The ratio of a divergence chosen at run time is no constant:
/// `run_time_policies` adds it.
template <class D>
inline constexpr unsigned needs_of_direction = [] {
    if constexpr (has_static_ratio<D>) return need::advantage | need::ratio(D::over);
    return need::advantage;
}();

/// Scores of the divergence that a selection looks at.
template <class D>
struct scored_by {
    static_assert(divergence_policy<D>,
                  "trm: this mask takes a divergence first, then its numbers and its band, for example "
                  "prefix_mask{k3{}, at_most(0.1)}");
    D divergence;
    static constexpr bool is_sequence = false, is_selection = true;
    static constexpr int sums = 0, maxima = 0, channels = 1;
    static constexpr bool reads_advantages = false;
    template <class V, bool P>
    TRM_INLINE void score(token<V, P> const& t, V* out) const noexcept {
        out[0] = divergence_of(divergence, t);
    }
};

/// Scores of a divergence and of the log-ratio that it looks at: channels 0 and 1. For selections that ask where a token moves.
template <class D>
struct scored_with_ratio : scored_by<D> {
    using scoring = scored_with_ratio;
    static constexpr int channels = 2;
    static constexpr bool reads_advantages = true, looks_at_ratio = true;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return needs_of_direction<D>; }
    template <class V, bool P>
    TRM_INLINE void score(token<V, P> const& t, V* out) const noexcept {
        out[0] = divergence_of(this->divergence, t);
        out[1] = ratio_of(this->divergence, t).value;
    }
};
/// Does the policy gradient push a token further away: A > 0 and r > 1, or A < 0 and r < 1?
[[nodiscard]] constexpr bool moves_away(double advantage, double log_ratio) noexcept {
    return (advantage > 0 && log_ratio > 0) || (advantage < 0 && log_ratio < 0);
}

/// The part of a selection that scores tokens: one type, and one kernel, for all that look at a divergence.
template <class M>
[[nodiscard]] constexpr auto const& scores_of(M const& m) noexcept {
    if constexpr (requires { typename M::scoring; }) {
        return static_cast<typename M::scoring const&>(m);
    } else if constexpr (requires { m.divergence; }) {
        return static_cast<scored_by<std::remove_cvref_t<decltype(m.divergence)>> const&>(m);
    } else {
        return m;
    }
}

}  // namespace detail

TRM_NAMESPACE_END
