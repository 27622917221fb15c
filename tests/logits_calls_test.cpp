// SPDX-License-Identifier: Apache-2.0
// What holds for every function of the logits layer: any callable is an executor, what it throws reaches the caller, and
// numbers that make no sense are refused with a sentence that names them.
#include "catch.hpp"

#include <trm/logits/divergence.hpp>
#include <trm/logits/gradient.hpp>
#include <trm/logits/linear_divergence.hpp>
#include <trm/logits/linear_gradient.hpp>
#include <trm/logits/log_prob.hpp>
#include <trm/logits/topk.hpp>

#include <cstring>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();

/// Small inputs of all functions.
struct inputs {
    std::vector<float> x = std::vector<float>(3 * 40, 0.5f), weight = std::vector<float>(40 * 8, 0.25f);
    std::vector<float> hidden = std::vector<float>(3 * 8, 0.5f), up = {1, 2, 3}, a = {0, 0, 0}, b = {0, 0, 0};
    std::vector<float> d = std::vector<float>(3 * 40), d_hidden = std::vector<float>(3 * 8),
                       d_weight = std::vector<float>(40 * 8);
    std::vector<double> lse = {4, 4, 4};
    std::vector<std::int32_t> ids = {0, 1, 2};
    std::vector<trm::logits_partial> partials = std::vector<trm::logits_partial>(3);
    std::vector<trm::divergence_partial> pairs = std::vector<trm::divergence_partial>(3);
    std::vector<std::byte> workspace = std::vector<std::byte>(1 << 22);
    trm::linear_blocks blocks{2, 16, 1};
    trm::logits_view<float> v{.data = x.data(), .rows = 3, .vocab = 40};
    trm::linear_view<float, float> head{
        .hidden = hidden.data(), .weight = weight.data(), .rows = 3, .width = 8, .vocab = 40};
    trm::linear_gather<float> gather{};
    trm::logits_gradient_in<float> in() const { return {.logsumexp = lse, .d_logp = up}; }
};

struct call {
    char const* name;
    std::function<trm::status(inputs&)> run;
};

/// Every function that takes an executor.
template <class Exec>
std::vector<call> calls(Exec const& exec) {
    using namespace trm;
    return {
        {"log_prob", [&](inputs& i) { return log_prob(i.v, i.ids, log_prob_out<float>{.logp = i.a}, exec); }},
        {"log_prob_partials",
         [&](inputs& i) { return log_prob_partials(i.v, 0, i.ids, std::span(i.partials), true, exec); }},
        {"exact_divergence",
         [&](inputs& i) { return exact_divergence(i.v, i.v, divergence_out<float>{.tv = i.a}, {}, exec); }},
        {"divergence_partials", [&](inputs& i) { return divergence_partials(i.v, i.v, std::span(i.pairs), exec); }},
        {"logits_gradient",
         [&](inputs& i) { return logits_gradient(i.v, i.ids, i.in(), logits_gradient_out<float>{i.d.data()}, exec); }},
        {"logits_gradient_shard",
         [&](inputs& i) {
             return logits_gradient_shard(i.v, 0, i.ids, i.in(), logits_gradient_out<float>{i.d.data()}, exec);
         }},
        {"linear_log_prob",
         [&](inputs& i) {
             return linear_log_prob(i.head, i.ids, log_prob_out<float>{.logp = i.a}, std::span(i.workspace), i.blocks,
                                    i.gather, exec);
         }},
        {"linear_divergence",
         [&](inputs& i) {
             return linear_divergence(i.head, i.head, i.ids, log_prob_out<float>{.logp = i.a},
                                      divergence_out<float>{.tv = i.b}, std::span(i.workspace), i.blocks, exec);
         }},
        {"linear_gradient", [&](inputs& i) {
             return linear_gradient(i.head, i.ids, i.in(), linear_gradient_out{i.d_hidden.data(), i.d_weight.data()},
                                    std::span(i.workspace), i.blocks, exec);
         }}};
}

struct pool_failed : std::runtime_error {
    using std::runtime_error::runtime_error;
};

bool names(trm::status const& s, char const* word) { return std::strstr(s.what, word) != nullptr; }

}  // namespace

TEST_CASE("Any callable is an executor of every logits function", "[logits][unit][executor]") {
    auto const deduced = [](auto n, auto f) {
        for (decltype(n) i = 0; i < n; ++i) f(i);
    };
    auto const forwarded = [](std::int64_t n, auto&& f) {
        for (std::int64_t i = n; i-- > 0;) f(i);
        return n;  // ignored
    };
    std::function<void(std::int64_t, std::function<void(std::int64_t)>)> const function =
        [](std::int64_t n, std::function<void(std::int64_t)> const& f) {
            for (std::int64_t i = 0; i < n; ++i) f(i);
        };
    auto const all = [](auto const& exec) {
        for (call const& c : calls(exec)) {
            inputs serial, other;
            std::vector<call> const reference = calls(trm::serial_executor{});
            INFO(c.name);
            CHECK(c.run(other).ok());
            for (call const& r : reference)
                if (std::strcmp(r.name, c.name) == 0) CHECK(r.run(serial).ok());
            CHECK(other.a == serial.a);
            CHECK(other.b == serial.b);
            CHECK(other.d == serial.d);
            CHECK(other.d_hidden == serial.d_hidden);
            CHECK(other.d_weight == serial.d_weight);
        }
    };
    all(deduced);
    all(forwarded);
    all(function);
    all(trm::with_grain{deduced, 1});
}

