// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/config.hpp>

#include <cstdint>

TRM_NAMESPACE_BEGIN

/// What went wrong. `ok` is zero.
enum class errc : std::uint8_t {
    ok = 0,
    size_mismatch,          ///< a stream, an output or a statistics span has the wrong number of elements
    missing_stream,         ///< a policy of the loss reads a stream that the batch does not have
    decreasing_offsets,     ///< cu_seqlens does not start at 0, decreases, or ends past the tokens
    bad_layout,             ///< negative sizes, row_stride < T, sequence or group ids out of range
    bad_threshold,          ///< a threshold or coefficient is NaN, or lower > upper
    bad_denominator,        ///< a given denominator or norm length is negative or NaN
    nonfinite_input,        ///< strict mode: a log-probability or advantage inside loss_mask is not finite
    positive_logp,          ///< strict mode: a log-probability inside loss_mask is above 0 by more than rounding
    out_of_memory,          ///< the workspace could not grow
    bad_spec,               ///< a text or JSON spec does not describe a loss
    unsupported,            ///< this combination has no meaning; the sentence says why
    rank_failed             ///< an exception on another rank, or an exchange between ranks that failed
};

/// Outcome of a call. `sequence` and `token` (offset inside the sequence) name the first offender, -1 where unknown. For
/// sizes, `expected` and `actual` are the two numbers of elements that disagree, -1 where there are none.
struct status {
    errc code = errc::ok;
    std::int64_t sequence = -1;
    std::int64_t token = -1;
    char const* what = "";  ///< static storage: the stream, field or rule concerned
    std::int64_t expected = -1;
    std::int64_t actual = -1;

    [[nodiscard]] constexpr bool ok() const noexcept { return code == errc::ok; }
    friend constexpr bool operator==(status const& a, status const& b) noexcept {
        return a.code == b.code && a.sequence == b.sequence && a.token == b.token;
    }
};

/// A sentence fragment for each code; `checked` puts it together with `what`, sequence and token.
[[nodiscard]] constexpr char const* message(errc code) noexcept {
    switch (code) {
        case errc::ok:
            return "ok";
        case errc::size_mismatch:
            return "wrong number of elements";
        case errc::missing_stream:
            return "the loss reads a stream that the batch does not have";
        case errc::decreasing_offsets:
            return "cu_seqlens must start at 0, never decrease, and end within the tokens";
        case errc::bad_layout:
            return "layout is inconsistent";
        case errc::bad_threshold:
            return "threshold is NaN or the band is empty";
        case errc::bad_denominator:
            return "denominator must be a non-negative number";
        case errc::nonfinite_input:
            return "not finite inside loss_mask";
        case errc::positive_logp:
            return "a log-probability is above 0 inside loss_mask";
        case errc::out_of_memory:
            return "workspace could not be allocated";
        case errc::bad_spec:
            return "spec does not describe a loss";
        case errc::unsupported:
            return "unsupported combination";
        case errc::rank_failed:
            return "an exception, or an exchange between ranks that failed";
    }
    return "unknown error";
}

namespace detail {

/// `what` has `actual` elements in the place of `expected`.
template <class Expected, class Actual>
[[nodiscard]] constexpr status size_mismatch(char const* what, Expected expected, Actual actual) noexcept {
    return {errc::size_mismatch, -1, -1, what, static_cast<std::int64_t>(expected), static_cast<std::int64_t>(actual)};
}
/// Has `what` so many elements?
template <class Expected, class Actual>
[[nodiscard]] constexpr status check_size(char const* what, Expected expected, Actual actual) noexcept {
    return static_cast<std::int64_t>(actual) == static_cast<std::int64_t>(expected)
               ? status{}
               : size_mismatch(what, expected, actual);
}
/// Has it at least so many?
template <class Extent, class Actual>
[[nodiscard]] constexpr status check_extent(char const* what, Extent extent, Actual actual) noexcept {
    return static_cast<std::int64_t>(actual) >= static_cast<std::int64_t>(extent) ? status{}
                                                                                  : size_mismatch(what, extent, actual);
}

}  // namespace detail

TRM_NAMESPACE_END
