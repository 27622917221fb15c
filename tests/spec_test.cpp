// SPDX-License-Identifier: Apache-2.0
// Losses as text: round trip of every policy and parameter, mistakes and their places, hostile text.
#include "catch.hpp"
#include "random_spec.hpp"
#include "spec_loss.hpp"

#include <trm/loss/any_loss_extern.hpp>
#include <trm/loss/number_by_stream.hpp>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

using namespace trm;

namespace {

std::string canonical(std::string_view text) {
    spec_result const r = parse_spec(text);
    INFO(text << ": " << r.message);
    REQUIRE(r.ok());
    return print_spec(r.spec);
}
/// Text that is refused: the message, and the offending text from there on.
void refused(std::string const& text, std::string const& message, std::string const& from,
             std::string const& suggestion = "") {
    spec_result const r = parse_spec(text);
    INFO(text);
    CHECK(r.status.code == errc::bad_spec);
    CHECK(r.message == message);
    REQUIRE(r.position <= text.size());
    CHECK(text.substr(r.position, from.size()) == from);
    CHECK(r.suggestion == suggestion);
    CHECK(r.spec.mask.empty());
}

std::string const tail = "; aggregate: token_mean; divide_by: all; log_ratio_clamp: 20; strict: false";

}  // namespace

TEST_CASE("a spec means what it says", "[unit]") {
    loss_spec const s = parse_spec(
        "trm1: mask: seq_max_k2 <= 0.05 && ratio@proximal_over_rollout in [0.5, 2];\n"
        "  weight: token(truncate_above=2);  # as in TIS\n"
        "  surrogate: ppo_clip(eps_low=0.2, eps_high=0.28);\n"
        "  penalty: kl(k3, beta=0.01, sees=kept) + squared_log_ratio(1e-3);\n"
        "  aggregate: seq_mean_token_sum_norm(2048); divide_by: kept; log_ratio_clamp: 10; strict: true;");
    REQUIRE(s.mask.size() == 2);
    auto const& whole = std::get<sequence_mask<any_divergence, stat::max_t>>(s.mask[0]);
    CHECK(whole.divergence == any_divergence::of<k2>());
    CHECK(whole.keep.upper == 0.05);
    CHECK(whole.keep.lower == -batches::inf);
    auto const& token = std::get<token_mask<any_divergence>>(s.mask[1]);
    CHECK(token.divergence == any_divergence::of<ratio>(ratio_kind::proximal_over_rollout));
    CHECK(token.keep.lower == 0.5);
    CHECK(token.keep.upper == 2);
    CHECK(std::get<token_weight>(s.weight.policy).bound.above == 2);
    CHECK(s.weight.over == ratio_kind::correction);
    auto const& clip = std::get<ppo_clip>(s.surrogate.policy);
    CHECK(clip.eps_low == 0.2);
    CHECK(clip.eps_high == 0.28);
    CHECK(clip.dual_clip == 0);
    REQUIRE(s.penalties.size() == 2);
    auto const& kl = std::get<kl_penalty<any_estimator>>(s.penalties[0]);
    CHECK(kl.estimator == any_estimator{k3{}});
    CHECK(kl.beta == 0.01);
    CHECK(kl.tokens == sees::kept_tokens);
    CHECK(std::get<squared_log_ratio>(s.penalties[1]).coefficient == 1e-3);
    CHECK(s.aggregate.which == aggregation::kind::seq_mean_token_sum_norm);
    CHECK(s.aggregate.length == 2048);
    CHECK(s.aggregate.divide_by.which == denominator::kind::kept);
    CHECK(s.log_ratio_clamp == 10);
    CHECK(s.strict);
    any_loss const loss{parse_spec("mask: seq_max_k2 <= 0.05 && ratio in [0.5, 2]; surrogate: importance_ratio")};
    CHECK(loss.spec.mask.size() == 2);
}

