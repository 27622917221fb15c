// SPDX-License-Identifier: Apache-2.0

// How far may the surrogate be off on these rollouts, and which argument says so?
//   certificate [rollouts.jsonl]
#include <trm/bounds/report.hpp>

#include "rollouts.hpp"

#include <array>
#include <exception>
#include <iostream>

namespace b = trm::bounds;

namespace {

void of_rollouts(const std::string& path, int updates_behind) {
    const rollouts::batch batch = rollouts::read(path, updates_behind);
    b::evidence seen;
    const trm::status s = seen.add(batch.view());
    if (!s.ok()) throw std::runtime_error(std::string(s.what) + ": " + trm::message(s.code));

    std::cout << "== " << updates_behind << " updates behind, exact divergences ==\n";
    const b::certificate c = b::certify(seen);
    std::cout << b::to_text(c) << "\nBlock bounds by block length, and the health of their products:\n"
              << b::to_text(std::span<const b::block_row>(c.blocks)) << '\n';

    b::evidence sampled;
    (void)sampled.add(batch.sampled_view());
    const b::certificate from_tokens = b::certify(sampled);
    const b::rung* second = from_tokens.find(b::rung_name::second_moment);
    std::cout << "from sampled tokens alone: second moment " << second->value << ", at most " << second->upper();
    if (const b::rung* blocks = from_tokens.find(b::rung_name::blocks)) {
        std::cout << "; blocks of " << blocks->block << ' ' << blocks->value << ", at most " << blocks->upper();
    }
    std::cout << "\n\n";

    std::cout << "What a mask on the largest KL removes, and the error it leaves:\n";
    constexpr std::array<double, 6> fractions{0.25, 0.5, 0.75, 0.9, 0.97, 1.0};
    const auto thresholds = b::thresholds_for(seen, b::mask_statistic::max_kl, fractions);
    std::cout << b::to_text(b::sweep(seen, b::mask_statistic::max_kl, thresholds)) << '\n';

    std::cout << "Had responses stopped at T (batch maxima up to there):\n";
    constexpr std::array<std::int64_t, 5> horizons{10, 20, 40, 80, 160};
    std::cout << b::to_text(b::curve(batch.view(), horizons)) << '\n';
}

void of_numbers() {
    constexpr std::array<std::int64_t, 3> horizons{128, 4096, 32768};
    std::array<b::calibration_row, 3> rows;
    b::calibrate(horizons, 0.1, rows);
    std::cout << "== largest thresholds with a bound of at most 0.1, rewards in [0, 1] ==\n"
              << b::to_text(std::span<const b::calibration_row>(rows)) << '\n';

    std::cout << "== a policy pair known exactly: delta = 1e-6, eps = 5e-4, sequence KL = 2e-8 T ==\n";
    for (const std::int64_t t : horizons) {
        b::certificate_options known;
        known.exact = b::divergences{.horizon = t, .eps = 5e-4, .delta = 1e-6, .seq_kl = 2e-8 * static_cast<double>(t)};
        known.surrogate_gain = 0.02;
        std::cout << "T = " << t << '\n' << b::to_text(b::certify({}, known)) << '\n';
    }
}

}  // namespace

int main(int argc, char** argv) {
    try {
        const std::string path = argc > 1 ? argv[1] : TRM_EXAMPLES_DATA_DIR "/rollouts.jsonl";
        of_numbers();
        for (const int updates_behind : {0, 2, 4}) of_rollouts(path, updates_behind);
    } catch (const std::exception& e) {
        std::cerr << e.what() << '\n';
        return 1;
    }
}
