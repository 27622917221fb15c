// SPDX-License-Identifier: Apache-2.0
// Every kind of misuse is named, writes nothing, and becomes a sentence where `checked` throws. And a call in steady state
// allocates nothing.
#include "loss_parity.hpp"

#include <trm/loss/checked.hpp>

#include <atomic>
#include <cstdlib>
#include <limits>
#include <new>
#include <string>

namespace {
std::atomic<long> allocations{0};
std::atomic<bool> exhausted{false};

[[gnu::noinline]] void* take(std::size_t n) noexcept {
    ++allocations;
    return exhausted ? nullptr : std::malloc(n == 0 ? 1 : n);
}
[[gnu::noinline]] void give(void* p) noexcept { std::free(p); }
}  // namespace

void* operator new(std::size_t n) {
    void* p = take(n);
    if (p == nullptr) throw std::bad_alloc();
    return p;
}
void* operator new[](std::size_t n) { return operator new(n); }
void* operator new(std::size_t n, std::nothrow_t const&) noexcept { return take(n); }
void* operator new[](std::size_t n, std::nothrow_t const&) noexcept { return take(n); }
void operator delete(void* p) noexcept { give(p); }
void operator delete[](void* p) noexcept { give(p); }
void operator delete(void* p, std::size_t) noexcept { give(p); }
void operator delete[](void* p, std::size_t) noexcept { give(p); }
void operator delete(void* p, std::nothrow_t const&) noexcept { give(p); }
void operator delete[](void* p, std::nothrow_t const&) noexcept { give(p); }

using namespace trm;

namespace {

using loss_type = decltype(masked_loss{token_mask{ratio{}, band{}} && sequence_mask{k2{}, stat::max, band{}},
                                       ppo_clip{}, token_mean{}, token_weight{}, kl_penalty{k3{}, 0.1}});
loss_type const good{token_mask{ratio{}, within(0.6, 1.7)} && sequence_mask{k2{}, stat::max, at_most(0.6)}, ppo_clip{},
                     token_mean{}, token_weight{truncate_above(1.7)}, kl_penalty{k3{}, 0.1}};

/// The loss refuses: this code, and nothing is written.
struct refusal {
    batches::ragged<float> b = batches::make<float>({{3, 0, 20, 7}, true, 0.3, 0.0}, 4);
    batch_view<float> view = b.view();
    loss_type loss = good;

    void check(errc code, std::int64_t sequence = -1, std::string const& what = "") {
        parity::run<float> r(40);
        check(code, sequence, what, r, r.outputs());
    }
    void check(errc code, std::int64_t sequence, std::string const& what, parity::run<float>& r,
               outputs<float> const& out) {
        auto const before = r;
        result const got = loss(view, out);
        INFO("status " << int(got.status.code) << " " << got.status.what);
        CHECK(got.status.code == code);
        CHECK(got.status.sequence == sequence);
        CHECK(std::string(got.status.what).find(what) != std::string::npos);
        CHECK(got.loss == 0);
        CHECK(got.diagnostics.tokens == 0);
        CHECK(r.grad == before.grad);
        CHECK(r.keep == before.keep);
        CHECK(r.reasons == before.reasons);
        CHECK(r.weights == before.weights);
        std::string sentence;
        try {
            checked{loss}(view, out);
        } catch (error const& e) {
            sentence = e.what();
            CHECK(e.why() == got.status);
        }
        CHECK(sentence.find(message(code)) != std::string::npos);
        CHECK(sentence.rfind("trm: ", 0) == 0);
        if (sequence >= 0) CHECK(sentence.find("(sequence " + std::to_string(sequence)) != std::string::npos);
    }
};

}  // namespace

