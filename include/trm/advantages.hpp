// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/batch_view.hpp>
#include <trm/core/nothrow_array.hpp>

#include <algorithm>
#include <cmath>

/// \file
/// From one reward per sequence to one advantage per sequence, by prompt groups, as trainers do it. Sequences that a mask
/// rejected can be left out of means and deviations, which no trainer but NeMo-RL offers. Everything in double. Groups whose
/// rewards are all equal get exactly 0, and nothing gets NaN.

TRM_NAMESPACE_BEGIN
namespace advantages {

/// What is subtracted from a reward. Means are over the kept sequences of its group.
enum class baseline : std::uint8_t {
    none,
    mean,
    leave_one_out,  ///< mean of the others
    length_weighted  ///< sum of length times reward over sum of lengths; reads `input::lengths`
};

/// What the difference is divided by, plus `epsilon`: a standard deviation, or nothing.
enum class deviation : std::uint8_t {
    none,
    group,  ///< of reward minus baseline, root mean square over the group
    others,  ///< of the rewards of the group's other sequences
    batch,  ///< of reward minus baseline, root mean square over all sequences
    rewards  ///< of all rewards of the batch
};

/// What the one kept sequence of a group gets, which has nobody to compare with.
enum class lone : std::uint8_t {
    zero,
    reward  ///< as if the baseline were 0 and the deviation of the group 1
};

/// How rewards become advantages: (r_i - baseline_i) / (deviation_i + epsilon). A deviation of 0 divides nothing.
struct rule {
    baseline subtract = baseline::mean;
    deviation divide_by = deviation::group;
    double epsilon = 1e-6;
    bool unbiased = true;  ///< deviations divide by n - 1 (the default of torch.std), else by n; 0 where n - 1 is 0
    lone single = lone::zero;

