// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/spec.hpp>

/// \file
/// `any_loss` compiled once for a program of many files: it takes several seconds. Include this header in the place of
/// trm/loss/spec.hpp, and in one of the files, before including anything of trm,
///
///     #define TRM_ANY_LOSS_HERE
///     #include <trm/loss/any_loss_extern.hpp>
///
/// Covered are calls for float, double and bf16 storage with the default arithmetic, whole and in phases, on any executor, and
/// parse_spec. All files must have the compiler flags that the ABI namespace spells (core/config.hpp), or they do not link.

#if defined(TRM_ANY_LOSS_HERE)
#define TRM_ANY_LOSS_TEMPLATE template
#else
#define TRM_ANY_LOSS_TEMPLATE extern template
#endif
// The passes, and the call on the caller's thread with a workspace: no members, into which compilers look even if they are compiled
// elsewhere.
#define TRM_ANY_LOSS_FUSED(S, T, kind, proximal, policies)                                                   \
    TRM_ANY_LOSS_TEMPLATE bool detail::run_fused<simd::default_arch, detail::pass_kind::kind, proximal,      \
                                                 detail::frequent_steps<detail::frequent_kind::policies>>(   \
        detail::frequent_policies const&, detail::stream_pointers<S, T> const&, detail::call_numbers const&, \
        detail::run_work<detail::run_time_composition<>>*, int) noexcept;
#define TRM_ANY_LOSS_CALL(S, T)                                                                                      \
    TRM_ANY_LOSS_TEMPLATE void detail::run_tiles<simd::default_arch>(                                                \
        detail::run_time_composition<> const&, detail::stream_pointers<S, T> const&, detail::call_numbers const&,    \
        bool, detail::run_work<detail::run_time_composition<>>*, int) noexcept;                                      \
    TRM_ANY_LOSS_FUSED(S, T, plain, false, plain)                                                                    \
    TRM_ANY_LOSS_FUSED(S, T, plain, true, plain)                                                                     \
    TRM_ANY_LOSS_FUSED(S, T, plain, false, summing)                                                                  \
    TRM_ANY_LOSS_FUSED(S, T, plain, true, summing)                                                                   \
    TRM_ANY_LOSS_FUSED(S, T, measure, false, summing)                                                                \
    TRM_ANY_LOSS_FUSED(S, T, measure, true, summing)                                                                 \
    TRM_ANY_LOSS_FUSED(S, T, measure, false, weighing)                                                               \
    TRM_ANY_LOSS_FUSED(S, T, measure, true, weighing)                                                                \
    TRM_ANY_LOSS_TEMPLATE result detail::run(                                                                        \
        detail::loss_call<detail::run_time_composition<>, simd::default_arch> const&, batch_view<S>, selection_view, \
        outputs<T> const&, serial_executor const&, workspace&);                                                      \
    TRM_ANY_LOSS_TEMPLATE status detail::validate(                                                                   \
        detail::loss_call<detail::run_time_composition<>, simd::default_arch> const&, batch_view<S> const&,          \
        outputs<T> const&) noexcept;

TRM_NAMESPACE_BEGIN
TRM_ANY_LOSS_CALL(float, float)
TRM_ANY_LOSS_CALL(double, double)
TRM_ANY_LOSS_CALL(bf16, float)
TRM_ANY_LOSS_TEMPLATE detail::run_time_policies<loss_spec>::run_time_policies(loss_spec const&) noexcept;
TRM_ANY_LOSS_TEMPLATE status detail::run_time_policies<loss_spec>::validate() const noexcept;
TRM_ANY_LOSS_TEMPLATE spec_result parse_spec<loss_spec>(std::string_view) noexcept;
TRM_NAMESPACE_END

#undef TRM_ANY_LOSS_CALL
#undef TRM_ANY_LOSS_FUSED
#undef TRM_ANY_LOSS_TEMPLATE