TEST_CASE("canonical text spells everything out", "[unit]") {
    CHECK(canonical("surrogate: importance_ratio") == "trm1: surrogate: importance_ratio" + tail);
    CHECK(canonical("mask: none; weight: none; penalty: none; surrogate: dro(0.5)") ==
          "trm1: surrogate: dro(beta=0.5)" + tail);
    CHECK(canonical("mask: prefix(k2 <= 0.1) && group(seq_max_k2@surrogate <= 0.1) && "
                    "signed(seq_mean_k1 <= 1e-4, negative) && quantile(k2, 0.99) <= 0.1 && top_mean(k2, 5) >= 0.1 && "
                    "budget(k2, 0.02) && clip_cov(seed=18446744073709551615) && away(binary_tv <= 0.2) && "
                    "away(k3 in [0, 1], negative <= 0.1, zero=keep) && length_neutral(0.1, 4096, delta=0.5)") ==
          "trm1: mask: prefix(k2 <= 0.1) && group(seq_max_k2@surrogate <= 0.1) && "
          "signed(seq_mean_k1 <= 1e-04, sign=negative) && quantile(k2, q=0.99) <= 0.1 && top_mean(k2, m=5) >= 0.1 && "
          "budget(k2, limit=0.02) && "
          "clip_cov(lower=1, upper=5, fraction=2e-04, eps_low=0.2, eps_high=0.2, seed=18446744073709551615) && "
          "away(binary_tv <= 0.2, negative <= 0.2, zero=as_negative) && "
          "away(k3 in [0, 1], negative <= 0.1, zero=keep) && "
          "length_neutral(threshold=0.1, horizon=4096, eps=inf, delta=0.5); surrogate: importance_ratio" +
              tail);
    CHECK(canonical("weight: geometric@current_over_rollout(zero_outside=[0.999, 1.002]); surrogate: "
                    "cispo@current_over_rollout(upper=20)") ==
          "trm1: weight: geometric@current_over_rollout(zero_outside=[0.999, 1.002], ratios=all); surrogate: "
          "cispo@current_over_rollout(lower=0, upper=20)" +
              tail);
    CHECK(canonical("mask: passing(seq_mean_k1@correction in [-0.01, 0.01]) && top_share(given, 0.2) && "
                    "jensen_shannon <= 0.1; weight: product(truncate_above=5, ratios=kept)") ==
          "trm1: mask: passing(seq_mean_k1@correction in [-0.01, 0.01]) && top_share(given, share=0.2) && "
          "jensen_shannon <= 0.1; weight: product(truncate_above=5, ratios=kept); surrogate: importance_ratio" +
              tail);
    CHECK(canonical("weight: constant(0.5)") ==
          "trm1: weight: constant(factor=0.5); surrogate: importance_ratio" + tail);
    CHECK(canonical("weight: token(truncate_above=2) * suffix(16, upper=1.5) * segment@surrogate(8, clamp=[0.5, 2])") ==
          "trm1: weight: token(truncate_above=2) * suffix(half_life=16, lower=1, upper=1.5, most_ratio=inf, "
          "safe_ratio=4, "
          "safe_lower=0.8) * segment@surrogate(length=8, clamp=[0.5, 2]); surrogate: importance_ratio" +
              tail);
    CHECK(canonical("weight: none * surprise(0.2)") ==
          "trm1: weight: surprise(share=0.2, positive=1.1, negative=1); surrogate: importance_ratio" + tail);
    CHECK(canonical("weight: surprise * constant(2)") ==
          "trm1: weight: constant(factor=2) * surprise(share=0.1, positive=1.1, negative=1); surrogate: "
          "importance_ratio" +
              tail);
    CHECK(canonical("aggregate: token_sum") ==
          "trm1: surrogate: importance_ratio; aggregate: token_sum; log_ratio_clamp: 20; strict: false");
}

TEST_CASE("bands on ratios are those of the named factories", "[unit]") {
    loss_spec const s = parse_spec("mask: geometric_ratio in [0.99, 1.01] && product_ratio <= 3 && veto(1e-4, inf)");
    REQUIRE(s.mask.size() == 4);
    auto const geometric = geometric_ratio_within(0.99, 1.01);
    auto const& g = std::get<sequence_mask<any_divergence, stat::mean_t>>(s.mask[0]);
    CHECK(specs::same_value(g.keep, geometric.keep));
    auto const& p = std::get<sequence_mask<any_divergence, stat::sum_t>>(s.mask[1]);
    CHECK(specs::same_value(p.keep, product_ratio_within(0, 3).keep));
    auto const both = veto(1e-4, batches::inf);
    CHECK(specs::same_value(std::get<sequence_mask<any_divergence, stat::max_t>>(s.mask[2]).keep,
                            std::get<0>(both.criteria).keep));
    CHECK(specs::same_value(std::get<sequence_mask<any_divergence, stat::min_t>>(s.mask[3]).keep,
                            std::get<1>(both.criteria).keep));
}

