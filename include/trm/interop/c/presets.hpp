// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/presets.hpp>
#include <trm/loss/spec.hpp>
#include <trm/loss/to_spec.hpp>

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// \file
/// The functions of loss/presets.hpp by name.

TRM_NAMESPACE_BEGIN
namespace c_api {

/// A preset as data. `make` is false where it does not take so many parameters.
struct named_preset {
    char const* name;
    bool (*make)(std::span<double const> parameters, loss_spec& to);
};

inline constexpr std::size_t most_parameters = 4;

template <class F, std::size_t... Is>
[[nodiscard]] bool make_with(F const& f, [[maybe_unused]] std::span<double const> a, loss_spec& to,
                             std::index_sequence<Is...>) {
    if constexpr (requires { f(a[Is]...); }) {
        to = to_spec(f(a[Is]...));
        return true;
    }
    return false;
}
template <class F>
[[nodiscard]] bool make_preset(F const& f, std::span<double const> a, loss_spec& to) {
    switch (a.size()) {
        case 0:
            return make_with(f, a, to, std::make_index_sequence<0>{});
        case 1:
            return make_with(f, a, to, std::make_index_sequence<1>{});
        case 2:
            return make_with(f, a, to, std::make_index_sequence<2>{});
        case 3:
            return make_with(f, a, to, std::make_index_sequence<3>{});
        default:
            return make_with(f, a, to, std::make_index_sequence<most_parameters>{});
    }
}

#define TRM_C_PRESET(name)                                                                                          \
    {#name, [](std::span<double const> p, loss_spec& to) {                                                          \
         return make_preset([](auto... a) -> decltype(presets::name(a...)) { return presets::name(a...); }, p, to); \
     }},
inline constexpr named_preset presets_by_name[] = {
    // clang-format off
    TRM_C_PRESET(trm_max_exact) TRM_C_PRESET(trm_max) TRM_C_PRESET(trm_mean)
    TRM_C_PRESET(decoupled_token_is) TRM_C_PRESET(decoupled_seq_is) TRM_C_PRESET(decoupled_token_icepop)
    TRM_C_PRESET(decoupled_seq_is_rs) TRM_C_PRESET(decoupled_geo_rs) TRM_C_PRESET(decoupled_geo_rs_seq_tis)
    TRM_C_PRESET(decoupled_geo_rs_token_tis) TRM_C_PRESET(decoupled_k3_rs) TRM_C_PRESET(decoupled_k3_rs_seq_tis)
    TRM_C_PRESET(decoupled_k3_rs_token_tis) TRM_C_PRESET(bypass_ppo_clip) TRM_C_PRESET(bypass_ppo_clip_geo_rs)
    TRM_C_PRESET(bypass_ppo_clip_k3_rs) TRM_C_PRESET(bypass_pg_is) TRM_C_PRESET(bypass_pg_token_icepop)
    TRM_C_PRESET(bypass_pg_geo_rs) TRM_C_PRESET(bypass_pg_geo_rs_seq_tis) TRM_C_PRESET(bypass_pg_geo_rs_token_tis)
    TRM_C_PRESET(disabled) TRM_C_PRESET(prime_rl) TRM_C_PRESET(prime_rl_ipo) TRM_C_PRESET(prime_rl_ref_kl)
    TRM_C_PRESET(prime_rl_icepop) TRM_C_PRESET(prime_rl_dppo_2026_08)
    TRM_C_PRESET(slime_mis) TRM_C_PRESET(trl_grpo) TRM_C_PRESET(trl_dapo) TRM_C_PRESET(trl_dr_grpo)
    TRM_C_PRESET(trl_cispo) TRM_C_PRESET(trl_sapo) TRM_C_PRESET(trl_vespo) TRM_C_PRESET(trl_luspo)
    TRM_C_PRESET(trl_top_entropy) TRM_C_PRESET(trl_opsm) TRM_C_PRESET(openrlhf_tis) TRM_C_PRESET(openrlhf_icepop)
    TRM_C_PRESET(openrlhf_seq_mask_tis) TRM_C_PRESET(skyrl_pipeline) TRM_C_PRESET(skyrl_pipeline_seq_tis)
    TRM_C_PRESET(areal_decoupled) TRM_C_PRESET(areal_sequence_clamp) TRM_C_PRESET(nemo_tis)
    TRM_C_PRESET(nemo_icepop) TRM_C_PRESET(nemo_seq_mask_tis) TRM_C_PRESET(nemo_sequence_error) TRM_C_PRESET(kpop)
    TRM_C_PRESET(m2po) TRM_C_PRESET(dppo_tv_score) TRM_C_PRESET(dppo_kl_score) TRM_C_PRESET(skyrl_dppo)
    // clang-format on
};
#undef TRM_C_PRESET

/// The loss that "name" or "name(0.05, 2)" stands for; `position` is the byte of a mistake.
[[nodiscard]] inline spec_result preset_of(std::string_view text, std::size_t& position) {
    auto const wrong = [&](std::size_t at, std::string message, std::string suggestion = {}) {
        spec_result r;
        r.status = {errc::bad_spec, -1, -1, "preset"};
        position = at;
        r.message = std::move(message);
        r.suggestion = std::move(suggestion);
        return r;
    };
    auto const open = text.find('(');
    std::string_view const name = text.substr(0, open);
    std::vector<double> parameters;
    if (open != std::string_view::npos) {
        std::size_t const close = text.size() - 1;
        if (text[close] != ')') return wrong(text.size(), "preset: expected \")\"");
        bool more = text.find_first_not_of(' ', open + 1) != close;
        for (std::size_t at = open + 1; more;) {
            std::size_t const end = (std::min)(text.find(',', at), close);
            more = end < close;
            while (at < end && text[at] == ' ') ++at;
            std::string_view number = text.substr(at, end - at);
            while (!number.empty() && number.back() == ' ') number.remove_suffix(1);
            double value = 0;
            if (trm::detail::to_number(number, value) != std::errc{}) return wrong(at, "preset: expected a number");
            parameters.push_back(value);
            at = end + 1;
        }
    }
    std::vector<std::string> names;
    for (named_preset const& p : presets_by_name) {
        names.push_back(p.name);
        if (name != p.name) continue;
        spec_result r;
        if (parameters.size() <= most_parameters && p.make(parameters, r.spec)) return r;
        return wrong(
            open == std::string_view::npos ? text.size() : open,
            "preset " + std::string(name) + ": does not take " + std::to_string(parameters.size()) + " parameters");
    }
    return wrong(0, "unknown preset \"" + std::string(name.substr(0, 60)) + "\"",
                 std::string(trm::detail::nearest_word(name, names)));
}

}  // namespace c_api
TRM_NAMESPACE_END
