// SPDX-License-Identifier: Apache-2.0
#define TRM_ANY_LOSS_HERE
#include <trm/loss/any_loss_extern.hpp>

#include "spec_loss.hpp"

template <class T>
trm::result spec_loss::operator()(trm::batch_view<T> const& batch, trm::selection_view const& chosen,
                                  trm::outputs<T> const& out) const {
    return trm::any_loss(spec)(batch, chosen, out);
}
template trm::result spec_loss::operator()(trm::batch_view<float> const&, trm::selection_view const&,
                                           trm::outputs<float> const&) const;
template trm::result spec_loss::operator()(trm::batch_view<double> const&, trm::selection_view const&,
                                           trm::outputs<double> const&) const;

template <class T>
trm::status spec_loss::select(trm::batch_view<T> const& batch, trm::selection& to) const {
    return trm::any_loss(spec).select(batch, to);
}
template trm::status spec_loss::select(trm::batch_view<float> const&, trm::selection&) const;
template trm::status spec_loss::select(trm::batch_view<double> const&, trm::selection&) const;

trm::status spec_loss::weigh(trm::batch_view<double> const& batch, std::span<double> out) const {
    return trm::any_loss(spec).weigh(batch, out);
}
trm::status spec_loss::measure(trm::batch_view<double> const& batch, trm::selection_view const& chosen,
                               trm::sequence_totals& totals) const {
    return trm::any_loss(spec).measure(batch, chosen, totals);
}
trm::status spec_loss::count(trm::batch_view<double> const& batch, trm::selection_view const& chosen,
                             trm::sequence_totals const& totals, trm::counts& total) const {
    return trm::any_loss(spec).count(batch, chosen, totals, total);
}
trm::result spec_loss::apply(trm::batch_view<double> const& batch, trm::selection_view const& chosen,
                             trm::sequence_totals const& totals, trm::counts const& total,
                             trm::outputs<double> const& out) const {
    return trm::any_loss(spec).apply(batch, chosen, totals, total, out);
}
