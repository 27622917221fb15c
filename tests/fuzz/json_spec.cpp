// SPDX-License-Identifier: Apache-2.0
// JSON in, a loss or a sentence out, through the C interface; what is written as JSON reads back as the same loss.
#include "fuzz.hpp"

#include <trm/interop/c.h>
#include <trm/interop/json.hpp>

#include <string>

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    std::string const text(reinterpret_cast<char const*>(data), size);
    trm_error error = trm_error_init();
    trm_loss* const loss = trm_loss_from_json(text.c_str(), &error);
    if (loss == nullptr) {
        TRM_FUZZ_REQUIRE(error.code != TRM_OK && error.message[0] != '\0');
        TRM_FUZZ_REQUIRE(std::memchr(error.message, '\0', sizeof error.message) != nullptr);
        return 0;
    }
    std::string const canonical = trm_loss_text(loss);
    trm_loss_free(loss);
    trm::spec_result const spec = trm::parse_spec(canonical);
    TRM_FUZZ_REQUIRE(spec.ok());
    std::string const written = trm::spec_to_json<nlohmann::ordered_json>(spec.spec).dump();
    trm_loss* const again = trm_loss_from_json(written.c_str(), nullptr);
    TRM_FUZZ_REQUIRE(again != nullptr);
    TRM_FUZZ_REQUIRE(canonical == trm_loss_text(again));
    trm_loss_free(again);
    return 0;
}
