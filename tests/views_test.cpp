// SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"

#include <trm/core/batch_view.hpp>
#include <trm/core/executor.hpp>
#include <trm/loss/presets_verl.hpp>

#include <array>
#include <cstdint>
#include <ranges>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

template <class T>
std::size_t deduced(std::span<T const> s) {
    return s.size();
}
double third(std::span<float const> s) { return static_cast<double>(s[2]); }

struct counting {
    int* calls;
    template <class F>
    void operator()(std::int64_t n, F&& f) const {
        ++*calls;
        for (std::int64_t i = 0; i < n; ++i) f(i);
    }
};

using view = trm::stream_view<float>;
static_assert(std::is_aggregate_v<trm::batch_view<float>> && std::is_trivially_copyable_v<trm::batch_view<float>>);
static_assert(sizeof(view) == sizeof(std::span<float>) && std::is_trivially_copyable_v<view>);
static_assert(std::ranges::contiguous_range<view> && std::ranges::view<view> && std::ranges::borrowed_range<view>);
static_assert(!std::is_convertible_v<std::vector<double>&, view> && !std::is_convertible_v<std::vector<bool>&, view>);
static_assert(!std::is_convertible_v<int, view> && !std::is_convertible_v<float*, view>);
static_assert(!std::is_constructible_v<trm::offsets, std::vector<float>&>);

}  // namespace

TEST_CASE("a stream is whatever std::span is made of, and is a std::span") {
    std::vector<float> writable{1, 2, 3};
    std::vector<float> const vector = writable;
    std::array<float, 3> array{1, 2, 3};
    float plain[] = {1, 2, 3};
    std::span<float> const span(writable);
    std::span<float const, 3> const fixed(array);
    trm::batch_view<float> b{.logp = writable,
                             .rollout_logp = vector,
                             .proximal_logp = array,
                             .ref_logp = std::as_const(array),
                             .advantages = plain,
                             .sequence_advantages = span,
                             .given = fixed,
                             .token_weights = std::span<float const>(vector)};
    for (view s : {b.logp, b.rollout_logp, b.proximal_logp, b.ref_logp, b.advantages, b.sequence_advantages, b.given,
                   b.token_weights}) {
        CHECK(third(s) == 3);
        CHECK(deduced<float>(s) == 3);
        CHECK(s.back() == 3.0f);
    }
    CHECK(b.loss_mask.empty());
    b.logp = {plain, 2};
    CHECK(b.logp.size() == 2);
    b.logp = {vector.begin(), vector.end()};
    CHECK(b.logp.data() == vector.data());
    b.logp = span.first(1);  // a temporary, but of a view
    CHECK(b.logp.data() == writable.data());
    b.logp = {};
    CHECK(b.logp.empty());
}

TEST_CASE("offsets are 32 or 64 bits wide, writable or not") {
    std::vector<std::int32_t> narrow{0, 3, 5};
    std::int64_t const wide[] = {0, 3, 5};
    for (trm::layout_view layout : {trm::layout_view(trm::packed{narrow}), trm::layout_view(trm::packed{wide}),
                                    trm::layout_view(trm::packed{std::span<std::int32_t>(narrow)}),
                                    trm::layout_view(trm::segments{wide, std::span(narrow).first(2), 4})}) {
        CHECK(layout.runs() == 2);
        CHECK(layout.run(1).begin == 3);
        CHECK(layout.extent() == 5);
    }
}

TEST_CASE("verl's criteria have names of their own") {
    std::string options = "token_k1, seq_sum_k3,seq_mean_k2,seq_max_k2", thresholds = "0.5_2,1,1,1";
    trm::presets::verl_rejection const r = trm::presets::verl(options, thresholds);
    options.assign(options.size(), 'x');
    REQUIRE(r.size == 4);
    CHECK(r.criteria[0].name == "token_k1");
    CHECK(r.criteria[1].name == "seq_sum_k3");
    CHECK(r.criteria[2].name == "seq_mean_k2");
    CHECK(r.criteria[3].name == "seq_max_k2");
    for (char const* none : {"seq_max_k1", "token_k4", "token_k0", "token_k", "x"})
        CHECK_FALSE(trm::presets::verl(none, "1").status.ok());
}

TEST_CASE("with_grain refers to a named executor and keeps a temporary one") {
    int calls = 0, sum = 0;
    counting const named{&calls};
    trm::with_grain refers{named, 5};
    trm::with_grain keeps{counting{&calls}};
    static_assert(std::is_same_v<decltype(refers), trm::with_grain<counting const&>>);
    static_assert(std::is_same_v<decltype(keeps), trm::with_grain<counting>>);
    refers(3, [&](std::int64_t i) { sum += static_cast<int>(i); });
    keeps(3, [&](std::int64_t i) { sum += static_cast<int>(i); });
    CHECK(calls == 2);
    CHECK(sum == 6);
}
