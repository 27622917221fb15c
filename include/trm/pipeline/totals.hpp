// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/status.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

TRM_NAMESPACE_BEGIN
namespace detail {

/// Statistics of all sequences in memory that somebody owns: rows of `sum_width` numbers that add, and of `max_width` numbers of
/// which the largest counts. The first columns of a row of sums are those of `fixed`, then come the loss's own.
struct totals_view {
    double* sums = nullptr;
    double* maxima = nullptr;
    std::int64_t sequences = 0, sum_width = 0, max_width = 0;

    enum fixed : std::int64_t { tokens, finite, passing, x, logp, fixed_columns };

    [[nodiscard]] double* sums_of(std::int64_t sequence) const noexcept { return sums + sequence * sum_width; }
    [[nodiscard]] double* maxima_of(std::int64_t sequence) const noexcept { return maxima + sequence * max_width; }
    void clear() const noexcept {
        std::fill_n(sums, sequences * sum_width, 0.0);
        std::fill_n(maxima, sequences * max_width, -std::numeric_limits<double>::infinity());
    }
};

}  // namespace detail

/// What the first phase of a loss finds: statistics of every sequence, from the tokens that one rank or micro-batch has of it.
/// Parts of the same sequences merge; over ranks add `sums` and take the maximum of `maxima`, element by element.
class sequence_totals {
public:
    [[nodiscard]] std::int64_t sequences() const noexcept { return sequences_; }
    /// Numbers that add: counts, sums of log-ratios and log-probabilities, and the sums that the loss's policies take.
    [[nodiscard]] std::span<double> sums() noexcept { return sums_; }
    [[nodiscard]] std::span<double const> sums() const noexcept { return sums_; }
    /// Numbers of which the largest counts; -infinity where a sequence has no token.
    [[nodiscard]] std::span<double> maxima() noexcept { return maxima_; }
    [[nodiscard]] std::span<double const> maxima() const noexcept { return maxima_; }

    /// Adds what another part of the batch has of the same sequences. Refuses totals of another loss or number of sequences.
    [[nodiscard]] status merge(sequence_totals const& o) noexcept {
        if (o.sums_.size() != sums_.size() || o.maxima_.size() != maxima_.size())
            return detail::size_mismatch("sequence_totals", sums_.size() + maxima_.size(),
                                         o.sums_.size() + o.maxima_.size());
        for (std::size_t i = 0; i < sums_.size(); ++i) sums_[i] += o.sums_[i];
        for (std::size_t i = 0; i < maxima_.size(); ++i) maxima_[i] = (std::max)(maxima_[i], o.maxima_[i]);
        return {};
    }

    /// For the phases: memory for so many sequences. May throw std::bad_alloc.
    [[nodiscard]] detail::totals_view reset(std::int64_t sequences, std::int64_t sum_width, std::int64_t max_width) {
        sums_.resize(static_cast<std::size_t>(sequences * sum_width));
        maxima_.resize(static_cast<std::size_t>(sequences * max_width));
        sequences_ = sequences;
        sum_width_ = sum_width;
        max_width_ = max_width;
        return {sums_.data(), maxima_.data(), sequences, sum_width, max_width};
    }
    /// For the phases: the rows, if they are those of a loss of these widths.
    [[nodiscard]] status view(std::int64_t sequences, std::int64_t sum_width, std::int64_t max_width,
                              detail::totals_view& to) const noexcept {
        if (sequences != sequences_ || sum_width != sum_width_ || max_width != max_width_)
            return detail::size_mismatch("sequence_totals: not measured by this loss, or for other sequences",
                                         sequences, sequences_);
        to = {const_cast<double*>(sums_.data()), const_cast<double*>(maxima_.data()), sequences, sum_width, max_width};
        return {};
    }

private:
    std::vector<double> sums_, maxima_;
    std::int64_t sequences_ = 0, sum_width_ = 0, max_width_ = 0;
};

TRM_NAMESPACE_END
