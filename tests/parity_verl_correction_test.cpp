// SPDX-License-Identifier: Apache-2.0
// The 96 rollout corrections that verl computed (tests/golden): masks from its own option strings, weights, every metric.
#include "catch.hpp"
#include "golden.hpp"
#include "spec_loss.hpp"

#include <trm/interop/metrics.hpp>
#include <trm/loss/to_spec.hpp>

#include <set>

using namespace trm;

namespace {

using golden::json;

std::map<std::string, golden::batch<double>> batches_of(json const& all) {
    std::map<std::string, golden::batch<double>> b;
    for (auto const& [name, j] : all.at("batches").items()) b.emplace(name, j);
    return b;
}
/// verl's corrections compare old with rollout.
template <class T>
batch_view<T> correction_view(golden::batch<T> const& b) {
    return b.view(b.old, b.rollout);
}
loss_spec rejection(presets::verl_rejection const& rs) {
    loss_spec spec;
    spec.mask = presets::criteria_of(rs);
    return spec;
}

/// verl averages some 0/1 flags in float32.
bool near_or_float(double value, double want, double bound = 1e-9) {
    return golden::near(value, want, bound, 1) || static_cast<double>(static_cast<float>(value)) == want;
}
void check_metrics(metrics const& ours, json const& verl, double bound = 1e-9) {
    std::map<std::string, double> by_name;
    for (metric const& m : ours) by_name[m.name.substr(std::string("rollout_corr/").size())] = m.value;
    for (auto const& [name, want] : verl.items()) {
        REQUIRE(by_name.count(name) == 1);
        INFO(name << " " << by_name[name] << ", verl " << want);
        CHECK(near_or_float(by_name[name], golden::number(want), bound));
        by_name.erase(name);
    }
    for (auto const& [name, value] : by_name) FAIL_CHECK("verl does not have " << name << " = " << value);
}

/// verl's metrics that are means over rows of means over tokens, which it divides by n + eps. A row without tokens counts.
std::map<std::string, double> row_metrics(golden::batch<double> const& b, double eps) {
    std::map<std::string, double> m;
    auto const add = [&](char const* name, double v) { m[std::string("rollout_corr/") + name] += v / double(b.rows); };
    for (std::int64_t i = 0; i < b.rows; ++i) {
        double old = 0, rollout = 0;
        for (std::int64_t t = 0; t < b.columns; ++t) {
            auto const k = static_cast<std::size_t>(i * b.columns + t);
            if (b.mask[k] == 0) continue;
            old -= b.old[k] / (static_cast<double>(b.count(i)) + eps);
            rollout -= b.rollout[k] / (static_cast<double>(b.count(i)) + eps);
        }
        add("training_ppl", std::exp(old));
        add("training_log_ppl", old);
        add("rollout_ppl", std::exp(rollout));
        add("rollout_log_ppl", rollout);
        add("log_ppl_diff", old - rollout);
        add("log_ppl_abs_diff", std::fabs(old - rollout));
        add("ppl_ratio", std::exp(old - rollout));
    }
    return m;
}

template <class T>
void check_mask(json const& c, golden::batch<T> const& b, loss_spec const& spec, result* r = nullptr) {
    std::vector<std::uint8_t> keep(b.tokens());
    outputs<T> out;
    out.keep = keep;
    result const got = spec_loss(spec)(correction_view(b), out);
    REQUIRE(got.status.ok());
    auto const want = golden::matrix(c.at("mask"));
    for (std::size_t t = 0; t < keep.size(); ++t) CHECK((keep[t] != 0) == (want[t] != 0));
    if (r != nullptr) *r = got;
}

}  // namespace

