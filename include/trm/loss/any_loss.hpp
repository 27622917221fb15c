// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/calls.hpp>
#include <trm/loss/run_time_composition.hpp>

TRM_NAMESPACE_BEGIN

/// A loss whose policies are data: from a configuration file, a flag, a sweep. The same calls as `masked_loss`, the same bits,
/// and in cache mostly 1.05 to 1.35 times the time with g++, at most 1.8 (bench/README.md, also for clang). `parse_spec` makes a loss_spec
/// from text.
template <class Arch = simd::default_arch>
class basic_any_loss : public loss_calls<basic_any_loss<Arch>, Arch> {
public:
    loss_spec spec;  ///< may be changed at any time between calls: nothing of it is kept elsewhere
    bool diagnose = true;  ///< as in loss_options

    explicit basic_any_loss(loss_spec s) : spec(std::move(s)) {}
    template <class Other>
    [[nodiscard]] basic_any_loss<Other> on(Other) const {
        basic_any_loss<Other> copy(spec);
        copy.diagnose = diagnose;
        return copy;
    }

private:
    friend loss_calls<basic_any_loss, Arch>;
    [[nodiscard]] detail::run_time_composition<> core() const noexcept { return detail::run_time_composition<>(spec); }
    [[nodiscard]] aggregation const& denominators() const noexcept { return spec.aggregate; }
    [[nodiscard]] loss_options call_options() const noexcept {
        return {spec.log_ratio_clamp, spec.strict, diagnose, spec.mean_epsilon};
    }
};
using any_loss = basic_any_loss<>;

TRM_NAMESPACE_END
