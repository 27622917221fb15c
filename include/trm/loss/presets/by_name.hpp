// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/presets.hpp>
#include <trm/loss/spec.hpp>
#include <trm/loss/to_spec.hpp>

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// \file
/// Presets by name at run time: `presets::find("trl_dapo")`, `presets::find("trl_dapo(eps_high=0.28)")`, `presets::list()`.
/// Names and parameters are those of the functions of loss/presets.hpp; `<name>_uncorrected` and `<name>_without_kl` leave
/// out importance weights and penalties. (A row for each: the file is as long as there are presets.)

TRM_NAMESPACE_BEGIN
namespace presets {

/// A parameter of a preset. `value`: the default, NaN where it has none.
struct parameter {
    char const* name;
    double value;
    [[nodiscard]] constexpr bool is_required() const noexcept { return is_nan(value); }
};

/// A preset as data.
struct named {
    static constexpr std::size_t most_parameters = 7;
    char const* name;
    void (*make)(double const* values, loss_spec& to);  ///< from a value for every parameter
    std::size_t count;
    parameter storage[most_parameters];
    [[nodiscard]] constexpr std::span<parameter const> parameters() const noexcept { return {storage, count}; }
};

namespace detail {

inline constexpr double required = std::numeric_limits<double>::quiet_NaN();

template <std::size_t N, class F>
void make_preset(F const& f, [[maybe_unused]] double const* values, loss_spec& to) {
    [&]<std::size_t... Is>(std::index_sequence<Is...>) {
        to = to_spec(f(values[Is]...));
    }(std::make_index_sequence<N>{});
}
[[nodiscard]] inline skyrl_bounds skyrl_from(double outlier_low, double outlier_high, double token_low,
                                             double token_high, double sequence_low, double sequence_high,
                                             double tis) noexcept {
    return {{outlier_low, outlier_high}, {token_low, token_high}, {sequence_low, sequence_high}, tis};
}

#define TRM_PRESET(name, preset, n, ...)                                                \
    {#name,                                                                             \
     [](double const* values, loss_spec& to) {                                          \
         make_preset<n>([]([[maybe_unused]] auto... a) { return preset; }, values, to); \
     },                                                                                 \
     n,                                                                                 \
     {__VA_ARGS__}},
inline constexpr named all[] = {
    // clang-format off
    // the paper and proposals
    TRM_PRESET(trm_max_exact, presets::trm_max_exact(a...), 1, {"delta", required})
    TRM_PRESET(trm_max, presets::trm_max(a...), 1, {"delta", required})
    TRM_PRESET(trm_mean, presets::trm_mean(a...), 1, {"delta", required})
    TRM_PRESET(kpop, presets::kpop(a...), 1, {"threshold", 0.1})
    TRM_PRESET(m2po, presets::m2po(a...), 1, {"limit", required})
    TRM_PRESET(dppo_tv_score, presets::dppo_tv_score(a...), 3, {"low", 0.2}, {"high", 0.2}, {"cap", 20.0})
    TRM_PRESET(dppo_kl_score, presets::dppo_kl_score(a...), 3, {"low", 0.2}, {"high", 0.2}, {"cap", 20.0})
    TRM_PRESET(skyrl_dppo, presets::skyrl_dppo(a...), 2, {"low", 0.2}, {"high", 0.2})
    // verl
    TRM_PRESET(decoupled_token_is, presets::decoupled_token_is(a...), 1, {"threshold", 2.0})
    TRM_PRESET(decoupled_seq_is, presets::decoupled_seq_is(a...), 1, {"threshold", 2.0})
    TRM_PRESET(decoupled_token_icepop, presets::decoupled_token_icepop(a...), 2, {"upper", 5.0}, {"lower", 0.5})
    TRM_PRESET(decoupled_seq_is_rs, presets::decoupled_seq_is_rs(a...), 3, {"is", 2.0}, {"lower", 0.5}, {"upper", 2.0})
    TRM_PRESET(decoupled_geo_rs, presets::decoupled_geo_rs(a...), 2, {"lower", 0.999}, {"upper", 1.001})
    TRM_PRESET(decoupled_geo_rs_seq_tis, presets::decoupled_geo_rs_seq_tis(a...), 3, {"is", 2.0}, {"lower", 0.999}, {"upper", 1.001})
    TRM_PRESET(decoupled_geo_rs_token_tis, presets::decoupled_geo_rs_token_tis(a...), 3, {"is", 2.0}, {"lower", 0.999}, {"upper", 1.001})
    TRM_PRESET(decoupled_k3_rs, presets::decoupled_k3_rs(a...), 1, {"threshold", 0.01})
    TRM_PRESET(decoupled_k3_rs_seq_tis, presets::decoupled_k3_rs_seq_tis(a...), 2, {"is", 2.0}, {"threshold", 0.01})
    TRM_PRESET(decoupled_k3_rs_token_tis, presets::decoupled_k3_rs_token_tis(a...), 2, {"is", 2.0}, {"threshold", 0.01})
    TRM_PRESET(bypass_ppo_clip, presets::bypass_ppo_clip(a...), 0, {"", 0.0})
    TRM_PRESET(bypass_ppo_clip_geo_rs, presets::bypass_ppo_clip_geo_rs(a...), 2, {"lower", 0.999}, {"upper", 1.001})
    TRM_PRESET(bypass_ppo_clip_k3_rs, presets::bypass_ppo_clip_k3_rs(a...), 1, {"threshold", 0.01})
    TRM_PRESET(bypass_pg_is, presets::bypass_pg_is(a...), 1, {"threshold", 2.0})
    TRM_PRESET(bypass_pg_token_icepop, presets::bypass_pg_token_icepop(a...), 2, {"upper", 5.0}, {"lower", 0.5})
    TRM_PRESET(bypass_pg_geo_rs, presets::bypass_pg_geo_rs(a...), 2, {"lower", 0.999}, {"upper", 1.001})
    TRM_PRESET(bypass_pg_geo_rs_seq_tis, presets::bypass_pg_geo_rs_seq_tis(a...), 3, {"is", 2.0}, {"lower", 0.999}, {"upper", 1.001})
    TRM_PRESET(bypass_pg_geo_rs_token_tis, presets::bypass_pg_geo_rs_token_tis(a...), 3, {"is", 2.0}, {"lower", 0.999}, {"upper", 1.001})
    TRM_PRESET(disabled, presets::disabled(a...), 0, {"", 0.0})
    // prime-rl, slime, OpenRLHF, AReaL, NeMo-RL
    TRM_PRESET(prime_rl, presets::prime_rl(a...), 3, {"eps", 0.1}, {"kl_tau", 1e-3}, {"adv_tau", 1.0})
    TRM_PRESET(prime_rl_ipo, presets::prime_rl_ipo(a...), 3, {"threshold", 0.1}, {"kl_tau", 1e-3}, {"adv_tau", 1.0})
    TRM_PRESET(prime_rl_icepop, presets::prime_rl_icepop(a...), 3, {"ratio_low", 0.2}, {"ratio_high", 5.0}, {"adv_tau", 1.0})
    TRM_PRESET(prime_rl_dppo_2026_08, presets::prime_rl_dppo_2026_08(a...), 4, {"low", 0.2}, {"high", 0.2}, {"kl_tau", 1e-3}, {"adv_tau", 1.0})
    TRM_PRESET(prime_rl_ref_kl, presets::prime_rl_ref_kl(a...), 2, {"threshold", 0.2}, {"kl_coefficient", 1e-3})
    TRM_PRESET(slime_mis, presets::slime_mis(a...), 3, {"lower", 0.5}, {"upper", 2.0}, {"veto_below", 1e-4})
    TRM_PRESET(openrlhf_tis, presets::openrlhf_tis(a...), 2, {"lower", 0.5}, {"upper", 5.0})
    TRM_PRESET(openrlhf_icepop, presets::openrlhf_icepop(a...), 2, {"lower", 0.5}, {"upper", 5.0})
    TRM_PRESET(openrlhf_seq_mask_tis, presets::openrlhf_seq_mask_tis(a...), 2, {"lower", 0.5}, {"upper", 5.0})
    TRM_PRESET(areal_decoupled, presets::areal_decoupled(a...), 1, {"upper", 5.0})
    TRM_PRESET(areal_sequence_clamp, presets::areal_sequence_clamp(a...), 2, {"upper", 5.0}, {"lower", 0.0})
    TRM_PRESET(nemo_tis, presets::nemo_tis(a...), 2, {"upper", required}, {"lower", 0.0})
    TRM_PRESET(nemo_icepop, presets::nemo_icepop(a...), 2, {"lower", 0.5}, {"upper", 5.0})
    TRM_PRESET(nemo_seq_mask_tis, presets::nemo_seq_mask_tis(a...), 2, {"lower", 0.999}, {"upper", 1.002})
    TRM_PRESET(nemo_sequence_error, presets::nemo_sequence_error(a...), 1, {"threshold", required})
    // TRL
    TRM_PRESET(trl_grpo, presets::trl_grpo(a...), 2, {"eps_low", 0.2}, {"eps_high", 0.2})
    TRM_PRESET(trl_dapo, presets::trl_dapo(a...), 2, {"eps_low", 0.2}, {"eps_high", 0.2})
    TRM_PRESET(trl_dr_grpo, presets::trl_dr_grpo(a...), 3, {"max_completion_length", required}, {"eps_low", 0.2}, {"eps_high", 0.2})
    TRM_PRESET(trl_cispo, presets::trl_cispo(a...), 1, {"epsilon_high", 5.0})
    TRM_PRESET(trl_sapo, presets::trl_sapo(a...), 0, {"", 0.0})
    TRM_PRESET(trl_vespo, presets::trl_vespo(a...), 0, {"", 0.0})
    TRM_PRESET(trl_luspo, presets::trl_luspo(a...), 2, {"eps_low", 0.2}, {"eps_high", 0.2})
    TRM_PRESET(trl_top_entropy, presets::trl_top_entropy(a...), 3, {"share", 0.2}, {"eps_low", 0.2}, {"eps_high", 0.2})
    TRM_PRESET(trl_opsm, presets::trl_opsm(a...), 3, {"delta", required}, {"eps_low", 0.2}, {"eps_high", 0.2})
    // SkyRL
    TRM_PRESET(skyrl_pipeline, presets::skyrl_pipeline(skyrl_from(a...)), 7, {"outlier_low", 1e-4}, {"outlier_high", 100.0}, {"token_low", 0.5}, {"token_high", 2.0}, {"sequence_low", 0.99}, {"sequence_high", 1.01}, {"tis", 2.0})
    TRM_PRESET(skyrl_pipeline_seq_tis, presets::skyrl_pipeline_seq_tis(skyrl_from(a...)), 7, {"outlier_low", 1e-4}, {"outlier_high", 100.0}, {"token_low", 0.5}, {"token_high", 2.0}, {"sequence_low", 0.99}, {"sequence_high", 1.01}, {"tis", 5.0})
    // TRL without vLLM's correction, NeMo-RL without KL to the reference
    TRM_PRESET(trl_grpo_uncorrected, uncorrected(presets::trl_grpo(a...)), 2, {"eps_low", 0.2}, {"eps_high", 0.2})
    TRM_PRESET(trl_dapo_uncorrected, uncorrected(presets::trl_dapo(a...)), 2, {"eps_low", 0.2}, {"eps_high", 0.2})
    TRM_PRESET(trl_dr_grpo_uncorrected, uncorrected(presets::trl_dr_grpo(a...)), 3, {"max_completion_length", required}, {"eps_low", 0.2}, {"eps_high", 0.2})
    TRM_PRESET(trl_cispo_uncorrected, uncorrected(presets::trl_cispo(a...)), 1, {"epsilon_high", 5.0})
    TRM_PRESET(trl_sapo_uncorrected, uncorrected(presets::trl_sapo(a...)), 0, {"", 0.0})
    TRM_PRESET(trl_luspo_uncorrected, uncorrected(presets::trl_luspo(a...)), 2, {"eps_low", 0.2}, {"eps_high", 0.2})
    TRM_PRESET(trl_top_entropy_uncorrected, uncorrected(presets::trl_top_entropy(a...)), 3, {"share", 0.2}, {"eps_low", 0.2}, {"eps_high", 0.2})
    TRM_PRESET(trl_opsm_uncorrected, uncorrected(presets::trl_opsm(a...)), 3, {"delta", required}, {"eps_low", 0.2}, {"eps_high", 0.2})
    TRM_PRESET(nemo_tis_without_kl, without_penalties(presets::nemo_tis(a...)), 2, {"upper", required}, {"lower", 0.0})
    TRM_PRESET(nemo_icepop_without_kl, without_penalties(presets::nemo_icepop(a...)), 2, {"lower", 0.5}, {"upper", 5.0})
    TRM_PRESET(nemo_seq_mask_tis_without_kl, without_penalties(presets::nemo_seq_mask_tis(a...)), 2, {"lower", 0.999}, {"upper", 1.002})
    TRM_PRESET(nemo_sequence_error_without_kl, without_penalties(presets::nemo_sequence_error(a...)), 1, {"threshold", required})
    // clang-format on
};
#undef TRM_PRESET

/// Reads `name`, `name(1, 2)` or `name(1, high=2)` and makes the preset.
class preset_reader {
public:
    explicit preset_reader(std::string_view text) : text_(text) {}