TEST_CASE("clamps are those of all stages, unless a stage says otherwise", "[spec]") {
    auto const clamps = [](char const* text) { return loss_spec(parse_spec(text)).log_ratio_clamp; };
    log_ratio_clamps want = 7;
    CHECK(clamps("log_ratio_clamp: 7") == want);
    want.surrogate = no_clamp;
    want.weight_sequence = {-80, 10};
    CHECK(clamps("surrogate_clamp: none; weight_sequence_clamp: [-inf, 10]; log_ratio_clamp: 7") == want);
    CHECK(clamps("surrogate_clamp: 80; weight_sequence_clamp: [-80, 10]; log_ratio_clamp: [-7, 7]") == want);
    want = 20;
    want.mask = {-1, 2};
    want.weight = 3;
    want.surrogate = 4;
    want.surrogate_sequence = 5;
    want.penalty = {-6, 7};
    CHECK(clamps("penalty_clamp: [-6, 7]; mask_clamp: [-1, 2]; weight_clamp: 3; surrogate_clamp: 4; "
                 "surrogate_sequence_clamp: 5") == want);
    // Printed: that of the mask, and the stages that differ from it.
    loss_spec spec = parse_spec("surrogate: importance_ratio");
    spec.log_ratio_clamp = want;
    CHECK(print_spec(spec) ==
          "trm1: surrogate: importance_ratio; aggregate: token_mean; divide_by: all; log_ratio_clamp: [-1, 2]; "
          "weight_clamp: 3; weight_sequence_clamp: 20; surrogate_clamp: 4; surrogate_sequence_clamp: 5; "
          "penalty_clamp: [-6, 7]; strict: false");
}

