// SPDX-License-Identifier: Apache-2.0

// Masks and weights applied to the rollouts: what is kept, how far it is off, loss and gradient.
#include <trm/trm.hpp>

#include "../text.hpp"
#include "report.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace {

using trm::at_most, trm::sequence_mask, trm::token_mask, trm::within;

struct row {
    trm::result all;        ///< of the masked loss
    trm::diagnostics kept;  ///< of the tokens that it keeps
    double kept_kl = 0;     ///< mean exact KL of these
    double gradient_norm = 0;
};

/// Runs the loss; then looks at what it keeps by passing `keep` as the loss_mask of a loss without mask.
template <class Loss>
row evaluate(rollouts const& r, Loss const& loss) {
    row out;
    std::vector<double> grad(r.logp.size());
    std::vector<std::uint8_t> keep(r.logp.size());
    trm::outputs<double> to;
    to.grad = grad;
    to.keep = keep;
    auto batch = r.view();
    out.all = trm::checked(loss)(batch, to);
    out.gradient_norm = std::sqrt(std::inner_product(grad.begin(), grad.end(), grad.begin(), 0.0));
    batch.loss_mask = keep;
    trm::masked_loss const unmasked{trm::no_mask{}, trm::importance_ratio{}, trm::token_mean{}};
    out.kept = trm::checked(unmasked)(batch).diagnostics;
    if (!r.kl.empty() && out.kept.tokens > 0) {
        for (std::size_t t = 0; t < keep.size(); ++t)
            out.kept_kl += keep[t] && trm::is_finite(r.kl[t]) ? r.kl[t] / out.kept.tokens : 0.0;
    }
    return out;
}

std::string heading(rollouts const& r, char const* first) {
    return text("%-37s %7s %7s %9s %9s %8s %6s %6s %10s %9s\n", first, "tokens", "seqs", r.kl.empty() ? "" : "kl", "k3",
                "chi2", "ESS", "seqESS", "loss", "|grad|");
}
std::string line(rollouts const& r, std::string const& name, row const& x) {
    auto const& d = x.all.diagnostics;
    auto const& k = x.kept;
    return text("%-37s %6.1f%% %6.1f%% %9s %9.3g %8.3g %6.3f %6.3f %+10.6f %9.3g\n", name.c_str(),
                100 * d.kept_fraction(), 100 * d.kept_sequence_fraction(),
                r.kl.empty() ? "" : text("%.3g", x.kept_kl).c_str(), k.kl_k3(), k.chi2_token(), k.ess(),
                k.ess_sequence(), x.all.loss, x.gradient_norm);
}

/// A row for a mask under the paper's surrogate.
template <class Mask>
std::string line(rollouts const& r, std::string const& name, Mask const& mask) {
    return line(r, name, evaluate(r, trm::masked_loss{mask, trm::importance_ratio{}, trm::token_mean{}}));
}

/// Kept fractions for each threshold: one pass a threshold, no gradient.
template <class MakeMask>
criterion_sweep kept_for(rollouts const& r, std::string name, std::vector<double> const& grid, MakeMask make) {
    criterion_sweep out{std::move(name), {}};
    for (double c : grid) {
        auto const d =
            trm::checked(trm::masked_loss{make(c), trm::importance_ratio{}, trm::token_mean{}})(r.view()).diagnostics;
        out.points.push_back({c, d.kept_fraction(), d.kept_sequence_fraction()});
    }
    return out;
}

// The criteria, by threshold.
auto token_ratio(double c) { return token_mask{trm::ratio{}, within(1 / c, c)}; }
auto token_k2(double c) { return token_mask{trm::k2{}, at_most(c)}; }
auto max_kl(double c) { return sequence_mask{trm::given{}, trm::stat::max, at_most(c)}; }
auto max_k2(double c) { return sequence_mask{trm::k2{}, trm::stat::max, at_most(c)}; }
auto mean_k3(double c) { return sequence_mask{trm::k3{}, trm::stat::mean, at_most(c)}; }
auto geometric(double c) { return trm::geometric_ratio_within(1 / c, c); }