    [[nodiscard]] constexpr status validate() const noexcept {
        return epsilon >= 0 && is_finite(epsilon) ? status{} : status{errc::bad_threshold, -1, -1, "epsilon"};
    }
};

/// (r - mean) / (deviation + epsilon). arXiv 2402.03300. epsilon: verl, slime and SkyRL 1e-6, TRL 1e-4, OpenRLHF 1e-9. verl
/// gives the only sequence of a group its reward: `single = lone::reward`.
[[nodiscard]] constexpr rule grpo(double epsilon = 1e-6) noexcept { return {.epsilon = epsilon}; }
/// r - mean. Dr. GRPO, arXiv 2503.20783; verl `norm_adv_by_std_in_grpo: false`, TRL `scale_rewards: none`, slime without
/// `grpo_std_normalization`, prime-rl.
[[nodiscard]] constexpr rule dr_grpo() noexcept { return {.divide_by = deviation::none}; }
/// r - mean of the others = n / (n - 1) (r - mean). RLOO, arXiv 2402.14740; verl, OpenRLHF, SkyRL. verl gives the only sequence
/// of a group its reward.
[[nodiscard]] constexpr rule rloo() noexcept {
    return {.subtract = baseline::leave_one_out, .divide_by = deviation::none};
}
/// Mean and deviation of the others. NeMo-RL's default (`use_leave_one_out_baseline`, `normalize_rewards`).
[[nodiscard]] constexpr rule leave_one_out(double epsilon = 1e-6) noexcept {
    return {.subtract = baseline::leave_one_out, .divide_by = deviation::others, .epsilon = epsilon};
}
/// r - mean of the group, over the deviation of all rewards of the batch. TRL `scale_rewards: batch` (arXiv 2508.08221).
[[nodiscard]] constexpr rule batch_scaled(double epsilon = 1e-4) noexcept {
    return {.divide_by = deviation::rewards, .epsilon = epsilon};
}
/// r - length-weighted mean: the baseline of least variance if gradients are as long as responses. OPO, arXiv 2505.23585; verl.
[[nodiscard]] constexpr rule opo() noexcept {
    return {.subtract = baseline::length_weighted, .divide_by = deviation::none};
}

/// One element per sequence each.
struct input {
    stream_view<double> rewards{};
    stream_view<std::int32_t> group_of{};  ///< prompt ids, any numbers
    /// Optional: 0 = rejected. Such a sequence enters no mean and no deviation, and its advantage is 0.
    stream_view<std::uint8_t> kept{};
    stream_view<double> lengths{};  ///< only for `baseline::length_weighted`: tokens, not negative
};

/// How many sequences and groups were what. Rejected sequences are in none of them.
struct summary {
    trm::status status{};
    std::int64_t sequences = 0;  ///< that took part
    std::int64_t informative_sequences =
        0;  ///< of groups in which an advantage is not 0: whose rewards are not all equal
    std::int64_t groups = 0;  ///< with at least one sequence that took part
    std::int64_t informative_groups = 0;
    std::int64_t nonfinite =
        0;  ///< kept sequences whose reward is not finite or above 1e100 in size: treated as rejected
};

namespace detail {

/// A sequence that takes part, and its group.
struct member {
    std::int32_t group;
    std::int64_t at;
    double reward;  ///< minus that of the first of its group: equal rewards are exactly 0
    double advantage;
};

/// Finite, with a square that is finite too, also in sums.
[[nodiscard]] inline bool is_usable(double reward) noexcept { return is_finite(reward) && std::fabs(reward) <= 1e100; }
/// sqrt(sum / (n - 1)) or sqrt(sum / n); 0 where that is not defined.
[[nodiscard]] inline double root_mean(double squares, double n, bool unbiased) noexcept {
    double const by = unbiased ? n - 1 : n;
    return by > 0 && squares > 0 ? std::sqrt(squares / by) : 0;
}
[[nodiscard]] inline double divided(double x, double by, double epsilon) noexcept {
    return by > 0 ? x / (by + epsilon) : x;
}
/// Deviation of the rewards of all members but one.
[[nodiscard]] inline double deviation_without(std::span<member const> group, std::size_t left_out,
                                              bool unbiased) noexcept {
    auto const n = static_cast<double>(group.size()) - 1;
    if (n <= 0) return 0;
    double sum = 0, squares = 0;
    for (std::size_t i = 0; i < group.size(); ++i) sum += i == left_out ? 0 : group[i].reward;
    for (std::size_t i = 0; i < group.size(); ++i) {
        double const d = i == left_out ? 0 : group[i].reward - sum / n;
        squares += d * d;
    }
    return root_mean(squares, n, unbiased);
}

/// Advantages of the members of one group, up to deviations of the batch.
inline void finish_group(rule const& r, input const& in, std::span<member> group) noexcept {
    double const first = in.rewards[static_cast<std::size_t>(group[0].at)];
    if (group.size() == 1 && r.subtract != baseline::none) {
        double const by = r.divide_by == deviation::group ? 1 + r.epsilon : 1;
        group[0].advantage = r.single == lone::zero ? 0 : first / by;
        return;
    }
    double sum = 0, weighted = 0, lengths = 0, squares = 0;
    for (member& m : group) {
        auto const at = static_cast<std::size_t>(m.at);
        m.reward = in.rewards[at] - first;
        double const length = r.subtract == baseline::length_weighted ? in.lengths[at] : 1;
        sum += m.reward;
        weighted += length * m.reward;
        lengths += length;
    }
    auto const n = static_cast<double>(group.size());
    auto const centred = [&](member const& m) {
        switch (r.subtract) {
            case baseline::none:
                return m.reward + first;
            case baseline::mean:
                return m.reward - sum / n;
            case baseline::leave_one_out:
                return m.reward - (sum - m.reward) / (n - 1);
            default:
                return lengths > 0 ? m.reward - weighted / lengths : 0.0;
        }
    };
    for (std::size_t i = 0; i < group.size(); ++i) {
        double const c = centred(group[i]);
        squares += c * c;
        group[i].advantage =
            r.divide_by == deviation::others ? divided(c, deviation_without(group, i, r.unbiased), r.epsilon) : c;
    }
    if (r.divide_by == deviation::group)
        for (member& m : group) m.advantage = divided(m.advantage, root_mean(squares, n, r.unbiased), r.epsilon);
}

/// Divides by a deviation over the whole batch.
inline void scale_batch(rule const& r, input const& in, std::span<member> members) noexcept {
    auto const n = static_cast<double>(members.size());
    double const first = in.rewards[static_cast<std::size_t>(members[0].at)];
    bool const of_rewards = r.divide_by == deviation::rewards;
    auto const value = [&](member const& m) {
        return of_rewards ? in.rewards[static_cast<std::size_t>(m.at)] - first : m.advantage;
    };
    double sum = 0, squares = 0;
    for (member const& m : members) sum += of_rewards ? value(m) : 0;
    for (member const& m : members) squares += (value(m) - sum / n) * (value(m) - sum / n);
    double const by = root_mean(squares, n, r.unbiased);
    for (member& m : members) m.advantage = divided(m.advantage, by, r.epsilon);
}

template <class T>
[[nodiscard]] status check(rule const& r, input const& in, std::span<T> out,
                           std::span<std::uint8_t> informative) noexcept {
    auto const n = in.rewards.size();
    using trm::detail::size_mismatch;
    if (in.group_of.size() != n) return size_mismatch("group_of", n, in.group_of.size());
    if (out.size() != n) return size_mismatch("advantages", n, out.size());
    if (!in.kept.empty() && in.kept.size() != n) return size_mismatch("kept", n, in.kept.size());
    if (!informative.empty() && informative.size() != n) return size_mismatch("informative", n, informative.size());
    if (r.subtract == baseline::length_weighted) {
        if (in.lengths.size() != n) return size_mismatch("lengths", n, in.lengths.size());
        for (std::size_t i = 0; i < n; ++i)
            if (!(in.lengths[i] >= 0 && is_finite(in.lengths[i])))
                return {errc::bad_threshold, static_cast<std::int64_t>(i), -1, "lengths"};
    }
    return r.validate();
}

}  // namespace detail

/// out[i] = (r_i - baseline_i) / (deviation_i + epsilon) for every sequence that takes part, 0 for others; `out` of float or
/// double. `informative`, if given: 1 for sequences of groups in which an advantage is not 0, the only ones that have a
/// policy gradient. Sums in order of the sequences. Errors: size_mismatch, bad_threshold (epsilon, lengths), out_of_memory.
/// Takes 32 bytes a sequence.
template <arithmetic_type T>
[[nodiscard]] summary from_rewards(rule const& r, input const& in, std::span<T> out,
                                   std::span<std::uint8_t> informative = {}) noexcept {
    summary s;
    s.status = detail::check(r, in, out, informative);
    if (!s.status.ok()) return s;
    std::fill(out.begin(), out.end(), T(0));
    std::fill(informative.begin(), informative.end(), std::uint8_t{0});
    trm::detail::nothrow_array<detail::member> const memory(in.rewards.size());
    if (memory.data() == nullptr) {
        s.status = {errc::out_of_memory, -1, -1, "advantages"};
        return s;
    }
    std::size_t n = 0;
    for (std::size_t i = 0; i < in.rewards.size(); ++i) {
        if (!in.kept.empty() && in.kept[i] == 0) continue;
        if (!detail::is_usable(in.rewards[i])) {
            ++s.nonfinite;
            continue;
        }
        memory.data()[n++] = {in.group_of[i], static_cast<std::int64_t>(i), 0, 0};
    }
    std::span const members(memory.data(), n);
    std::sort(members.begin(), members.end(), [](detail::member const& a, detail::member const& b) {
        return a.group != b.group ? a.group < b.group : a.at < b.at;
    });
    for (std::size_t begin = 0, end = 0; begin < n; begin = end) {
        while (end < n && members[end].group == members[begin].group) ++end;
        auto const group = members.subspan(begin, end - begin);
        detail::finish_group(r, in, group);
        ++s.groups;
        auto const is_zero = [](detail::member const& m) { return m.advantage == 0; };
        if (std::all_of(group.begin(), group.end(), is_zero)) continue;
        ++s.informative_groups;
        s.informative_sequences += static_cast<std::int64_t>(group.size());
        if (!informative.empty())
            for (detail::member const& m : group) informative[static_cast<std::size_t>(m.at)] = 1;
    }
    s.sequences = static_cast<std::int64_t>(n);
    if (n > 0 && (r.divide_by == deviation::batch || r.divide_by == deviation::rewards))
        detail::scale_batch(r, in, members);
    for (detail::member const& m : members) out[static_cast<std::size_t>(m.at)] = static_cast<T>(m.advantage);
    return s;
}

/// From a mask over tokens, `outputs::keep` for instance, to one over sequences: kept[i] = 1 iff a token of sequence i is kept.
/// Errors: size_mismatch.
[[nodiscard]] inline status kept_sequences(layout_view const& layout, std::span<std::uint8_t const> keep,
                                           std::span<std::uint8_t> kept) noexcept {
    if (status const s = layout.validate(); !s.ok()) return s;
    if (status const s = trm::detail::check_extent("keep", layout.extent(), keep.size()); !s.ok()) return s;
    if (status const s = trm::detail::check_size("kept", layout.sequences(), kept.size()); !s.ok()) return s;
    std::fill(kept.begin(), kept.end(), std::uint8_t{0});
    for (std::int64_t i = 0; i < layout.runs(); ++i) {
        token_run const run = layout.run(i);
        auto const tokens = keep.subspan(static_cast<std::size_t>(run.begin), static_cast<std::size_t>(run.size));
        if (std::any_of(tokens.begin(), tokens.end(), [](std::uint8_t k) { return k != 0; }))
            kept[static_cast<std::size_t>(run.sequence)] = 1;
    }
    return {};
}

/// Loss_mask tokens of the sequences whose flag is not 0. With the `informative` sequences, what TRL's `dapo_zv` (#6365) divides
/// by: `token_mean{over_count(tokens_of(...))}` leaves groups with equal rewards out of the denominator. Flags and mask are as
/// long as the layout says.
[[nodiscard]] inline double tokens_of(layout_view const& layout, std::span<std::uint8_t const> loss_mask,
                                      std::span<std::uint8_t const> sequences) noexcept {
    std::int64_t n = 0;
    for (std::int64_t i = 0; i < layout.runs(); ++i) {
        token_run const run = layout.run(i);
        if (sequences[static_cast<std::size_t>(run.sequence)] == 0) continue;
        for (std::int64_t t = run.begin; t < run.begin + run.size; ++t)
            n += loss_mask.empty() || loss_mask[static_cast<std::size_t>(t)] != 0;
    }
    return static_cast<double>(n);
}

}  // namespace advantages
TRM_NAMESPACE_END
