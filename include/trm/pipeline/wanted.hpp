// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/streams.hpp>
#include <trm/policy/token.hpp>

/// \file
/// What a loss reads of a token: the streams and log-ratios that its policies and its diagnostics ask for.

TRM_NAMESPACE_BEGIN
namespace detail {

/// Which log-ratios a loss looks at, and the streams that it reads. Without proximal_logp there is one log-ratio.
template <bool Proximal>
struct wanted {
    bool ref, given, advantage, marks;
    bool factor;  ///< do the surrogate's sums over a sequence include the batch's token_weights?
    bool of_kind[3];  ///< by ratio_kind, if Proximal
    bool exp[3];  ///< of these, more than their value; not if a lane is an exception

    /// By the policies of a loss and the log-ratio of its diagnostics. `exp_of`: the log-ratios whose e^x is looked at, as bits.
    template <class Core>
    TRM_INLINE explicit wanted(Core const& core, unsigned exp_of = need::any_ratio) noexcept
        : ref((core.needs() & need::ref_logp) != 0),
          given((core.needs() & need::given) != 0),
          advantage((core.needs() & need::advantage) != 0),
          marks((core.needs() & need::marks) != 0),
          factor(core.shares_gradient() || core.folds_weight()),
          of_kind{true, false, false},
          exp{(exp_of & need::any_ratio) != 0, false, false} {
        if (Proximal)
            for (unsigned kind = 0; kind < 3; ++kind) {
                unsigned asking = need::ratio(static_cast<ratio_kind>(kind));
                if (kind == 2) asking |= need::ratio(ratio_kind::surrogate);
                if (kind == 1) asking |= need::ratio(ratio_kind::correction);
                of_kind[kind] = ((core.needs() | need::ratio(core.diagnose_over())) & asking) != 0;
                exp[kind] = (exp_of & asking) != 0;
            }
    }
    /// Of all of them, or of none.
    TRM_INLINE void set_exp(bool wants) noexcept { exp[0] = exp[1] = exp[2] = wants; }
    [[nodiscard]] TRM_INLINE bool current_over_rollout() const noexcept { return !Proximal || of_kind[0]; }
    [[nodiscard]] TRM_INLINE bool proximal_over_rollout() const noexcept { return Proximal && of_kind[1]; }
    [[nodiscard]] TRM_INLINE bool current_over_proximal() const noexcept { return Proximal && of_kind[2]; }
};

/// Asks for the streams `ahead` bytes after token `at`, n tokens of them: the hardware's own prefetching stops at every
/// page. 384 bytes ahead were the best of 128 to 4096 from memory; in L2 there is nothing to gain. `Level`: of the cache.
inline constexpr std::size_t prefetch_ahead = 384;
template <std::size_t n, int Level = 1, bool Proximal, class S, class T>
TRM_ALWAYS_INLINE inline void prefetch_tokens(wanted<Proximal> const& want, stream_pointers<S, T> const& io,
                                              std::int64_t at, std::size_t ahead) noexcept {
    auto const ask = [&](auto const* from) TRM_ALWAYS_INLINE {
        for (std::size_t i = 0; i < n * sizeof *from; i += 64) simd::prefetch<Level>(from + at, ahead + i);
    };
    ask(io.logp);
    ask(io.rollout);
    if (Proximal && io.proximal != nullptr) ask(io.proximal);
    if (want.ref) ask(io.ref);
    if (want.given) ask(io.given);
    if (want.advantage && io.advantage != nullptr) ask(io.advantage);
}

}  // namespace detail
TRM_NAMESPACE_END
