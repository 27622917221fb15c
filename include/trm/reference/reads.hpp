// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/length_neutral_mask.hpp>
#include <trm/policy/penalty_kl_sequence.hpp>
#include <trm/policy/selection_batch.hpp>
#include <trm/policy/surrogates.hpp>
#include <trm/reference/selection_recent.hpp>

#include <concepts>
#include <tuple>

/// \file
/// Oracle of what a loss reads: a token at which any of it is not finite is masked.

TRM_NAMESPACE_BEGIN
namespace reference {

/// As need:: bits. Said here once more, not asked of the policies.
inline unsigned bit_of(ratio_kind kind) { return 1u << static_cast<unsigned>(kind); }
template <class M>
ratio_kind over_of(M const& m) {
    if constexpr (requires { m.divergence; }) {
        return m.divergence.over;
    } else {
        return m.over;
    }
}
template <class M>
unsigned criterion_reads(M const& m) {
    unsigned bits = bit_of(over_of(m));
    if constexpr (requires { m.divergence; })
        if (std::derived_from<std::remove_cvref_t<decltype(m.divergence)>, given>) bits = need::given;
    if constexpr (requires { m.positive; }) bits |= bit_of(over_of(m)) | need::advantage;  // advantage_signed
    if constexpr (judges_direction<M>) bits |= bit_of(over_of(m)) | need::advantage;
    if constexpr (requires { m.sign; }) bits |= need::advantage;  // signed_sequence_mask
    if constexpr (std::is_same_v<M, clip_cov>) bits |= need::advantage;
    return bits;
}
template <class S>
unsigned surrogate_reads(S const& s) {
    if (std::derived_from<S, policy_gradient> || std::derived_from<S, delight>) return need::advantage;
    return bit_of(s.over) | (std::derived_from<S, reference_gap> ? need::ref_logp : need::advantage);
}
template <class W>
constexpr bool weighs_by_ratio = !std::derived_from<W, no_weight> && !std::derived_from<W, constant_weight>;
template <class D>
unsigned penalty_reads(kl_penalty<D> const&) {
    return need::ref_logp;
}
inline unsigned penalty_reads(squared_log_ratio const& p) { return bit_of(p.over); }
template <class D, class G>
unsigned penalty_reads(reference_kl<D, G> const& p) {
    return need::ref_logp | (requires { G::over; } ? bit_of(p.over) : 0u);
}

/// The log-ratio that diagnostics describe: the first criterion's, else the weight's, else current over rollout.
template <class Loss>
ratio_kind described(Loss const& loss) {
    if constexpr (std::tuple_size_v<std::remove_cvref_t<decltype(loss.mask.criteria)>> > 0) {
        return over_of(std::get<0>(loss.mask.criteria));
    } else if constexpr (weighs_by_ratio<std::remove_cvref_t<decltype(loss.weight)>>) {
        return loss.weight.over;
    }
    return ratio_kind::current_over_rollout;
}

/// Streams that the loss reads, as need:: bits.
template <class Loss>
unsigned reads(Loss const& loss) {
    unsigned bits = surrogate_reads(loss.surrogate) | bit_of(described(loss));
    if (weighs_by_ratio<std::remove_cvref_t<decltype(loss.weight)>>) bits |= bit_of(loss.weight.over);
    std::apply([&](auto const&... m) { ((bits |= criterion_reads(m)), ...); }, loss.mask.criteria);
    std::apply([&](auto const&... p) { ((bits |= penalty_reads(p)), ...); }, loss.penalties);
    return bits;
}

}  // namespace reference
TRM_NAMESPACE_END
