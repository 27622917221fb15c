// SPDX-License-Identifier: Apache-2.0
// What a user may rely on: the same bits for any thread count and layout, the same kept set for any split over ranks.
#include "loss_parity.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>
#include <thread>

using namespace trm;

namespace {

using T = float;

/// Optimistic pass, undone on rejection; gradient from all steps.
masked_loss const one_pass{token_mask{ratio{}, within(0.6, 1.7)} && sequence_mask{k2{}, stat::max, at_most(0.26)},
                           ppo_clip{0.2, 0.28, 3.0}, token_mean{}, token_weight{truncate_above(1.7)},
                           kl_penalty{k3{}, 0.1}};
/// The weight of a sequence is known only after all of it was seen.
masked_loss const two_passes{
    sequence_mask{k3{}, stat::mean, at_most(0.037)} && sequence_mask{ratio{}, stat::min, at_least(0.3)},
    importance_ratio{}, seq_mean_token_mean{}, sequence_weight{stat::mean, clamp_to(0.9, 1.1)},
    squared_log_ratio{0.02, sees::kept_tokens}};

batches::ragged<T> ordinary(std::uint64_t seed = 3) {
    auto lengths = batches::edge_lengths();
    for (std::int64_t l : batches::short_lengths(250, 5)) lengths.push_back(l);
    return batches::make<T>({lengths, true, 0.25, 0.001}, seed);
}

/// Every aggregation that needs counts, phases or neither.
std::vector<aggregation> aggregations() {
    return {token_mean{}, token_mean{over_kept}, seq_mean_token_mean{}, seq_mean_token_sum{over_kept}, prompt_mean{}};
}

template <class A>
bool same_bits(A const& a, A const& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0;
}
bool same_bits(diagnostics const& a, diagnostics const& b) { return std::memcmp(&a, &b, sizeof a) == 0; }
bool same_bits(double a, double b) { return std::memcmp(&a, &b, sizeof a) == 0; }

void check_same(parity::run<T> const& a, parity::run<T> const& b) {
    CHECK(same_bits(a.result.loss, b.result.loss));
    CHECK(same_bits(a.grad, b.grad));
    CHECK(same_bits(a.weights, b.weights));
    CHECK(same_bits(a.keep, b.keep));
    CHECK(same_bits(a.reasons, b.reasons));
    CHECK(same_bits(a.result.diagnostics, b.result.diagnostics));
}
/// Some sequences are kept and some rejected: otherwise a comparison of two runs means little.
void check_mixed(diagnostics const& d) {
    CHECK(d.kept_sequences > 0.2 * d.sequences);
    CHECK(d.kept_sequences < 0.9 * d.sequences);
}

/// The outputs of a rearranged batch, at the places of the original tokens.
parity::run<T> restored(parity::run<T> r, batches::ragged<T> const& from, std::size_t n) {
    r.grad = batches::at_origin(r.grad, from, n);
    r.weights = batches::at_origin(r.weights, from, n);
    r.keep = batches::at_origin(r.keep, from, n);
    r.reasons = batches::at_origin(r.reasons, from, n);
    return r;
}

/// Relative to what the oracle says can be expected from rounding.
void check_near(std::vector<T> const& grad, reference::evaluation const& want, double bound) {
    CHECK(parity::first(grad.size(), [&](std::size_t i) {
              return !parity::near(double(grad[i]), want.grad[i], want.grad_size[i], bound);
          }) == grad.size());
}

struct threads {
    int n;
    template <class F>
    void operator()(std::int64_t count, F&& f) const {
        std::atomic<std::int64_t> next{0};
        std::vector<std::thread> pool;
        for (int i = 0; i < n; ++i)
            pool.emplace_back([&] {
                for (std::int64_t k = next++; k < count; k = next++) f(k);
            });
        for (auto& t : pool) t.join();
    }
};
struct shuffled {
    std::uint64_t seed;
    template <class F>
    void operator()(std::int64_t count, F&& f) const {
        std::vector<std::int64_t> order(static_cast<std::size_t>(count));
        std::iota(order.begin(), order.end(), 0);
        batches::random r(seed);
        for (std::size_t i = order.size(); i > 1; --i)
            std::swap(order[i - 1], order[static_cast<std::size_t>(r.below(std::int64_t(i)))]);
        for (std::int64_t k : order) f(k);
    }
};

template <class Loss, class E>
parity::run<T> run_with(Loss const& loss, batch_view<T> const& view, E const& executor) {
    parity::run<T> r(static_cast<std::size_t>(view.layout.extent()));
    r.result = loss(view, r.outputs(), executor);
    REQUIRE(r.result.status.ok());
    return r;
}

template <class Loss>
void check_executors(Loss loss) {
    auto const b = ordinary();
    batches::random r(1);
    auto const split = batches::segmented(b, batches::cut(b.cu, 2, r));
    for (auto const& a : aggregations()) {
        loss.aggregate = a;
        for (auto const& view : {b.view(), split.view()}) {
            auto const want = parity::run_of<T>(loss, view);
            check_mixed(want.result.diagnostics);
            check_same(run_with(loss, view, threads{1}), want);
            check_same(run_with(loss, view, threads{3}), want);
            check_same(run_with(loss, view, shuffled{7}), want);
        }
    }
}

template <class Loss>
void check_layouts(Loss loss) {
    auto const b = ordinary();
    auto const rows = batches::padded(b, 0), gaps = batches::padded(b, 13);
    auto const runs = batches::segmented(b, batches::whole_sequences(b.cu));
    for (auto const& a : aggregations()) {
        loss.aggregate = a;
        INFO("aggregation " << int(a.which) << " denominator " << int(a.divide_by.which));
        auto const want = parity::run_of<T>(loss, b.view());
        for (auto const* other : {&rows, &gaps, &runs}) {
            INFO("row " << other->row << " stride " << other->stride);
            auto const got = parity::run_of<T>(loss, other->view());
            check_same(restored(got, *other, b.tokens()), want);
            for (std::size_t i = 0; i < got.grad.size(); ++i) {
                if (other->origin[i] >= 0) continue;
                bool const in_row = other->stride == 0 || std::int64_t(i) % other->stride < other->row;
                T const expected = in_row ? T(0) : T(7);  // between rows nothing is written
                if (got.grad[i] != expected || got.keep[i] != std::uint8_t(expected)) FAIL("slot " << i);
            }
        }
    }
}

}  // namespace