    [[nodiscard]] spec_result read() {
        auto const open = text_.find('(');
        std::string_view const name = text_.substr(0, open);
        auto const preset =
            std::find_if(std::begin(all), std::end(all), [&](named const& p) { return name == p.name; });
        if (preset == std::end(all)) {
            std::vector<std::string> known;
            for (named const& p : all) known.emplace_back(p.name);
            return wrong(0, "unknown preset \"" + std::string(name.substr(0, 60)) + "\"",
                         std::string(trm::detail::nearest_word(name, known)));
        }
        std::size_t const place = open == std::string_view::npos ? text_.size() : open;
        for (parameter const& p : preset->parameters()) values_.push_back(p.value);
        given_.assign(preset->count, false);
        if (open != std::string_view::npos && !arguments(*preset, open)) return result_;
        for (std::size_t i = 0; i < preset->count; ++i)
            if (is_nan(values_[i]))
                return wrong(place, "preset " + std::string(name) + ": does not take " + std::to_string(position_) +
                                        " parameters, " + preset->storage[i].name + " has no default");
        preset->make(values_.data(), result_.spec);
        return result_;
    }

private:
    std::string_view text_;
    spec_result result_;
    std::vector<double> values_;
    std::vector<bool> given_;
    std::size_t position_ = 0;  ///< parameters given so far