std::vector<double> log_grid(double from, double to, int points) {
    std::vector<double> grid;
    for (int i = 0; i < points; ++i) grid.push_back(from * std::pow(to / from, i / (points - 1.0)));
    return grid;
}

}  // namespace

std::string presets(rollouts const& r, settings const& s) {
    trm::no_mask const all;
    trm::token_mean const mean;
    std::string out =
        "Presets (what is kept, and kl, k3, chi2 and effective sample size of what is kept)\n" + heading(r, "preset");
    out += line(r, "no mask", all);
    out += line(r, "PPO clip 0.2", evaluate(r, trm::masked_loss{all, trm::ppo_clip{0.2, 0.2}, mean}));
    out += line(
        r, "TIS: weight min(ratio, 2)",
        evaluate(r, trm::masked_loss{all, trm::policy_gradient{}, mean, trm::token_weight{trm::truncate_above(2)}}));
    out += line(
        r, "IcePop: ratio in [0.5, 5], else 0",
        evaluate(r, trm::masked_loss{all, trm::policy_gradient{}, mean, trm::token_weight{trm::zero_outside(0.5, 5)}}));
    out += line(r, "token ratio in [0.5, 2]", token_ratio(2));
    out += line(r, "geometric ratio in [0.99, 1.01]", trm::geometric_ratio_within(0.99, 1.01));
    out += line(r, text("TRM: max k2 <= %g", s.delta), max_k2(s.delta));
    if (!r.kl.empty()) out += line(r, text("TRM: max exact KL <= %g", s.delta), max_kl(s.delta));
    out += line(r, "TRM: mean k3 <= 0.01", mean_k3(0.01));
    out += line(r, text("TRM: max k2 <= %g, mean k3 <= 0.001", s.delta), max_k2(s.delta) && mean_k3(0.001));
    return out;
}

std::string thresholds(rollouts const& r) {
    std::string out = "Thresholds, one criterion at a time (loss: importance_ratio, token_mean over all tokens)\n" +
                      heading(r, "criterion");
    for (double c : {1.1, 1.5, 2.0, 5.0}) out += line(r, text("token ratio in [1/%g, %g]", c, c), token_ratio(c));
    for (double c : {0.001, 0.01, 0.05, 0.5}) out += line(r, text("token k2 <= %g", c), token_k2(c));
    for (double c : {0.02, 0.05, 0.1, 0.5}) out += line(r, text("sequence max k2 <= %g", c), max_k2(c));
    if (!r.kl.empty())
        for (double c : {0.02, 0.05, 0.1, 0.5}) out += line(r, text("sequence max exact KL <= %g", c), max_kl(c));
    for (double c : {0.001, 0.003, 0.01, 0.05}) out += line(r, text("sequence mean k3 <= %g", c), mean_k3(c));
    for (double c : {1.003, 1.01, 1.03, 1.1}) out += line(r, text("geometric ratio in [1/%g, %g]", c, c), geometric(c));
    return out;
}

std::vector<criterion_sweep> sweep_nats(rollouts const& r) {
    auto const grid = log_grid(1e-5, 10, 91);
    std::vector<criterion_sweep> out;
    if (!r.kl.empty()) out.push_back(kept_for(r, "sequence max exact KL", grid, max_kl));
    out.push_back(kept_for(r, "sequence max k2", grid, max_k2));
    out.push_back(kept_for(r, "sequence mean k3", grid, mean_k3));
    out.push_back(kept_for(r, "token k2", grid, token_k2));
    return out;
}

std::vector<criterion_sweep> sweep_ratios(rollouts const& r) {
    std::vector<double> grid = log_grid(1e-4, 10, 91);
    for (double& c : grid) c = std::exp(c);
    return {kept_for(r, "token ratio", grid, token_ratio), kept_for(r, "geometric ratio", grid, geometric)};
}
