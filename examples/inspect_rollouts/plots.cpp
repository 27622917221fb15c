// SPDX-License-Identifier: Apache-2.0
#include "plots.hpp"

#include <trm/bounds/curve.hpp>
#include <trm/bounds/sweep.hpp>
#include <trm/loss/checked.hpp>

#include "figure.hpp"
#include "gnuplot.hpp"
#include "plot_blocks.hpp"

#include <algorithm>
#include <cmath>

namespace b = trm::bounds;

namespace {

using points = std::vector<std::pair<double, double>>;

std::string age_title(rollouts const& all, std::int64_t age) {
    return all.updates_behind.empty() ? "all rollouts" : text("%d updates behind", static_cast<int>(age));
}

/// Mean divergence at each position, over bins of equal width.
figure by_position(rollouts const& all) {
    figure f{"divergence_by_position"};
    f.add(
        "set xlabel 'position in the response (tokens)'\nset ylabel 'mean divergence (nats per token)'\n"
        "set logscale y\nset format y '10^{%L}'");
    std::size_t longest = 1, i = 0;
    for (std::size_t s = 0; s < all.size(); ++s)
        longest = std::max(longest, static_cast<std::size_t>(all.offsets[s + 1] - all.offsets[s]));
    std::size_t const width = std::max<std::size_t>(1, longest / 20), bins = longest / width;
    for (std::int64_t age : all.ages()) {
        rollouts const r = all.of_age(age);
        std::vector<double> n(bins, 0), kl(bins, 0), k3(bins, 0);
        for (std::size_t s = 0; s < r.size(); ++s) {
            for (std::int64_t t = r.offsets[s]; t < r.offsets[s + 1]; ++t) {
                auto const at = static_cast<std::size_t>(t);
                auto const bin = std::min(bins - 1, static_cast<std::size_t>(t - r.offsets[s]) / width);
                if (!r.usable(at)) continue;
                double const x = r.logp[at] - r.rollout_logp[at];
                n[bin] += 1;
                k3[bin] += std::expm1(x) - x;
                if (!r.kl.empty() && trm::is_finite(r.kl[at])) kl[bin] += r.kl[at];
            }
        }
        points exact, sampled;
        for (std::size_t bin = 0; bin < bins; ++bin) {
            if (n[bin] == 0) continue;
            double const x = (static_cast<double>(bin) + 0.5) * static_cast<double>(width);
            exact.emplace_back(x, kl[bin] / n[bin]);
            sampled.emplace_back(x, k3[bin] / n[bin]);
        }
        std::string const title = age_title(all, age), c = colour(i++);
        f.curve(sampled, "points pt 7 ps 0.7 " + c, all.kl.empty() ? title + ", k3" : "");
        if (!all.kl.empty()) f.curve(exact, "lines lw 2 " + c, title);
    }
    if (!all.kl.empty()) f.add("set title 'lines: exact KL over the vocabulary; dots: k3 of the sampled tokens'");
    f.end_panel();
    return f;
}

/// What a threshold keeps, one panel an age.
figure by_threshold(rollouts const& all) {
    auto const ages = all.ages();
    figure f{"kept_by_threshold", ages.size()};
    f.add(
        "set xlabel 'threshold (nats)'\nset logscale x\nset format x '10^{%L}'\nset xtics 10\nset yrange [0:100]\n"
        "set ylabel 'kept (%)'");
    for (std::int64_t age : ages) {
        std::size_t i = 0;
        for (auto const& sweep : sweep_nats(all.of_age(age))) {
            bool const tokens = sweep.name.rfind("token", 0) == 0;
            points p;
            for (auto const& k : sweep.points)
                p.emplace_back(k.threshold, 100 * std::max(1e-6, tokens ? k.tokens : k.sequences));
            f.curve(p, "lines lw 2 " + colour(i++) + (tokens ? " dt 2" : ""), sweep.name);
        }
        f.add("set title '" + age_title(all, age) + "'");
        f.end_panel();
        f.add("unset ylabel");
    }
    return f;
}

/// The same for bands [1/c, c]: tokens for the ratio of each token, sequences for the geometric mean.
figure by_ratio(rollouts const& all) {
    figure f{"kept_by_ratio_band", 2};
    f.add(
        "set xlabel 'log c (band [1/c, c], nats)'\nset logscale x\nset format x '10^{%L}'\nset xtics 10\n"
        "set yrange [0:100]");
    for (std::size_t which : {0u, 1u}) {
        std::size_t i = 0;
        for (std::int64_t age : all.ages()) {
            auto const sweep = sweep_ratios(all.of_age(age))[which];
            points p;
            for (auto const& k : sweep.points)
                p.emplace_back(std::log(k.threshold), 100 * std::max(1e-6, which == 0 ? k.tokens : k.sequences));
            f.curve(p, "lines lw 2 " + colour(i++), age_title(all, age));
        }
        f.add(which == 0 ? "set title 'ratio of each token'\nset ylabel 'kept tokens (%)'"
                         : "set title 'geometric mean ratio of the sequence'\nset ylabel 'kept sequences (%)'");
        f.end_panel();
    }
    return f;
}

/// Is the largest k2 of the sampled tokens a stand-in for the largest exact KL? One dot a sequence.
figure against_exact(rollouts const& all) {
    figure f{"sampled_against_exact"};
    f.add(
        "set xlabel 'largest exact KL of the sequence (nats)'\nset ylabel 'largest k2 of its sampled tokens (nats)'\n"
        "set logscale xy\nset format x '10^{%L}'\nset format y '10^{%L}'");
    std::size_t i = 0;
    double low = 1e300, high = 0;
    for (std::int64_t age : all.ages()) {
        maxima const m = maxima_of(all.of_age(age));
        points p;
        for (std::size_t s = 0; s < m.k2.size(); ++s) {
            if (!(m.exact_kl[s] > 0)) continue;
            p.emplace_back(m.exact_kl[s], m.k2[s]);
            low = std::min(low, m.exact_kl[s]);
            high = std::max(high, m.exact_kl[s]);
        }
        f.curve(p, "points pt 7 ps 0.6 " + colour(i++), age_title(all, age));
    }
    if (high > low) f.curve({{low, low}, {high, high}}, "lines lc rgb '#888888' dt 2", "equal");
    f.end_panel();
    return f;
}

/// Every argument for the error, had responses stopped at T.
figure bounds_by_horizon(rollouts const& all, settings const& s) {
    auto const ages = all.ages();
    figure f{"bounds_by_horizon", ages.size()};
    double const width = s.reward_max - s.reward_min;
    f.add(
        "set xlabel 'T (tokens)'\nset ylabel 'bound on |J(pi) - J(mu) - L|'\nset logscale xy\nset format y '10^{%L}'");
    f.add(
        text("set arrow 1 from graph 0, first %g to graph 1, first %g nohead lc rgb '#888888' dt 2\n"
             "set label 1 'vacuous above' at graph 0.03, first %g left offset 0, 0.6 tc rgb '#666666'",
             width, width, width));
    std::vector<std::int64_t> horizons;
    std::int64_t longest = 2;
    for (std::size_t i = 0; i < all.size(); ++i) longest = std::max(longest, all.offsets[i + 1] - all.offsets[i]);
    for (double t = 2; t < static_cast<double>(longest); t = std::ceil(t * 1.2))
        horizons.push_back(static_cast<std::int64_t>(t));
    horizons.push_back(longest);
    std::vector<std::vector<b::curve_point>> curves;
    double low = 1e300, high = 0;
    for (std::int64_t age : ages) {
        curves.push_back(
            b::curve(all.of_age(age).trajectories(), horizons, {{s.reward_min, s.reward_max}, b::constants::centred}));
        for (b::curve_point const& p : curves.back()) {
            double const largest = p.paper[b::bound_name::classical].value_or(p.second_moment);
            if (p.direct > 0) low = std::min(low, p.direct);
            high = std::max(high, largest);
        }
    }
    f.add(text("set xrange [2:%lld]\nset yrange [%.3g:%.3g]", static_cast<long long>(longest), low / 2, high * 2));
    for (std::size_t a = 0; a < ages.size(); ++a) {
        std::size_t i = 0;
        auto const add = [&](char const* name, auto const& value, char const* dashes = "") {
            points p;
            for (b::curve_point const& at : curves[a]) p.emplace_back(static_cast<double>(at.horizon), value(at));
            f.curve(p, "lines lw 2 " + colour(i++) + dashes, name);
        };
        auto const paper = [](b::bound_name n) { return [n](auto const& at) { return at.paper[n].value_or(0.0); }; };
        add("classical", paper(b::bound_name::classical));
        add("Pinsker-Marginal", paper(b::bound_name::pinsker_marginal));
        add("Adaptive", paper(b::bound_name::adaptive));
        add("second moment", [](auto const& at) { return at.second_moment; });
        add("direct, worst reward", [](auto const& at) { return at.direct; });
        add("blocks, longest in good order", [](auto const& at) { return at.blocks; }, " dt 2");
        f.add("set title '" + age_title(all, ages[a]) + "'");
        f.end_panel();
        f.add("unset ylabel\nunset label 1");
    }
    return f;
}

/// What a sequence mask keeps against the error that is left on it.
figure by_error(rollouts const& all, settings const& s) {
    auto const ages = all.ages();
    figure f{"kept_by_error", ages.size()};
    f.add(
        "set xlabel 'error on what is kept, upper 95% limit'\nset ylabel 'kept sequences (%)'\nset logscale x\n"
        "set format x '10^{%L}'\nset yrange [0:100]");
    std::vector<double> fractions;
    for (int k = 1; k <= 20; ++k) fractions.push_back(k / 20.0);
    double low = 1e300, high = 0;
    for (std::int64_t age : ages) {
        rollouts const r = all.of_age(age);
        b::evidence seen;
        trm::throw_if(seen.add(r.trajectories()));
        b::sweep_options options;
        options.reward = {s.reward_min, s.reward_max};
        std::size_t i = 0;
        auto const add = [&](std::string const& name, b::mask_statistic m) {
            points line, healthy, poor;
            for (auto const& row : b::sweep(seen, m, b::thresholds_for(seen, m, fractions), options)) {
                double const error = row.kept_error.range ? row.kept_error.range->high : row.kept_error.value;
                line.emplace_back(error, 100 * row.kept_sequences);
                if (error > 0) low = std::min(low, error), high = std::max(high, error);
                (row.kept_ess < b::certificate_options{}.least_ess ? poor : healthy).push_back(line.back());
            }
            std::string const c = colour(i++);
            f.curve(line, "lines lw 2 " + c, name);
            f.curve(healthy, "points pt 7 ps 0.6 " + c, "");
            f.curve(poor, "points pt 6 ps 0.8 " + c, "");
        };
        if (!r.kl.empty()) add("mask on max exact KL", b::mask_statistic::max_kl);
        add("mask on max k2", b::mask_statistic::max_k2);
        add(r.kl.empty() ? "mask on mean k3" : "mask on mean exact KL", b::mask_statistic::mean_kl);
        f.explain("points pt 6 lc rgb '#444444'", "effective sample size of what is kept below 0.3");
        f.add("set title '" + age_title(all, age) + "'");
        f.end_panel();
        f.add("unset ylabel");
    }
    if (high > low) f.body = text("set xrange [%.3g:%.3g]\n", low / 2, high * 2) + f.body;
    return f;
}

}  // namespace

plot_outcome draw(rollouts const& all, settings const& s, plot_settings const& where,
                  std::function<void(std::string const&)> const& progress) {
    std::vector<figure> figures{by_position(all)};
    progress("kept fractions");
    figures.push_back(by_threshold(all));
    progress("ratio bands");
    figures.push_back(by_ratio(all));
    progress("bounds");
    figures.push_back(bounds_by_horizon(all, s));
    figures.push_back(bounds_by_block(all, s));
    progress("errors");
    figures.push_back(by_error(all, s));
    if (!all.kl.empty()) figures.push_back(against_exact(all));
    progress("drawing");
    return render(figures, where);
}