TEST_CASE("mistakes are named with their place", "[unit]") {
    refused("surrogate: ppo_clop", R"(line 1, column 12: unknown surrogate "ppo_clop", did you mean "ppo_clip"?)",
            "ppo_clop", "ppo_clip");
    refused("mask: k2 <= 1;\nsurogate: gspo", R"(line 2, column 1: unknown key "surogate", did you mean "surrogate"?)",
            "surogate", "surrogate");
    refused("surrogate: ppo_clip(eps_lwo=1)",
            R"(line 1, column 21: unknown argument of ppo_clip "eps_lwo", did you mean "eps_low"?)", "eps_lwo",
            "eps_low");
    refused("mask: seq_maxk2 <= 1", R"(line 1, column 7: unknown criterion "seq_maxk2", did you mean "seq_max_k2"?)",
            "seq_maxk2", "seq_max_k2");
    refused("mask: k2@proximal <= 1",
            R"(line 1, column 10: unknown ratio "proximal", did you mean "proximal_over_rollout"?)", "proximal",
            "proximal_over_rollout");
    refused("mask: k2 < 1", "line 1, column 10: bands include their ends: expected <=, >= or in, found '<'", "< 1");
    refused("mask: k2", "line 1, column 7: k2 needs a band: <=, >= or in [a, b]", "k2");
    refused("mask: k2 <= ", "line 1, column 13: expected a number, found the end", "");
    refused("mask: k2 <= nan", R"(line 1, column 13: expected a number, found "nan")", "nan");
    refused("mask: k2 <= 1e999", R"(line 1, column 13: "1e999" is out of range)", "1e999");
    refused("mask: k2 <= 1.5.2", R"(line 1, column 13: "1.5.2" is not a number)", "1.5.2");
    refused("mask: ratio in [2, 1]", "line 1, column 13: the band is empty: 2 > 1", "in [2");
    refused("mask: ratio >= 2 && ratio <= 1", "line 1, column 21: contradicts criterion 1: nothing is in both bands",
            "ratio <= 1");
    refused("mask: prefix(seq_max_k2 <= 1)",
            "line 1, column 14: prefix takes a criterion of a token, such as k2 <= 0.1", "seq_max_k2");
    refused("mask: group(k2 <= 1)",
            "line 1, column 13: group takes a criterion of a sequence, such as seq_max_k2 <= 0.1", "k2");
    refused("mask: budget(k2)", "line 1, column 7: budget needs limit", "budget");
    refused("mask: quantile(k2, 1.5) <= 1", "line 1, column 7: an argument of quantile is out of range", "quantile");
    refused("mask: top_mean(k2, 2.5) <= 1", "line 1, column 20: m takes a whole number, not 2.5", "2.5");
    refused("mask: veto(2, 1)", "line 1, column 7: the ratios of veto must be 0 <= lower <= upper", "veto");
    refused("surrogate: gspo; surrogate: topr", "line 1, column 18: surrogate is given twice", "surrogate: topr");
    refused("surrogate: gspo + topr", "line 1, column 17: surrogate takes one value", "+");
    refused("surrogate: gspo, topr", "line 1, column 16: expected ';' between sections, found ','", ",");
    refused("surrogate: gspo(0.1, eps_low=0.2)", "line 1, column 22: eps_low is given twice", "eps_low=0.2");
    refused("surrogate: gspo(eps_low=0.1, 0.2)",
            "line 1, column 30: gspo does not take this argument without a name, such as eps_low=", "0.2");
    refused("surrogate: gspo(eps_low=0.1, eps_low=0.2)", "line 1, column 30: eps_low is given twice", "eps_low=0.2");
    refused("surrogate: policy_gradient(1)", "line 1, column 28: policy_gradient takes no arguments", "1");
    refused("weight: token(truncate_above=2, clamp=[1, 2])", "line 1, column 33: clamp contradicts truncate_above",
            "clamp");
    refused("weight: token(clamp=[2, 1])", "line 1, column 15: the band of clamp is empty", "clamp");
    refused("mask: passing(k1 <= 1)",
            "line 1, column 15: passing takes a criterion of a sequence, such as seq_max_k2 <= 0.1", "k1");
    refused("weight: normalised_token(truncate_above=2, when=before_bound); surrogate: gspo",
            "line 1, column 9: gspo, gmpo and sapo_sequence take token weights that are normalised after their bound",
            "normalised_token");
    refused("weight: constant", "line 1, column 9: constant needs factor", "constant");
    refused("weight: token * product",
            "line 1, column 17: a loss has one of these weights; what may be joined by *: suffix, segment, surprise",
            "product");
    refused("weight: token + suffix", "line 1, column 15: weights are joined by *", "+");
    refused("weight: token * sufix", R"(line 1, column 17: unknown weight "sufix", did you mean "suffix"?)", "sufix",
            "suffix");
    refused("weight: suffix(half_life=0)", "line 1, column 9: an argument of suffix is out of range", "suffix");
    refused("mask: k2 <= 1 * k1 <= 1", "line 1, column 15: criteria are joined by &&", "*");
    refused("aggregate: token_sum; divide_by: 4",
            "line 1, column 23: divide_by contradicts token_sum, which divides by nothing", "divide_by");
    refused("divide_by: -1", "line 1, column 12: divide_by must be finite and not negative", "-1");
    refused("mean_epsilon: -1", "line 1, column 15: mean_epsilon must be in [0, 1]", "-1");
    refused("surrogate: vespo_folded; weight: product",
            "line 1, column 34: vespo_folded takes weights of tokens that are not normalised", "product");
    refused("log_ratio_clamp: 81", "line 1, column 18: log_ratio_clamp must be in (0, 80]", "81");
    refused("weight_clamp: -1", "line 1, column 15: weight_clamp must be in (0, 80]", "-1");
    refused("surrogate_clamp: [0, 1]",
            "line 1, column 18: surrogate_clamp must be [lower, upper], lower in [-80, 0), upper in (0, 80]", "[0");
    refused("mask_clamp: [-1, 80.5]",
            "line 1, column 13: mask_clamp must be [lower, upper], lower in [-80, 0), upper in (0, 80]", "[-1");
    refused("penalty_clamp: [1]", "line 1, column 16: penalty_clamp takes a number or [lower, upper]", "[1");
    refused("mask_clamp: 3; mask_clamp: 4", "line 1, column 16: mask_clamp is given twice", "mask_clamp: 4");
    refused("strict: maybe", R"(line 1, column 9: unknown strict "maybe"; known: false, true)", "maybe");
    refused("trm2: strict: true", R"(line 1, column 1: this is version "trm2" of the language, known: trm1)", "trm2",
            "trm1");
    refused("", "line 1, column 1: expected a section such as surrogate: importance_ratio, found the end", "");
    std::string many = "mask: k1 <= 1";
    for (int i = 0; i < 15; ++i) many += " && k1 <= 1";
    refused(many, "line 1, column 172: a mask has at most 15 criteria", "k1 <= 1");
    CHECK_THROWS_AS(any_loss{parse_spec("surrogate: ppo_clop")}, spec_error);
}

