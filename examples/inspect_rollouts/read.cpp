// SPDX-License-Identifier: Apache-2.0
#include "read.hpp"

#include "../text.hpp"
#include "builder.hpp"
#include "mapping.hpp"
#include "read_internal.hpp"
#include "source.hpp"

mapping mapping_of(input const& file) {
    mapping m = find_mapping(file.mapping);
    replace_fields(m, file.fields);
    return m;
}

void add_warnings(rollout_builder const& from, read_result& to) {
    auto const add = [&](finding const& f, char const* one, char const* many, char const* rest) {
        if (f.count > 0)
            to.warnings.push_back(text("%zu %s %s: %s", f.count, f.count == 1 ? one : many, rest, f.places().c_str()));
    };
    add(from.not_finite, "value is", "values are",
        "not finite at tokens that the policy sampled, or in their advantages or rewards (such tokens are masked, and "
        "their sequences under every criterion over sequences)");
    add(from.positive, "log-probability is", "log-probabilities are", "positive at tokens that the policy sampled");
}

read_result read_rollouts(input const& file, read_options const& options) {
    mapping const names = mapping_of(file);
    source in(file.path, options.progress);
    rollout_builder builder(file.path, names, options.strict);
    read_records(in, names, [&](record& r, std::set<std::string> const& line_has) { builder.add(r, line_has); });
    if (builder.all.sampled() == 0) throw input_error(file.path + ": no token that the policy sampled");
    read_result out;
    add_warnings(builder, out);
    out.all = std::move(builder.all);
    return out;
}