TEST_CASE("streams of the wrong size, or absent", "[loss][unit]") {
    refusal r;
    auto const shorter = [&](auto span) { return span.first(r.b.tokens() - 1); };
    SECTION("logp short") {
        r.view.logp = shorter(r.view.logp);
        r.check(errc::size_mismatch, -1, "logp");
    }
    SECTION("logp absent") {
        r.view.logp = {};
        r.check(errc::missing_stream, -1, "logp");
    }
    SECTION("rollout short") {
        r.view.rollout_logp = shorter(r.view.rollout_logp);
        r.check(errc::size_mismatch, -1, "rollout_logp");
    }
    SECTION("rollout absent") {
        r.view.rollout_logp = {};
        r.check(errc::missing_stream, -1, "rollout_logp");
    }
    SECTION("proximal short") {
        r.view.proximal_logp = shorter(r.view.proximal_logp);
        r.check(errc::size_mismatch, -1, "proximal_logp");
    }
    SECTION("ref short") {
        r.view.ref_logp = shorter(r.view.ref_logp);
        r.check(errc::size_mismatch, -1, "ref_logp");
    }
    SECTION("ref absent") {
        r.view.ref_logp = {};
        r.check(errc::missing_stream, -1, "ref_logp");
    }
    SECTION("advantages short") {
        r.view.advantages = shorter(r.view.advantages);
        r.check(errc::size_mismatch, -1, "advantages");
    }
    SECTION("advantages absent") {
        r.view.advantages = {};
        r.check(errc::missing_stream, -1, "advantages");
    }
    SECTION("both kinds of advantages") {
        r.view.sequence_advantages = r.b.sequence_advantages;
        r.check(errc::unsupported, -1, "advantages");
    }
    SECTION("sequence advantages short") {
        r.view.advantages = {};
        r.view.sequence_advantages = std::span(r.b.sequence_advantages).first(3);
        r.check(errc::size_mismatch, -1, "sequence_advantages");
    }
    SECTION("token_weights short") {
        r.view.token_weights = shorter(r.view.token_weights);
        r.check(errc::size_mismatch, -1, "token_weights");
    }
    SECTION("loss_mask short") {
        r.view.loss_mask = shorter(r.view.loss_mask);
        r.check(errc::size_mismatch, -1, "loss_mask");
    }
    SECTION("group_of absent") {
        r.loss.aggregate = prompt_mean{};
        r.view.group_of = {};
        r.check(errc::missing_stream, -1, "group_of");
    }
    SECTION("group_of short") {
        r.loss.aggregate = prompt_mean{};
        r.view.group_of = r.view.group_of.first(2);
        r.check(errc::size_mismatch, -1, "group_of");
    }
    SECTION("group_of negative") {
        r.loss.aggregate = prompt_mean{};
        r.b.groups[2] = -1;
        r.check(errc::bad_layout, 2, "group_of");
    }
    SECTION("outputs short") {
        parity::run<float> out(40);
        auto const n = r.b.tokens() - 1;
        auto o = out.outputs();
        o.grad = o.grad.first(n);
        r.check(errc::size_mismatch, -1, "grad", out, o);
        o = out.outputs();
        o.keep = o.keep.first(n);
        r.check(errc::size_mismatch, -1, "keep", out, o);
        o = out.outputs();
        o.reasons = o.reasons.first(n);
        r.check(errc::size_mismatch, -1, "reasons", out, o);
        o = out.outputs();
        o.weights = o.weights.first(n);
        r.check(errc::size_mismatch, -1, "weights", out, o);
    }
}

