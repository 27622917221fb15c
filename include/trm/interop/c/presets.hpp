// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/presets/by_name.hpp>

/// \file
/// The presets of loss/presets/by_name.hpp for the C interface.

TRM_NAMESPACE_BEGIN
namespace c_api {

inline constexpr auto const& presets_by_name = presets::detail::all;

/// The loss that "name", "name(0.05, 2)" or "name(high=2)" stands for; `position` is the byte of a mistake.
[[nodiscard]] inline spec_result preset_of(std::string_view text, std::size_t& position) {
    spec_result r = presets::find(text);
    position = r.position;
    return r;
}

}  // namespace c_api
TRM_NAMESPACE_END
