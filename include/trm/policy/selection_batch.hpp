// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/selection.hpp>

/// \file
/// Selections that rank the tokens of the whole batch against each other.

TRM_NAMESPACE_BEGIN

namespace detail {

/// The batch's active tokens, in order.
[[nodiscard]] inline std::span<std::size_t> active_tokens(selection_input const& in,
                                                          selection_memory& memory) noexcept {
    std::size_t n = 0;
    in.for_each([&](std::size_t) { ++n; });
    auto const tokens = memory.take<std::size_t>(n);
    n = 0;
    in.for_each([&](std::size_t t) { tokens[n++] = t; });
    return tokens;
}

/// The (1 - share)-quantile, linearly interpolated between ranks as in torch.quantile. Reorders d, which is not empty.
[[nodiscard]] inline double upper_quantile(std::span<double> d, double share) noexcept {
    double place = (1 - share) * static_cast<double>(d.size() - 1);
    if (std::fabs(place - std::round(place)) < 1e-9) place = std::round(place);  // 1 - share is rounded
    double const rank = std::floor(place);
    auto const at = d.begin() + static_cast<std::ptrdiff_t>(rank);
    std::nth_element(d.begin(), at, d.end());
    return place > rank ? *at + (place - rank) * (*std::min_element(at + 1, d.end()) - *at) : *at;
}

struct ranked {
    double value;
    std::size_t place;
};
inline constexpr selection_bytes drop_scratch{sizeof(ranked) + sizeof(double), 0, 0};

/// Rejects the largest scores of tokens that may go, equal ones in token order, until the mean of all that is left is below
/// `limit` (strictly), or only `spare` that may go are left. `drop_scratch` memory.
template <class F>
void drop_largest(selection_input const& in, selection_output out, double limit, std::size_t spare,
                  F&& may_go) noexcept {
    auto memory = in.memory;
    std::size_t n = 0, all = 0;
    double stays = 0;
    in.for_each([&](std::size_t t) {
        ++all;
        if (may_go(t)) ++n;
        else stays += in.scores[t];
    });
    auto const order = memory.take<ranked>(n);
    n = 0;
    in.for_each([&](std::size_t t) {
        if (may_go(t)) order[n++] = {in.scores[t], t};
    });
    std::sort(order.begin(), order.end(), [](ranked const& a, ranked const& b) {
        return a.value != b.value ? a.value > b.value : a.place < b.place;
    });
    auto const rest = memory.take<double>(n + 1);  // [k]: sum without the k largest that may go, smallest terms first
    rest[n] = stays;
    for (std::size_t k = n; k-- > 0;) rest[k] = rest[k + 1] + order[k].value;
    for (std::size_t k = 0; k + spare < n; ++k) {
        if (rest[k] / static_cast<double>(all - k) < limit) return;
        out.reject(order[k].place);
    }
}

}  // namespace detail

/// Drop the batch's largest divergences, fewest first, until the mean of the rest is below `limit` (strictly); if no prefix
/// suffices keep the smallest one. Equal values are dropped in token order. M2PO with D = x^2: `budget_mask{k2{}, limit / 2}`
/// (arXiv 2510.01161; AReaL `m2_threshold`, no default).
template <class D>
struct budget_mask : detail::scored_by<D> {
    double limit;
    constexpr budget_mask(D d = {}, double mean_limit = 0) noexcept : detail::scored_by<D>{d}, limit(mean_limit) {}
    static constexpr char const* name = "budget";
    static constexpr auto form = criterion_form::plain;
    static void fields(auto f) {
        f("divergence", &budget_mask::divergence, true);
        f("limit", &budget_mask::limit, true);
    }
    [[nodiscard]] constexpr status validate() const noexcept {
        return !is_nan(limit) ? status{} : detail::bad("budget_mask");
    }
    static constexpr selection_bytes scratch = detail::drop_scratch;
    void select(selection_input const& in, selection_output out) const noexcept {
        detail::drop_largest(in, out, limit, 1, [](std::size_t) { return true; });
    }
};

/// Keep the tokens whose D is at least the (1 - share)-quantile of the batch, linearly interpolated between ranks as in
/// torch.quantile; ties at the quantile stay, and share 0 keeps the largest. With D = `given` and token entropies in that
/// stream: the policy term of the most uncertain fifth only (arXiv 2506.01939, share 0.2; TRL `top_entropy_quantile`,
/// default 1: all).
template <class D>
struct top_share_mask : detail::scored_by<D> {
    double share;
    constexpr top_share_mask(D d = {}, double s = 1) noexcept : detail::scored_by<D>{d}, share(s) {}
    static constexpr char const* name = "top_share";
    static constexpr auto form = criterion_form::plain;
    static void fields(auto f) {
        f("divergence", &top_share_mask::divergence, true);
        f("share", &top_share_mask::share, true);
    }
    [[nodiscard]] constexpr status validate() const noexcept {
        return share >= 0 && share <= 1 ? status{} : detail::bad("top_share_mask");
    }
    static constexpr selection_bytes scratch{sizeof(double), 0, 0};
    void select(selection_input const& in, selection_output out) const noexcept {
        auto memory = in.memory;
        std::size_t n = 0;
        in.for_each([&](std::size_t) { ++n; });
        auto const d = memory.take<double>(n);
        n = 0;
        in.for_each([&](std::size_t t) { d[n++] = in.scores[t]; });
        if (d.empty()) return;
        double const least = detail::upper_quantile(d, share);
        in.for_each([&](std::size_t t) {
            if (in.scores[t] < least) out.reject(t);
        });
    }
};

