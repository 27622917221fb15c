// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/certificate.hpp>
#include <trm/bounds/report.hpp>
#include <trm/loss/spec_node.hpp>

#include <string>
#include <string_view>

/// \file
/// A certificate as a JSON object, without a JSON library: all names and words are trm's own and need no escapes.

TRM_NAMESPACE_BEGIN
namespace bounds {
namespace detail {

/// Objects and arrays in order; numbers as short as they read back exactly, null where JSON has none.
class json_writer {
public:
    std::string text;

    void open(std::string_view key, char bracket) {
        name(key);
        text += bracket;
    }
    void close(char bracket) { text += bracket; }
    void add(std::string_view key, double v) {
        name(key);
        text += bounds::detail::finite(v) ? trm::detail::spec_number(v) : "null";
    }
    void add(std::string_view key, std::int64_t v) {
        name(key);
        text += trm::detail::spec_number(v);
    }
    void add(std::string_view key, bool v) {
        name(key);
        text += v ? "true" : "false";
    }
    void add(std::string_view key, char const* word) {
        name(key);
        text += '"' + std::string(word) + '"';
    }
    void null(std::string_view key) {
        name(key);
        text += "null";
    }
    void add(std::string_view key, std::optional<interval> const& range) {
        if (!range) return null(key);
        open(key, '[');
        add("", range->low);
        add("", range->high);
        close(']');
    }
    void add(std::string_view key, estimate const& e) {
        open(key, '{');
        add("value", e.value);
        add("interval", e.range);
        close('}');
    }
    void add(std::string_view key, std::optional<std::size_t> const& index) {
        index ? add(key, static_cast<std::int64_t>(*index)) : null(key);
    }

private:
    void name(std::string_view key) {
        if (!text.empty() && text.back() != '{' && text.back() != '[') text += ',';
        if (!key.empty()) text += '"' + std::string(key) + "\":";
    }
};

[[nodiscard]] constexpr char const* word_of(claim k) noexcept {
    return k == claim::exact ? "exact" : k == claim::estimated ? "estimated" : "plug_in";
}
[[nodiscard]] constexpr char const* word_of(rung_status s) noexcept {
    switch (s) {
        case rung_status::ok:
            return "ok";
        case rung_status::unhealthy:
            return "unhealthy";
        case rung_status::no_interval:
            return "no_interval";
        case rung_status::batch_max:
            return "batch_max";
        case rung_status::detector:
            return "detector";
    }
    return "unknown";
}

}  // namespace detail

/// {"trm": 1, "certified", "gain", "headline", "guarantee", "binding" (indices into "ladder" or null), "ladder": [{"name",
/// "kind", "status", "value", "interval", "vacuous"}], "health", "inputs", estimates, counts, options}. Kinds and statuses
/// are the enumerators of certificate.hpp. May throw std::bad_alloc.
[[nodiscard]] inline std::string to_json(certificate const& c) {
    detail::json_writer j;
    j.open("", '{');
    j.add("trm", std::int64_t{1});
    j.add("certified", c.certified);
    c.gain ? j.add("gain", *c.gain) : j.null("gain");
    j.add("headline", c.headline);
    j.add("guarantee", c.guarantee);
    j.add("binding", c.binding);
    j.open("ladder", '[');
    for (std::size_t i = 0; i < c.rungs; ++i) {
        rung const& r = c.ladder[i];
        j.open("", '{');
        j.add("name", to_string(r.name));
        j.add("kind", detail::word_of(r.kind));
        j.add("status", detail::word_of(r.state));
        j.add("value", r.value);
        j.add("interval", r.range);
        j.add("vacuous", r.vacuous);
        j.close('}');
    }
    j.close(']');
    j.open("health", '{');
    j.add("good", c.health.good);
    j.add("ess", c.health.ess);
    j.add("tail_share", c.health.tail_share);
    j.add("ratio_excess", c.health.ratio_excess);
    j.add("saturated", c.health.saturated);
    j.close('}');
    j.open("inputs", '{');
    j.add("horizon", c.inputs.horizon);
    j.add("delta", c.inputs.delta);
    c.inputs.eps ? j.add("eps", *c.inputs.eps) : j.null("eps");
    j.add("seq_kl", c.inputs.seq_kl);
    j.add("from_sampled_tokens", c.inputs.from_sampled_tokens);
    j.close('}');
    if (c.has_rewards) {
        j.add("surrogate", c.surrogate);
        j.add("observed_error", c.observed_error);
        j.add("improvement", c.improvement);
    }
    j.add("sequences", c.sequences);
    j.add("groups", c.groups);
    j.add("tokens", c.tokens);
    j.add("excluded", c.excluded);
    j.add("rewards_outside", c.rewards_outside);
    j.open("options", '{');
    j.add("reward_min", c.options.reward.min);
    j.add("reward_max", c.options.reward.max);
    j.add("level", c.options.bootstrap.level);
    j.add("resamples", std::int64_t{c.options.bootstrap.resamples});
    j.close('}');
    j.close('}');
    return j.text;
}

}  // namespace bounds
TRM_NAMESPACE_END
