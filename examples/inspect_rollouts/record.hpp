// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "fields.hpp"
#include "mapping.hpp"

#include <array>
#include <cstddef>
#include <functional>
#include <set>
#include <string>
#include <vector>

class source;

/// One sequence as a file has it, before anything is checked but the kind of every value.
struct record {
    struct values {
        bool seen = false;
        bool list = false;               ///< written as a list, if only of one
        std::vector<double> numbers;     ///< NaN and infinities as they are, null as NaN
        std::vector<std::size_t> nulls;  ///< which of them are null
        std::vector<std::string> label;  ///< of a label: a text for each of its paths
    };
    std::size_t line = 0;
    std::array<values, fields::count> of;

    /// A label's texts joined with '/'.
    [[nodiscard]] std::string label(std::size_t field) const;
};

/// Reads every sequence of a file: objects one a line or one after another, or arrays of such objects. `line_has` are the
/// names in the object that the sequence comes from, as advice() wants them. Holds one object at a time. Throws
/// input_error, with the file's name and line, for the first thing that is not JSON (NaN, Infinity and -Infinity are
/// accepted, as Python writes them) or not of the kind that the field wants.
void read_records(source& in, mapping const& names,
                  std::function<void(record&, std::set<std::string> const& line_has)> const& use);
