// SPDX-License-Identifier: Apache-2.0
// Reading a loss from JSON runs out of memory at every allocation in turn: a status, not an end of the program.
#include <trm/interop/json.hpp>

#include "catch.hpp"

#include <cstdint>
#include <cstdlib>
#include <new>

namespace {

std::int64_t allowed = -1;  // allocations until there is no memory; negative: no limit

// Out of line, so that the compiler does not pair free with operator new.
[[gnu::noinline]] void* take(std::size_t n) noexcept {
    if (allowed == 0) return nullptr;
    if (allowed > 0) --allowed;
    return std::malloc(n == 0 ? 1 : n);
}
[[gnu::noinline]] void give(void* p) noexcept { std::free(p); }

}  // namespace

void* operator new(std::size_t n) {
    void* const p = take(n);
    if (p == nullptr) throw std::bad_alloc();
    return p;
}
void operator delete(void* p) noexcept { give(p); }
void operator delete(void* p, std::size_t) noexcept { give(p); }

TEST_CASE("A loss from JSON without memory is a status", "[spec][unit]") {
    auto const document = nlohmann::json::parse(R"({
        "trm": 1,
        "mask": [{"name": "seq_max_k2", "at_most": 0.05}, {"name": "prefix", "of": {"name": "k3", "at_most": 0.1}}],
        "surrogate": {"name": "ppo_clip", "eps_low": 0.2, "eps_high": 0.28},
        "penalty": [{"name": "kl", "estimator": "k3", "beta": 0.01}],
        "aggregate": "token_mean"})");
    int refused = 0;
    for (std::int64_t n = 0;; ++n) {
        allowed = n;
        trm::spec_result const r = trm::spec_from_json(document);
        allowed = -1;
        if (r.ok()) break;
        REQUIRE(r.status.code == trm::errc::out_of_memory);
        ++refused;
    }
    CHECK(refused > 10);
}