TEST_CASE("the same bits for any executor", "[loss][property]") {
    SECTION("one pass") { check_executors(one_pass); }
    SECTION("two passes") { check_executors(two_passes); }
}

TEST_CASE("padded, packed and segments of whole sequences give the same bits", "[loss][property]") {
    SECTION("one pass") { check_layouts(one_pass); }
    SECTION("two passes") { check_layouts(two_passes); }
}

namespace {

template <class Loss>
void check_phases(Loss loss) {
    auto const b = ordinary();
    for (auto const& a : aggregations()) {
        loss.aggregate = a;
        auto const view = b.view();
        parity::run<T> r(b.tokens());
        sequence_totals totals;
        counts n;
        REQUIRE(loss.measure(view, totals, threads{2}).ok());
        REQUIRE(loss.count(view, totals, n).ok());
        r.result = loss.apply(view, totals, n, r.outputs(), threads{2});
        REQUIRE(r.result.status.ok());
        check_same(r, parity::run_of<T>(loss, view));
    }
}

/// Ranks that hold parts of a batch, and what each yields after the collectives.
template <class Loss>
void check_ranks(Loss loss, std::vector<batches::ragged<T>> const& parts, batches::ragged<T> const& whole, bool shared,
                 bool same_grad) {
    for (auto const& a : aggregations()) {
        loss.aggregate = a;
        auto const want = parity::run_of<T>(loss, whole.view());
        auto const oracle = reference::evaluate(loss, whole.view());
        std::vector<sequence_totals> stats(parts.size());
        for (std::size_t k = 0; k < parts.size(); ++k) REQUIRE(loss.measure(parts[k].view(), stats[k]).ok());
        if (shared) {  // all_reduce
            for (std::size_t k = 1; k < stats.size(); ++k) REQUIRE(stats[0].merge(stats[k]).ok());
            for (auto& s : stats) s = stats[0];
        }
        counts total;
        for (std::size_t k = 0; k < parts.size(); ++k) {
            counts own;
            REQUIRE(loss.count(parts[k].view(), stats[k], own).ok());
            total.merge(own);
        }
        parity::run<T> got(whole.tokens());
        got.result.loss = 0;
        for (std::size_t k = 0; k < parts.size(); ++k) {
            parity::run<T> r(parts[k].tokens());
            r.result = loss.apply(parts[k].view(), stats[k], total, r.outputs());
            REQUIRE(r.result.status.ok());
            got.result.loss += r.result.loss;
            got.result.diagnostics.merge(r.result.diagnostics);
            for (std::size_t i = 0; i < r.grad.size(); ++i) {
                auto const at = static_cast<std::size_t>(parts[k].origin[i]);
                got.grad[at] = r.grad[i];
                got.weights[at] = r.weights[i];
                got.keep[at] = r.keep[i];
                got.reasons[at] = r.reasons[i];
            }
        }
        INFO("aggregation " << int(a.which) << " denominator " << int(a.divide_by.which));
        CHECK(got.keep == want.keep);
        CHECK(got.reasons == want.reasons);
        if (same_grad) {
            CHECK(same_bits(got.grad, want.grad));
            CHECK(same_bits(got.weights, want.weights));
            CHECK(parity::near(got.result.loss, want.result.loss, oracle.loss_size, 1e-13));
        } else {
            check_near(got.grad, oracle, parity::bounds_of<T>.term);
            CHECK(parity::near(got.result.loss, want.result.loss, oracle.loss_size, 1e-6));
        }
        parity::check_diagnostics(got.result.diagnostics, oracle.diagnostics, parity::bounds_of<T>, true);
    }
}

template <class Loss>
void check_all_ranks(Loss const& loss) {
    auto const b = ordinary();
    std::vector<std::int64_t> ids[3];
    for (std::int64_t i = 0; i < b.sequences; ++i) ids[i % 7 == 0 ? 0 : i % 3].push_back(i);
    SECTION("ranks hold different sequences") {
        check_ranks(loss, {batches::packed(b, ids[0]), batches::packed(b, ids[1]), batches::packed(b, ids[2])}, b,
                    false, true);
    }
    SECTION("every rank holds a piece of every sequence") {
        batches::random r(2);
        auto const pieces = batches::cut(b.cu, 3, r);
        std::vector<batches::piece> of_rank[3];
        for (std::size_t i = 0; i < pieces.size(); ++i) of_rank[i % 3].push_back(pieces[i]);
        check_ranks(
            loss,
            {batches::segmented(b, of_rank[0]), batches::segmented(b, of_rank[1]), batches::segmented(b, of_rank[2])},
            b, true, false);
    }
}

}  // namespace

