// SPDX-License-Identifier: Apache-2.0
#include <trm/interop/json.hpp>
#include <trm/loss/any_loss_extern.hpp>

#include "catch.hpp"
#include "random_spec.hpp"

using namespace trm;
using nlohmann::json;

TEST_CASE("a loss as JSON", "[unit]") {
    json const document = json::parse(R"({
        "trm": 1,
        "mask": [{"name": "seq_max_k2", "over": "surrogate", "at_most": 0.05}, {"name": "ratio", "at_least": 0.5, "at_most": 2},
                 {"name": "prefix", "of": {"name": "k3", "at_most": 0.1}},
                 {"name": "away", "of": {"name": "binary_tv", "at_most": 0.2}, "negative": {"at_most": 0.1}, "zero": "keep"},
                 {"name": "quantile", "divergence": "k2@surrogate", "q": 0.99, "at_most": 1},
                 {"name": "clip_cov", "seed": 18446744073709551615}],
        "weight": {"name": "token", "zero_outside": [0.5, "inf"]},
        "surrogate": {"name": "ppo_clip", "eps_low": 0.2, "eps_high": 0.28},
        "penalty": [{"name": "kl", "estimator": "k3", "beta": 0.01, "sees": "kept"}],
        "aggregate": {"name": "seq_mean_token_sum_norm", "length": 2048}, "divide_by": "kept", "strict": true})");
    spec_result const r = spec_from_json(document);
    INFO(r.message);
    REQUIRE(r.ok());
    CHECK(print_spec(r.spec) ==
          "trm1: mask: seq_max_k2@surrogate <= 0.05 && ratio in [0.5, 2] && prefix(k3 <= 0.1) && "
          "away(binary_tv <= 0.2, negative <= 0.1, zero=keep) && quantile(k2@surrogate, q=0.99) <= 1 && "
          "clip_cov(lower=1, upper=5, fraction=2e-04, eps_low=0.2, eps_high=0.2, seed=18446744073709551615); "
          "weight: token(zero_outside=[0.5, inf]); surrogate: ppo_clip(eps_low=0.2, eps_high=0.28, dual_clip=0); "
          "penalty: kl(k3, beta=0.01, sees=kept); aggregate: seq_mean_token_sum_norm(length=2048); divide_by: kept; "
          "log_ratio_clamp: 20; strict: true");
    CHECK(json(r.spec).get<loss_spec>().mask.size() == 6);
    CHECK(
        spec_to_json(parse_spec("surrogate: dro(0.5)").spec).dump() ==
        R"({"trm":1,"surrogate":{"name":"dro","beta":0.5},"aggregate":"token_mean","divide_by":"all","log_ratio_clamp":20,"strict":false})");
}

TEST_CASE("mistakes in JSON are named by their pointer", "[unit]") {
    auto const refused = [](char const* text, std::string const& message) {
        spec_result const r = spec_from_json(json::parse(text));
        CHECK(r.status.code == errc::bad_spec);
        CHECK(r.message == message);
    };
    refused(R"({"mask": [{"name": "k2", "at_most": 1}, {"name": "seq_maxk2", "at_most": 1}]})",
            R"(/mask/1: unknown criterion "seq_maxk2", did you mean "seq_max_k2"?)");
    refused(R"({"surrogate": {"name": "ppo_clip", "eps_lwo": 0.1}})",
            R"(/surrogate/eps_lwo: unknown argument of ppo_clip "eps_lwo", did you mean "eps_low"?)");
    refused(R"({"mask": {"name": "ratio", "at_least": 2, "at_most": 1}})", "/mask: the band is empty: 2 > 1");
    refused(R"({"mask": {"name": "ratio", "at_least": "two"}})", "/mask/at_least: at_least takes a number");
    refused(R"({"mask": [{"name": "prefix", "at_most": 1}]})", "/mask/0: prefix takes no band");
    std::string divergences;
    for (auto const& name : trm::detail::names_of<trm::catalogue::divergences>()) divergences += name + ", ";
    refused(R"({"mask": [{"at_most": 1}]})",
            R"(/mask/0: unknown criterion "0"; known: )" + divergences +
                "passing, away, away_likely, prefix, group, signed, quantile, top_mean, budget, top_share, clip_cov, "
                "length_neutral, segment, away_in, away_budget, running_budget, geometric_ratio, product_ratio, "
                "veto, seq_<sum|mean|max|min>_<divergence>");
    refused(R"({"surogate": "gspo"})", R"(/surogate: unknown key "surogate", did you mean "surrogate"?)");
    refused(R"({"surrogate": null})", "/surrogate: expected a name, a number or an object");
    refused(R"({"trm": 2})", "/trm: this library reads version 1");
    refused(R"([1])", "the document: expected an object");
    CHECK_THROWS_AS(json::parse(R"({"surrogate": "ppo_clop"})").get<loss_spec>(), spec_error);
}

TEST_CASE("every policy and parameter survives JSON", "[property]") {
    batches::random r(3);
    for (std::size_t n = 0; n < 3000; ++n) {
        loss_spec const s = specs::make(n, r);
        std::string const text = spec_to_json(s).dump();
        spec_result const back = spec_from_json(json::parse(text));
        if (!back.ok() || !specs::same(s, back.spec)) {
            INFO(text << "\n" << back.message << "\n" << print_spec(s) << "\n" << print_spec(back.spec));
            REQUIRE(back.ok());
            REQUIRE(specs::same(s, back.spec));
        }
    }
}
