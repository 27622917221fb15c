// SPDX-License-Identifier: Apache-2.0
// Every preset, with its default thresholds, through its text, against its trainer's formula written out in plain loops.
#include "catch.hpp"
#include "random_spec.hpp"
#include "spec_loss.hpp"

#include <trm/interop/metrics.hpp>
#include <trm/loss/any_loss_extern.hpp>
#include <trm/loss/presets.hpp>
#include <trm/loss/to_spec.hpp>

#include <algorithm>
#include <functional>

using namespace trm;

namespace {

struct tok {
    std::size_t at;
    double p, q, mu, f, A, given;
    double top_quarter;  ///< the batch's 0.75-quantile of given
};
using row = std::vector<tok>;

/// Sequences and the batch they come from. Spreads from 0.1% to 30%: every default threshold separates some of them.
struct data {
    batches::ragged<double> b;
    std::vector<row> rows;

    data(double spread, bool bypass, std::uint64_t seed)
        : b(batches::make<double>({batches::short_lengths(60, seed), true, spread, 0}, seed)) {
        for (std::size_t i = 0; i + 1 < b.cu.size(); ++i) {
            rows.emplace_back();
            for (auto k = static_cast<std::size_t>(b.cu[i]); k < static_cast<std::size_t>(b.cu[i + 1]); ++k)
                if (b.mask[k] != 0)
                    rows.back().push_back({k, b.logp[k], bypass ? b.logp[k] : b.proximal[k], b.rollout[k], b.ref[k],
                                           b.advantages[k], b.given[k], 0});
        }
        std::vector<double> all;
        for (row const& s : rows)
            for (tok const& t : s) all.push_back(t.given);
        std::sort(all.begin(), all.end());
        double const place = 0.75 * static_cast<double>(all.size() - 1), below = std::floor(place);
        auto const at = static_cast<std::size_t>(below);
        for (row& s : rows)
            for (tok& t : s)
                t.top_quarter = all[at] + (place - below) * (all[std::min(at + 1, all.size() - 1)] - all[at]);
    }
};

double sum(row const& s, auto&& f) {
    double v = 0;
    for (tok const& t : s) v += f(t);
    return v;
}
double mean(row const& s, auto&& f) { return sum(s, f) / static_cast<double>(s.size()); }
bool every(row const& s, auto&& f) {
    for (tok const& t : s)
        if (!f(t)) return false;
    return true;
}
double clip(double v, double lo, double hi) { return v < lo ? lo : v > hi ? hi : v; }
double l(tok const& t) { return t.q - t.mu; }  // the corrected log-ratio: old over rollout
double r(tok const& t) { return std::exp(l(t)); }
double k3_of(double x) { return std::expm1(x) - x; }
double zero(tok const&) { return 0; }

enum class mean_of { tokens, kept_tokens, sequences, sequence_sums, lengths };

/// sum over tokens of (keep (w term + kept penalty) + penalty), as the trainer divides it.
struct formula {
    std::function<double(row const&, tok const&)> term;
    std::function<bool(row const&, tok const&)> keep = [](row const&, tok const&) { return true; };
    std::function<double(row const&, tok const&)> weight = [](row const&, tok const&) { return 1.0; };
    mean_of how = mean_of::tokens;
    std::function<double(tok const&)> penalty = zero, kept_penalty = zero;
    double length = 0;
};

template <class Preset>
void check(char const* name, Preset const& preset, formula const& f, bool bypass = false) {
    INFO(name);
    spec_loss const loss(to_spec(preset));
    spec_result const text = parse_spec(print_spec(loss.spec));
    REQUIRE(text.ok());
    REQUIRE(specs::same(loss.spec, text.spec));
    bool const masks = !loss.spec.mask.empty();
    double kept = 0, rejected = 0;
    for (double const spread : {0.001, 0.01, 0.1, 0.5}) {
        data const d(spread, bypass, 3);
        auto view = d.b.view();
        view.token_weights = {};
        if (bypass) view.proximal_logp = {};
        std::vector<std::uint8_t> keep(d.b.tokens());
        outputs<double> out;
        out.keep = keep;
        result const got = loss(view, out);
        INFO(got.status.what);
        REQUIRE(got.status.ok());
        double value = 0, size = 0, tokens = 0, kept_tokens = 0, sequences = 0;
        for (row const& s : d.rows) {
            double own = 0;
            for (tok const& t : s) {
                bool const k = f.keep(s, t);
                if ((keep[t.at] != 0) != k)
                    FAIL_CHECK("spread " << spread << ": token " << t.at << " kept " << int(keep[t.at]));
                double const v = (k ? f.weight(s, t) * f.term(s, t) + f.kept_penalty(t) : 0.0) + f.penalty(t);
                own += v;
                size += std::fabs(v);
                kept_tokens += k;
                ++tokens;
            }
            sequences += !s.empty();
            value += f.how == mean_of::sequences && !s.empty() ? own / static_cast<double>(s.size()) : own;
        }
        double const by = f.how == mean_of::tokens        ? tokens
                          : f.how == mean_of::kept_tokens ? kept_tokens
                          : f.how == mean_of::lengths     ? sequences * f.length
                                                          : sequences;
        INFO("spread " << spread << ": " << got.loss << ", expected " << value / by);
        CHECK(std::fabs(got.loss - (by > 0 ? value / by : 0.0)) <= 1e-12 * (1 + size / std::fmax(by, 1)));
        kept += kept_tokens;
        rejected += tokens - kept_tokens;
    }
    CHECK(kept > 0);
    CHECK((rejected > 0) == masks);
}

double ppo(tok const& t, double behaviour, double lo, double hi, double dual) {
    double const ratio = std::exp(t.p - behaviour), v = std::fmax(-t.A * ratio, -t.A * clip(ratio, 1 - lo, 1 + hi));
    return t.A < 0 && dual > 0 ? std::fmin(v, -dual * t.A) : v;
}
double verl_term(row const&, tok const& t) { return ppo(t, t.q, 0.2, 0.2, 3); }
double ppo_term(row const&, tok const& t) { return ppo(t, t.q, 0.2, 0.2, 0); }
double bypass_term(row const&, tok const& t) { return ppo(t, t.mu, 0.2, 0.2, 3); }
double reinforce_term(row const&, tok const& t) { return -t.A * t.p; }
double ratio_term(row const&, tok const& t) { return -t.A * std::exp(t.p - t.mu); }

double token_tis(row const&, tok const& t) { return std::fmin(r(t), 2); }
double seq_tis(row const& s, tok const&) { return std::fmin(std::exp(clip(sum(s, l), -20, 20)), 2); }
double icepop(row const&, tok const& t) { return r(t) >= 0.5 && r(t) <= 5 ? r(t) : 0; }
double trl_weight(row const& s, tok const&) {
    double const w = std::exp(sum(s, l));
    return w > 3 ? 0 : w;
}
/// verl's band is on mu / q.
bool verl_geometric(row const& s, tok const&) {
    double const k1 = mean(s, [](tok const& t) { return -l(t); });
    return std::log(0.999) <= k1 && k1 <= std::log(1.001);
}
bool verl_k3(row const& s, tok const&) {
    return mean(s, [](tok const& t) { return k3_of(l(t)); }) <= 0.01;
}
double binary_gap(tok const& t) { return std::exp(t.p) - std::exp(t.mu); }
double kl_tau(tok const& t) { return 1e-3 * (t.p - t.mu) * (t.p - t.mu); }
double nemo_kl(tok const& t) { return 0.01 * std::fmin(k3_of(clip(t.f - t.p, -20, 20)), 10); }

}  // namespace

