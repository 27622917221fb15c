// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/stream_view.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

TRM_NAMESPACE_BEGIN

/// What was selected of a batch before the other phases, one element per token; nothing is owned. The calls of a loss take it
/// beside the batch. Either stream may be absent: a loss works out in the one-call form what it needs and is not given.
struct selection_view {
    /// Not 0: rejected beforehand. Bit i counts as rejected by criterion i in the diagnostics, and should be a criterion that
    /// selects: a token that a token criterion i rejects again counts twice there.
    stream_view<std::uint16_t> reasons{};
    stream_view<std::uint8_t> marks{};  ///< not 0: a token that the surrogate treats specially (kl_cov)
};

/// The same in memory of its own, as `select` of a loss fills it. A selection that is filled again allocates nothing unless the
/// batch is larger than all before. `outputs::reasons` may be the memory of `reasons()`, and `outputs::keep` that of `marks()`;
/// the selection is then used up.
class selection {
public:
    /// One per token if the loss has criteria that compare tokens, else none.
    [[nodiscard]] std::span<std::uint16_t> reasons() noexcept { return reasons_; }
    [[nodiscard]] std::span<std::uint16_t const> reasons() const noexcept { return reasons_; }
    /// One per token if the loss's surrogate marks tokens, else none.
    [[nodiscard]] std::span<std::uint8_t> marks() noexcept { return marks_; }
    [[nodiscard]] std::span<std::uint8_t const> marks() const noexcept { return marks_; }
    /// Valid as long as the selection is, and until it is filled again.
    [[nodiscard]] operator selection_view() const& noexcept {
        return {std::span<std::uint16_t const>(reasons_), std::span<std::uint8_t const>(marks_)};
    }
    operator selection_view() const&& = delete;  // gone before its view is read

    /// For `select`: room for so many of each, contents unspecified. May throw std::bad_alloc.
    void reset(std::size_t reasons, std::size_t marks) {
        reasons_.resize(reasons);
        marks_.resize(marks);
    }

private:
    std::vector<std::uint16_t> reasons_;
    std::vector<std::uint8_t> marks_;
};

TRM_NAMESPACE_END