    spec_result const& wrong(std::size_t at, std::string message, std::string suggestion = {}) {
        result_.status = {errc::bad_spec, -1, -1, "preset"};
        result_.position = at;
        result_.column = at + 1;
        result_.message = std::move(message);
        result_.suggestion = std::move(suggestion);
        return result_;
    }
    bool fail(std::size_t at, std::string message, std::string suggestion = {}) {
        wrong(at, std::move(message), std::move(suggestion));
        return false;
    }
    [[nodiscard]] static std::string_view trimmed(std::string_view s) {
        while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
        while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
        return s;
    }
    [[nodiscard]] std::size_t place_of(std::string_view part) const {
        return static_cast<std::size_t>(part.data() - text_.data());
    }
    bool arguments(named const& preset, std::size_t open) {
        if (text_.back() != ')') return fail(text_.size(), "preset: expected \")\"");
        std::string_view rest = text_.substr(open + 1, text_.size() - open - 2);
        if (trimmed(rest).empty()) return true;
        for (bool more = true, by_name = false; more;) {
            auto const comma = rest.find(',');
            more = comma != std::string_view::npos;
            if (!argument(preset, open, rest.substr(0, comma), by_name)) return false;
            if (more) rest.remove_prefix(comma + 1);
        }
        return true;
    }
    bool argument(named const& preset, std::size_t open, std::string_view part, bool& by_name) {
        auto const equals = part.find('=');
        std::size_t which = position_;
        std::string const who = "preset " + std::string(preset.name);
        if (equals != std::string_view::npos) {
            std::string_view const key = trimmed(part.substr(0, equals));
            std::vector<std::string> known;
            for (parameter const& p : preset.parameters()) known.emplace_back(p.name);
            auto const found = std::find(known.begin(), known.end(), key);
            if (found == known.end())
                return fail(place_of(part), who + ": has no parameter \"" + std::string(key) + "\"",
                            known.empty() ? std::string{} : std::string(trm::detail::nearest_word(key, known)));
            which = static_cast<std::size_t>(found - known.begin());
            part.remove_prefix(equals + 1);
            by_name = true;
        } else if (by_name) {
            return fail(place_of(part), who + ": parameters without a name come first");
        }
        std::string_view const number = trimmed(part);
        double value = 0;
        if (trm::detail::to_number(number, value) != std::errc{})
            return fail(number.empty() ? place_of(part) : place_of(number), "preset: expected a number");
        ++position_;
        if (which >= values_.size())
            return fail(open, who + ": does not take " + std::to_string(position_) + " parameters");
        if (given_[which]) return fail(place_of(part), who + ": " + preset.storage[which].name + " is given twice");
        given_[which] = true;
        values_[which] = value;
        return true;
    }
};

}  // namespace detail

/// Every preset: name, parameters, defaults.
[[nodiscard]] inline std::span<named const> list() noexcept { return detail::all; }

/// The loss that a name stands for, with parameters by place or by name; what is left out has its default. Never throws; what
/// is wrong is in the result, with its place, as for parse_spec.
[[nodiscard]] inline spec_result find(std::string_view text) noexcept {
#if TRM_EXCEPTIONS
    try {
        return detail::preset_reader(text).read();
    } catch (std::bad_alloc const&) {
        spec_result r;
        r.status = {errc::out_of_memory, -1, -1, "preset"};
        return r;
    }
#else
    return detail::preset_reader(text).read();
#endif
}

}  // namespace presets
TRM_NAMESPACE_END