TEST_CASE("presets: the paper", "[presets][parity]") {
    check("trm_max_exact", presets::trm_max_exact(0.099),
          {ratio_term, [](row const& s, tok const&) { return every(s, [](tok const& t) { return t.given <= 0.099; }); },
           [](row const&, tok const&) { return 1.0; }, mean_of::sequence_sums});
    check("trm_max", presets::trm_max(0.02),
          {ratio_term,
           [](row const& s, tok const&) {
               return every(s, [](tok const& t) { return (t.p - t.mu) * (t.p - t.mu) / 2 <= 0.02; });
           },
           [](row const&, tok const&) { return 1.0; }, mean_of::sequence_sums});
    check("trm_mean", presets::trm_mean(0.002),
          {ratio_term,
           [](row const& s, tok const&) { return mean(s, [](tok const& t) { return k3_of(t.p - t.mu); }) <= 0.002; },
           [](row const&, tok const&) { return 1.0; }, mean_of::sequence_sums});
}

TEST_CASE("presets: verl, decoupled", "[presets][parity]") {
    auto const all = formula{}.keep;
    check("decoupled_token_is", presets::decoupled_token_is(), {verl_term, all, token_tis});
    check("decoupled_seq_is", presets::decoupled_seq_is(), {verl_term, all, seq_tis});
    check("decoupled_token_icepop", presets::decoupled_token_icepop(), {verl_term, all, icepop});
    check("decoupled_seq_is_rs", presets::decoupled_seq_is_rs(),
          {verl_term,
           [](row const& s, tok const&) {
               double const k1 = -sum(s, l);
               return std::log(0.5) <= k1 && k1 <= std::log(2.0);
           },
           seq_tis});
    check("decoupled_geo_rs", presets::decoupled_geo_rs(), {verl_term, verl_geometric});
    check("decoupled_geo_rs_seq_tis", presets::decoupled_geo_rs_seq_tis(), {verl_term, verl_geometric, seq_tis});
    check("decoupled_geo_rs_token_tis", presets::decoupled_geo_rs_token_tis(), {verl_term, verl_geometric, token_tis});
    check("decoupled_k3_rs", presets::decoupled_k3_rs(), {verl_term, verl_k3});
    check("decoupled_k3_rs_seq_tis", presets::decoupled_k3_rs_seq_tis(), {verl_term, verl_k3, seq_tis});
    check("decoupled_k3_rs_token_tis", presets::decoupled_k3_rs_token_tis(), {verl_term, verl_k3, token_tis});
    check("disabled", presets::disabled(), {verl_term});
}