TEST_CASE("every policy and parameter survives printing and parsing", "[property]") {
    batches::random r(1);
    std::set<std::size_t> criteria, weights, factors, surrogates, penalties;
    for (std::size_t n = 0; n < 20000; ++n) {
        loss_spec const s = specs::make(n, r);
        std::string const text = print_spec(s);
        spec_result const back = parse_spec(text);
        if (!back.ok() || !specs::same(s, back.spec) || print_spec(back.spec) != text) {
            INFO(text << "\n" << back.message << "\n" << print_spec(back.spec));
            REQUIRE(back.ok());
            REQUIRE(specs::same(s, back.spec));
            REQUIRE(print_spec(back.spec) == text);
        }
        for (auto const& c : s.mask) criteria.insert(c.index());
        for (auto const& p : s.penalties) penalties.insert(p.index());
        weights.insert(s.weight.policy.index());
        for (auto const& f : s.weight_factors) factors.insert(f.policy.index());
        surrogates.insert(s.surrogate.policy.index());
    }
    CHECK(criteria.size() == specs::size_of<any_criterion>);
    CHECK(penalties.size() == specs::size_of<any_penalty>);
    CHECK(weights.size() == specs::size_of<decltype(any_weight::policy)>);
    CHECK(factors.size() == specs::size_of<decltype(any_weight_factor::policy)>);
    CHECK(surrogates.size() == specs::size_of<decltype(any_surrogate::policy)>);
}

TEST_CASE("a printed loss gives the same bits", "[property]") {
    batches::random r(4);
    auto const b = batches::make<double>({{5, 40, 0, 130, 17}, true, 0.3, 0.01}, 5);
    std::vector<std::uint8_t> marks(b.tokens());
    for (std::size_t i = 0; i < marks.size(); i += 3) marks[i] = 1;
    auto const view = b.view();
    selection_view const chosen{.marks = marks};
    std::size_t evaluated = 0, moved = 0;
    for (std::size_t n = 0; n < 2000; ++n) {
        spec_loss const before(specs::make(n, r)), after(parse_spec(print_spec(before.spec)));
        std::vector<double> grad(b.tokens()), again(b.tokens());
        outputs<double> out, out_again;
        out.grad = grad;
        out_again.grad = again;
        result const x = before(view, chosen, out), y = after(view, chosen, out_again);
        REQUIRE(x.status == y.status);
        INFO(print_spec(before.spec) << "\n" << x.status.what);
        REQUIRE((x.status.ok() || x.status.code == errc::bad_denominator));
        REQUIRE(std::bit_cast<std::uint64_t>(x.loss) == std::bit_cast<std::uint64_t>(y.loss));
        REQUIRE(std::memcmp(grad.data(), again.data(), grad.size() * sizeof(double)) == 0);
        evaluated += x.status.ok();
        moved += x.loss != 0;
    }
    CHECK(evaluated > 1900);
    CHECK(moved > 500);
}

TEST_CASE("names are unique and no name is the start of a grammar word", "[unit]") {
    auto const unique = [](std::vector<std::string> names) {
        for (auto const& n : names) CHECK((n != "in" && n != "inf" && n.substr(0, 4) != "seq_"));
        std::sort(names.begin(), names.end());
        CHECK(std::adjacent_find(names.begin(), names.end()) == names.end());
    };
    auto masks = detail::names_of<catalogue::criteria<any_divergence>>();
    for (auto const& d : detail::names_of<catalogue::divergences>()) masks.push_back(d);
    for (char const* sugar : {"geometric_ratio", "product_ratio", "veto", "none"}) masks.emplace_back(sugar);
    unique(masks);
    auto weights = detail::names_of<catalogue::weights>();
    for (auto const& factor : detail::names_of<catalogue::weight_factors>()) weights.push_back(factor);
    unique(weights);
    unique(detail::names_of<catalogue::surrogates>());
    unique(detail::names_of<catalogue::penalties<any_estimator>>());
}