TEST_CASE("layouts that make no sense", "[loss][unit]") {
    refusal r;
    SECTION("offsets decrease") {
        std::vector<std::int32_t> const cu{0, 3, 3, 2, 30};
        r.view.layout = packed{cu};
        r.check(errc::decreasing_offsets, 2, "cu_seqlens");
    }
    SECTION("offsets do not start at 0") {
        std::vector<std::int32_t> const cu{1, 3};
        r.view.layout = packed{cu};
        r.check(errc::decreasing_offsets, 0, "cu_seqlens");
    }
    SECTION("forgotten") {
        r.view.layout = {};
        r.check(errc::size_mismatch, -1, "logp is longer than the layout");
        r.view.layout = packed{std::span<std::int64_t const>{}};
        r.check(errc::size_mismatch, -1, "logp is longer than the layout");
    }
    SECTION("the last offset is missing") {
        r.view.layout = packed{std::span<std::int64_t const>(r.b.cu).first(4)};
        r.check(errc::size_mismatch, -1, "logp is longer than the layout");
        result const got = r.loss(r.view);
        CHECK(got.status.expected == 23);
        CHECK(got.status.actual == 30);
        CHECK(to_string(got.status).find("23 expected, 30 given") != std::string::npos);
        std::vector<std::int32_t> const ids{0, 1, 2};
        r.view.layout = segments{std::span<std::int64_t const>(r.b.cu).first(4), ids, 4};
        r.check(errc::size_mismatch, -1, "logp is longer than the layout");
        r.view.layout = padded{2, 10, 10};
        r.check(errc::size_mismatch, -1, "logp is longer than the layout");
    }
    SECTION("the layout ends early on purpose") {
        r.view.layout = packed{std::span<std::int64_t const>(r.b.cu).first(4)};
        r.view.partial = true;
        parity::run<float> out(30);
        REQUIRE(r.loss(r.view, out.outputs()).status.ok());
        for (std::size_t t = 23; t < 30; ++t) CHECK(out.grad[t] == 7);
        r.view.layout = padded{2, 10, 15};
        r.view.partial = false;
        CHECK(r.loss(r.view, out.outputs()).status.ok());  // the end of the last row belongs to it
    }
    SECTION("lengths in the place of offsets") {
        std::vector<std::int64_t> const lengths{3, 0, 20, 7};
        r.view.layout = packed{lengths};
        r.check(errc::decreasing_offsets, 0, "looks like lengths");
        std::vector<std::int64_t> const rising{1, 2, 27};
        r.view.layout = packed{rising};
        r.check(errc::decreasing_offsets, 0, "looks like lengths");
        std::vector<std::int64_t> const empty_first{0, 3, 20, 7};
        r.view.layout = packed{empty_first};
        r.check(errc::decreasing_offsets, 0, "looks like lengths");
    }
    SECTION("offsets end past the tokens") {
        std::vector<std::int64_t> const cu{0, 3, 3, 23, 31};
        r.view.layout = packed{cu};
        r.check(errc::size_mismatch, -1, "logp");
    }
    SECTION("rows overlap") {
        r.view.layout = padded{3, 10, 9};
        r.check(errc::bad_layout, -1, "padded");
    }
    SECTION("negative sizes") {
        r.view.layout = padded{-1, 10, 10};
        r.check(errc::bad_layout, -1, "padded");
    }
    SECTION("product overflows") {
        r.view.layout = padded{std::int64_t{1} << 40, 10, std::int64_t{1} << 40};
        r.check(errc::bad_layout, -1, "padded");
    }
    SECTION("segments") {
        std::vector<std::int32_t> ids{0, 1, 4, 2};
        r.view.layout = segments{r.b.cu, ids, 4};
        r.check(errc::bad_layout, 4, "sequence_of");
        ids = {0, -1, 3, 2};
        r.check(errc::bad_layout, -1, "sequence_of");
        r.view.layout = segments{r.b.cu, std::span(ids).first(3), 4};
        r.check(errc::size_mismatch, -1, "sequence_of");
    }
}