TEST_CASE("presets: verl, bypass", "[presets][parity]") {
    auto const all = formula{}.keep;
    check("bypass_ppo_clip", presets::bypass_ppo_clip(), {bypass_term}, true);
    check("bypass_ppo_clip_geo_rs", presets::bypass_ppo_clip_geo_rs(), {bypass_term, verl_geometric}, true);
    check("bypass_ppo_clip_k3_rs", presets::bypass_ppo_clip_k3_rs(), {bypass_term, verl_k3}, true);
    check("bypass_pg_is", presets::bypass_pg_is(), {reinforce_term, all, seq_tis}, true);
    check("bypass_pg_token_icepop", presets::bypass_pg_token_icepop(), {reinforce_term, all, icepop}, true);
    check("bypass_pg_geo_rs", presets::bypass_pg_geo_rs(), {reinforce_term, verl_geometric}, true);
    check("bypass_pg_geo_rs_seq_tis", presets::bypass_pg_geo_rs_seq_tis(), {reinforce_term, verl_geometric, seq_tis},
          true);
    check("bypass_pg_geo_rs_token_tis", presets::bypass_pg_geo_rs_token_tis(),
          {reinforce_term, verl_geometric, token_tis}, true);
}

TEST_CASE("presets: prime-rl", "[presets][parity]") {
    auto const one = formula{}.weight;
    check("prime_rl_dppo_2026_08", presets::prime_rl_dppo_2026_08(),
          {ratio_term, [](row const&, tok const& t) { return t.A > 0 ? binary_gap(t) <= 0.2 : binary_gap(t) >= -0.2; },
           one, mean_of::tokens, kl_tau},
          true);
    check("prime_rl", presets::prime_rl(),
          {ratio_term, [](row const&, tok const& t) { return std::fabs(binary_gap(t)) <= 0.1; }, one, mean_of::tokens,
           kl_tau},
          true);
    auto const tau = [](double v) { return [v](row const&, tok const&) { return v; }; };
    check("prime_rl_dppo_2026_08, adv_tau 0.3", presets::prime_rl_dppo_2026_08(0.05, 0.1, 0.02, 0.3),
          {ratio_term, [](row const&, tok const& t) { return t.A > 0 ? binary_gap(t) <= 0.1 : binary_gap(t) >= -0.05; },
           tau(0.3), mean_of::tokens, [](tok const& t) { return 20 * kl_tau(t); }},
          true);
    check("prime_rl_ipo, adv_tau 0", presets::prime_rl_ipo(0.1, 1e-3, 0.0),
          {ratio_term, [](row const&, tok const& t) { return std::fabs(binary_gap(t)) <= 0.1; }, tau(0),
           mean_of::tokens, kl_tau},
          true);
    // -adv_tau r A where ratio_low <= r <= ratio_high, no KL; sum over all tokens / loss_mask tokens
    check("prime_rl_icepop", presets::prime_rl_icepop(0.7, 1.4, 0.3),
          {ratio_term,
           [](row const&, tok const& t) { return std::exp(t.p - t.mu) >= 0.7 && std::exp(t.p - t.mu) <= 1.4; },
           tau(0.3), mean_of::tokens},
          true);
    band const wide = std::get<0>(presets::prime_rl_icepop().mask.criteria).keep;
    CHECK(wide.lower == Approx(-std::log(5.0)));
    CHECK(wide.upper == Approx(-std::log(0.2)));
    check("prime_rl_ref_kl", presets::prime_rl_ref_kl(),
          {[](row const&, tok const& t) { return -(t.f - t.p) * std::exp(t.p - t.mu); },
           [](row const&, tok const& t) { return binary_gap(t) >= -0.2; }, one, mean_of::tokens, kl_tau},
          true);
}

