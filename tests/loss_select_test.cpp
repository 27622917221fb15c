// SPDX-License-Identifier: Apache-2.0
// Selections as values: the same bits over any executor and layout, the phases with them, selections of the caller's own, and
// those that do not fit.
#include "loss_parity.hpp"

#include <trm/loss/checked.hpp>
#include <trm/policy/length_neutral_mask.hpp>
#include <trm/policy/selection_batch.hpp>
#include <trm/policy/surrogates.hpp>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>

using namespace trm;

namespace {

static_assert(std::is_convertible_v<selection const&, selection_view>);
static_assert(!std::is_convertible_v<selection, selection_view>);  // a temporary

using batch = batches::ragged<double>;
batch sample(std::uint64_t seed) {
    auto b = batches::make<double>({batches::short_lengths(300, seed), true, 0.3, 0.001}, seed);
    for (std::size_t i = 200; i < b.tokens(); i += 701) {  // not finite, and not outside loss_mask
        b.logp[i] = batches::nan;
        b.mask[i] = 1;
    }
    return b;
}
/// Runs cut into up to three pieces each: first all first pieces, then all second ones.
batch scattered(batch const& b) {
    batches::random r(5);
    auto const pieces = batches::cut(b.cu, 3, r);
    std::vector<batches::piece> order;
    std::vector<int> taken(pieces.size());
    while (order.size() < pieces.size()) {
        std::int64_t last = -1;
        for (std::size_t i = 0; i < pieces.size(); ++i) {
            if (taken[i] != 0 || pieces[i].sequence == last) continue;
            last = pieces[i].sequence;
            taken[i] = 1;
            order.push_back(pieces[i]);
        }
    }
    return batches::segmented(b, order);
}

struct backwards {
    template <class F>
    void operator()(std::int64_t n, F&& f) const {
        while (n-- > 0) f(n);
    }
};
struct two_threads {
    template <class F>
    void operator()(std::int64_t n, F&& f) const {
        std::atomic<std::int64_t> next{0};
        auto const work = [&] {
            for (std::int64_t i = next++; i < n; i = next++) f(i);
        };
        std::thread other(work);
        work();
        other.join();
    }
};

template <class A>
bool same(std::span<A const> a, std::span<A const> b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

/// The loss over layouts and executors; every selection rejects something and not everything.
template <class Loss>
void check(Loss const& loss, int selections, std::uint64_t seed) {
    auto const b = sample(seed);
    batch const layouts[] = {b, batches::padded(b, 3), scattered(b)};
    std::vector<std::uint16_t> packed_reasons;
    for (batch const& l : layouts) {
        INFO("layout " << (&l - layouts));
        auto const view = l.view();
        selection chosen, other;
        REQUIRE(loss.select(view, chosen).ok());
        for (auto& r : chosen.reasons()) r = 0x7f7f;  // overwritten, whatever stands there
        for (auto& m : chosen.marks()) m = 0x7f;
        REQUIRE(loss.select(view, chosen).ok());
        REQUIRE(loss.select(view, other, backwards{}).ok());
        CHECK(same<std::uint16_t>(chosen.reasons(), other.reasons()));
        CHECK(same<std::uint8_t>(chosen.marks(), other.marks()));
        workspace scratch;
        REQUIRE(loss.select(view, other, two_threads{}, scratch).ok());
        CHECK(same<std::uint16_t>(chosen.reasons(), other.reasons()));
        CHECK(same<std::uint8_t>(chosen.marks(), other.marks()));

        std::vector<std::uint16_t> at_origin(b.tokens());
        std::vector<double> rejected(static_cast<std::size_t>(selections));
        bool padding_is_zero = true;
        for (std::size_t i = 0; i < chosen.reasons().size(); ++i) {
            std::uint16_t const r = chosen.reasons()[i];
            if (l.origin[i] >= 0) at_origin[static_cast<std::size_t>(l.origin[i])] = r;
            else padding_is_zero = padding_is_zero && r == 0;
            for (int k = 0; k < selections; ++k) rejected[static_cast<std::size_t>(k)] += r >> k & 1;
        }
        CHECK(padding_is_zero);
        for (double n : rejected) CHECK((n > 0 && n < 0.9 * static_cast<double>(b.tokens())));
        if (packed_reasons.empty()) packed_reasons = at_origin;
        CHECK(at_origin == packed_reasons);

        // three phases with it, and one call
        auto const whole = parity::run_of<double>(loss, view), given = parity::run_of<double>(loss, view, 1, chosen);
        CHECK(same<double>(given.grad, whole.grad));
        CHECK(given.result.loss == whole.result.loss);
        sequence_totals totals;
        counts n;
        CHECK(loss.measure(view, totals).code == errc::missing_stream);
        REQUIRE(loss.measure(view, chosen, totals, two_threads{}).ok());
        CHECK(loss.count(view, totals, n).code == errc::missing_stream);
        REQUIRE(loss.count(view, chosen, totals, n).ok());
        parity::run<double> parts(whole.grad.size());
        CHECK(loss.apply(view, totals, n, parts.outputs()).status.code == errc::missing_stream);
        parts.result = loss.apply(view, chosen, totals, n, parts.outputs(), two_threads{});
        REQUIRE(parts.result.status.ok());
        CHECK(same<double>(parts.grad, whole.grad));
        CHECK(same<std::uint16_t>(parts.reasons, whole.reasons));
        CHECK(std::fabs(parts.result.loss - whole.result.loss) <= 1e-14 * std::fabs(whole.result.loss));
    }
}

}  // namespace

TEST_CASE("selections over executors and layouts, in one call and in phases", "[loss][promise]") {
    check(masked_loss{prefix_mask{k2{}, at_most(0.4)} && signed_sequence_mask{k1{}, stat::mean, at_most(0.02)} &&
                          group_mask{k3{}, stat::mean, at_most(0.12)} && length_neutral_mask{0.2, 60, 0.1, 0.05},
                      importance_ratio{}, token_mean{over_kept}},
          4, 51);
    check(masked_loss{group_mask{abs_log_ratio{}, stat::max, at_most(2.2)} && quantile_mask{k2{}, 0.9, at_most(0.14)} &&
                          top_mean_mask{k3{}, 3, within(0.01, 0.3)},
                      importance_ratio{}, token_mean{}},
          3, 52);
    // of the whole batch: packed and padded rank the same tokens in the same order, and so do sums of few terms
    check(masked_loss{prefix_mask{k2{}, at_most(0.5)} && top_share_mask{k2{}, 0.7} &&
                          quantile_mask{k2{}, 0.95, at_most(0.4)},
                      kl_cov{0.3, 0.05}, token_mean{}},
          3, 53);
}

TEST_CASE("a caller's own rejections and marks, against the oracle", "[loss][parity]") {
    auto const b = batches::make<double>({batches::short_lengths(300, 54), true, 0.3, 0}, 54);
    std::vector<std::uint8_t> marks(b.tokens());
    for (std::size_t t = 0; t < b.tokens(); ++t) marks[t] = t % 5 == 2;
    // `bit`: of the prefix mask, for which the reasons stand; itself it would reject everything
    prefix_mask const nothing{k2{}, at_most(-1)};
    auto const compare = [&](auto const& loss, int bit) {
        std::vector<std::uint16_t> reasons(b.tokens());
        for (std::size_t t = 0; t < b.tokens(); ++t)
            reasons[t] = static_cast<std::uint16_t>(t % 9 == 4 ? 1u << bit : 0u);
        auto const want = parity::compare<double>(loss, b.view(), 1e-11, 1, {reasons, marks});
        CHECK(want.diagnostics.rejected_tokens[bit] > 0.09 * want.diagnostics.tokens);
        CHECK(want.diagnostics.rejected_tokens[bit] < 0.13 * want.diagnostics.tokens);
        CHECK(want.diagnostics.kept_tokens > 0.5 * want.diagnostics.tokens);
        CHECK(parity::run_of<double>(loss, b.view()).result.diagnostics.kept_tokens == 0);
    };
    compare(masked_loss{token_mask{ratio{}, within(0.5, 2)} && nothing, kl_cov{0.3, 0.05}, token_mean{over_kept}}, 1);
    compare(masked_loss{token_mask{ratio{}, within(0.4, 2.5)} &&
                            over_passing(sequence_mask{k2{}, stat::mean, at_most(0.3)}) && nothing,
                        ppo_clip{}, seq_mean_token_mean{}},
            2);
    compare(masked_loss{nothing, importance_ratio{}, token_mean{}, no_weight{}, kl_penalty{k3{}, 0.1}}, 0);
}

TEST_CASE("a selection of another batch is refused, with both numbers", "[loss][unit]") {
    auto const b = sample(55);
    auto const view = b.view();
    masked_loss const loss{prefix_mask{k2{}, at_most(0.4)}, kl_cov{0.3, 0.05}, token_mean{}};
    selection right;
    REQUIRE(loss.select(view, right).ok());
    sequence_totals totals;
    counts n;
    REQUIRE(loss.measure(view, right, totals).ok());
    REQUIRE(loss.count(view, right, totals, n).ok());
    auto const extent = static_cast<std::int64_t>(b.tokens());
    for (std::int64_t const wrong : {extent - 1, extent + 1, std::int64_t(1)})
        for (bool const of_reasons : {true, false}) {
            selection chosen = right;
            chosen.reset(static_cast<std::size_t>(of_reasons ? wrong : extent),
                         static_cast<std::size_t>(of_reasons ? extent : wrong));
            std::vector<double> grad(b.tokens(), 7.0);
            outputs<double> out;
            out.grad = grad;
            auto const refused = [&](status const& s) {
                CHECK(s.code == errc::size_mismatch);
                CHECK(s.expected == extent);
                CHECK(s.actual == wrong);
                CHECK(std::string(s.what) == (of_reasons ? "selection reasons" : "selection marks"));
            };
            refused(loss(view, chosen, out).status);
            refused(loss.measure(view, chosen, totals));
            refused(loss.count(view, chosen, totals, n));
            refused(loss.apply(view, chosen, totals, n, out).status);
            CHECK(grad == std::vector<double>(b.tokens(), 7.0));
            std::string said;
            try {
                checked(loss).measure(view, chosen, totals);
            } catch (error const& e) {
                said = e.what();
            }
            CHECK(said.find(std::to_string(extent) + " expected, " + std::to_string(wrong) + " given") !=
                  std::string::npos);
        }
}

TEST_CASE("checked selects, and a batch without tokens needs no selection", "[loss][unit]") {
    auto const b = sample(56);
    masked_loss const loss{group_mask{k2{}, stat::max, at_most(0.3)}, importance_ratio{}, token_mean{}};
    checked const sure(loss);
    selection chosen, again;
    sure.select(b.view(), chosen);
    REQUIRE(loss.select(b.view(), again).ok());
    CHECK(same<std::uint16_t>(chosen.reasons(), again.reasons()));
    CHECK(chosen.marks().empty());
    sequence_totals totals;
    sure.measure(b.view(), chosen, totals);
    counts const n = sure.count(b.view(), chosen, totals);
    CHECK(n.tokens > 0);
    auto without_groups = b.view();
    without_groups.group_of = {};
    CHECK_THROWS_AS(sure.select(without_groups, chosen), error);
    CHECK(same<std::uint16_t>(chosen.reasons(), again.reasons()));  // misuse writes nothing

    std::vector<std::int32_t> const nothing{0};
    batch_view<double> const empty{.layout = packed{nothing}};
    REQUIRE(loss.select(empty, chosen).ok());
    CHECK(chosen.reasons().empty());
    CHECK(loss.measure(empty, chosen, totals).ok());
    counts none;
    CHECK(loss.count(empty, chosen, totals, none).ok());
    CHECK(none.tokens == 0);
    CHECK(loss.apply(empty, chosen, totals, none, outputs<double>{}).status.ok());
}
