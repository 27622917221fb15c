// SPDX-License-Identifier: Apache-2.0
// The 12 losses that prime-rl computed (tests/golden), through its presets: loss, gradient, metrics of every sequence.
#include "catch.hpp"
#include "golden.hpp"
#include "spec_loss.hpp"

#include <trm/interop/metrics.hpp>
#include <trm/loss/presets.hpp>
#include <trm/loss/to_spec.hpp>

using namespace trm;

namespace {

using golden::json;

/// One row of a padded batch.
template <class T>
batch_view<T> row_of(batch_view<T> v, std::int64_t i, std::int64_t columns) {
    auto const at = static_cast<std::size_t>(i * columns), n = static_cast<std::size_t>(columns);
    v.logp = v.logp.subspan(at, n);
    v.rollout_logp = v.rollout_logp.subspan(at, n);
    v.ref_logp = v.ref_logp.subspan(at, n);
    v.advantages = v.advantages.subspan(at, n);
    v.loss_mask = v.loss_mask.subspan(at, n);
    v.layout = padded{1, columns};
    return v;
}

template <class T, class Preset>
void check_case(json const& c, golden::batch<T> const& b, Preset const& preset) {
    spec_loss const loss(to_spec(preset));
    bool const wide = sizeof(T) == 8, teacher = c.at("loss_fn") == "prime_ref_kl";
    double const bound = wide ? 1e-12 : 2e-6;
    auto view = b.view(b.current, b.rollout);
    if (teacher) view.advantages = {};
    std::vector<T> grad(b.tokens(), T(7));
    result const r = loss(view, grad);
    INFO(r.status.what);
    REQUIRE(r.status.ok());
    auto const want = golden::matrix(c.at("grad"));
    double size = 0, largest = 0;
    for (double g : want) {
        size += std::fabs(g);
        largest = std::fmax(largest, std::fabs(g));
    }
    CHECK(golden::near(r.loss, golden::number(c.at("loss")), bound, wide ? 0 : size));
    for (std::size_t t = 0; t < grad.size(); ++t) {
        INFO("token " << t);
        if (b.mask[t] == 0) CHECK(grad[t] == 0);
        else CHECK(golden::near(double(grad[t]), want[t], bound, 1e-3 * largest));
    }
    if (!wide) return;
    for (std::int64_t i = 0; i < b.rows; ++i) {
        INFO("sequence " << i);
        json const& metrics_of_row = c.at("per_sequence_metrics").at(static_cast<std::size_t>(i));
        auto row = row_of(b.view(b.current, b.rollout), i, b.columns);
        if (teacher) row.advantages = {};
        auto const ours = prime_rl_metrics(loss(row).diagnostics);
        for (auto const& [key, value] : metrics_of_row.items()) {
            std::string const name = key.substr(key.find('/') + 1);
            if (key == "ref_kl") {  // the mean of log f - log p that the term pulls on: not in diagnostics
                double kl = 0;
                for (std::int64_t t = 0; t < b.columns; ++t) {
                    auto const k = static_cast<std::size_t>(i * b.columns + t);
                    if (b.mask[k] != 0) kl += static_cast<double>(b.ref[k]) - static_cast<double>(b.current[k]);
                }
                CHECK(golden::near(std::fabs(kl / static_cast<double>(b.count(i))), std::fabs(golden::number(value)),
                                   1e-9, 1));
                continue;
            }
            bool found = false;
            for (metric const& m : ours) {
                if (m.name != name) continue;
                found = true;
                INFO(name << " " << m.value << ", prime-rl " << value);
                CHECK(golden::near(m.value, golden::number(value), 1e-9, 1));
            }
            CHECK(found);
        }
    }
}

template <class T>
void check_all() {
    json const all = golden::load("prime_rl.json");
    int cases = 0;
    for (json const& c : all.at("policy_loss")) {
        auto const name = c.at("loss_fn").get<std::string>();
        json const& p = c.at("params");
        INFO(name << " " << c.at("batch") << " " << p);
        golden::batch<T> const b(all.at("batches").at(c.at("batch").get<std::string>()));
        auto const v = [&](char const* key) { return p.at(key).get<double>(); };
        if (name == "prime_default")
            check_case<T>(c, b, presets::prime_rl_dppo_2026_08(v("dppo_mask_low"), v("dppo_mask_high"), v("kl_tau")));
        else if (name == "prime_ipo") check_case<T>(c, b, presets::prime_rl_ipo(v("ipo_threshold"), v("kl_tau")));
        else check_case<T>(c, b, presets::prime_rl_ref_kl(v("threshold"), v("kl_coef")));
        if (p.contains("adv_tau")) CHECK(v("adv_tau") == 1);
        ++cases;
    }
    CHECK(cases == 12);
}

}  // namespace

TEST_CASE("prime-rl's losses, f64", "[parity]") { check_all<double>(); }
TEST_CASE("prime-rl's losses, f32", "[parity]") { check_all<float>(); }