TEST_CASE("presets: slime", "[presets][parity]") {
    // The mean of truncated weights over the batch's original tokens is part of the formula: one check per spread.
    for (double const spread : {0.1, 0.5, 2.0}) {
        double const floor = spread == 2.0 ? 0.05 : 1e-4;  // the last one vetoes
        data const d(spread, false, 5);
        double weights = 0, tokens = 0;
        for (row const& s : d.rows)
            for (tok const& t : s) {
                weights += std::fmin(r(t), 2);
                ++tokens;
            }
        double value = 0, sequences = 0, rejected = 0, vetoed = 0;
        for (row const& s : d.rows) {
            if (s.empty()) continue;
            bool const veto = !every(s, [&](tok const& t) { return l(t) >= std::log(floor); });
            for (tok const& t : s) {
                bool const keep = !veto && r(t) >= 0.5 && r(t) <= 2;
                rejected += !keep;
                if (keep)
                    value += std::fmin(r(t), 2) / (weights / tokens) * ppo_term(s, t) / static_cast<double>(s.size());
            }
            vetoed += veto;
            ++sequences;
        }
        auto view = d.b.view();
        view.token_weights = {};
        result const got =
            spec_loss(to_spec(spread == 2.0 ? presets::slime_mis(0.5, 2.0, floor) : presets::slime_mis()))(view);
        REQUIRE(got.status.ok());
        CHECK(got.loss == Approx(value / sequences).epsilon(1e-11));
        CHECK(got.diagnostics.tokens - got.diagnostics.kept_tokens == rejected);
        if (spread == 2.0) CHECK(vetoed > 0);
    }
}

