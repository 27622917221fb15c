// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/masked_loss.hpp>
#include <trm/policy/selection_batch.hpp>
#include <trm/policy/selection_segment.hpp>

/// \file
/// Weights of tokens that follow from other tokens of their sequence or batch: worked out before the loss is called, by
/// `weigh_tokens`, for `batch_view::token_weights`. Stop-gradients, like every weight.

TRM_NAMESPACE_BEGIN

/// What the weights below share: channel 0 of the scores is the log-ratio of `over`, clamped as in the loss.
template <ratio_kind Kind>
struct log_ratio_scored {
    static constexpr ratio_kind over = Kind;
    static constexpr int channels = 1;
    static constexpr bool reads_advantages = false;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::ratio(Kind); }
    template <class V, bool P>
    TRM_INLINE void score(token<V, P> const& t, V* out) const noexcept {
        out[0] = t[Kind].value;
    }
};

/// FIPO's influence of the future (arXiv 2603.19835; ms-swift; TRL #5434, slime #1801, open):
/// w_t = clamp(exp(sum_{k >= t} g^(k - t) x_k), lower, upper), g = 2^(-1 / half_life), k and t slots of the sequence, x_k = 0 where
/// loss_mask is 0 or r_k > most_ratio. Where A_t < 0 and r_t > safe_ratio the weight is clamped to [safe_lower, 1] as well. Use it
/// with `ppo_clip`. Defaults: half-life 32, [1, 1.2] (0.8 to 1.2 if both ways), 4 and 0.8; most_ratio is the dual clip, 10 in the
/// authors' script, none if there is none.
struct suffix_weight : log_ratio_scored<ratio_kind::surrogate> {
    double half_life = 32, lower = 1.0, upper = 1.2, most_ratio = std::numeric_limits<double>::infinity();
    double safe_ratio = 4.0, safe_lower = 0.8;
    static constexpr bool reads_advantages = true;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage | need::ratio(over); }
    [[nodiscard]] constexpr status validate() const noexcept {
        bool const ok = half_life > 0 && lower <= upper && lower >= 0 && most_ratio > 0 && safe_ratio > 0 &&
                        safe_lower >= 0 && safe_lower <= 1;
        return ok ? status{} : detail::bad("suffix_weight");
    }
    void weigh(selection_sequence const& s, std::span<double> w) const noexcept {
        double const g = std::exp2(-1 / half_life), most = std::log(most_ratio), safe = std::log(safe_ratio);
        double sum = 0;
        for (std::size_t i = s.size(); i-- > 0;) {
            double const x = s.active[i] != 0 ? s.scores[i] : 0.0;
            sum = (x > most ? 0 : x) + g * sum;
            double const f = std::exp(sum), bounded = f < lower ? lower : f > upper ? upper : f;
            bool const unsafe = s.active[i] != 0 && s.advantages[i] < 0 && x > safe;
            w[i] = !unsafe ? bounded : bounded < safe_lower ? safe_lower : bounded > 1 ? 1 : bounded;
        }
    }
};

/// One weight for each segment of a sequence (a turn, or a piece of `length` tokens, see `segment_mask`): the geometric mean of its
/// ratios, bounded. ROLL's `segment` importance weight: truncated at 1.2.
struct segment_weight : log_ratio_scored<ratio_kind::correction> {
    weight_bound bound = unbounded;
    std::int64_t length = 0;
    [[nodiscard]] constexpr status validate() const noexcept {
        return bound.ok() && length >= 0 ? status{} : detail::bad("segment_weight");
    }
    void weigh(selection_sequence const& s, std::span<double> w) const noexcept {
        std::fill(w.begin(), w.end(), 1.0);
        detail::for_each_segment(s, length, [&](std::size_t begin, std::size_t end) {
            double sum = 0, n = 0;
            for (std::size_t i = begin; i < end; ++i) {
                sum += s.active[i] != 0 ? s.scores[i] : 0;
                n += s.active[i];
            }
            double const of_segment = bound(n > 0 ? std::exp(sum / n) : 1.0);
            for (std::size_t i = begin; i < end; ++i) w[i] = of_segment;
        });
    }
};

