// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "record.hpp"
#include "rollouts.hpp"

#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

/// How often something was seen, and where first.
struct finding {
    static constexpr std::size_t named = 5;
    std::size_t count = 0;
    std::vector<std::string> first;  ///< up to `named` places

    void add(std::string place) {
        if (count++ < named) first.push_back(std::move(place));
    }
    /// The places, and how many more.
    [[nodiscard]] std::string places() const;
};

/// Checks sequences of one file against each other and gathers them.
class rollout_builder {
public:
    rollouts all;
    finding not_finite;  ///< NaN, infinities and null at tokens that the policy sampled, in advantages and in rewards
    finding positive;  ///< log-probabilities above 0, beyond rounding, at tokens that the policy sampled

    /// `strict`: what is not finite or positive is an error. `in_both`: rollout_logp comes from a second file.
    rollout_builder(std::string file, mapping m, bool is_strict)
        : name(std::move(file)), names(std::move(m)), strict(is_strict) {}

    /// Throws input_error. `from` is a second place that values come from, or "".
    void add(record const& r, std::set<std::string> const& line_has, std::string const& from = {});

private:
    std::string name;
    mapping names;
    bool strict;
    std::array<bool, fields::count> expected{};
    std::unordered_map<std::string, std::int64_t> groups;

    [[nodiscard]] std::string called(std::size_t field) const;
    void check_fields(record const& r, std::set<std::string> const& line_has) const;
    void check_values(record const& r, std::vector<std::uint8_t> const& mask, std::string const& from);
    void append_advantage(record const& r, std::size_t tokens);
    [[noreturn]] void fail(record const& r, std::string const& sentence) const;
};