TEST_CASE("presets: TRL", "[presets][parity]") {
    auto const all = formula{}.keep;
    check("trl_grpo", presets::trl_grpo(), {ppo_term, all, trl_weight, mean_of::sequences});
    check("trl_dapo", presets::trl_dapo(), {ppo_term, all, trl_weight});
    check("trl_dr_grpo", presets::trl_dr_grpo(77), {ppo_term, all, trl_weight, mean_of::lengths, zero, zero, 77});
    check("trl_cispo", presets::trl_cispo(1.1),
          {[](row const&, tok const& t) { return -std::fmin(std::exp(t.p - t.q), 1.1) * t.A * t.p; }, all, trl_weight});
    check("trl_sapo", presets::trl_sapo(),
          {[](row const&, tok const& t) {
               double const tau = t.A > 0 ? 1 : 1.05;
               return -t.A * 4 / tau / (1 + std::exp(-tau * (std::exp(t.p - t.q) - 1)));
           },
           all, trl_weight, mean_of::sequences});
    check("trl_vespo", presets::trl_vespo(), {[](row const& s, tok const& t) {
              double const log_w = clip(sum(s, [](tok const& u) { return u.p - u.q; }), std::log(1e-8), 20);
              double const k = t.A >= 0 ? 2 : 3, lambda = t.A >= 0 ? 3 : 2;
              return -std::exp(lambda + k * log_w - lambda * std::exp(log_w)) * t.A * t.p;
          }});
    check("trl_luspo", presets::trl_luspo(),
          {[](row const& s, tok const& t) {
               double const ratio = std::exp(mean(s, [](tok const& u) { return u.p - u.q; }));
               return std::fmax(-t.A * ratio, -t.A * clip(ratio, 0.8, 1.2));
           },
           all, trl_weight, mean_of::sequence_sums});
    check("trl_top_entropy", presets::trl_top_entropy(0.25),
          {ppo_term, [](row const&, tok const& t) { return t.given >= t.top_quarter; }, trl_weight});
    check("trl_opsm", presets::trl_opsm(1e-3),
          {ppo_term,
           [](row const& s, tok const& t) {
               return t.A >= 0 || mean(s, [](tok const& u) { return u.mu - u.p; }) <= 1e-3;
           },
           trl_weight});
}

TEST_CASE("presets: OpenRLHF, SkyRL, AReaL", "[presets][parity]") {
    auto const all = formula{}.keep;
    auto const raw = [](row const&, tok const& t) { return r(t); };
    check("openrlhf_tis", presets::openrlhf_tis(),
          {ppo_term, all, [](row const&, tok const& t) { return clip(r(t), 0.5, 5); }});
    check("openrlhf_icepop", presets::openrlhf_icepop(), {ppo_term, all, icepop});
    auto const geometric = [](double lo, double hi) {
        return [=](row const& s, tok const&) {
            double const g = std::exp(mean(s, l));
            return g >= lo && g <= hi;
        };
    };
    check("openrlhf_seq_mask_tis", presets::openrlhf_seq_mask_tis(0.95, 1.05), {ppo_term, geometric(0.95, 1.05), raw});
    auto const left = [](row const& s) {  // by SkyRL's token band
        row kept;
        for (tok const& t : s)
            if (r(t) >= 0.8 && r(t) <= 1.2) kept.push_back(t);
        return kept;
    };
    auto const skyrl = [&](row const& s, tok const& t) {
        return every(s, [](tok const& u) { return r(u) >= 0.3 && r(u) <= 2.9; }) && r(t) >= 0.8 && r(t) <= 1.2 &&
               geometric(0.99, 1.01)(left(s), t);
    };
    presets::skyrl_bounds bounds{.outlier = {0.3, 2.9}, .token = {0.8, 1.2}, .tis = 1.1};
    check("skyrl_pipeline", presets::skyrl_pipeline(bounds),
          {ppo_term, skyrl, [](row const&, tok const& t) { return std::fmin(r(t), 1.1); }});
    bounds.tis = 1.01;
    check("skyrl_pipeline_seq_tis", presets::skyrl_pipeline_seq_tis(bounds),
          {ppo_term, skyrl, [&](row const& s, tok const&) { return std::fmin(std::exp(sum(left(s), l)), 1.01); }});
    check("skyrl_pipeline, defaults", presets::skyrl_pipeline(),
          {ppo_term,
           [&](row const& s, tok const& t) {
               row kept;
               for (tok const& u : s)
                   if (r(u) >= 0.5 && r(u) <= 2) kept.push_back(u);
               return every(s, [](tok const& u) { return r(u) >= 1e-4 && r(u) <= 100; }) && r(t) >= 0.5 && r(t) <= 2 &&
                      geometric(0.99, 1.01)(kept, t);
           },
           token_tis});
    check("areal_sequence_clamp", presets::areal_sequence_clamp(1.02, 0.97),
          {ppo_term, all, [](row const& s, tok const&) {
               double const g = std::exp(mean(s, l)), product = std::exp(sum(s, l));
               return product >= 0.97 && product <= 1.02 ? g : clip(g, 0.97, 1.02);  // agg = sum
           }});
    check("areal_decoupled", presets::areal_decoupled(1.5),
          {ppo_term, [](row const&, tok const& t) { return r(t) <= 1.5; }, raw});
    check("skyrl_dppo", presets::skyrl_dppo(),
          {ratio_term, [](row const&, tok const& t) { return t.A > 0 ? binary_gap(t) <= 0.2 : binary_gap(t) >= -0.2; }},
          true);
}

