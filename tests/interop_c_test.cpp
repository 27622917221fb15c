// SPDX-License-Identifier: Apache-2.0
// The C interface gives the bits of the C++ calls, whole, in phases, in slices and on threads.
#include "interop_c.hpp"
#include "catch.hpp"
#include "spec_loss.hpp"

#include <trm/interop/c/diagnostics.hpp>
#include <trm/loss/any_loss_extern.hpp>
#include <trm/loss/masked_loss.hpp>
#include <trm/policy/surrogate_clip.hpp>

#include <atomic>
#include <thread>

using namespace trm;

namespace {

constexpr char const* texts[] = {
    "mask: seq_max_k2 <= 0.3 && ratio in [0.5, 2]; weight: token(truncate_above=2); surrogate: ppo_clip; divide_by: "
    "kept",
    "mask: seq_mean_k1 in [-0.02, 0.02]; surrogate: policy_gradient; aggregate: seq_mean_token_mean; "
    "penalty: reference_kl(k3, beta=0.01)",
    "mask: budget(k2, limit=0.02); weight: normalised_token(truncate_above=2); surrogate: gspo; aggregate: prompt_mean",
    "surrogate: kl_cov(fraction=0.05)",
    "weight: token(truncate_above=1.5) * suffix(half_life=8, upper=1.5) * surprise(0.2); surrogate: ppo_clip"};

template <class S>
c::results<S> c_call(trm_loss const* loss, trm_batch const& batch, trm_executor const* execute = nullptr) {
    c::results<S> r(static_cast<std::size_t>(batch.tokens));
    trm_outputs const out = r.view();
    trm_error error = trm_error_init();
    int const code = trm_loss_call(loss, &batch, &out, execute, nullptr, &r.loss, &r.diagnostics, &error);
    INFO(error.message);
    REQUIRE(code == TRM_OK);
    CHECK(error.code == TRM_OK);
    CHECK(std::string(error.message).empty());
    return r;
}
template <class S, class Loss>
c::results<S> cpp_call(Loss const& loss, batches::ragged<S> const& b) {
    c::results<S> r(b.tokens());
    outputs<default_arithmetic_t<S>> out;
    out.grad = r.grad;
    out.weights = r.weights;
    out.keep = r.keep;
    out.reasons = r.reasons;
    result const got = loss(b.view(), out);
    REQUIRE(got.status.ok());
    r.loss = got.loss;
    r.diagnostics = c_api::to_c(got.diagnostics);
    return r;
}

}  // namespace

TEMPLATE_TEST_CASE("C: every dtype and layout, bit for bit", "", float, double, bf16, f16) {
    masked_loss const fixed{sequence_mask{k2{}, stat::max, at_most(0.3)} && token_mask{ratio{}, within(0.5, 2.0)},
                            ppo_clip{}, token_mean{over_kept}, token_weight{truncate_above(2.0)}};
    c::loss const loss = c::from_text(texts[0]);
    REQUIRE(loss);
    for (auto const& b : c::layouts<TestType>(5)) {
        auto const want = cpp_call(fixed, b), got = c_call<TestType>(loss.get(), c::batch_of(b));
        CHECK(want.diagnostics.kept_tokens > 0);
        CHECK(want.diagnostics.kept_tokens < want.diagnostics.tokens);
        CHECK(got == want);
    }
}

TEMPLATE_TEST_CASE("C: losses from text, bit for bit with any_loss", "", float, double) {
    for (char const* text : texts) {
        INFO(text);
        spec_result const parsed = parse_spec(text);
        REQUIRE(parsed.ok());
        c::loss const loss = c::from_text(text);
        REQUIRE(loss);
        CHECK(std::string(trm_loss_text(loss.get())) == print_spec(parsed.spec));
        for (auto const& b : c::layouts<TestType>(6))
            CHECK(c_call<TestType>(loss.get(), c::batch_of(b)) == cpp_call(spec_loss(parsed.spec), b));
    }
}

