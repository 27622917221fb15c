// SPDX-License-Identifier: Apache-2.0

// A trainer that keeps only the log-probabilities of sampled tokens cannot compute the largest KL or TV of a sequence. How
// well do statistics of the sampled tokens stand in for them? Everything comes from the measure phase of one loss: its
// statistics are the values that its criteria would compare with thresholds.
#include <trm/trm.hpp>

#include "../text.hpp"
#include "report.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace {

constexpr auto anything = trm::band{};

/// One number per sequence; larger is further from the rollout policy.
struct statistic {
    std::string name;
    std::vector<double> values;
};

/// What is not finite is further than every threshold.
double finite_or_far(double x) { return trm::is_finite(x) ? x : 1e300; }

/// The exact maximum first, then what could replace it.
std::vector<statistic> measure(rollouts const& r, std::vector<double> const& exact) {
    using namespace trm::stat;
    using trm::sequence_mask;
    trm::masked_loss const loss{
        sequence_mask{trm::given{}, max, anything} && sequence_mask{trm::k2{}, max, anything} &&
            sequence_mask{trm::k3{}, max, anything} && sequence_mask{trm::binary_kl{}, max, anything} &&
            sequence_mask{trm::binary_tv{}, max, anything} && sequence_mask{trm::given{}, mean, anything} &&
            sequence_mask{trm::k3{}, mean, anything} && sequence_mask{trm::k1{}, mean, anything},
        trm::importance_ratio{}, trm::token_mean{}};
    auto batch = r.view();
    batch.given = exact;
    std::size_t const n = r.size();
    trm::sequence_totals totals;
    trm::checked(loss).measure(batch, totals);

    auto const of_criterion = [&](std::string name, int i) {
        statistic s{std::move(name), std::vector<double>(n)};
        for (std::size_t k = 0; k < n; ++k)
            s.values[k] = finite_or_far(std::fabs(loss.statistic(totals, static_cast<std::int64_t>(k), i)));
        return s;
    };
    return {of_criterion("exact", 0),         of_criterion("max k2", 1),          of_criterion("max k3", 2),
            of_criterion("max binary KL", 3), of_criterion("max binary TV", 4),   of_criterion("mean exact", 5),
            of_criterion("mean k3", 6),       of_criterion("|mean log ratio|", 7)};
}

/// The threshold that keeps `count` sequences.
double threshold(std::vector<double> values, std::size_t count) {
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(count - 1), values.end());
    return values[count - 1];
}

struct agreement {
    double missed = 0;  ///< of the sequences that the exact maximum rejects, the share that the detector keeps
    double over = 0;  ///< of the sequences that it keeps, the share that the detector rejects
};
agreement compare(std::vector<double> const& exact, std::vector<double> const& detector, std::size_t count) {
    double const delta = threshold(exact, count), c = threshold(detector, count);
    double kept = 0, rejected = 0;
    agreement a;
    for (std::size_t i = 0; i < exact.size(); ++i) {
        bool const keep = exact[i] <= delta;
        (keep ? kept : rejected) += 1;
        if (!keep && detector[i] <= c) a.missed += 1;
        if (keep && detector[i] > c) a.over += 1;
    }
    return {rejected > 0 ? a.missed / rejected : 0.0, kept > 0 ? a.over / kept : 0.0};
}

std::size_t count_for(double keep, std::size_t n) {
    auto const count = std::llround(keep * static_cast<double>(n));
    return std::clamp<std::size_t>(static_cast<std::size_t>(count), 1, n);
}

std::string table(rollouts const& r, std::string const& what, std::vector<double> const& exact, settings const& s) {
    auto const all = measure(r, exact);
    std::size_t const n = r.size();
    std::string out = text("  %-18s", ("max exact " + what).c_str());
    for (double keep : s.keep) {
        auto const count = count_for(keep, n);
        out += text(" <= %-6.3g keeps %3.0f%%", threshold(all[0].values, count),
                    100 * static_cast<double>(count) / static_cast<double>(n));
    }
    out += text("\n  %-18s", "detector");
    for (std::size_t k = 0; k < s.keep.size(); ++k) out += text(" %9s %11s", "missed", "over");
    for (auto d = all.begin() + 1; d != all.end(); ++d) {
        out += text("\n  %-18s", (d->name == "mean exact" ? "mean exact " + what : d->name).c_str());
        for (double keep : s.keep) {
            agreement const a = compare(all[0].values, d->values, count_for(keep, n));
            out += text(" %8.0f%% %10.1f%%", 100 * a.missed, 100 * a.over);
        }
    }
    out += text("\n  %-18s", "a coin");
    for (double keep : s.keep) {
        double const f = static_cast<double>(count_for(keep, n)) / static_cast<double>(n);
        out += text(" %8.0f%% %10.1f%%", 100 * f, 100 * (1 - f));
    }
    return out + "\n";
}

}  // namespace

std::string detectors(rollouts const& all, settings const& s) {
    if (all.kl.empty()) return {};
    std::string out =
        "Detectors from sampled tokens against the exact maximum, at equal keep rates. missed: share of the sequences\n"
        "that the exact mask rejects but the detector keeps; over: share of those it keeps but the detector rejects\n";
    for (std::int64_t age : all.ages()) {
        rollouts const r = all.of_age(age);
        if (!all.updates_behind.empty())
            out += text("%d updates behind, %zu sequences\n", static_cast<int>(age), r.size());
        out += table(r, "KL", r.kl, s);
        if (!r.tv.empty()) out += table(r, "TV", r.tv, s);
    }
    return out;
}

maxima maxima_of(rollouts const& r) {
    if (r.kl.empty()) return {};
    auto all = measure(r, r.kl);
    return {std::move(all[0].values), std::move(all[1].values)};
}