TEST_CASE("presets: NeMo-RL", "[presets][parity]") {
    auto const all = formula{}.keep;
    check("nemo_tis", presets::nemo_tis(1.2),
          {ppo_term, all, [](row const&, tok const& t) { return clip(r(t), 0, 1.2); }, mean_of::tokens, nemo_kl});
    check("nemo_icepop", presets::nemo_icepop(), {ppo_term, all, icepop, mean_of::tokens, nemo_kl});
    check("nemo_seq_mask_tis", presets::nemo_seq_mask_tis(),
          {ppo_term,
           [](row const& s, tok const&) {
               double const g = std::exp(mean(s, l));
               return g >= 0.999 && g <= 1.002;
           },
           [](row const&, tok const& t) { return r(t); }, mean_of::tokens, nemo_kl});
    check("nemo_sequence_error", presets::nemo_sequence_error(1.05),
          {ppo_term,
           [](row const& s, tok const&) {
               return mean(s, [](tok const& t) { return std::exp(std::fabs(l(t))); }) <= 1.05;
           },
           formula{}.weight, mean_of::kept_tokens, zero, nemo_kl});
}

TEST_CASE("NeMo-RL's comparison of rollout and training policy", "[parity]") {
    data const d(0.3, true, 4);
    double n = 0, either = 0, forward = 0, backward = 0, js = 0, rows = 0, row_sum = 0, largest = 0, smallest = 1e300;
    for (row const& s : d.rows) {
        for (tok const& t : s) {
            double const mixture = std::log((std::exp(t.p) + std::exp(t.mu)) / 2);
            auto const to_mixture = [&](double v) { return std::exp(v - mixture) - (v - mixture) - 1; };
            ++n;
            either += std::exp(std::fabs(t.mu - t.p));
            forward += std::exp(t.p - t.mu) - (t.p - t.mu) - 1;
            backward += std::exp(t.mu - t.p) - (t.mu - t.p) - 1;
            js += (to_mixture(t.p) + to_mixture(t.mu)) / 2;
        }
        if (s.empty()) continue;
        double const own = mean(s, [](tok const& t) { return std::exp(std::fabs(t.mu - t.p)); });
        ++rows;
        row_sum += own;
        largest = std::fmax(largest, own);
        smallest = std::fmin(smallest, own);
    }
    double const want[] = {either / n, forward / n, backward / n, js / n, largest, row_sum / rows, smallest};
    auto const got = nemo_metrics(d.b.view());
    REQUIRE(got.size() == std::size(want));
    for (std::size_t i = 0; i < got.size(); ++i) {
        INFO(got[i].name);
        CHECK(got[i].value == Approx(want[i]).epsilon(1e-9));
    }
    CHECK(got[3].name == "js_divergence_error");
    // The same divergence as a criterion.
    loss_spec spec;
    spec.mask.push_back(sequence_mask<any_divergence, stat::mean_t>{jensen_shannon{}, {}, at_most(0.01)});
    std::vector<std::uint8_t> keep(d.b.tokens());
    outputs<double> out;
    out.keep = keep;
    auto view = d.b.view();
    view.token_weights = {};
    result const r = spec_loss(spec)(view, out);
    REQUIRE(r.status.ok());
    double kept = 0;
    for (row const& s : d.rows) {
        bool const keeps =
            !s.empty() && mean(s, [](tok const& t) { return std::log(std::cosh((t.p - t.mu) / 2)); }) <= 0.01;
        for (tok const& t : s) CHECK((keep[t.at] != 0) == keeps);
        kept += keeps;
    }
    CHECK(kept > 5);
    CHECK(kept < rows - 5);
}

