// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/call.hpp>

/// \file
/// The log-ratios of a token from stage to stage. Registers are read with the clamp of the mask; a stage with another clamp takes
/// the ratio that it looks at again, from the two log-probabilities.

TRM_NAMESPACE_BEGIN
namespace detail {

/// The stages that look at log-ratios of tokens.
enum class stage : std::uint8_t { mask, weight, surrogate, penalty };
[[nodiscard]] constexpr clamp_range clamp_of(log_ratio_clamps const& all, stage which) noexcept {
    return which == stage::weight      ? all.weight
           : which == stage::surrogate ? all.surrogate
           : which == stage::penalty   ? all.penalty
                                       : all.mask;
}

/// Of registers that no clamp acts on.
struct same_clamps {
    template <stage, class P, class Token>
    TRM_INLINE void enter(P const&, Token&) const noexcept {}
};

/// Of any register.
struct stage_clamps {
    log_ratio_clamps all;
    bool differ;

    TRM_INLINE explicit stage_clamps(call_numbers const& of) noexcept : all(of.clamps), differ(of.clamps_differ) {}
    /// Prepares the log-ratio that a policy of this stage looks at.
    template <stage Which, class P, class Token>
    TRM_INLINE void enter(P const& policy, Token& t) const noexcept {
        using V = typename Token::vec;
        if (!differ) return;
        clamp_range const c = clamp_of(all, Which);
        auto& l = ratio_of(policy, t);
        set_log_ratio(l, l.target, l.behaviour, t.active, simd::broadcast<V>(c.lower), simd::broadcast<V>(c.upper));
    }
};

}  // namespace detail
TRM_NAMESPACE_END