TEST_CASE("What an executor throws reaches the caller of every logits function", "[logits][unit][executor]") {
    auto const before = [](std::int64_t, auto&&) { throw pool_failed("no threads"); };
    auto const after = [](std::int64_t n, auto&& f) {
        for (std::int64_t i = 0; i < n; ++i) f(i);
        throw pool_failed("lost a thread");
    };
    for (call const& c : calls(before)) {
        inputs i;
        INFO(c.name);
        CHECK_THROWS_AS(c.run(i), pool_failed);
    }
    for (call const& c : calls(after)) {
        inputs i;
        INFO(c.name);
        CHECK_THROWS_AS(c.run(i), pool_failed);
    }
}

TEST_CASE("Every logits function refuses temperatures without meaning, by name", "[logits][unit]") {
    for (call const& c : calls(trm::serial_executor{}))
        for (double t : {0.0, -0.0, -1.0, not_a_number, inf, -inf, 1e-7, 1e-300, 5e-324, 1e7, 1e300}) {
            inputs i;
            i.v.temperature = i.head.temperature = t;
            INFO(c.name << " at temperature " << t);
            trm::status const s = c.run(i);
            CHECK(s.code == trm::errc::bad_threshold);
            CHECK(names(s, "temperature"));
            CHECK(i.a == std::vector<float>(3, 0));  // nothing is written
            i.v.temperature = i.head.temperature = t > 1 ? 1e6 : 1e-6;
            CHECK(c.run(i).ok());
        }
    inputs i;
    i.v.temperature = 0;
    trm::status const s = trm::gather_log_prob(i.v, std::span<std::int32_t const>(i.ids), 1,
                                               std::span<double const>(i.lse), std::span(i.a));
    CHECK(s.code == trm::errc::bad_threshold);
}

TEST_CASE("Sizes that overflow or are negative are refused", "[logits][unit]") {
    std::int64_t const huge = std::int64_t(1) << 61;
    auto const refused = [](call const& c, auto const& change, char const* word) {
        inputs i;
        change(i);
        trm::status const s = c.run(i);
        INFO(c.name << ": " << s.what);
        CHECK(s.code == trm::errc::bad_layout);
        CHECK(names(s, word));
    };
    for (call const& c : calls(trm::serial_executor{})) {
        bool const linear = std::strncmp(c.name, "linear", 6) == 0;
        for (std::int64_t bad : {huge, std::int64_t(-1), std::numeric_limits<std::int64_t>::min()}) {
            if (linear) {
                refused(c, [&](inputs& i) { i.head.hidden_stride = bad; }, "stride");
                refused(c, [&](inputs& i) { i.head.weight_stride = bad; }, "stride");
                refused(c, [&](inputs& i) { i.head.width = bad; }, "width");
                refused(c, [&](inputs& i) { i.blocks.rows = bad; }, "block sizes");
                refused(c, [&](inputs& i) { i.blocks.vocab = bad; }, "block sizes");
                refused(c, [&](inputs& i) { i.blocks.workers = bad; }, "block sizes");
            } else {
                refused(c, [&](inputs& i) { i.v.row_stride = bad; }, "row_stride");
                refused(c, [&](inputs& i) { i.v.vocab_mask_stride = bad; }, "vocab_mask_stride");
            }
        }
    }
    inputs i;
    std::span<std::int32_t const> const ids(i.ids);
    std::span<double const> const lse(i.lse);
    CHECK(trm::gather_log_prob(i.v, ids, huge, lse, std::span(i.a)).code == trm::errc::bad_layout);
    CHECK(trm::gather_log_prob(i.v, ids, -1, lse, std::span(i.a)).code == trm::errc::bad_layout);
    trm::topk_view<float> v{.rows = std::int64_t(1) << 32, .k = std::int64_t(1) << 32};  // 2^64 cells are none
    CHECK(trm::topk_divergence(v, trm::topk_out<float>{}).code == trm::errc::bad_layout);
    i.gather.per_row = huge;
    CHECK(trm::linear_log_prob(i.head, i.ids, trm::log_prob_out<float>{}, std::span(i.workspace), i.blocks, i.gather)
              .code == trm::errc::bad_layout);
}

TEST_CASE("Shards refuse negative targets and a negative first column", "[logits][unit]") {
    inputs i;
    auto const forward = [&](std::int64_t first) {
        return trm::log_prob_partials(i.v, first, i.ids, std::span(i.partials));
    };
    auto const backward = [&](std::int64_t first) {
        return trm::logits_gradient_shard(i.v, first, i.ids, i.in(), trm::logits_gradient_out<float>{i.d.data()});
    };
    CHECK(forward(-1).code == trm::errc::bad_layout);
    CHECK(backward(-1).code == trm::errc::bad_layout);
    CHECK(forward(1000).ok());
    i.ids[1] = -100;
    CHECK(forward(0) == trm::status{trm::errc::bad_layout, -1, 1, ""});
    CHECK(backward(0) == trm::status{trm::errc::bad_layout, -1, 1, ""});
    std::vector<std::uint8_t> const keep{1, 0, 1};
    i.v.row_mask = keep.data();
    CHECK(forward(0).ok());
    CHECK(backward(0).ok());
}
