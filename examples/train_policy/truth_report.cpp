// SPDX-License-Identifier: Apache-2.0
#include "../text.hpp"
#include "truth.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace {

template <class Row, class Same, class Value>
double mean_over(std::vector<Row> const& rows, Same const& same, Value const& value) {
    double sum = 0, n = 0;
    for (Row const& r : rows)
        if (same(r)) sum += value(r), ++n;
    return n > 0 ? sum / n : 0;
}

void write(std::ofstream& file, std::string const& path) {
    if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

}  // namespace

std::string report(truth_table const& t, std::string const& directory) {
    std::filesystem::create_directories(directory);
    std::ofstream gradients(directory + "/truth_gradients.csv"), bounds(directory + "/truth_bounds.csv");
    gradients << "engine,staleness,seed,method,bias,deviation,rms_error,cosine,kept\n";
    for (truth_row const& r : t.gradients)
        gradients << r.engine << ',' << r.staleness << ',' << r.seed << ",\"" << r.method << '"'
                  << text(",%.5g,%.5g,%.5g,%.5f,%.5f\n", r.bias, r.deviation, r.error, r.cosine, r.kept);
    bounds
        << "engine,staleness,seed,error,worst_reward,second_moment,adaptive,mixed_kl,pinsker_marginal,classical,max_kl,"
           "sequence_kl\n";
    for (error_row const& r : t.errors)
        bounds << r.engine << ',' << r.staleness << ',' << r.seed
               << text(",%.5g,%.5g,%.5g,%.5g,%.5g,%.5g,%.5g,%.5g,%.5g\n", r.error, r.worst_reward, r.second_moment,
                       r.adaptive, r.mixed_kl, r.pinsker, r.classical, r.max_kl, r.sequence_kl);
    write(gradients, directory + "/truth_gradients.csv");
    write(bounds, directory + "/truth_bounds.csv");

    std::string out;
    for (std::size_t i = 0; i < t.errors.size(); ++i) {
        error_row const& first = t.errors[i];
        auto const here = [&](auto const& r) { return r.engine == first.engine && r.staleness == first.staleness; };
        if (std::find_if(t.errors.begin(), t.errors.end(), here) - t.errors.begin() != static_cast<std::ptrdiff_t>(i))
            continue;
        auto const error = [&](double error_row::* v) {
            return mean_over(t.errors, here, [v](error_row const& r) { return r.*v; });
        };
        out += text(
            "\n%s, %d updates behind: largest KL %.2g, error of the surrogate %.2g; bounds: direct %.2g, second moment "
            "%.2g, Adaptive %.2g, Pinsker-Marginal %.2g, classical %.2g\n",
            first.engine.c_str(), first.staleness, error(&error_row::max_kl), error(&error_row::error),
            error(&error_row::worst_reward), error(&error_row::second_moment), error(&error_row::adaptive),
            error(&error_row::pinsker), error(&error_row::classical));
        out += "  method            bias  deviation  rms error  cosine   kept\n";
        std::vector<std::string> done;
        for (truth_row const& m : t.gradients) {
            if (std::find(done.begin(), done.end(), m.method) != done.end()) continue;
            done.push_back(m.method);
            auto const mean = [&](double truth_row::* v) {
                return mean_over(
                    t.gradients, [&](truth_row const& r) { return here(r) && r.method == m.method; },
                    [v](truth_row const& r) { return r.*v; });
            };
            out += text("  %-14s %7.4f  %9.3f  %9.3f  %6.3f  %5.3f\n", m.method.substr(0, 14).c_str(),
                        mean(&truth_row::bias), mean(&truth_row::deviation), mean(&truth_row::error),
                        mean(&truth_row::cosine), mean(&truth_row::kept));
        }
    }
    return out + "\n";
}