TEST_CASE("three phases give the bits of one call", "[loss][property]") {
    SECTION("one pass") { check_phases(one_pass); }
    SECTION("two passes") { check_phases(two_passes); }
}

TEST_CASE("ranks: the whole's kept set and, up to rounding, its loss", "[loss][property]") {
    SECTION("one pass") { check_all_ranks(one_pass); }
    SECTION("two passes") { check_all_ranks(two_passes); }
}

TEST_CASE("sequences in several runs: same decisions as whole ones", "[loss][property]") {
    auto const b = ordinary();
    batches::random r(6);
    auto pieces = batches::cut(b.cu, 4, r);
    for (std::size_t i = pieces.size(); i > 1;
         --i)  // runs of different sequences interleave; a sequence keeps its order
        if (pieces[i - 1].sequence != pieces[i - 2].sequence && r.uniform() < 0.5)
            std::swap(pieces[i - 1], pieces[i - 2]);
    auto const split = batches::segmented(b, pieces);
    auto const want = parity::run_of<T>(one_pass, b.view());
    auto const got = restored(parity::run_of<T>(one_pass, split.view()), split, b.tokens());
    auto const oracle = reference::evaluate(one_pass, b.view());
    CHECK(got.keep == want.keep);
    CHECK(got.reasons == want.reasons);
    CHECK(same_bits(got.grad, want.grad));
    CHECK(parity::near(got.result.loss, want.result.loss, oracle.loss_size, 1e-6));
}

