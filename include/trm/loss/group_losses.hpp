// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/batch_view.hpp>
#include <trm/core/nothrow_array.hpp>

#include <algorithm>
#include <cmath>

/// \file
/// Losses that couple the sequences of a prompt: softmaxes over the group instead of advantages. Their gradient is the same for
/// all tokens of a sequence, so that it is that of `policy_gradient` with `token_sum` and advantages that follow from the whole
/// group: `group_coupled` works them out, for `batch_view::sequence_advantages`. Masks and weights of that loss then apply.

TRM_NAMESPACE_BEGIN

/// What a sequence brings into its group. Sums over its loss_mask tokens, in double.
struct group_member {
    std::int32_t group = 0;
    std::int64_t at = 0;  ///< its sequence
    double logp = 0;  ///< sum of log-probabilities under the current policy
    double behaviour = 0;  ///< under the proximal policy if the batch has one, else under the rollout policy
    double tokens = 0;
    double score = 0;  ///< its advantage or reward, as the caller gave it
};

/// With s_i = mean over tokens of log current - log behaviour and tau:
/// log(1 + sum_{score <= 0} e^(s_i / tau)) + log(1 + sum_{score > 0} e^(-s_i / tau)) for each group with scores of both signs,
/// averaged over these groups. REAL, arXiv 2602.05630; ms-swift `loss_type real`: tau 0.5.
struct real_loss {
    double tau = 0.5;
    [[nodiscard]] constexpr bool ok() const noexcept { return tau > 0 && is_finite(tau) && is_finite(1 / tau); }
    /// Value; slope[i] = d value / d logp of each token of member i. False: the group does not count.
    bool operator()(std::span<group_member const> group, std::span<double> slope, double& value) const noexcept {
        auto const rising = [](group_member const& m) { return m.score > 0; };
        bool const up = std::any_of(group.begin(), group.end(), rising);
        if (!up || std::all_of(group.begin(), group.end(), rising)) return false;
        value = 0;
        for (bool const positive : {false, true}) {
            double const sign = positive ? -1 : 1;
            auto const z = [&](group_member const& m) { return sign * (m.logp - m.behaviour) / m.tokens / tau; };
            double top = 0, sum = 0;
            for (group_member const& m : group)
                if (rising(m) == positive) top = (std::max)(top, z(m));
            for (group_member const& m : group)
                if (rising(m) == positive) sum += std::exp(z(m) - top);
            sum += std::exp(-top);
            value += top + std::log(sum);
            for (std::size_t i = 0; i < group.size(); ++i)
                if (rising(group[i]) == positive)
                    slope[i] = sign * std::exp(z(group[i]) - top) / sum / (tau * group[i].tokens);
        }
        return true;
    }
};

/// Cross entropy of targets q_i with the group's softmax of log pi_i: -sum_i q_i log softmax_i(log pi), q = softmax_i(log mu_i +
/// score_i / temperature), pi_i and mu_i the probabilities of the whole sequence under the current and the behaviour policy;
/// averaged over groups of at least two sequences. TRL experimental `tpo` (#5589): temperature 1.
struct tpo_loss {
    double temperature = 1.0;
    [[nodiscard]] constexpr bool ok() const noexcept {
        return temperature > 0 && is_finite(temperature) && is_finite(1 / temperature);
    }
    bool operator()(std::span<group_member const> group, std::span<double> slope, double& value) const noexcept {
        if (group.size() < 2) return false;
        auto const now = [](group_member const& m) { return m.logp; };
        auto const wanted = [&](group_member const& m) { return m.behaviour + m.score / temperature; };
        double const all = log_sum(group, now), target = log_sum(group, wanted);
        value = 0;
        for (std::size_t i = 0; i < group.size(); ++i) {
            double const q = std::exp(wanted(group[i]) - target), lp = now(group[i]) - all;
            value -= q > 0 ? q * lp : 0;
            slope[i] = std::exp(lp) - q;
        }
        return true;
    }

private:
    template <class F>
    [[nodiscard]] static double log_sum(std::span<group_member const> group, F&& z) noexcept {
        double top = z(group[0]), sum = 0;
        for (group_member const& m : group) top = (std::max)(top, z(m));
        for (group_member const& m : group) sum += std::exp(z(m) - top);
        return top + std::log(sum);
    }
};

/// Value of the loss, how many groups counted, and how many sequences with tokens were left out because something of them is
/// not finite.
struct group_result {
    trm::status status{};
    double loss = 0;
    std::int64_t groups = 0, nonfinite = 0;
};

