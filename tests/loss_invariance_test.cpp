// SPDX-License-Identifier: Apache-2.0
// What holds for every surrogate: layouts, order of sequences, scale of advantages, splits over ranks.
#include "catch.hpp"
#include "larger.hpp"
#include "loss_batch.hpp"
#include "spec_loss.hpp"

#include <set>

using namespace trm;

namespace {

struct named {
    char const* name;
    any_surrogate surrogate;
    bool linear;  ///< in A, for a factor > 0
};
std::vector<named> surrogates() {
    return {{"importance_ratio", importance_ratio{}, true},
            {"ppo_clip", ppo_clip{0.2, 0.28, 3.0}, true},
            {"policy_gradient", policy_gradient{}, true},
            {"cispo", cispo{0.5, 1.4}, true},
            {"reference_gap", reference_gap{}, false},  // has no A
            {"gspo", gspo{0.01, 0.02, 1.5}, true},
            {"gspo_token", gspo_token{0.01, 0.02, 1.5}, true},
            {"gmpo", gmpo{}, true},
            {"sapo", sapo{}, true},
            {"dro", dro{0.3}, false},               // its pull towards the old policy does not scale
            {"kl_cov", kl_cov{0.5, 0.05}, false},   // nor does its |x|; marks do not change
            {"vespo", vespo{}, true},
            {"topr", topr{}, true},
            {"spo", spo{}, true},
            {"drpo", drpo{0.05}, true},
            {"up_grpo", up_grpo{0.1, 1.5}, true},
            {"delight", delight{}, false},  // its gate saturates
            {"topr_token", topr_token{0.9, 1.2, 0.1, 0.8}, true},
            {"topr_geometric", topr_geometric{0.99, 1.2, 0.1, 0.98}, true},
            {"sapo_sequence", sapo_sequence{}, true},
            {"cispo_sequence", cispo_sequence{0.5, 1.4}, true},
            {"vespo_folded", vespo_folded{}, true}};
}
spec_loss loss_of(named const& s) {
    loss_spec spec;
    spec.surrogate = s.surrogate;
    spec.mask.push_back(token_mask<any_divergence>{abs_log_ratio{}, at_most(0.8)});
    spec.mask.push_back(sequence_mask<any_divergence, stat::mean_t>{k3{}, {}, at_most(0.06)});
    spec.aggregate = seq_mean_token_mean{};
    spec.weight = token_weight{truncate_above(1.1)};  // and the batch has token_weights: they vary within sequences
    return spec_loss(spec);
}

using batch = batches::ragged<double>;
batch sample() { return batches::make<double>({batches::short_lengths(90, 11), true, 0.3, 0.003}, 12); }

struct run {
    double loss;
    std::vector<double> grad;
    diagnostics d;
};
run evaluate(spec_loss const& loss, batch_view<double> const& view, selection_view const& chosen = {}) {
    run r{0, std::vector<double>(static_cast<std::size_t>(view.layout.extent()), 7.0), {}};
    outputs<double> out;
    out.grad = r.grad;
    auto const got = loss(view, chosen, out);
    INFO(got.status.what);
    REQUIRE(got.status.ok());
    r.loss = got.loss;
    r.d = got.diagnostics;
    return r;
}
double distance(std::vector<double> const& a, std::vector<double> const& b) {
    double d = 0, size = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        d = larger(d, std::fabs(a[i] - b[i]));
        size = std::fmax(size, std::fabs(a[i]));
    }
    return d / size;
}

}  // namespace

TEST_CASE("the surrogates below are all there are", "[unit]") {
    std::set<std::size_t> seen;
    for (named const& s : surrogates()) seen.insert(s.surrogate.policy.index());
    CHECK(seen.size() == std::variant_size_v<decltype(any_surrogate::policy)>);
}