TEST_CASE("micro-batches accumulate to the whole", "[loss][property]") {
    auto const b = ordinary();
    auto loss = one_pass;
    auto const oracle = reference::evaluate(loss, b.view());
    double const tokens = oracle.diagnostics.tokens;
    auto const want = parity::run_of<T>(loss, b.view());
    loss.aggregate = token_mean{over_count(tokens)};
    std::vector<std::int64_t> first, second;
    for (std::int64_t i = 0; i < b.sequences; ++i) (i < 40 ? first : second).push_back(i);
    auto const a = batches::packed(b, first), c = batches::packed(b, second);
    std::vector<T> grad(b.tokens(), T(0.5));
    auto const cut = static_cast<std::ptrdiff_t>(a.tokens());
    outputs<T> out;
    out.accumulate = true;
    out.grad = {grad.data(), a.tokens()};
    auto r = loss(a.view(), out);
    REQUIRE(r.status.ok());
    out.grad = {grad.data() + cut, c.tokens()};
    auto const second_result = loss(c.view(), out);
    REQUIRE(second_result.status.ok());
    r.diagnostics.merge(second_result.diagnostics);
    CHECK(parity::near(r.loss + second_result.loss, want.result.loss, oracle.loss_size, 1e-14));
    CHECK(r.diagnostics.kept_tokens == want.result.diagnostics.kept_tokens);
    CHECK(parity::first(grad.size(), [&](std::size_t i) { return grad[i] != T(0.5) + want.grad[i]; }) == grad.size());
}

TEST_CASE("an infinite threshold equals no mask, and the mask is monotone in delta", "[loss][property]") {
    auto const b = ordinary();
    masked_loss limited{
        sequence_mask{k2{}, stat::max, at_most(batches::inf)} && token_mask{k3{}, at_most(batches::inf)},
        importance_ratio{}, token_mean{}};
    masked_loss const free{no_mask{}, importance_ratio{}, token_mean{}};
    auto const want = parity::run_of<T>(free, b.view());
    auto previous = parity::run_of<T>(limited, b.view());
    CHECK(same_bits(previous.grad, want.grad));
    CHECK(same_bits(previous.keep, want.keep));
    CHECK(same_bits(previous.result.loss, want.result.loss));
    double kept = previous.result.diagnostics.kept_tokens;
    for (double delta : {100.0, 1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-5, 0.0, -1.0}) {  // k2, k3 >= 0: nothing is below 0
        std::get<0>(limited.mask.criteria).keep = at_most(4 * delta);
        std::get<1>(limited.mask.criteria).keep = at_most(delta);
        auto const now = parity::run_of<T>(limited, b.view());
        CHECK(parity::first(b.tokens(), [&](std::size_t i) { return now.keep[i] > previous.keep[i]; }) == b.tokens());
        if (delta < 1 && delta > 0.005) CHECK(now.result.diagnostics.kept_tokens < kept);
        kept = now.result.diagnostics.kept_tokens;
        previous = now;
        if (delta < 0) CHECK(kept == 0);
    }
}

TEST_CASE("the order of sequences does not matter", "[loss][property]") {
    auto const b = ordinary();
    std::vector<std::int64_t> order(static_cast<std::size_t>(b.sequences));
    std::iota(order.begin(), order.end(), 0);
    std::reverse(order.begin(), order.end());
    std::swap(order[3], order[100]);
    auto const other = batches::packed(b, order);
    auto const want = parity::run_of<T>(one_pass, b.view());
    auto const got = restored(parity::run_of<T>(one_pass, other.view()), other, b.tokens());
    CHECK(same_bits(got.grad, want.grad));
    CHECK(same_bits(got.reasons, want.reasons));
    double const size = reference::evaluate(one_pass, b.view()).loss_size;
    CHECK(parity::near(got.result.loss, want.result.loss, size, 1e-14));
}

