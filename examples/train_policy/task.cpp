// SPDX-License-Identifier: Apache-2.0
#include "task.hpp"

#include <stdexcept>

namespace {

class branch final : public task {
public:
    explicit branch(int horizon) : length(static_cast<std::size_t>(horizon)) {}

    [[nodiscard]] int vocabulary() const override { return 2 * cycle + 2; }
    [[nodiscard]] problem make(random_stream& random) const override {
        problem p{std::vector<std::int32_t>(length + 1, -1), random.below(2)};
        p.forced[0] = 2 * cycle + p.answer;
        return p;
    }
    [[nodiscard]] double reward(problem const& p, std::span<std::int32_t const> tokens) const override {
        if (tokens[1] >= 2 * cycle) return 0;
        int const start = tokens[1] / cycle * cycle;
        std::size_t right = 0;
        for (std::size_t t = 2; t <= length; ++t)
            right += tokens[t - 1] / cycle * cycle == start && tokens[t] == start + (tokens[t - 1] - start + 1) % cycle;
        double const worth = start / cycle == p.answer ? 1 : 0.25;
        return worth * static_cast<double>(right) / static_cast<double>(length - 1);
    }

    /// Walks of both branches, whatever the cue.
    [[nodiscard]] std::int32_t demonstrate(problem const&, std::span<std::int32_t const> before,
                                           random_stream& random) const override {
        if (before.size() == 1 || before.back() >= 2 * cycle) return cycle * random.below(2);
        std::int32_t const start = before.back() / cycle * cycle;
        return start + (before.back() - start + 1) % cycle;
    }

private:
    static constexpr int cycle = 3;
    std::size_t length;
};

class addition final : public task {
public:
    explicit addition(int horizon) : length(static_cast<std::size_t>(horizon)) {}

    [[nodiscard]] int vocabulary() const override { return base + 2 * base - 1; }
    [[nodiscard]] problem make(random_stream& random) const override {
        problem p{std::vector<std::int32_t>(length + 1, -1)};
        for (std::size_t t = 0; t <= length; t += 2) p.forced[t] = base + random.below(base) + random.below(base);
        return p;
    }
    [[nodiscard]] double reward(problem const& p, std::span<std::int32_t const> tokens) const override {
        int carry = 0;
        std::size_t right = 0;
        for (std::size_t t = 0; t < length; t += 2) {
            int const sum = p.forced[t] - base + carry;
            right += tokens[t + 1] == sum % base;
            carry = sum / base;
        }
        return static_cast<double>(right) / static_cast<double>((length + 1) / 2);
    }

    /// Sums without carry.
    [[nodiscard]] std::int32_t demonstrate(problem const&, std::span<std::int32_t const> before,
                                           random_stream&) const override {
        return (before.back() - base) % base;
    }

private:
    static constexpr int base = 3;
    std::size_t length;
};

}  // namespace

std::unique_ptr<task const> make_task(std::string const& name, int horizon) {
    if (horizon < 2 || horizon > 65536) throw std::invalid_argument("horizon must be in [2, 65536]");
    if (name == "branch") return std::make_unique<branch>(horizon);
    if (name == "addition") return std::make_unique<addition>(horizon);
    throw std::invalid_argument("unknown task \"" + name + "\": branch, addition");
}
