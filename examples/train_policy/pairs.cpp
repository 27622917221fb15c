// SPDX-License-Identifier: Apache-2.0
#include "../text.hpp"
#include "summary.hpp"

#include <algorithm>
#include <fstream>
#include <stdexcept>

std::optional<double> method_pair::effect_size() const {
    double const deviation = deviation_of(difference);
    if (deviation == 0) return {};
    return mean_of(difference) / deviation;
}

std::vector<method_pair> pairs_of(std::vector<cell> const& cells) {
    std::vector<method_pair> out;
    for (auto a = cells.begin(); a != cells.end(); ++a)
        for (auto b = cells.begin(); b != a; ++b) {
            if (a->scenario != b->scenario) continue;
            method_pair p{a->scenario, a->method, b->method, {}};
            for (run_result const* x : a->runs)
                for (run_result const* y : b->runs)
                    if (x->settings.seed == y->settings.seed) p.difference.push_back(x->last() - y->last());
            out.push_back(std::move(p));
        }
    return out;
}

void write_pairs(std::vector<cell> const& cells, std::string const& directory) {
    std::string const path = directory + "/pairs.csv";
    std::ofstream csv(path);
    csv << "scenario,method,other,seeds,difference,low,high,effect_size,better\n";
    for (method_pair const& p : pairs_of(cells)) {
        interval const i = bootstrap_mean(p.difference);
        auto const better = std::count_if(p.difference.begin(), p.difference.end(), [](double d) { return d > 0; });
        csv << p.scenario << ",\"" << p.method << "\",\"" << p.other << "\"," << p.difference.size()
            << text(",%.4f,%.4f,%.4f,", mean_of(p.difference), i.low, i.high);
        if (auto const d = p.effect_size()) csv << text("%.3f", *d);
        csv << ',' << better << '\n';
    }
    if (!csv.flush()) throw std::runtime_error("cannot write " + path);
}
