// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/any_policies.hpp>
#include <trm/loss/diagnostics.hpp>
#include <trm/loss/result.hpp>
#include <trm/pipeline/selection.hpp>
#include <trm/pipeline/totals.hpp>

#include <ranges>
#include <utility>

/// any_loss, compiled once in spec_loss.cpp for all tests that only feed it: float batches with float gradients, double with
/// double. Tests that want any_loss or parse_spec themselves include trm/loss/any_loss_extern.hpp and get those of spec_loss.cpp.
class spec_loss {
public:
    trm::loss_spec spec;
    explicit spec_loss(trm::loss_spec s) : spec(std::move(s)) {}

    template <class T>
    [[nodiscard]] trm::result operator()(trm::batch_view<T> const& batch, trm::selection_view const& chosen,
                                         trm::outputs<T> const& out) const;
    template <class T>
    [[nodiscard]] trm::result operator()(trm::batch_view<T> const& batch, trm::outputs<T> const& out) const {
        return (*this)(batch, trm::selection_view{}, out);
    }
    template <class T>
    [[nodiscard]] trm::result operator()(trm::batch_view<T> const& batch) const {
        return (*this)(batch, trm::outputs<T>{});
    }
    template <class T, std::ranges::contiguous_range G>
    [[nodiscard]] trm::result operator()(trm::batch_view<T> const& batch, G&& grad) const {
        trm::outputs<T> out;
        out.grad = std::span<T>(std::ranges::data(grad), std::ranges::size(grad));
        return (*this)(batch, out);
    }
    template <class T>
    [[nodiscard]] trm::status select(trm::batch_view<T> const& batch, trm::selection& to) const;

    // the phases, in double
    [[nodiscard]] trm::status weigh(trm::batch_view<double> const& batch, std::span<double> out) const;
    [[nodiscard]] trm::status measure(trm::batch_view<double> const& batch, trm::selection_view const& chosen,
                                      trm::sequence_totals& totals) const;
    [[nodiscard]] trm::status count(trm::batch_view<double> const& batch, trm::selection_view const& chosen,
                                    trm::sequence_totals const& totals, trm::counts& total) const;
    [[nodiscard]] trm::result apply(trm::batch_view<double> const& batch, trm::selection_view const& chosen,
                                    trm::sequence_totals const& totals, trm::counts const& total,
                                    trm::outputs<double> const& out) const;
};
