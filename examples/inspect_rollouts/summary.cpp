// SPDX-License-Identifier: Apache-2.0

// What the file holds, and how far apart the policies are.
#include <trm/trm.hpp>

#include "../text.hpp"
#include "report.hpp"

#include <algorithm>
#include <cmath>
#include <set>

namespace {

/// Mean k3 of a pair of policies: how far `target` is from `behaviour`.
double mean_k3(rollouts const& r, std::vector<double> const& target, std::vector<double> const& behaviour) {
    auto batch = r.view();
    batch.logp = target;
    batch.rollout_logp = behaviour;
    trm::masked_loss const loss{trm::no_mask{}, trm::importance_ratio{}, trm::token_mean{}};
    return trm::checked(loss)(batch).diagnostics.kl_k3();
}

std::string line(std::string const& name, rollouts const& r) {
    trm::masked_loss const loss{trm::no_mask{}, trm::importance_ratio{}, trm::token_mean{}};
    trm::diagnostics const d = trm::checked(loss)(r.view()).diagnostics;
    double kl = 0, tv = 0, half = 0, largest = 0, n = 0;
    for (std::size_t t = 0; t < r.logp.size(); ++t) n += r.usable(t);
    for (std::size_t t = 0; t < r.logp.size(); ++t) {
        if (!r.usable(t)) continue;
        half += std::fabs(std::expm1(r.logp[t] - r.rollout_logp[t])) / 2 / n;
        if (!r.tv.empty() && trm::is_finite(r.tv[t])) tv += r.tv[t] / n;
        if (!r.kl.empty() && trm::is_finite(r.kl[t])) kl += r.kl[t] / n, largest = std::max(largest, r.kl[t]);
    }
    auto const known = [](bool has, double x) { return has ? text("%.5f", x) : std::string("-"); };
    std::string out =
        text("%-6s %5zu %7.0f %9s %9.5f %8s %8.4f %8.4f %8s %8.3f %8.3g %6.3f %6.3f", name.c_str(), r.size(), d.tokens,
             known(!r.kl.empty(), kl).c_str(), d.kl_k3(), r.tv.empty() ? "-" : text("%.4f", tv).c_str(), half,
             d.mean_ratio(), r.kl.empty() ? "-" : text("%.3f", largest).c_str(), d.max_k2(), d.chi2_token(), d.ess(),
             d.ess_sequence());
    if (!r.proximal_logp.empty()) {
        out += text(" %9.5f %9.5f", mean_k3(r, r.proximal_logp, r.rollout_logp), mean_k3(r, r.logp, r.proximal_logp));
    }
    return out + "\n";
}

}  // namespace

std::string summary(rollouts const& r) {
    std::set<std::int64_t> const groups(r.group.begin(), r.group.end());
    std::string out = text("%zu sequences", r.size());
    if (!groups.empty()) out += text(" in %zu groups", groups.size());
    out += text(", %zu tokens, %zu of them sampled by the policy\n\n", r.logp.size(), r.sampled());
    out += text("%-6s %5s %7s %9s %9s %8s %8s %8s %8s %8s %8s %6s %6s", "behind", "seqs", "tokens", "mean kl",
                "mean k3", "mean tv", "|r-1|/2", "mean r", "max kl", "max k2", "chi2", "ESS", "seqESS");
    if (!r.proximal_logp.empty()) out += text(" %9s %9s", "k3 engine", "k3 stale");
    out += "\n";
    auto const ages = r.ages();
    for (std::int64_t age : ages)
        out += line(r.updates_behind.empty() ? "all" : text("%d", static_cast<int>(age)), r.of_age(age));
    if (ages.size() > 1) out += line("all", r);
    return out;
}