TEST_CASE("C: advantages per sequence, int32 offsets, no diagnostics, no outputs") {
    auto const b = batches::make<float>(c::shape(), 7);
    c::loss const loss = c::from_text(texts[0]);
    batch_view<float> view = b.view();
    view.advantages = {};
    view.sequence_advantages = b.sequence_advantages;
    result const want = spec_loss(parse_spec(texts[0]).spec)(view);
    std::vector<std::int32_t> const cu(b.cu.begin(), b.cu.end());
    trm_batch batch = c::batch_of(b);
    batch.advantages.data = nullptr;
    batch.sequence_advantages = b.sequence_advantages.data();
    batch.cu_seqlens = cu.data();
    batch.cu_dtype = TRM_I32;
    c::scratch const scratch(trm_scratch_new());
    double value = 0;
    REQUIRE(trm_loss_call(loss.get(), &batch, nullptr, nullptr, scratch.get(), &value, nullptr, nullptr) == TRM_OK);
    CHECK(value == want.loss);
    CHECK(trm_scratch_bytes(scratch.get()) > 0);  // divides by kept tokens: statistics of all sequences
    CHECK(trm_loss_call(loss.get(), &batch, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr) == TRM_OK);
}

TEST_CASE("C: strided streams and outputs, accumulated") {
    constexpr std::int64_t stride = 3;
    for (auto const& b : c::layouts<float>(8)) {
        c::loss const loss = c::from_text(texts[0]);
        trm_batch batch = c::batch_of(b);
        auto const n = static_cast<std::size_t>(batch.tokens);
        c::results<float> plain(n);
        trm_outputs out = plain.view();
        out.accumulate = 1;
        out.loss_scale = 0.5;
        REQUIRE(trm_loss_call(loss.get(), &batch, &out, nullptr, nullptr, &plain.loss, nullptr, nullptr) == TRM_OK);

        auto const spread = [&](auto const& from) {
            std::remove_cvref_t<decltype(from)> to(from.size() * stride);
            for (std::size_t i = 0; i < from.size(); ++i) to[i * stride] = from[i];
            return to;
        };
        auto const logp = spread(b.logp), rollout = spread(b.rollout);
        auto const mask = spread(b.mask);
        batch.logp = {logp.data(), stride};
        batch.rollout_logp = {rollout.data(), stride};
        batch.loss_mask = {mask.data(), stride};
        c::results<float> wide(n * stride);
        out = wide.view();
        out.accumulate = 1;
        out.loss_scale = 0.5;
        out.grad.stride = out.keep.stride = out.reasons.stride = out.weights.stride = stride;
        REQUIRE(trm_loss_call(loss.get(), &batch, &out, nullptr, nullptr, &wide.loss, nullptr, nullptr) == TRM_OK);
        CHECK(wide.loss == plain.loss);
        for (std::size_t i = 0; i < n; ++i) {
            CHECK(wide.grad[i * stride] == plain.grad[i]);
            CHECK(wide.keep[i * stride] == plain.keep[i]);
            CHECK(wide.reasons[i * stride] == plain.reasons[i]);
            CHECK(wide.weights[i * stride] == plain.weights[i]);
            CHECK(wide.grad[i * stride + 1] == -7);
            CHECK(wide.keep[i * stride + 2] == 77);
        }
    }
}

TEST_CASE("C: an executor runs every task, and changes no bit") {
    auto const b = batches::make<float>(c::shape(), 9);
    c::loss const loss = c::from_text(texts[2]);
    struct seen {
        std::int64_t tasks = 0;
    } counted;
    trm_executor const backwards{[](void* context, std::int64_t n, trm_task task, void* data) {
                                     static_cast<seen*>(context)->tasks += n;
                                     std::thread half([=] {
                                         for (std::int64_t i = n - 1; i >= n / 2; --i) task(data, i);
                                     });
                                     for (std::int64_t i = n / 2 - 1; i >= 0; --i) task(data, i);
                                     half.join();
                                 },
                                 &counted};
    CHECK(c_call<float>(loss.get(), c::batch_of(b), &backwards) == c_call<float>(loss.get(), c::batch_of(b)));
    CHECK(counted.tasks > 20);
    trm_executor const throws{[](void*, std::int64_t, trm_task, void*) { throw 1; }, nullptr};
    trm_batch const batch = c::batch_of(b);
    trm_error error = trm_error_init();
    CHECK(trm_loss_call(loss.get(), &batch, nullptr, &throws, nullptr, nullptr, nullptr, &error) == TRM_INTERNAL);
    CHECK(std::string(error.message) == "trm: an executor threw an exception");
}