TEST_CASE("presets: KPop, M2PO, DPPO", "[presets][parity]") {
    auto const bernoulli = [](double a, double b) {
        double const p = std::exp(a), q = std::exp(b);
        return p * (a - b) + (1 - p) * std::log((1 - p) / (1 - q));
    };
    check("kpop", presets::kpop(),
          {ratio_term, [&](row const&, tok const& t) { return bernoulli(t.mu, t.p) + bernoulli(t.p, t.mu) <= 0.1; }},
          true);
    auto const score = [](row const&, tok const& t) { return -t.A * std::fmin(std::exp(t.p - t.mu), 20) * t.p; };
    check("dppo_tv_score", presets::dppo_tv_score(0.15, 0.15),
          {score, [](row const&, tok const& t) { return t.A > 0 ? binary_gap(t) <= 0.15 : binary_gap(t) >= -0.15; }},
          true);
    check("dppo_kl_score", presets::dppo_kl_score(0.05, 0.05),
          {score,
           [&](row const&, tok const& t) {
               bool const away = t.A > 0 ? t.p > t.mu : t.p < t.mu;
               return !away || bernoulli(t.mu, t.p) <= 0.05;
           }},
          true);

    data const d(0.3, false, 7);
    std::vector<std::pair<double, tok const*>> squares;
    for (row const& s : d.rows)
        for (tok const& t : s) squares.emplace_back(l(t) * l(t), &t);
    std::sort(squares.begin(), squares.end(), [](auto const& a, auto const& b) { return a.first > b.first; });
    std::size_t drop = 0;
    auto const rest = [&] {
        double v = 0;
        for (std::size_t k = drop; k < squares.size(); ++k) v += squares[k].first;
        return v / static_cast<double>(squares.size() - drop);
    };
    while (drop + 1 < squares.size() && !(rest() < 0.004)) ++drop;
    double value = 0;
    for (std::size_t k = drop; k < squares.size(); ++k) value += ppo_term({}, *squares[k].second);
    auto view = d.b.view();
    view.token_weights = {};
    result const got = spec_loss(to_spec(presets::m2po(0.004)))(view);
    REQUIRE(got.status.ok());
    CHECK(drop > 10);
    CHECK(got.diagnostics.kept_tokens == double(squares.size() - drop));
    CHECK(got.loss == Approx(value / static_cast<double>(squares.size() - drop)).epsilon(1e-11));
}

