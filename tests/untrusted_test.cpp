// SPDX-License-Identifier: Apache-2.0
// Texts and JSON from strangers: whatever their length and depth, the answer is a sentence of bounded length, in bounded time
// (the test has a time limit) and memory.
#include "catch.hpp"
#include "interop_c.hpp"

#include <trm/loss/any_loss_extern.hpp>

#include <string>

namespace {

std::string times(std::size_t n, std::string const& what) {
    std::string s;
    s.reserve(n * what.size());
    while (n-- > 0) s += what;
    return s;
}
constexpr std::size_t many = 1'000'000;

void refused(std::string const& text) {
    trm::spec_result const r = trm::parse_spec(text);
    CHECK_FALSE(r.ok());
    CHECK_FALSE(r.message.empty());
    CHECK(r.message.size() < 2000);
    CHECK(r.position <= text.size());
}
void refused_json(std::string const& json) {
    trm_error error = trm_error_init();
    CHECK(c::loss(trm_loss_from_json(json.c_str(), &error)) == nullptr);
    CHECK(error.code == TRM_BAD_SPEC);
    CHECK(error.message[0] != '\0');
}

}  // namespace

TEST_CASE("long and deep texts", "[spec][untrusted]") {
    refused("mask: " + std::string(many, 'a'));
    refused("mask: k3 <= " + std::string(many, '9'));
    refused("mask: k3 <= 1e" + std::string(many, '9'));
    refused("mask: " + std::string(many, '('));
    refused("mask: " + times(many / 7, "prefix("));
    refused("mask: k3 <= 1" + times(many / 10, " && k2 <= 1"));  // was quadratic: hours
    refused("surrogate: ppo_clip(" + times(many / 10, "eps_low=1,") + "eps_low=1)");
    refused(times(many / 4, "a: 1;"));
    refused(std::string(many, '\n') + "mask: k7 <= 1");
    refused(std::string(many, '\0'));
    refused("mask: k3 <= 1 # " + std::string(many, 'x') + "\nmask: k3 <= 1");
    refused(std::string(many, '\xff'));
}

TEST_CASE("a huge penalty list is a loss that still works", "[spec][untrusted]") {
    trm::spec_result const r = trm::parse_spec("penalty: kl(k3, beta=0.001)" + times(500, " + kl(k3, beta=0.001)"));
    CHECK(r.ok());
    CHECK(r.spec.penalties.size() == 501);
}

TEST_CASE("long and deep JSON", "[json][untrusted]") {
    refused_json(std::string(many, '['));
    refused_json(times(many, "{\"mask\":"));
    refused_json("{\"mask\": " + times(many, "[") + times(many, "]") + "}");
    refused_json("{\"mask\": " + times(many / 10, "{\"of\":") + "1" + times(many / 10, "}") + "}");
    refused_json("{\"surrogate\": \"" + std::string(many, 'a') + "\"}");
    refused_json("{\"log_ratio_clamp\": " + std::string(many, '9') + "}");
    std::string members = "{\"trm\": 1";
    for (std::size_t i = 0; i < 60'000; ++i) members += ",\"a" + std::to_string(i) + "\":1";
    refused_json(members + "}");
    refused_json("{\"mask\": [\"k3\"" + times(many / 10, ",\"k3\"") + "]}");
}