TEST_CASE("the README names every policy, word and parameter", "[unit]") {
    std::ifstream file(TRM_TEST_SPEC_README);
    std::string const page{std::istreambuf_iterator<char>(file), {}};
    REQUIRE(page.size() > 1000);
    auto const has = [&](std::string const& word) {
        INFO(word);
        CHECK(page.find(word) != std::string::npos);
    };
    auto const policies = [&](auto list) {
        any_type(list, [&](auto type) {
            using P = typename decltype(type)::type;
            has(P::name);
            each_field<P>([&](char const* name, auto, bool = false) { has(name); });
            if constexpr (requires { P::choice; }) has(P::choice.word);
            return false;
        });
    };
    policies(catalogue::criteria<any_divergence>{});
    policies(catalogue::weights{});
    policies(catalogue::weight_factors{});
    policies(catalogue::surrogates{});
    policies(catalogue::penalties<any_estimator>{});
    for (auto const& words :
         {detail::names_of<catalogue::divergences>(), detail::words_of<ratio_kind>(),
          detail::words_of<aggregation::kind>(), detail::words_of<sees>(), detail::words_of<normalise>(),
          detail::words_of<zero_advantage>(), detail::words_of<advantage_sign>(), detail::words_of<averaged_rows>(),
          detail::names_of<catalogue::estimators>()})
        for (auto const& word : words) has(word);
    log_ratio_clamps::fields([&](char const* name, auto) { has(name); });
    mean_epsilons::fields([&](char const* name, auto) { has(name); });
}

TEST_CASE("any text is either a spec or refused at a place inside it", "[property]") {
    batches::random r(2);
    std::vector<std::string> seeds;
    for (std::size_t n = 0; n < 200; ++n) seeds.push_back(print_spec(specs::make(n, r)));
    char const* const pieces[] = {"mask: ",     " && ",     "k2 <= 0.1", "(",      ")",    "[",     "]",
                                  ",",          ";",        "in",        "inf",    "-",    "@",     "=",
                                  "((((((((((", "seq_max_", "1e308",     "1e-400", "none", "trm1:", "#",
                                  "\n",         " * ",      " * suffix", ":",      "+",    "0x1p3", "negative <= 1",
                                  "of=",        "gradient="};
    auto const below = [&](std::size_t n) { return static_cast<std::size_t>(r.below(static_cast<std::int64_t>(n))); };
    std::size_t accepted = 0;
    for (int n = 0; n < 100000; ++n) {
        std::string text = seeds[below(seeds.size())];
        for (std::int64_t k = r.below(4); k >= 0; --k) {
            std::size_t const at = below(text.size() + 1);
            switch (r.below(6)) {
                case 0:
                    text.resize(at);
                    break;
                case 1:
                    text.erase(at, below(12));
                    break;
                case 2:
                    text.insert(at, pieces[below(std::size(pieces))]);
                    break;
                case 3:
                    text.insert(at, 1, static_cast<char>(r.below(256)));
                    break;
                case 4:
                    text.insert(at, text.substr(below(text.size() + 1), below(30)));
                    break;
                default:
                    if (at < text.size()) text[at] = static_cast<char>(r.below(256));
            }
        }
        spec_result const result = parse_spec(text);
        bool good = true;
        if (result.ok()) {
            ++accepted;
            spec_result const again = parse_spec(print_spec(result.spec));
            good = again.ok() && specs::same(result.spec, again.spec);
        } else {
            std::string_view const before = std::string_view(text).substr(0, result.position);
            auto const lines = static_cast<std::size_t>(std::count(before.begin(), before.end(), '\n'));
            std::size_t const start = before.rfind('\n') + 1;  // npos + 1 is 0
            good = result.position <= text.size() && result.line == lines + 1 &&
                   result.column == before.size() - start + 1 && result.message.size() > 10 &&
                   result.message.size() < 1000;
        }
        if (!good) {
            INFO(text << "\n" << result.message);
            REQUIRE(good);
        }
    }
    CHECK(accepted > 1000);
    CHECK(accepted < 60000);
}

TEST_CASE("numbers by a stream are those of from_chars", "[spec][unit]") {
    for (char const* text : {"1", "1.5", "-2e-3", "2.5E+7", ".5", "1.", "-0", "0.1", "1e400", "-1e400", "x", "1x", "1e",
                             "1e+", "+1", "0x10", "1,5", "-", "."}) {
        INFO(text);
        double want = 7, got = 7;
        std::errc const error = detail::to_number(std::string_view(text), want);
        CHECK(detail::to_number_by_stream(std::string_view(text), got) == error);
        if (error == std::errc{}) CHECK(std::memcmp(&got, &want, sizeof got) == 0);
    }
}
