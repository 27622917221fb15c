// SPDX-License-Identifier: Apache-2.0
// Text in, a loss or a sentence out; what is printed reads back as the same loss.
#include "../random_spec.hpp"
#include "fuzz.hpp"

#include <trm/loss/spec.hpp>

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    std::string const text(reinterpret_cast<char const*>(data), size);
    trm::spec_result const r = trm::parse_spec(text);
    if (!r.ok()) {
        TRM_FUZZ_REQUIRE(r.status.code == trm::errc::bad_spec && !r.message.empty());
        TRM_FUZZ_REQUIRE(r.position <= size && r.line >= 1 && r.column >= 1);
        return 0;
    }
    std::string const printed = trm::print_spec(r.spec);
    trm::spec_result const again = trm::parse_spec(printed);
    TRM_FUZZ_REQUIRE(again.ok());
    TRM_FUZZ_REQUIRE(specs::same(again.spec, r.spec));
    TRM_FUZZ_REQUIRE(trm::print_spec(again.spec) == printed);
    return 0;
}
