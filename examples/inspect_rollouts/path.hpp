// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

/// Where a value is inside an object: `name`, `outer.inner`, `list[]` (every element), `list[0]` (one element), and
/// combinations as `choices[].logprobs.content[].logprob`. A name may hold anything but `.`, `[`, `,`, `=` and `+`.
struct path_step {
    enum class kind { name, every, index };
    kind is;
    std::string name;       ///< of kind::name
    std::size_t index = 0;  ///< of kind::index

    bool operator==(path_step const&) const = default;
};
using field_path = std::vector<path_step>;

/// Throws input_error with a sentence if the text is not a path.
field_path parse_path(std::string_view text);
std::string to_text(field_path const& p);

/// True if `longer` begins with `prefix`.
bool starts_with(field_path const& longer, field_path const& prefix);