/// Emphasis on surprising tokens: `positive` for the tokens with A > 0 whose surprise -logp is at least the (1 - share)-quantile
/// (linearly interpolated) among tokens with A > 0, `negative` likewise for A < 0, else 1. STARE (arXiv 2606.19236; TRL #6167,
/// open): share 0.1, 1.1 and 1; variant C2: 0.9 for A < 0. Its gate is the caller's: only while the mean entropy is below 0.3.
struct surprise_weight {
    double share = 0.1, positive = 1.1, negative = 1.0;
    static constexpr ratio_kind over = ratio_kind::surrogate;
    static constexpr int channels = 1;
    static constexpr bool reads_advantages = true;
    static constexpr selection_bytes scratch{sizeof(double), 0, 0};
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept {
        bool const ok = share >= 0 && share <= 1 && is_finite(positive) && is_finite(negative);
        return ok ? status{} : detail::bad("surprise_weight");
    }
    template <class V, bool P>
    TRM_INLINE void score(token<V, P> const& t, V* out) const noexcept {
        out[0] = -t.logp;
    }
    void weigh(selection_input const& in, std::span<double> w) const noexcept {
        for (double const sign : {1.0, -1.0}) {
            auto memory = in.memory;
            auto const d = memory.take<double>(in.extent);
            std::size_t n = 0;
            in.for_each([&](std::size_t t) {
                if (sign * in.advantages[t] > 0) d[n++] = in.scores[t];
            });
            if (n == 0) continue;
            double const least = detail::upper_quantile(d.first(n), share);
            in.for_each([&](std::size_t t) {
                if (sign * in.advantages[t] > 0 && in.scores[t] >= least) w[t] = sign > 0 ? positive : negative;
            });
        }
    }
};

namespace detail {

struct no_surrogate {
    static constexpr ratio_kind over = ratio_kind::surrogate;
    static constexpr bool reads_ratio = false;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return 0; }
    [[nodiscard]] constexpr status validate() const noexcept { return {}; }
};

/// A weight as a selection that rejects nothing: it writes what it finds to `to`, in the places of the batch's tokens.
template <class W, class T>
struct weighing : W {
    T* to = nullptr;
    static constexpr bool is_sequence = false, is_selection = true;
    static constexpr int sums = 0, maxima = 0;
    static constexpr bool of_batch =
        requires(W const& w, selection_input const& in, std::span<double> s) { w.weigh(in, s); };
    static constexpr selection_bytes scratch = [] {
        selection_bytes own{};
        if constexpr (requires { W::scratch; }) own = W::scratch;
        return selection_bytes{own.per_token + sizeof(double), own.per_sequence, own.per_group};
    }();

    void select(selection_sequence const& s, sequence_output const&) const noexcept
        requires(!of_batch)
    {
        selection_sequence own = s;
        auto const w = own.memory.template take<double>(s.size());
        static_cast<W const&>(*this).weigh(own, w);
        std::size_t slot = 0;
        s.runs.for_each([&](token_run run) {
            for (std::int64_t t = run.begin; t < run.begin + run.size; ++t, ++slot)
                if (s.active[slot] != 0) to[t] = static_cast<T>(static_cast<double>(to[t]) * w[slot]);
        });
    }
    void select(selection_input const& in, selection_output const&) const noexcept
        requires of_batch
    {
        selection_input own = in;
        auto const w = own.memory.template take<double>(in.extent, 1.0);
        static_cast<W const&>(*this).weigh(own, w);
        in.for_each([&](std::size_t t) { to[t] = static_cast<T>(static_cast<double>(to[t]) * w[t]); });
    }
};

}  // namespace detail

/// out[t] = the weight of token t, times the batch's token_weights if it has any, for every token that loss_mask selects and
/// that is finite; elsewhere 1 or the batch's. `out` has one element per element of `logp`; give it to the loss as
/// `token_weights`, which it may be already. Sequences that ranks share must be gathered first. Sequences go over the executor,
/// the weights of a whole batch are worked out in one thread.
/// Errors: those of the loss, size_mismatch. Allocates 2 bytes a token, and when the workspace must grow.
template <class W, storage_type S, executor E = serial_executor>
[[nodiscard]] status weigh_tokens(W const& weight, batch_view<S> const& batch,
                                  std::span<typename batch_view<S>::real> out, workspace& scratch,
                                  loss_options const& options = {}, E const& execute = {}) {
    using T = typename batch_view<S>::real;
    auto const extent = static_cast<std::size_t>(batch.layout.extent());
    if (out.size() < extent)
        return {
            errc::size_mismatch, -1, -1, "token_weights", batch.layout.extent(), static_cast<std::int64_t>(out.size())};
    detail::weighing<W, T> selection_of{{weight}};
    masked_loss loss{selection_of, detail::no_surrogate{}, token_mean{}};
    loss.options = options;
    selection none;
    batch_view<S> plain = batch;
    plain.token_weights = {};
    if (batch.token_weights.empty()) {
        std::fill(out.begin(), out.end(), T(1));
    } else if (batch.token_weights.data() != out.data()) {
        if (batch.token_weights.size() > out.size())
            return {errc::size_mismatch,
                    -1,
                    -1,
                    "token_weights",
                    static_cast<std::int64_t>(batch.token_weights.size()),
                    static_cast<std::int64_t>(out.size())};
        std::copy(batch.token_weights.begin(), batch.token_weights.end(), out.begin());
    }
    std::get<0>(loss.mask.criteria).to = out.data();
    return loss.template select<T>(plain, none, execute, scratch);
}

TRM_NAMESPACE_END