TEST_CASE("verl's rejection masks and metrics", "[parity]") {
    json const all = golden::load("verl.json");
    auto const batches = batches_of(all);
    int cases = 0;
    for (json const& c : all.at("rollout_correction")) {
        if (c.at("kind") != "rejection") continue;
        auto const options = c.at("options").get<std::string>(), thresholds = c.at("thresholds").get<std::string>();
        INFO(c.at("batch") << " " << options << " " << thresholds);
        auto const& b = batches.at(c.at("batch"));
        auto const rs = presets::verl(options, thresholds);
        REQUIRE(rs.status.ok());
        result r;
        check_mask<double>(c, b, rejection(rs), &r);
        check_mask<float>(c, golden::batch<float>(all.at("batches").at(c.at("batch").get<std::string>())),
                          rejection(rs));
        auto const empty = static_cast<double>(b.rows - b.non_empty());
        check_metrics(verl_rejection_metrics(correction_view(b), rs, empty), c.at("metrics"));

        diagnostics const& d = r.diagnostics;  // the fractions are there without another pass
        for (int i = 0; i < rs.size; ++i) {
            auto const metric = "rollout_rs_" + std::string(rs.criteria[i].name) + "_";
            CHECK(near_or_float(d.rejected_token_fraction(i),
                                golden::number(c.at("metrics").at(metric + "masked_fraction"))));
            CHECK(near_or_float(d.rejected_sequence_fraction(i),
                                golden::number(c.at("metrics").at(metric + "seq_masked_fraction"))));
        }
        CHECK(near_or_float(1 - d.kept_fraction(), golden::number(c.at("metrics").at("rollout_rs_masked_fraction"))));
        ++cases;
    }
    CHECK(cases == 68);
}

TEST_CASE("verl's importance weights and metrics", "[parity]") {
    json const all = golden::load("verl.json");
    auto const batches = batches_of(all);
    int cases = 0;
    for (json const& c : all.at("rollout_correction")) {
        if (c.at("kind") != "is_weights") continue;
        json const& threshold = c.at("threshold");
        auto const text = threshold.is_string() ? threshold.get<std::string>() : threshold.dump();
        bool const per_token = c.at("level") == "token", normalise_them = c.at("batch_normalize").get<bool>();
        INFO(c.at("batch") << " " << c.at("level") << " " << text << " " << normalise_them);
        auto const& b = batches.at(c.at("batch"));
        auto const is = presets::verl_is_threshold(text);
        REQUIRE(is.status.ok());
        loss_spec spec;
        if (per_token && normalise_them) spec.weight = normalised{token_weight{is.bound}};
        else if (per_token) spec.weight = token_weight{is.bound};
        else if (normalise_them) spec.weight = normalised{sequence_weight{stat::sum, is.bound}};
        else spec.weight = sequence_weight{stat::sum, is.bound};
        std::vector<double> weights(b.tokens());
        outputs<double> out;
        out.weights = weights;
        result const r = spec_loss(spec)(correction_view(b), out);
        REQUIRE(r.status.ok());
        auto const want = golden::matrix(c.at("weights"));
        double const bound = normalise_them ? 1e-8 : 1e-12;  // verl's mean of weights divides by n + 1e-8
        for (std::size_t t = 0; t < weights.size(); ++t) {
            if (b.mask[t] == 0) CHECK(weights[t] == 0);
            else CHECK(golden::near(weights[t], want[t], bound));
        }
        auto const empty = static_cast<double>(b.rows - b.non_empty());
        check_metrics(verl_weight_metrics(correction_view(b), per_token, is, normalise_them, empty), c.at("metrics"));
        if (!normalise_them)
            CHECK(
                golden::near(r.diagnostics.mean_weight(), golden::number(c.at("metrics").at("rollout_is_mean")), 1e-9));
        ++cases;
    }
    CHECK(cases == 24);
}

TEST_CASE("verl's off-policy metrics; what an empty row does to them", "[parity]") {
    json const all = golden::load("verl.json");
    auto const batches = batches_of(all);
    int cases = 0;
    for (json const& c : all.at("rollout_correction")) {
        if (c.at("kind") != "offpolicy_metrics") continue;
        auto const& b = batches.at(c.at("batch"));
        INFO(c.at("batch"));
        result const r = spec_loss(loss_spec{})(correction_view(b));
        REQUIRE(r.status.ok());
        auto const empty = static_cast<double>(b.rows - b.non_empty());
        // verl's row means divide by n_i + 1e-8, inside the exponential of a perplexity too; ours by n_i. Both values:
        auto ours = verl_offpolicy_metrics(r.diagnostics, empty);
        auto const exact = row_metrics(b, 0), shifted = row_metrics(b, 1e-8);
        std::size_t of_rows = 0;
        for (metric& m : ours) {
            auto const found = exact.find(m.name);
            if (found == exact.end()) continue;
            INFO(m.name);
            CHECK(golden::near(m.value, found->second, 1e-12, 1));
            m.value += shifted.at(m.name) - found->second;
            ++of_rows;
        }
        CHECK(of_rows == exact.size());
        check_metrics(ours, c.at("metrics"));
        // Ours leave the row out: a perplexity of 1 for nothing is no measurement.
        double const verl_ppl = golden::number(c.at("metrics").at("training_ppl")),
                     n = static_cast<double>(b.non_empty());
        CHECK(r.diagnostics.ppl() == Approx((verl_ppl * (n + empty) - empty) / n).epsilon(4e-9));
        if (c.at("batch") == "empty_row") CHECK(r.diagnostics.ppl() > verl_ppl + 0.1);
        ++cases;
    }
    CHECK(cases == 4);
}

