// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/calls.hpp>
#include <trm/loss/composition.hpp>
#include <trm/loss/misuse.hpp>

TRM_NAMESPACE_BEGIN

/// A masked policy-gradient loss, composed of policies:
///
///     loss = sum_it scale_i * (M_it * (w_it * l_it + p_it) + q_it)
///
/// with M the mask (stop-gradient), w the weight (stop-gradient) times the batch's token_weights, l the surrogate, p
/// and q the penalties that see kept and all tokens, and scale_i from the aggregation and its denominator. Gradients are
/// with respect to logp. With `grad` of type float (double) the arithmetic is float (double); sums across tiles are double.
///
/// The object is a value: thresholds are plain members of its policies. Calls allocate nothing unless a workspace must
/// grow, start no thread and print nothing. `Arch` picks the vector unit. The calls are those of `loss_calls`.
template <class Mask, class Surrogate, class Weight = no_weight, class Penalties = std::tuple<>,
          class Arch = simd::default_arch>
class masked_loss {
    static_assert(sizeof(detail::explained<detail::spelled_mistake<Mask, Surrogate, Weight>>) > 0);
};

template <class... Args>
class masked_loss<detail::mistaken<Args...>, void> : detail::explained<detail::mistake_of<Args...>> {
public:
    constexpr masked_loss(Args const&...) noexcept {}
};

template <class... Ms, surrogate_policy Surrogate, weight_policy Weight, penalty_policy... Ps, class Arch>
class masked_loss<all_of<Ms...>, Surrogate, Weight, std::tuple<Ps...>, Arch>
    : public loss_calls<masked_loss<all_of<Ms...>, Surrogate, Weight, std::tuple<Ps...>, Arch>, Arch> {
public:
    all_of<Ms...> mask;
    Surrogate surrogate;
    aggregation aggregate;
    Weight weight;
    std::tuple<Ps...> penalties;
    loss_options options{};

    template <mask_policy M>
    constexpr masked_loss(M m, Surrogate s, aggregation a) noexcept
        : mask(as_conjunction(m)), surrogate(s), aggregate(a), weight{}, penalties{} {}
    template <mask_policy M>
    constexpr masked_loss(M m, Surrogate s, aggregation a, Weight w, Ps... p) noexcept
        : mask(as_conjunction(m)), surrogate(s), aggregate(a), weight(w), penalties(p...) {}

    /// The same loss on another vector unit, for example `loss.on(trm::simd::scalar{})`.
    template <class Other>
    [[nodiscard]] constexpr auto on(Other) const noexcept {
        auto copy = std::apply(
            [&](auto... p) {
                return masked_loss<all_of<Ms...>, Surrogate, Weight, std::tuple<Ps...>, Other>(mask, surrogate,
                                                                                               aggregate, weight, p...);
            },
            penalties);
        copy.options = options;
        return copy;
    }
    /// The same loss with other clamps of its log-ratios: `loss.clamped(no_clamp)`.
    [[nodiscard]] constexpr masked_loss clamped(log_ratio_clamps clamps) const noexcept {
        masked_loss copy = *this;
        copy.options.log_ratio_clamp = clamps;
        return copy;
    }
    /// The same loss with other options.
    [[nodiscard]] constexpr masked_loss with(loss_options o) const noexcept {
        masked_loss copy = *this;
        copy.options = o;
        return copy;
    }

private:
    friend loss_calls<masked_loss, Arch>;
    using core_type = detail::composition<all_of<Ms...>, Surrogate, Weight, Ps...>;
    [[nodiscard]] constexpr core_type core() const noexcept { return {mask, surrogate, weight, penalties}; }
    [[nodiscard]] constexpr aggregation const& denominators() const noexcept { return aggregate; }
    [[nodiscard]] constexpr loss_options call_options() const noexcept { return options; }
};
template <mask_policy M, class S>
masked_loss(M, S, aggregation) -> masked_loss<decltype(as_conjunction(std::declval<M>())), S>;
template <mask_policy M, class S, class W, class... Ps>
masked_loss(M, S, aggregation, W, Ps...)
    -> masked_loss<decltype(as_conjunction(std::declval<M>())), S, W, std::tuple<Ps...>>;

template <class... Args>
    requires detail::mistaken_policies<Args...>
masked_loss(Args...) -> masked_loss<detail::mistaken<Args...>, void>;

TRM_NAMESPACE_END