TEST_CASE("every surrogate: padded and packed agree bit for bit, segments up to rounding", "[loss][property]") {
    batch const b = sample(), padded = batches::padded(b, 5);
    batches::random r(1);
    batch const whole = batches::segmented(b, batches::whole_sequences(b.cu)),
                cut = batches::segmented(b, batches::cut(b.cu, 3, r));
    for (named const& s : surrogates()) {
        INFO(s.name);
        spec_loss const loss = loss_of(s);
        run const want = evaluate(loss, b.view());
        CHECK(want.d.kept_tokens > 0.3 * want.d.tokens);
        CHECK(want.d.kept_tokens < 0.95 * want.d.tokens);
        run const p = evaluate(loss, padded.view());
        CHECK(p.loss == want.loss);
        CHECK(batches::at_origin(p.grad, padded, b.tokens()) == want.grad);
        for (batch const* other : {&whole, &cut}) {
            run const q = evaluate(loss, other->view());
            CHECK(q.loss == Approx(want.loss).epsilon(1e-12));
            CHECK(distance(want.grad, batches::at_origin(q.grad, *other, b.tokens())) < 1e-12);
        }
    }
}

TEST_CASE("every surrogate: permuting sequences permutes gradients", "[loss][property]") {
    batch const b = sample();
    std::vector<std::int64_t> order(static_cast<std::size_t>(b.sequences));
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>((i * 37 + 5) % order.size());
    batch const permuted = batches::packed(b, order);
    for (named const& s : surrogates()) {
        INFO(s.name);
        run const want = evaluate(loss_of(s), b.view()), got = evaluate(loss_of(s), permuted.view());
        CHECK(got.loss == Approx(want.loss).epsilon(1e-12));
        CHECK(batches::at_origin(got.grad, permuted, b.tokens()) == want.grad);
    }
}

TEST_CASE("every surrogate that is linear in A: twice the advantages, twice loss and gradient", "[loss][property]") {
    batch const b = sample();
    batch twice = b;
    for (auto& a : twice.advantages) a *= 2;
    for (named const& s : surrogates()) {
        INFO(s.name);
        run const want = evaluate(loss_of(s), b.view()), got = evaluate(loss_of(s), twice.view());
        auto doubled = want.grad;
        for (double& g : doubled) g *= 2;
        CHECK((got.loss == 2 * want.loss) == s.linear);
        CHECK((got.grad == doubled) == s.linear);
    }
}

TEST_CASE("every surrogate: ranks that share sequences, statistics and counts reduced", "[loss][property]") {
    batch const b = sample();
    batches::random r(2);
    auto const pieces = batches::cut(b.cu, 2, r);
    std::vector<batches::piece> parts[2];
    for (std::size_t i = 0; i < pieces.size(); ++i) parts[i % 2].push_back(pieces[i]);
    batch const ranks[2] = {batches::segmented(b, parts[0]), batches::segmented(b, parts[1])};
    for (named const& s : surrogates()) {
        INFO(s.name);
        spec_loss const loss = loss_of(s);
        auto const view = b.view();
        selection whole;  // a covariance is of the whole batch
        REQUIRE(loss.select(view, whole).ok());
        run const want = evaluate(loss, view, whole);

        batch_view<double> views[2] = {ranks[0].view(), ranks[1].view()};
        std::vector<std::uint8_t> own_marks[2];
        selection_view chosen[2];
        sequence_totals stats;
        for (int k = 0; k < 2; ++k) {
            if (!whole.marks().empty())
                for (std::int64_t o : ranks[k].origin)
                    own_marks[k].push_back(whole.marks()[static_cast<std::size_t>(o)]);
            chosen[k].marks = own_marks[k];
            sequence_totals own;
            REQUIRE(loss.measure(views[k], chosen[k], own).ok());
            if (k == 0) stats = own;
            else REQUIRE(stats.merge(own).ok());
        }
        counts total;
        for (int k = 0; k < 2; ++k) {
            counts part;
            REQUIRE(loss.count(views[k], chosen[k], stats, part).ok());
            total.merge(part);
        }
        double value = 0;
        std::vector<double> grad(b.tokens());
        for (int k = 0; k < 2; ++k) {
            std::vector<double> own(ranks[k].tokens());
            outputs<double> out;
            out.grad = own;
            result const part = loss.apply(views[k], chosen[k], stats, total, out);
            REQUIRE(part.status.ok());
            value += part.loss;
            for (std::size_t i = 0; i < own.size(); ++i) grad[static_cast<std::size_t>(ranks[k].origin[i])] = own[i];
        }
        CHECK(value == Approx(want.loss).epsilon(1e-12));
        CHECK(distance(want.grad, grad) < 1e-12);
    }
}