TEST_CASE("C: two threads share a loss") {
    auto const b = batches::make<float>(c::shape(), 10);
    c::loss const loss = c::from_text(texts[0]);
    auto const want = c_call<float>(loss.get(), c::batch_of(b));
    std::atomic<int> wrong = 0;
    auto const work = [&] {
        c::scratch const scratch(trm_scratch_new());
        trm_batch const batch = c::batch_of(b);
        for (int i = 0; i < 50; ++i) {
            c::results<float> r(b.tokens());
            trm_outputs const out = r.view();
            trm_error error = trm_error_init();
            wrong += trm_loss_call(loss.get(), &batch, &out, nullptr, scratch.get(), &r.loss, &r.diagnostics, &error);
            wrong += !(r == want);
            wrong += trm_loss_from_text(i % 2 == 0 ? "mask: nonsense" : "surrogate: 1", &error) != nullptr;
            wrong +=
                std::string(error.message).find(i % 2 == 0 ? "nonsense" : "line 1, column 12") == std::string::npos;
        }
    };
    std::thread other(work);
    work();
    other.join();
    CHECK(wrong == 0);
}

TEST_CASE("C: phases give what one call gives") {
    for (char const* text : texts)
        for (auto const& b : c::layouts<double>(11)) {
            INFO(text);
            c::loss const loss = c::from_text(text);
            trm_batch batch = c::batch_of(b);
            auto const want = c_call<double>(loss.get(), batch);
            std::vector<std::uint16_t> rejected(b.tokens());
            std::vector<std::uint8_t> marks(b.tokens());
            c::totals const totals(trm_totals_new());
            c::counts const counts(trm_counts_new()), moved(trm_counts_new());
            c::results<double> got(b.tokens());
            trm_outputs const out = got.view();
            trm_error error = trm_error_init();
            std::vector<double> weights(b.tokens(), 7.0);
            if (std::string(text).find("suffix") != std::string::npos) {
                REQUIRE(trm_loss_weigh(loss.get(), &batch, weights.data(), nullptr, nullptr, &error) == TRM_OK);
                CHECK(trm_loss_weigh(loss.get(), &batch, nullptr, nullptr, nullptr, &error) == TRM_BAD_ARGUMENT);
                batch.token_weights = {weights.data(), 1};
            }
            if (text == texts[2] || text == texts[3]) {
                CHECK(trm_loss_measure(loss.get(), &batch, nullptr, nullptr, totals.get(), &error) ==
                      TRM_MISSING_STREAM);
                REQUIRE(trm_loss_select(loss.get(), &batch, rejected.data(), marks.data(), nullptr, nullptr, &error) ==
                        TRM_OK);
                if (text == texts[2]) batch.rejected = rejected.data();
                if (text == texts[3]) batch.marks = marks.data();
            }
            REQUIRE(trm_loss_measure(loss.get(), &batch, nullptr, nullptr, totals.get(), &error) == TRM_OK);
            REQUIRE(trm_loss_count(loss.get(), &batch, nullptr, totals.get(), counts.get(), &error) == TRM_OK);
            // over some other network
            double values[TRM_COUNTS];
            REQUIRE(trm_counts_get(counts.get(), values, &error) == TRM_OK);
            std::vector<trm_prompt_tokens> prompts(
                static_cast<std::size_t>(trm_counts_prompts(counts.get(), nullptr, 0)));
            CHECK(prompts.empty() == (text != texts[2]));
            trm_counts_prompts(counts.get(), prompts.data(), std::ssize(prompts));
            REQUIRE(trm_counts_add(moved.get(), values, prompts.data(), std::ssize(prompts), &error) == TRM_OK);
            REQUIRE(trm_loss_apply(loss.get(), &batch, totals.get(), moved.get(), &out, nullptr, nullptr, &got.loss,
                                   &got.diagnostics, &error) == TRM_OK);
            CHECK(got.loss == Approx(want.loss).epsilon(1e-12));
            CHECK(got.keep == want.keep);
            CHECK(got.reasons == want.reasons);
            for (std::size_t i = 0; i < b.tokens(); ++i) CHECK(got.grad[i] == Approx(want.grad[i]).epsilon(1e-12));
            std::int64_t sums = 0, maxima = 0;
            CHECK(trm_totals_sums(totals.get(), &sums) != nullptr);
            trm_totals_maxima(totals.get(), &maxima);
            CHECK(sums >= 5 * batch.sequences);
            CHECK(maxima == (text == texts[0] ? batch.sequences : 0));
            REQUIRE(trm_counts_merge(moved.get(), moved.get(), &error) == TRM_OK);  // with itself
            double doubled[TRM_COUNTS];
            REQUIRE(trm_counts_get(moved.get(), doubled, &error) == TRM_OK);
            for (std::size_t i = 0; i < TRM_COUNTS; ++i) CHECK(doubled[i] == 2 * values[i]);
            auto both = prompts;
            REQUIRE(trm_counts_prompts(moved.get(), both.data(), std::ssize(both)) == std::ssize(prompts));
            for (std::size_t i = 0; i < prompts.size(); ++i) CHECK(both[i].tokens == 2 * prompts[i].tokens);
        }
}

