// SPDX-License-Identifier: Apache-2.0
// Rows that carry no gradient: whatever their log-probabilities are, loss and gradient stay the same, for every policy of the
// catalogue; which rows they are, over layouts; misuse.
#include "catch.hpp"
#include "loss_batch.hpp"
#include "random_spec.hpp"
#include "spec_loss.hpp"

#include <trm/loss/any_loss_extern.hpp>
#include <trm/loss/masked_loss.hpp>

#include <algorithm>

using namespace trm;

namespace {

using batch = batches::ragged<double>;

/// Half of the prompts have equal rewards: no advantage anywhere. Some other sequences have none either.
batch sample() {
    auto b = batches::make<double>({batches::short_lengths(60, 5), true, 0.3, 0.0}, 5);
    for (std::size_t i = 0; i + 1 < b.cu.size(); ++i)
        for (auto t = static_cast<std::size_t>(b.cu[i]); t < static_cast<std::size_t>(b.cu[i + 1]); ++t)
            if (b.groups[i] % 4 == 0 || i % 7 == 0) b.advantages[t] = 0;
    return b;
}
struct outcome {
    double loss;
    std::vector<double> grad;
};
outcome evaluate(spec_loss const& loss, batch_view<double> const& view) {
    outcome r{0, std::vector<double>(static_cast<std::size_t>(view.layout.extent()), 7.0)};
    result const got = loss(view, r.grad);
    INFO(got.status.what);
    REQUIRE(got.status.ok());
    r.loss = got.loss;
    return r;
}
double needed_share(std::vector<std::uint8_t> const& rows, batch const& b) {
    double needed = 0, all = 0;
    for (std::size_t t = 0; t < rows.size(); ++t) {
        CHECK(rows[t] <= (b.mask[t] != 0));
        needed += rows[t];
        all += b.mask[t] != 0;
    }
    return needed / all;
}
/// Loss and gradient do not change with what needed_rows leaves out. Returns the share of loss_mask that is needed.
double check(loss_spec const& spec) {
    batch b = sample();
    std::vector<std::uint8_t> rows(b.tokens(), 7);
    any_loss const loss(spec);
    REQUIRE(loss.needed_rows(b.view(), rows).ok());
    auto const want = evaluate(spec_loss(spec), b.view());
    if (!std::all_of(want.grad.begin(), want.grad.end(), [](double g) { return is_finite(g); }))
        return 1;  // infinite bounds of weights, against which nothing can be compared
    batches::random r(8);
    for (double const far : {0.0, 3.0}) {
        batch other = b;
        for (std::size_t t = 0; t < rows.size(); ++t)
            if (rows[t] == 0) other.logp[t] = -far * r.uniform();
        auto const got = evaluate(spec_loss(spec), other.view());
        CHECK(got.loss == want.loss);
        CHECK(got.grad == want.grad);
    }
    return needed_share(rows, b);
}

}  // namespace

TEST_CASE("rows that are not needed change nothing: every surrogate", "[loss][property]") {
    any_type(catalogue::surrogates{}, [&]<class P>(std::type_identity<P>) {
        INFO(P::name);
        loss_spec spec;
        P p{};
        if constexpr (requires { p.beta; }) p.beta = 0.3;
        spec.surrogate = p;
        spec.mask.push_back(sequence_mask<any_divergence, stat::mean_t>{k2{}, {}, at_most(0.05)});
        double const share = check(spec);
        if (acts_without_advantage<P>) CHECK(share == 1);
        else CHECK(share < 0.6);
        return false;
    });
}

TEST_CASE("rows that are not needed change nothing: every criterion, weight and aggregation", "[loss][property]") {
    batches::random r(6);
    int all = 0, some = 0;
    for (std::size_t n = 0; n < 3 * std::variant_size_v<any_criterion>; ++n) {
        auto spec = specs::make(n, r);
        spec.strict = false;
        spec.surrogate = importance_ratio{};
        if (n % 3 != 0) spec.penalties.clear();
        INFO(print_spec(spec));
        check(spec) == 1 ? ++all : ++some;
    }
    CHECK(all > 10);
    CHECK(some > 10);
}

TEST_CASE("needed rows: sequences, prompts and layouts", "[loss][unit]") {
    batch const b = sample();
    auto const rows_of = [](auto const& loss, auto const& view) {
        std::vector<std::uint8_t> rows(static_cast<std::size_t>(view.layout.extent()), 7);
        REQUIRE(loss.needed_rows(view, rows).ok());
        return rows;
    };
    masked_loss const plain{no_mask{}, ppo_clip{}, token_mean{}};
    masked_loss const grouped{group_mask{k2{}, stat::max, at_most(0.1)}, ppo_clip{}, token_mean{}};
    auto const alone = rows_of(plain, b.view()), together = rows_of(grouped, b.view());
    for (std::size_t i = 0; i + 1 < b.cu.size(); ++i)
        for (auto t = static_cast<std::size_t>(b.cu[i]); t < static_cast<std::size_t>(b.cu[i + 1]); ++t) {
            bool const flat = b.groups[i] % 4 == 0;
            CHECK((alone[t] != 0) == (b.mask[t] != 0 && !flat && i % 7 != 0));
            if (flat) CHECK(together[t] == 0);
        }
    CHECK(needed_share(together, b) > needed_share(alone, b));
    batches::random r(3);
    for (batch const& other : {batches::padded(b, 4), batches::segmented(b, batches::cut(b.cu, 3, r))}) {
        auto const rows = rows_of(plain, other.view());
        for (std::size_t t = 0; t < rows.size(); ++t)
            CHECK(rows[t] == (other.origin[t] < 0 ? 0 : alone[static_cast<std::size_t>(other.origin[t])]));
    }
    // before anything is known of the policies
    std::vector<double> const of_sequence{0.0, 1.0, batches::nan};
    std::vector<std::int32_t> const cu{0, 2, 3, 4};
    batch_view<double> early{.sequence_advantages = of_sequence, .layout = packed{cu}};
    CHECK(rows_of(plain, early) == std::vector<std::uint8_t>{0, 0, 1, 1});
    masked_loss const kept{no_mask{}, ppo_clip{}, token_mean{over_kept}};
    CHECK(rows_of(kept, early) == std::vector<std::uint8_t>{1, 1, 1, 1});
    masked_loss const penalised{no_mask{}, ppo_clip{}, token_mean{}, no_weight{}, squared_log_ratio{0.1}};
    CHECK(rows_of(penalised, early) == std::vector<std::uint8_t>{1, 1, 1, 1});

    std::vector<std::uint8_t> rows(4);
    CHECK(plain.needed_rows(early, std::span(rows).first(3)).code == errc::size_mismatch);
    CHECK(grouped.needed_rows(early, rows).code == errc::size_mismatch);
    early.sequence_advantages = {};
    CHECK(plain.needed_rows(early, rows).code == errc::missing_stream);
    CHECK(kept.needed_rows(early, rows).ok());
    early.advantages = std::span(of_sequence);
    CHECK(plain.needed_rows(early, rows).code == errc::size_mismatch);
}