namespace detail {

/// Tokens scored by the covariance of advantage and log-probability: (A_t - mean A)(logp_t - mean logp) over the active
/// tokens of the batch. Channel 0: logp.
[[nodiscard]] inline std::span<double> covariances(selection_input const& in, std::span<std::size_t const> tokens,
                                                   selection_memory& memory) noexcept {
    double a = 0, l = 0;
    in.for_each([&](std::size_t t) {
        a += in.advantages[t];
        l += in.scores[t];
    });
    auto const n = static_cast<double>(tokens.empty() ? 1 : tokens.size());
    auto const c = memory.take<double>(tokens.size());
    for (std::size_t i = 0; i < tokens.size(); ++i)
        c[i] = (in.advantages[tokens[i]] - a / n) * (in.scores[tokens[i]] - l / n);
    return c;
}

/// Uniform integers from a 64-bit seed, the same everywhere (splitmix64: S. Vigna, prng.di.unimi.it/splitmix64.c).
class splitmix64 {
public:
    explicit splitmix64(std::uint64_t seed) noexcept : state_(seed) {}
    [[nodiscard]] std::uint64_t below(std::uint64_t n) noexcept {  // bias below n / 2^64
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return (z ^ (z >> 31)) % n;
    }

private:
    std::uint64_t state_;
};

}  // namespace detail

/// Clip-Cov (arXiv 2505.22617; verl, SkyRL): of the tokens with lower < covariance(A, logp) < upper that PPO does not clip
/// anyway, a random max(floor(fraction N), 1) lose their gradient. Here they are rejected, chosen by the caller's seed. The
/// defaults are both trainers'.
struct clip_cov {
    double lower = 1.0, upper = 5.0, fraction = 2e-4;
    double eps_low = 0.2, eps_high = 0.2;
    std::uint64_t seed = 0;

    static constexpr char const* name = "clip_cov";
    static constexpr auto form = criterion_form::plain;
    static void fields(auto f) {
        f("lower", &clip_cov::lower);
        f("upper", &clip_cov::upper);
        f("fraction", &clip_cov::fraction);
        f("eps_low", &clip_cov::eps_low);
        f("eps_high", &clip_cov::eps_high);
        f("seed", &clip_cov::seed);
    }
    static constexpr bool is_sequence = false, is_selection = true;
    static constexpr int sums = 0, maxima = 0, channels = 2;
    static constexpr ratio_kind over = ratio_kind::surrogate;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage | need::ratio(over); }
    [[nodiscard]] constexpr status validate() const noexcept {
        bool const ok = lower <= upper && fraction >= 0 && fraction <= 1 && eps_low >= 0 && eps_high >= 0;
        return ok ? status{} : detail::bad("clip_cov");
    }
    template <class V, bool P>
    TRM_INLINE void score(token<V, P> const& t, V* out) const noexcept {
        out[0] = t.logp;
        out[1] = ratio_of(*this, t).exp;
    }
    static constexpr selection_bytes scratch{sizeof(double) + 2 * sizeof(std::size_t), 0, 0};
    void select(selection_input const& in, selection_output out) const noexcept {
        auto memory = in.memory;
        auto const tokens = detail::active_tokens(in, memory);
        auto const c = detail::covariances(in, tokens, memory);
        auto const candidates = memory.take<std::size_t>(tokens.size());
        std::size_t count = 0;
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            double const r = in.scores[in.extent + tokens[i]], a = in.advantages[tokens[i]];
            bool const clipped = (a > 0 && r > 1 + eps_high) || (a < 0 && r < 1 - eps_low);
            if (!clipped && c[i] > lower && c[i] < upper) candidates[count++] = tokens[i];
        }
        auto const wanted =
            (std::max<std::size_t>)(static_cast<std::size_t>(fraction * static_cast<double>(tokens.size())), 1);
        detail::splitmix64 random(seed);
        for (std::size_t k = 0; k < (std::min)(wanted, count); ++k) {  // partial Fisher-Yates
            std::swap(candidates[k], candidates[k + random.below(count - k)]);
            out.reject(candidates[k]);
        }
    }
};

/// Marks the max(floor(fraction N), 1) tokens of largest covariance(A, logp), ties in token order, for `kl_cov`.
struct top_covariance {
    double fraction = 2e-4;
    static constexpr int channels = 1;
    template <class V, bool P>
    TRM_INLINE void score(token<V, P> const& t, V* out) const noexcept {
        out[0] = t.logp;
    }
    static constexpr selection_bytes scratch{sizeof(double) + 2 * sizeof(std::size_t), 0, 0};
    void select(selection_input const& in, selection_output out) const noexcept {
        auto memory = in.memory;
        auto const tokens = detail::active_tokens(in, memory);
        auto const c = detail::covariances(in, tokens, memory);
        auto const order = memory.take<std::size_t>(tokens.size());
        for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
        auto const wanted =
            (std::max<std::size_t>)(static_cast<std::size_t>(fraction * static_cast<double>(tokens.size())), 1);
        auto const k = (std::min)(wanted, order.size());
        std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k), order.end(),
                          [&](std::size_t a, std::size_t b) { return c[a] != c[b] ? c[a] > c[b] : a < b; });
        for (std::size_t i = 0; i < k; ++i) out.mark(tokens[order[i]]);
    }
};

TRM_NAMESPACE_END
