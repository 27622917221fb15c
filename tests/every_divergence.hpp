// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "loss_batch.hpp"

#include <trm/policy/catalogue.hpp>
#include <trm/reference/loss.hpp>

#include <algorithm>
#include <array>

/// Masks of all divergences of the catalogue, with bands that split the tokens of a batch: what is compared with the oracle
/// without naming a divergence.
namespace every {

template <std::size_t First, std::size_t... I>
trm::type_list<trm::type_in<First + I, trm::catalogue::divergences>...> from(std::index_sequence<I...>);
/// Divergences First ... First + Count - 1 of the catalogue, or fewer at its end.
template <std::size_t First, std::size_t Count>
using some =
    decltype(from<First>(std::make_index_sequence<std::min(Count, trm::catalogue::divergences::size - First)>{}));

/// A number in the widest gap between neighbours among the values of rank near `share`: no rounding crosses it.
inline double between(std::vector<double> const& sorted, double share) {
    auto const n = static_cast<double>(sorted.size());
    auto best = static_cast<std::size_t>(share * n);
    for (std::size_t i = best; i < static_cast<std::size_t>((share + 0.05) * n); ++i)
        if (sorted[i + 1] - sorted[i] > sorted[best + 1] - sorted[best]) best = i;
    return sorted[best] + (sorted[best + 1] - sorted[best]) / 2;
}

/// Keeps the tokens whose divergence is neither among the smallest tenth nor among the largest quarter.
template <class D, class S>
trm::token_mask<D> middle(trm::batch_view<S> const& batch) {
    std::vector<double> values;
    for (auto const& sequence : trm::reference::gather(batch, trm::need::any_ratio | trm::need::given, 20))
        for (auto const& t : sequence.tokens) values.push_back(trm::reference::divergence_at(D{}, t));
    std::sort(values.begin(), values.end());
    return {D{}, trm::within(between(values, 0.1), between(values, 0.75))};
}
template <class... Ds, class S>
trm::all_of<trm::token_mask<Ds>...> middle_of(trm::type_list<Ds...>, trm::batch_view<S> const& batch) {
    return {{middle<Ds>(batch)...}};
}

}  // namespace every