TEST_CASE("thresholds and denominators that are no numbers", "[loss][unit]") {
    refusal r;
    auto& token = std::get<0>(r.loss.mask.criteria);
    auto& sequence = std::get<1>(r.loss.mask.criteria);
    SECTION("token band") {
        token.keep = at_most(batches::nan);
        r.check(errc::bad_threshold, -1, "token_mask");
    }
    SECTION("sequence band") {
        sequence.keep = at_least(batches::nan);
        r.check(errc::bad_threshold, -1, "sequence_mask");
    }
    SECTION("empty band") {
        sequence.keep = {2, 1};
        r.check(errc::bad_threshold, -1, "sequence_mask");
    }
    SECTION("clip") {
        r.loss.surrogate.eps_low = batches::nan;
        r.check(errc::bad_threshold, -1, "ppo_clip");
    }
    SECTION("clip at a ratio of 0") {
        r.loss.surrogate.eps_high = -1;
        r.check(errc::bad_threshold, -1, "ppo_clip");
    }
    SECTION("dual clip") {
        r.loss.surrogate.dual_clip = 0.5;
        r.check(errc::bad_threshold, -1, "ppo_clip");
    }
    SECTION("weight") {
        r.loss.weight.bound.upper = batches::nan;
        r.check(errc::bad_threshold, -1, "token_weight");
    }
    SECTION("penalty") {
        std::get<0>(r.loss.penalties).beta = batches::nan;
        r.check(errc::bad_threshold, -1, "kl_penalty");
    }
    SECTION("clamp") {
        for (double clamp : {0.0, -1.0, 1000.0, batches::nan}) {
            r.loss.options.log_ratio_clamp = clamp;
            r.check(errc::bad_threshold, -1, "log_ratio_clamp");
        }
    }
    SECTION("loss scale") {
        parity::run<float> out(40);
        auto o = out.outputs();
        o.loss_scale = batches::inf;
        r.check(errc::bad_threshold, -1, "loss_scale", out, o);
    }
    SECTION("denominator") {
        for (double n : {-1.0, batches::nan, batches::inf}) {
            r.loss.aggregate = token_mean{over_count(n)};
            r.check(errc::bad_denominator);
        }
        for (double n : {0.0, -1.0, batches::nan}) {
            r.loss.aggregate = seq_mean_token_sum_norm{n};
            r.check(errc::bad_denominator);
        }
    }
    SECTION("above 0") {
        r.loss.options.strict = true;
        std::size_t at = static_cast<std::size_t>(r.b.cu[2]);
        while (r.b.mask[at] == 0) ++at;
        for (float const value : {1e-3f, 0.7f, 5.0f}) {
            r.b.rollout[at] = value;
            r.check(errc::positive_logp, 2, "rollout_logp");
        }
        r.b.rollout[at] = 5e-5f;  // a rounding error
        CHECK(r.loss(r.view).status.ok());
        r.b.rollout[at] = -1;
        r.b.ref[at] = 0.5f;
        r.check(errc::positive_logp, 2, "ref_logp");
        r.loss.options.strict = false;
        r.b.ref[at] = -1;
        CHECK(r.loss(r.view).diagnostics.positive_logp_tokens == 0);
        r.b.rollout[at] = 0.5f;
        CHECK(r.loss(r.view).diagnostics.positive_logp_tokens == 1);
    }
    SECTION("not finite") {
        r.loss.options.strict = true;
        std::size_t at = static_cast<std::size_t>(r.b.cu[2]);
        while (r.b.mask[at] == 0) ++at;
        r.b.logp[at] = float(batches::inf);
        r.check(errc::nonfinite_input, 2, "logp");
    }
}

TEST_CASE("a policy whose stream is missing", "[loss][unit]") {
    auto const b = batches::make<float>({{3, 9}, true, 0.3, 0.0}, 4);
    auto view = b.view();
    view.given = {};
    CHECK(masked_loss{token_mask{given{}, at_most(1)}, importance_ratio{}, token_mean{}}(view).status.code ==
          errc::missing_stream);
    view.proximal_logp = {};
    masked_loss const proximal{token_mask{over<ratio_kind::proximal_over_rollout>(k1{}), at_most(1)},
                               importance_ratio{}, token_mean{}};
    result const r = proximal(view);
    CHECK(r.status.code == errc::missing_stream);
    CHECK(std::string(r.status.what) == "proximal_logp");
}

