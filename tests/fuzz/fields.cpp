// SPDX-License-Identifier: Apache-2.0
// --fields of inspect_rollouts: a mapping or a sentence; the text of a mapping reads back as the same.
#include "fuzz.hpp"
#include "mapping.hpp"
#include "rollouts.hpp"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    fuzz::bytes in(data, size);
    auto const& names = named_mappings();
    mapping m = find_mapping(names[static_cast<std::size_t>(in.below(static_cast<int>(names.size())))].name);
    try {
        replace_fields(m, in.rest());
    } catch (input_error const& e) {
        TRM_FUZZ_REQUIRE(e.what()[0] != '\0');
        return 0;
    }
    mapping again;
    replace_fields(again, m.text());
    TRM_FUZZ_REQUIRE(again.text() == m.text());
    return 0;
}