TEST_CASE("C: slices on threads, merged, are the whole") {
    for (char const* text : {texts[0], texts[1]})
        for (int const nth : {1, 2, 3, 64})
            for (auto const& b : c::layouts<float>(12)) {
                INFO(text << " nth " << nth);
                c::loss const loss = c::from_text(text);
                trm_batch const whole = c::batch_of(b);
                bool const is_segments = whole.layout == TRM_SEGMENTS;
                auto const want = c_call<float>(loss.get(), whole);
                c::results<float> got(b.tokens());
                trm_outputs const out = got.view();
                auto const n = static_cast<std::size_t>(nth);
                std::vector<std::vector<std::int64_t>> offsets(n, std::vector<std::int64_t>(b.cu.size() + 1));
                std::vector<trm_batch> batch(n);
                std::vector<trm_outputs> to(n);
                std::vector<c::totals> totals(n);
                std::vector<c::counts> counts(n);
                std::vector<double> loss_value(n);
                std::vector<trm_diagnostics> seen(n, trm_diagnostics_init());
                std::atomic<int> wrong = 0;
                auto const parallel = [&](auto const& f) {
                    std::vector<std::thread> threads;
                    for (std::size_t i = 0; i < n; ++i) threads.emplace_back([&, i] { wrong += f(i); });
                    for (auto& t : threads) t.join();
                };
                parallel([&](std::size_t i) {
                    totals[i].reset(trm_totals_new());
                    counts[i].reset(trm_counts_new());
                    int const code = trm_slice(&whole, &out, static_cast<std::int32_t>(i), nth, offsets[i].data(),
                                               &batch[i], &to[i], nullptr);
                    return code + trm_loss_measure(loss.get(), &batch[i], nullptr, nullptr, totals[i].get(), nullptr);
                });
                std::int64_t tokens = 0;
                for (auto const& part : batch) tokens += part.tokens;
                CHECK(tokens <= whole.tokens);  // padded: without what is between two slices
                for (std::size_t i = 1; i < n && is_segments; ++i)
                    wrong += trm_totals_merge(totals[0].get(), totals[i].get(), nullptr);
                auto const totals_of = [&](std::size_t i) { return totals[is_segments ? 0 : i].get(); };
                parallel([&](std::size_t i) {
                    return trm_loss_count(loss.get(), &batch[i], nullptr, totals_of(i), counts[i].get(), nullptr);
                });
                for (std::size_t i = 1; i < n; ++i)
                    wrong += trm_counts_merge(counts[0].get(), counts[i].get(), nullptr);
                parallel([&](std::size_t i) {
                    return trm_loss_apply(loss.get(), &batch[i], totals_of(i), counts[0].get(), &to[i], nullptr,
                                          nullptr, &loss_value[i], &seen[i], nullptr);
                });
                got.loss = loss_value[0];
                got.diagnostics = seen[0];
                for (std::size_t i = 1; i < n; ++i) {
                    got.loss += loss_value[i];
                    wrong += trm_diagnostics_merge(&got.diagnostics, &seen[i], nullptr);
                }
                REQUIRE(wrong == 0);
                CHECK(got.keep == want.keep);
                CHECK(got.reasons == want.reasons);
                if (!is_segments) CHECK(got.grad == want.grad);
                for (std::size_t i = 0; i < b.tokens(); ++i) CHECK(got.grad[i] == Approx(want.grad[i]).epsilon(1e-6));
                CHECK(got.loss == Approx(want.loss).epsilon(1e-12));
                CHECK(got.diagnostics.kept_tokens == want.diagnostics.kept_tokens);
                CHECK(got.diagnostics.kl_k3 == Approx(want.diagnostics.kl_k3).epsilon(1e-12));
                CHECK(got.diagnostics.max_ratio == want.diagnostics.max_ratio);
                CHECK(got.diagnostics.rejected_sequences[0] == Approx(want.diagnostics.rejected_sequences[0]));
            }
}