namespace detail {

/// The sequences of a batch with their sums.
template <class S>
void sum_members(batch_view<S> const& b, std::span<group_member> members) noexcept {
    auto const at = [](auto const& s, std::size_t t) { return static_cast<double>(to_float(s[t])); };
    auto const& behaviour = b.proximal_logp.empty() ? b.rollout_logp : b.proximal_logp;
    for (std::size_t i = 0; i < members.size(); ++i)
        members[i] = {
            b.group_of[i], static_cast<std::int64_t>(i), 0, 0, 0, static_cast<double>(b.sequence_advantages[i])};
    for (std::int64_t i = 0; i < b.layout.runs(); ++i) {
        token_run const run = b.layout.run(i);
        group_member& m = members[static_cast<std::size_t>(run.sequence)];
        for (auto t = static_cast<std::size_t>(run.begin); t < static_cast<std::size_t>(run.begin + run.size); ++t) {
            if (!b.loss_mask.empty() && b.loss_mask[t] == 0) continue;
            m.logp += at(b.logp, t);
            m.behaviour += at(behaviour, t);
            m.tokens += 1;
        }
    }
}
template <class S>
[[nodiscard]] status check_groups(batch_view<S> const& b, std::size_t out) noexcept {
    if (status s = b.layout.validate(); !s.ok()) return s;
    std::int64_t const extent = b.layout.extent(), n = b.layout.sequences();
    if (status s = check_extent("logp", extent, b.logp.size()); !s.ok()) return s;
    auto const& behaviour = b.proximal_logp.empty() ? b.rollout_logp : b.proximal_logp;
    if (status s = check_extent("rollout_logp or proximal_logp", extent, behaviour.size()); !s.ok()) return s;
    if (!b.loss_mask.empty())
        if (status s = check_extent("loss_mask", extent, b.loss_mask.size()); !s.ok()) return s;
    if (status s = check_size("group_of", n, b.group_of.size()); !s.ok()) return s;
    if (status s = check_size("sequence_advantages", n, b.sequence_advantages.size()); !s.ok()) return s;
    return check_size("advantages", n, out);
}

}  // namespace detail

/// The loss, and for every sequence out[i] = -d loss / d logp of each of its tokens. The batch's sequence_advantages are the
/// scores; `out` may be their memory. Sequences without tokens, with anything that is not finite, or of groups that do not
/// count get 0. The gradient is then that of `masked_loss{mask, policy_gradient{}, token_sum{}}` with `out` as its
/// sequence_advantages; the value of that loss means nothing. Errors: size_mismatch, bad_layout, bad_threshold, out_of_memory. Takes 56
/// bytes a sequence.
template <class Loss, storage_type S>
[[nodiscard]] group_result group_coupled(Loss const& loss, batch_view<S> const& batch,
                                         std::span<typename batch_view<S>::real> out) noexcept {
    using T = typename batch_view<S>::real;
    group_result r;
    r.status = detail::check_groups(batch, out.size());
    if (r.status.ok() && !loss.ok()) r.status = {errc::bad_threshold, -1, -1, "group loss"};
    if (!r.status.ok()) return r;
    std::size_t const all = out.size();
    detail::nothrow_array<group_member> const memory(all);
    detail::nothrow_array<double> const slopes(all);
    group_member* const members = memory.data();
    double* const slope_of = slopes.data();
    if (members == nullptr || slope_of == nullptr) {
        r.status = {errc::out_of_memory, -1, -1, "group loss"};
        return r;
    }
    detail::sum_members(batch, {members, all});
    std::fill(out.begin(), out.end(), T(0));
    auto const usable = [&](group_member const& m) {
        bool const finite = is_finite(m.logp) && is_finite(m.behaviour) && is_finite(m.score);
        r.nonfinite += m.tokens > 0 && !finite;
        return m.tokens > 0 && finite;
    };
    group_member* const end = std::partition(members, members + all, usable);
    std::sort(members, end, [](group_member const& a, group_member const& b) {
        return a.group != b.group ? a.group < b.group : a.at < b.at;
    });
    for (auto *first = members, *last = first; first < end; first = last) {
        while (last < end && last->group == first->group) ++last;
        std::span<group_member const> const group(first, last);
        std::span<double> const slope(slope_of + (first - members), group.size());
        double value = 0;
        if (!loss(group, slope, value)) {
            std::fill(slope.begin(), slope.end(), 0.0);
            continue;
        }
        r.loss += value;
        ++r.groups;
    }
    if (r.groups == 0) return r;
    auto const n = static_cast<double>(r.groups);
    r.loss /= n;
    for (auto* m = members; m < end; ++m)
        out[static_cast<std::size_t>(m->at)] = static_cast<T>(-slope_of[static_cast<std::size_t>(m - members)] / n);
    return r;
}

TRM_NAMESPACE_END
