// SPDX-License-Identifier: Apache-2.0

// Values that no log-probability of a sampled token has.
#include "../text.hpp"
#include "sanity.hpp"

#include <algorithm>
#include <map>

namespace {

/// What is looked for in one policy's log-probabilities.
struct census {
    std::size_t n = 0, positive = 0, as_probability = 0, ones = 0;
    std::size_t zero = 0;                ///< exactly 0 where the other policy finds the token unlikely
    std::map<double, std::size_t> tiny;  ///< values that stand for a probability of 0
    double low = 0, high = 0;
};

/// e^-50 is never sampled; a value below is a placeholder.
constexpr double never = -50;
/// The other policy gives the token less than e^-1.
constexpr double unlikely = -1;
constexpr std::size_t few = 20;  ///< tokens from which a share says something

census take(rollouts const& r, std::vector<double> const& mine, std::vector<double> const& other) {
    census c;
    for (std::size_t t = 0; t < mine.size(); ++t) {
        if (!r.usable(t)) continue;
        double const x = mine[t];
        c.low = c.n == 0 ? x : std::min(c.low, x);
        c.high = c.n == 0 ? x : std::max(c.high, x);
        ++c.n;
        c.positive += x > 0;
        c.as_probability += x > 0 && x <= 1;
        c.ones += x == 1;
        c.zero += x == 0 && other[t] < unlikely;
        if (x < never && (c.tiny.size() < 1000 || c.tiny.contains(x))) ++c.tiny[x];
    }
    return c;
}

void judge(char const* name, char const* other, census const& c, std::vector<std::string>& warnings) {
    if (c.n >= few && c.low == c.high) {
        warnings.push_back(
            text("%s is %g at every one of %zu sampled tokens: not a log-probability", name, c.low, c.n));
        return;
    }
    if (c.n >= few && c.positive * 10 >= c.n * 9) {
        bool const probabilities = c.as_probability == c.positive;
        warnings.push_back(text("%s is above 0 at %zu of %zu sampled tokens%s: %s", name, c.positive, c.n,
                                probabilities ? " and nowhere above 1" : "",
                                probabilities ? "these are probabilities, take their natural logarithm"
                                              : "these are negative log-probabilities, change the sign"));
        return;
    }
    if (c.ones > 0)
        warnings.push_back(
            text("%s is 1.0 at %zu of %zu sampled tokens, which is no log-probability: a placeholder, for "
                 "tokens whose loss_mask should be 0",
                 name, c.ones, c.n));
    if (c.zero >= 3)
        warnings.push_back(
            text("%s is exactly 0.0 at %zu of %zu sampled tokens to which %s gives less than e^%g: a "
                 "placeholder, for tokens whose loss_mask should be 0",
                 name, c.zero, c.n, other, unlikely));
    for (auto const& [value, count] : c.tiny)
        if (count >= 3 || value <= -1000) {
            warnings.push_back(
                text("%s is %g at %zu of %zu sampled tokens: a placeholder for a log-probability that was not "
                     "given or is -infinity; such tokens are in every sum and maximum",
                     name, value, count, c.n));
        }
}

}  // namespace

void sanity::values(rollouts const& r, std::vector<std::string>& warnings) {
    judge("logp", "rollout_logp", take(r, r.logp, r.rollout_logp), warnings);
    judge("rollout_logp", "logp", take(r, r.rollout_logp, r.logp), warnings);
}