TEST_CASE("an effective sample size of zero weights is 0; verl divides by zero", "[parity]") {
    std::vector<double> const logp{-1, -1}, rollout{-3, -3};
    std::vector<std::int32_t> const cu{0, 2};
    batch_view<double> const view{.logp = logp, .rollout_logp = rollout, .layout = packed{cu}};
    auto const m = verl_weight_metrics(view, true, presets::verl_is_threshold("0.5_2.0"));
    bool found = false;
    for (metric const& x : m)
        if (x.name == "rollout_corr/rollout_is_eff_sample_size") found = x.value == 0;
    CHECK(found);
}

TEST_CASE("verl's strings", "[unit]") {
    auto const ok = [](char const* options, char const* thresholds) {
        return presets::verl(options, thresholds).status.ok();
    };
    CHECK(presets::verl("", "").size == 0);
    auto const k1 = presets::verl("token_k1", "2.0").criteria[0].keep;
    CHECK(k1.lower == Approx(-std::log(2.0)));
    CHECK(k1.upper == Approx(std::log(2.0)));
    CHECK(presets::verl("seq_mean_k3, seq_mean_k3,token_k2", "0.1,0.2").size == 2);
    CHECK(presets::verl("seq_mean_k3,token_k2", "0.1").criteria[1].keep.upper == 0.1);
    CHECK(presets::verl("seq_mean_k3,token_k2", "0.1").criteria[1].keep.lower == -INFINITY);
    CHECK(ok("token_k1", "1"));
    for (auto const& [options, thresholds] :
         std::vector<std::pair<char const*, char const*>>{{"seq_max_k1", "2"},
                                                          {"token_k4", "2"},
                                                          {"token", "2"},
                                                          {"geometric", "2"},
                                                          {"token_k1", ""},
                                                          {"token_k1", "0.5"},
                                                          {"token_k1", "2_0.5"},
                                                          {"token_k2", "0.5_2"},
                                                          {"token_k2", "-1"},
                                                          {"token_k2", "0"},
                                                          {"token_k2", "nan"},
                                                          {"token_k2", "1x"},
                                                          {"token_k2,token_k2", "1,2"},
                                                          {"token_k2,token_k3,token_k1", "1,2"},
                                                          {"token_k1", "_2"}}) {
        INFO(options << " " << thresholds);
        CHECK_FALSE(ok(options, thresholds));
    }
    // The band is on the inverse ratio: 0.6_1.4 keeps r = 1.5 and rejects r = 0.65.
    std::vector<double> const rollout{-2, -2}, logp{-2 + std::log(1.5), -2 + std::log(0.65)}, advantages{1, 1};
    std::vector<std::int32_t> const cu{0, 2};
    batch_view<double> const view{
        .logp = logp, .rollout_logp = rollout, .advantages = advantages, .layout = packed{cu}};
    std::vector<std::uint8_t> keep(2);
    outputs<double> out;
    out.keep = keep;
    REQUIRE(spec_loss(rejection(presets::verl("token_k1", "0.6_1.4")))(view, out).status.ok());
    CHECK(keep == std::vector<std::uint8_t>{1, 0});
    CHECK(presets::verl_is_threshold("2.0").bound(7) == 2);
    CHECK(presets::verl_is_threshold("0.5_2").bound(7) == 0);
    CHECK_FALSE(presets::verl_is_threshold("2_1").status.ok());
    CHECK_FALSE(presets::verl_is_threshold("").status.ok());
}
