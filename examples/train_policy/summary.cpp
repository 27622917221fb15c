// SPDX-License-Identifier: Apache-2.0
#include "summary.hpp"

#include "../text.hpp"
#include "random_stream.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <sstream>
#include <stdexcept>

namespace {

std::vector<std::string> split(std::string const& line) {
    std::vector<std::string> out{""};
    for (char c : line) {
        if (c == ',') {
            out.emplace_back();
        } else {
            out.back() += c;
        }
    }
    return out;
}

}  // namespace

double run_result::best() const { return *std::max_element(value.begin(), value.end()); }
bool run_result::collapsed() const { return best() - last() > std::max(0.1, (best() - first()) / 2); }

interval wilson(int successes, int trials) {
    if (trials == 0) return {0, 1};
    constexpr double z = 1.959964;
    double const n = trials, p = successes / n;
    double const centre = (p + z * z / (2 * n)) / (1 + z * z / n);
    double const half = z / (1 + z * z / n) * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
    return {std::max(0.0, centre - half), std::min(1.0, centre + half)};
}

double mean_of(std::vector<double> const& x) {
    return x.empty() ? 0 : std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
}

double deviation_of(std::vector<double> const& x) {
    if (x.size() < 2) return 0;
    double const m = mean_of(x);
    double const sum =
        std::accumulate(x.begin(), x.end(), 0.0, [m](double s, double v) { return s + (v - m) * (v - m); });
    return std::sqrt(sum / static_cast<double>(x.size() - 1));
}

interval bootstrap_mean(std::vector<double> const& x) {
    if (x.empty()) return {};
    random_stream random(1, for_bootstrap);
    std::vector<double> means(2000);
    for (double& m : means) {
        m = 0;
        for (std::size_t i = 0; i < x.size(); ++i)
            m += x[static_cast<std::size_t>(random.below(static_cast<int>(x.size())))] / static_cast<double>(x.size());
    }
    std::sort(means.begin(), means.end());
    return {means[50], means[1949]};
}

std::vector<run_result> read_study(std::vector<run_settings> const& runs, std::string const& directory) {
    std::vector<run_result> out;
    for (run_settings const& s : runs) {
        std::string const path = directory + "/runs/" + run_name(s) + ".csv";
        std::ifstream in(path);
        std::string line;
        if (!std::getline(in, line)) throw std::runtime_error("cannot read " + path);
        std::vector<std::string> const names = split(line);
        run_result r{s, {}, {}, {}, {}, {}, {}, {}, {}};
        while (std::getline(in, line)) {
            std::vector<std::string> const fields = split(line);
            auto const at = [&](char const* name) {
                auto const i = std::find(names.begin(), names.end(), name) - names.begin();
                return fields.at(static_cast<std::size_t>(i));
            };
            if (!at("value").empty()) {
                r.value_at.push_back(std::strtod(at("update").c_str(), nullptr));
                r.value.push_back(std::strtod(at("value").c_str(), nullptr));
            }
            if (at("reward").empty()) continue;
            for (auto const& [name, to] : {std::pair{"kept_sequences", &r.kept_sequences},
                                           {"kept_tokens", &r.kept_tokens},
                                           {"mean_kl", &r.mean_kl},
                                           {"max_kl", &r.max_kl},
                                           {"ess_sequence", &r.ess_sequence},
                                           {"certificate", &r.certificate}})
                to->push_back(std::strtod(at(name).c_str(), nullptr));
        }
        if (r.value.empty()) throw std::runtime_error(path + " has no rows");
        out.push_back(std::move(r));
    }
    return out;
}

std::vector<cell> cells_of(std::vector<run_result> const& results) {
    std::vector<cell> cells;
    for (run_result const& r : results) {
        std::string const scenario = scenario_of(r.settings);
        auto at = std::find_if(cells.begin(), cells.end(),
                               [&](cell const& c) { return c.scenario == scenario && c.method == r.settings.method; });
        if (at == cells.end()) {
            auto const after =
                std::find_if(cells.rbegin(), cells.rend(), [&](cell const& c) { return c.scenario == scenario; });
            at = cells.insert(after == cells.rend() ? cells.end() : after.base(), cell{});
            at->scenario = scenario;
            at->method = r.settings.method;
        }
        at->runs.push_back(&r);
    }
    for (cell& c : cells) {
        std::vector<double> kept_t, kept_s, kl, largest, ess, bound;
        cell const& reference =
            *std::find_if(cells.begin(), cells.end(), [&](cell const& o) { return o.scenario == c.scenario; });
        for (run_result const* r : c.runs) {
            c.last.push_back(r->last());
            c.collapsed += r->collapsed();
            kept_t.push_back(mean_of(r->kept_tokens));
            kept_s.push_back(mean_of(r->kept_sequences));
            kl.push_back(mean_of(r->mean_kl));
            largest.push_back(mean_of(r->max_kl));
            ess.push_back(mean_of(r->ess_sequence));
            bound.push_back(mean_of(r->certificate));
            for (run_result const* o : reference.runs)
                if (o->settings.seed == r->settings.seed) c.gain.push_back(r->last() - o->last());
        }
        c.kept_tokens = mean_of(kept_t);
        c.kept_sequences = mean_of(kept_s);
        c.mean_kl = mean_of(kl);
        c.max_kl = mean_of(largest);
        c.ess_sequence = mean_of(ess);
        c.certificate = mean_of(bound);
    }
    return cells;
}

std::string summarise(std::vector<cell> const& cells, std::string const& directory) {
    std::ofstream csv(directory + "/summary.csv");
    csv << "scenario,method,seeds,reward_mean,reward_deviation,reward_min,reward_max,collapsed,collapse_low,collapse_"
           "high,"
           "gain_mean,gain_low,gain_high,kept_tokens,kept_sequences,mean_kl,max_kl,ess_sequence,certificate\n";
    std::string out, scenario;
    for (cell const& c : cells) {
        if (c.scenario != scenario) {
            scenario = c.scenario;
            out += "\n" + scenario +
                   "\n  method        seeds  reward    +-    min    max  collapsed   95%        gain   95%"
                   "               kept seq  mean KL  seq ESS\n";
        }
        int const n = static_cast<int>(c.last.size());
        auto const [low, high] = std::minmax_element(c.last.begin(), c.last.end());
        interval const rate = wilson(c.collapsed, n), gain = bootstrap_mean(c.gain);
        csv << c.scenario << ",\"" << c.method << "\"," << n
            << text(",%.4f,%.4f,%.4f,%.4f,%d,%.3f,%.3f,%.4f,%.4f,%.4f", mean_of(c.last), deviation_of(c.last), *low,
                    *high, c.collapsed, rate.low, rate.high, mean_of(c.gain), gain.low, gain.high)
            << text(",%.4f,%.4f,%.3g,%.3g,%.3f,%.3g\n", c.kept_tokens, c.kept_sequences, c.mean_kl, c.max_kl,
                    c.ess_sequence, c.certificate);
        out += text(
            "  %-13s %5d   %5.3f %5.3f  %5.3f  %5.3f  %3d of %-3d  [%.2f, %.2f]  %+.3f  [%+.3f, %+.3f]  %8.3f  %7.2g  "
            "%7.3f\n",
            c.method.substr(0, 13).c_str(), n, mean_of(c.last), deviation_of(c.last), *low, *high, c.collapsed, n,
            rate.low, rate.high, mean_of(c.gain), gain.low, gain.high, c.kept_sequences, c.mean_kl, c.ess_sequence);
    }
    if (!csv.flush()) throw std::runtime_error("cannot write " + directory + "/summary.csv");
    return out;
}
