// SPDX-License-Identifier: Apache-2.0

// How often the upper limits of block bounds and direct estimates cover what they estimate, on Markov chains:
//   block_coverage [policy pairs] [samples of each] [responses behind the reference values]
// Prints the table of include/trm/bounds/coverage.md. A few minutes on two cores.
#include "../tests/bounds_block_coverage.hpp"

#include <cstdio>
#include <cstdlib>
#include <future>
#include <vector>

int main(int argc, char** argv) {
    coverage::effort how;
    if (argc > 1) how.chains = std::atoi(argv[1]);
    if (argc > 2) how.runs = std::atoi(argv[2]);
    if (argc > 3) how.reference = static_cast<std::size_t>(std::atoll(argv[3]));
    if (how.chains < 1 || how.runs < 1 || how.reference < 1) {
        std::fputs("block_coverage: three positive numbers, please\n", stderr);
        return 1;
    }
    std::vector<coverage::cell> cells;
    for (const auto kind : {chains::mismatch::dense, chains::mismatch::sparse}) {
        for (const std::size_t horizon : {32U, 128U, 1024U}) {
            for (const std::size_t n : {64U, 256U, 1024U}) cells.push_back({kind, horizon, n});
        }
    }
    std::vector<coverage::result> results(cells.size());
    const auto half = [&](std::size_t first) {
        for (std::size_t i = first; i < cells.size(); i += 2) {
            results[i] = coverage::measure(cells[i], how, 2025 + i / 3);  // the same policy pairs for every n
        }
    };
    auto other = std::async(std::launch::async, half, 1);
    half(0);
    other.get();

    std::printf("%d policy pairs, %d samples of each in 64 groups, reference values from %zu responses, %d resamples\n",
                how.chains, how.runs, how.reference, how.resamples);
    std::printf("%-6s %5s %5s %6s %7s %9s %7s %6s %6s %6s %6s %9s %7s %7s %7s %7s\n", "", "T", "n", "w", "no w",
                "bound", "bias", "basic", "perc.", "4th", "worst", "worst", "direct", "bias", "1-sided", "bias");
    for (std::size_t i = 0; i < cells.size(); ++i) {
        const coverage::cell& c = cells[i];
        const coverage::result& r = results[i];
        std::printf(
            "%-6s %5zu %5zu %6.0f %6.0f%% %9.3g %+6.1f%% %5.0f%% %5.0f%% %5.0f%% %5.0f%% %9.3g %6.0f%% %+6.1f%% "
            "%6.0f%% %+6.1f%%\n",
            c.kind == chains::mismatch::dense ? "dense" : "sparse", c.horizon, c.n, r.length, 100 * r.none, r.value,
            100 * r.bias, 100 * r.basic, 100 * r.percentile, 100 * r.refined, 100 * r.worst_by_block, r.worst,
            100 * r.direct, 100 * r.direct_bias, 100 * r.one_sided, 100 * r.one_sided_bias);
    }
}