TEST_CASE("scaling advantages or the loss scales loss and gradient", "[loss][property]") {
    auto b = ordinary();
    auto loss = one_pass;
    auto const penalised = parity::run_of<T>(loss, b.view()), scaled = parity::run_of<T>(loss, b.view(), -8);
    CHECK(scaled.result.loss == -8 * penalised.result.loss);
    CHECK(parity::first(b.tokens(), [&](std::size_t i) { return scaled.grad[i] != -8 * penalised.grad[i]; }) ==
          b.tokens());
    CHECK(same_bits(scaled.result.diagnostics, penalised.result.diagnostics));

    std::get<0>(loss.penalties).beta = 0;
    auto const before = parity::run_of<T>(loss, b.view());
    for (auto& a : b.advantages) a *= 4;
    auto const after = parity::run_of<T>(loss, b.view());
    CHECK(after.result.loss == 4 * before.result.loss);
    CHECK(parity::first(b.tokens(), [&](std::size_t i) { return after.grad[i] != 4 * before.grad[i]; }) == b.tokens());
    CHECK(same_bits(after.keep, before.keep));
}

namespace {

template <class Loss>
void check_in_place(Loss const& loss) {
    auto const b = ordinary();
    auto const want = parity::run_of<T>(loss, b.view());
    check_mixed(want.result.diagnostics);
    auto const run_over = [&](auto member) {
        auto copy = b;
        auto const view = copy.view();
        parity::run<T> r(b.tokens());
        auto out = r.outputs();
        out.grad = copy.*member;
        r.result = loss(view, out);
        REQUIRE(r.result.status.ok());
        r.grad = copy.*member;
        check_same(r, want);
        copy = b;  // only the gradient
        outputs<T> alone;
        alone.grad = copy.*member;
        CHECK(same_bits(loss(copy.view(), alone).loss, want.result.loss));
        CHECK(same_bits(copy.*member, want.grad));
    };
    SECTION("gradient over logp") { run_over(&batches::ragged<T>::logp); }
    SECTION("gradient over advantages") { run_over(&batches::ragged<T>::advantages); }
    SECTION("gradient over ref_logp") { run_over(&batches::ragged<T>::ref); }
    SECTION("gradient over rollout_logp") { run_over(&batches::ragged<T>::rollout); }
    SECTION("weights over token_weights, keep over loss_mask") {
        auto copy = b;
        auto const view = copy.view();
        parity::run<T> r(b.tokens());
        auto out = r.outputs();
        out.weights = copy.token_weights;
        out.keep = copy.mask;
        r.result = loss(view, out);
        r.weights = copy.token_weights;
        r.keep = copy.mask;
        check_same(r, want);
    }
}

}  // namespace

TEST_CASE("outputs may overwrite inputs", "[loss][property]") {
    SECTION("one pass") { check_in_place(one_pass); }
    SECTION("two passes") { check_in_place(two_passes); }
}

TEST_CASE("without diagnostics loss and gradient have the same bits", "[loss][property]") {
    auto const b = ordinary();
    auto const want = parity::run_of<T>(one_pass, b.view());
    auto options = one_pass.options;
    options.diagnose = false;
    auto got = parity::run_of<T>(one_pass.with(options), b.view());
    CHECK(same_bits(got.result.diagnostics, diagnostics{}));
    got.result.diagnostics = want.result.diagnostics;
    check_same(got, want);
}

TEST_CASE("diagnostics merge in any grouping", "[loss][property]") {
    diagnostics d[4];
    for (std::uint64_t k = 0; k < 3; ++k) d[k] = one_pass(ordinary(10 + k).view()).diagnostics;
    diagnostics left = d[0], right = d[1], empty;  // d[3] is an empty batch
    left.merge(d[1]);
    left.merge(d[2]);
    left.merge(d[3]);
    right.merge(d[2]);
    empty.merge(d[0]);
    empty.merge(right);
    parity::bounds const tight{1e-14, 1e-14, 0};
    parity::check_diagnostics(empty, left, tight);
    CHECK(left.max_x == std::max({d[0].max_x, d[1].max_x, d[2].max_x}));
    CHECK(left.min_x == std::min({d[0].min_x, d[1].min_x, d[2].min_x}));
    CHECK(left.tokens == d[0].tokens + d[1].tokens + d[2].tokens);
}
