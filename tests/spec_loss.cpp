// SPDX-License-Identifier: Apache-2.0
#include "spec_loss.hpp"

#include <trm/loss/any_loss.hpp>

template <class T>
trm::result spec_loss::operator()(trm::batch_view<T> const& batch, trm::outputs<T> const& out) const {
    return trm::any_loss(spec)(batch, out);
}
template trm::result spec_loss::operator()(trm::batch_view<float> const&, trm::outputs<float> const&) const;
template trm::result spec_loss::operator()(trm::batch_view<double> const&, trm::outputs<double> const&) const;

template <class T>
trm::status spec_loss::select(trm::batch_view<T> const& batch, std::span<std::uint16_t> rejected,
                              std::span<std::uint8_t> marks) const {
    trm::workspace scratch;
    return trm::any_loss(spec).select(batch, rejected, marks, scratch);
}
template trm::status spec_loss::select(trm::batch_view<float> const&, std::span<std::uint16_t>,
                                       std::span<std::uint8_t>) const;
template trm::status spec_loss::select(trm::batch_view<double> const&, std::span<std::uint16_t>,
                                       std::span<std::uint8_t>) const;

trm::status spec_loss::measure(trm::batch_view<double> const& batch, trm::sequence_totals& totals) const {
    return trm::any_loss(spec).measure(batch, totals);
}
trm::status spec_loss::count(trm::batch_view<double> const& batch, trm::sequence_totals const& totals,
                             trm::counts& total) const {
    return trm::any_loss(spec).count(batch, totals, total);
}
trm::result spec_loss::apply(trm::batch_view<double> const& batch, trm::sequence_totals const& totals,
                             trm::counts const& total, trm::outputs<double> const& out) const {
    return trm::any_loss(spec).apply(batch, totals, total, out);
}
