// SPDX-License-Identifier: Apache-2.0
#include "bounds_block_coverage.hpp"
#include "catch.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

// The table of include/trm/bounds/coverage.md with less of everything; bench/block_coverage.cpp makes the table.

TEST_CASE("upper limits of block bounds cover as the table says", "[property][slow]") {
    coverage::effort less;
    less.chains = 4;
    less.runs = 15;
    less.reference = 8192;
    less.resamples = 100;
    double basic = 0.0, cut = 0.0, one_sided = 0.0, direct = 0.0;
    int cells = 0, cut_cells = 0;
    for (const auto kind : {chains::mismatch::dense, chains::mismatch::sparse}) {
        for (const std::size_t horizon : {32U, 128U, 1024U}) {
            for (const std::size_t n : {64U, 256U}) {
                if (horizon == 1024 && n > 64) continue;  // the table has it
                const coverage::result r = coverage::measure({kind, horizon, n}, less, 77 + horizon);
                CAPTURE(static_cast<int>(kind), horizon, n, r.length, r.bias, r.basic, r.one_sided, r.one_sided_bias);
                REQUIRE(r.count == 60);
                CHECK(r.none == 0.0);
                CHECK(std::fabs(r.bias) < 0.12);
                CHECK(r.basic > 0.6);
                CHECK(r.worst_by_block >= 0.7);
                CHECK(r.value >= 0.97 * r.worst);
                CHECK(r.one_sided > 0.75);
                CHECK(std::fabs(r.one_sided_bias) < 0.1);
                basic += r.basic;
                if (r.length < static_cast<double>(horizon)) cut += r.basic, ++cut_cells;
                one_sided += r.one_sided;
                direct += r.direct;
                ++cells;
            }
        }
    }
    REQUIRE(cut_cells >= 3);
    cut /= cut_cells;
    basic /= cells;
    one_sided /= cells;
    direct /= cells;
    CAPTURE(basic, cut, one_sided, direct);
    CHECK(basic > 0.80);
    CHECK(basic < 0.96);
    CHECK(cut > 0.75);
    CHECK(cut < 0.96);  // a limit that always covers has the wrong width
    CHECK(one_sided > 0.88);
    CHECK(one_sided > direct + 0.05);
}
