// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "fields.hpp"
#include "path.hpp"

#include <array>
#include <set>
#include <string>
#include <string_view>
#include <vector>

/// Which path of a file holds which field. A label may have several paths, whose values are joined with '/'.
struct mapping {
    std::string name;
    std::array<std::vector<field_path>, fields::count> paths;
    /// One line (or element of the outermost array) holds a sequence for every element of this; empty: one sequence.
    field_path each;

    /// The text that reads back as this.
    [[nodiscard]] std::string text() const;
};

/// A mapping that has a name: where its files come from, and for trainers that write no such file, how to write one.
struct named_mapping {
    std::string_view name, from, fields, snippet;
};
std::vector<named_mapping> const& named_mappings();

/// The mapping of that name. Throws input_error that lists the names if there is none.
mapping find_mapping(std::string_view name);

/// Replaces what `list` (`field=path,field=path,...`, also `each=path`) names. Throws input_error.
void replace_fields(mapping& m, std::string_view list);

/// What to tell someone whose line lacks `field`: the names that the line has, a mapping whose names it has, what to log.
/// `option` is "" or the prefix of the options for this file, as in --rollout-mapping.
std::string advice(std::size_t field, mapping const& used, std::set<std::string> const& line_has,
                   std::string const& option);

/// What --mappings prints.
std::string describe_mappings();