TEST_CASE("the three phases check as well", "[loss][unit]") {
    refusal r;
    sequence_totals totals, others;
    counts n;
    outputs<float> const out;
    CHECK(r.loss.count(r.view, totals, n).code == errc::size_mismatch);  // measured nothing yet
    CHECK(r.loss.apply(r.view, totals, n, out).status.code == errc::size_mismatch);
    masked_loss const other{sequence_mask{k2{}, stat::mean, at_most(1)}, importance_ratio{}, token_mean{}};
    REQUIRE(other.measure(r.view, others).ok());
    CHECK(r.loss.count(r.view, others, n).code == errc::size_mismatch);
    CHECK(r.loss.apply(r.view, others, n, out).status.code == errc::size_mismatch);
    REQUIRE(r.loss.measure(r.view, totals).ok());
    CHECK(totals.merge(others).code == errc::size_mismatch);
    REQUIRE(r.loss.count(r.view, totals, n).ok());
    r.loss.aggregate = prompt_mean{};
    auto const grouped = r.view.group_of;
    r.view.group_of = {};
    CHECK(r.loss.count(r.view, totals, n).code == errc::missing_stream);
    CHECK(r.loss.apply(r.view, totals, n, out).status.code == errc::missing_stream);
    r.view.group_of = grouped;
    REQUIRE(r.loss.count(r.view, totals, n).ok());
    CHECK(!n.prompts.entries().empty());
    r.view.logp = {};
    CHECK(r.loss.measure(r.view, totals).code == errc::missing_stream);
    CHECK(r.loss.count(r.view, totals, n).code == errc::missing_stream);
    CHECK(r.loss.apply(r.view, totals, n, out).status.code == errc::missing_stream);
    bool threw = false;
    try {
        checked{r.loss}.measure(r.view, totals);
    } catch (std::invalid_argument const& e) {
        threw = std::string(e.what()) == "trm: logp: the loss reads a stream that the batch does not have";
    }
    CHECK(threw);
}

TEST_CASE("sentences", "[loss][unit]") {
    CHECK(to_string({errc::nonfinite_input, 4, 17, "logp"}) ==
          "trm: logp: not finite inside loss_mask (sequence 4, token 17)");
    CHECK(to_string({errc::out_of_memory, -1, -1, "workspace"}) == "trm: workspace: workspace could not be allocated");
}

TEST_CASE("steady state allocates nothing, and running out of memory is a status", "[loss][unit]") {
    auto const b = batches::make<float>({batches::edge_lengths()}, 4);
    auto const view = b.view();
    parity::run<float> r(b.tokens());
    auto const out = r.outputs();
    workspace scratch;
    auto loss = good;
    long const before_first = allocations;
    REQUIRE(loss(view, out, scratch).status.ok());
    CHECK(allocations == before_first);  // this aggregation needs no workspace at all
    CHECK(scratch.bytes() == 0);

    loss.aggregate = token_mean{over_kept};
    exhausted = true;
    result const failed = loss(view, out, scratch);
    exhausted = false;
    CHECK(failed.status.code == errc::out_of_memory);
    REQUIRE(loss(view, out, scratch).status.ok());
    REQUIRE(scratch.bytes() > 0);

    std::vector<aggregation> const all{token_mean{}, token_mean{over_kept}, seq_mean_token_mean{}, prompt_mean{},
                                       prompt_mean{over_kept}};
    for (auto const& a : all) {
        loss.aggregate = a;
        REQUIRE(loss(view, out, scratch).status.ok());
    }
    long const before = allocations;
    bool ok = true;
    for (int repeat = 0; repeat < 3; ++repeat)
        for (auto const& a : all) {
            loss.aggregate = a;
            ok = ok && loss(view, out, scratch).status.ok();
        }
    CHECK(allocations == before);
    CHECK(ok);
}