TEST_CASE("a preset as data gives the preset's bits", "[presets][property]") {
    data const d(0.3, false, 9);
    auto const compare = [&](auto const& preset) {
        std::vector<double> a(d.b.tokens()), b(d.b.tokens());
        result const x = preset(d.b.view(), a), y = spec_loss(to_spec(preset))(d.b.view(), b);
        REQUIRE((x.status.ok() && y.status.ok()));
        CHECK(x.loss == y.loss);
        CHECK(a == b);
    };
    compare(presets::nemo_seq_mask_tis());
    any_weight const w = over<ratio_kind::current_over_rollout>(normalised{token_weight{truncate_above(2)}});
    CHECK(w.over == ratio_kind::current_over_rollout);
    CHECK(std::get<normalised<token_weight>>(w.policy).weight.bound.above == 2);
    auto const takes_over = [](auto p) { return requires { over<ratio_kind::surrogate>(p); }; };
    CHECK(takes_over(k1{}));
    CHECK_FALSE(takes_over(squared_log_ratio{0.1}));  // would look at the same pair as before
}

namespace {

/// One sequence of two tokens, A = -1, with these log-ratios of current over proximal and of proximal over rollout: the sum of the
/// absolute terms of a preset's policy, from its loss.
template <class Preset>
double two_tokens(Preset preset, double moved, double corrected_1, double corrected_2) {
    double const proximal[] = {-40, -50}, rollout[] = {-40 - corrected_1, -50 - corrected_2};
    double const logp[] = {-40 + moved, -50 + moved}, advantages[] = {-1, -1}, ref[] = {-40 + moved, -50 + moved};
    std::int64_t const cu[] = {0, 2};
    batch_view<double> b;
    b.logp = logp;
    b.rollout_logp = rollout;
    b.proximal_logp = proximal;
    b.ref_logp = ref;
    b.advantages = advantages;
    b.layout = packed{cu};
    loss_spec spec = to_spec(preset);
    spec.aggregate = token_sum{};
    result const r = spec_loss(spec)(b, outputs<double>{});
    REQUIRE(r.status.ok());
    return r.loss;
}

}  // namespace

TEST_CASE("presets clamp what their trainers clamp, and nothing else", "[presets]") {
    using namespace presets;
    auto const near = [](double value, double want) { return std::fabs(value - want) <= 1e-10 * std::fabs(want); };
    double const far = std::exp(30), at_20 = std::exp(20);
    // The ratio of the surrogate is e^30 with A = -1: unclipped, the loss is twice that, or twice e^20.
    CHECK(near(two_tokens(trl_grpo(), 30, 0, 0), 2 * far));
    CHECK(near(two_tokens(slime_mis(), 30, 0, 0), 2 * far));
    CHECK(near(two_tokens(areal_decoupled(), 30, 0, 0), 2 * far));
    CHECK(near(two_tokens(nemo_tis(2), 30, 0, 0), 2 * far));
    CHECK(near(two_tokens(openrlhf_tis(), 30, 0, 0), 2 * at_20));
    CHECK(near(two_tokens(skyrl_pipeline(), 30, 0, 0), 2 * at_20));
    // verl's dual clip hides it from above: A = -1 pays at most 3.
    CHECK(near(two_tokens(decoupled_token_is(), 30, 0, 0), 6));
    // prime-rl: current over rollout, and 1e-3 of the unclamped square.
    CHECK(near(two_tokens(prime_rl(), 30, 0, 0), 2 * far + 2 * 1e-3 * 900));
    // Weights. OpenRLHF: the raw ratio of each token, e^25 and e^-24, behind a geometric filter that 0.5 passes.
    CHECK(near(two_tokens(openrlhf_seq_mask_tis(), 0, 25, -24), std::exp(25) + std::exp(-24)));
    // verl's product: the sum of the log-ratios is 1 before it is clamped; of clamped ones it would be 0.
    CHECK(near(two_tokens(decoupled_seq_is(10), 0, 30, -29), 2 * std::exp(1)));
    CHECK(near(two_tokens(decoupled_seq_is(1e30), 0, 30, -5), 2 * at_20));
    // TRL's product, unclamped, is 0 above 3 and e^1 here.
    CHECK(near(two_tokens(trl_grpo(), 0, 30, -29), 2 * std::exp(1)));
}
