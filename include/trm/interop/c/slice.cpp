// SPDX-License-Identifier: Apache-2.0
// Parts of batches, and parts of diagnostics put together.
#include <trm/interop/c/diagnostics.hpp>
#include <trm/interop/c/support.hpp>

#include <algorithm>

TRM_NAMESPACE_BEGIN
namespace c_api {
namespace {

[[nodiscard]] std::size_t bytes_of(std::int32_t dtype) noexcept {
    return dtype == TRM_F64 ? 8 : dtype == TRM_F32 ? 4 : 2;
}
void advance(trm_stream& s, std::int64_t tokens, std::size_t bytes) noexcept {
    if (s.data != nullptr)
        s.data = static_cast<std::byte const*>(s.data) +
                 tokens * (s.stride > 1 ? s.stride : 1) * static_cast<std::int64_t>(bytes);
}
void advance(trm_stream_out& s, std::int64_t tokens, std::size_t bytes) noexcept {
    if (s.data != nullptr)
        s.data =
            static_cast<std::byte*>(s.data) + tokens * (s.stride > 1 ? s.stride : 1) * static_cast<std::int64_t>(bytes);
}
template <class T>
void advance(T const*& p, std::int64_t n) noexcept {
    if (p != nullptr) p += n;
}

/// The runs [first, last) of a slice, and its tokens.
struct share {
    std::int64_t first = 0, last = 0, token = 0, tokens = 0;
};

[[nodiscard]] status share_of_rows(trm_batch const& b, std::int64_t ith, std::int64_t nth, share& s) noexcept {
    std::int64_t const stride = b.row_stride == 0 ? b.max_tokens : b.row_stride;
    if (b.max_tokens < 0 || stride < b.max_tokens || (stride > 0 && b.sequences > most_elements / stride))
        return {errc::bad_layout, -1, -1, "padded"};
    auto const tokens_of = [&](std::int64_t rows) { return rows > 0 ? (rows - 1) * stride + b.max_tokens : 0; };
    if (b.tokens < tokens_of(b.sequences) || (b.partial == 0 && b.tokens > b.sequences * stride))
        return {errc::size_mismatch, -1, -1, "tokens", b.sequences * stride, b.tokens};
    std::int64_t const whole = b.sequences / nth, rest = b.sequences % nth;  // rows * i / nth without overflow
    auto const begin = [&](std::int64_t i) { return whole * i + rest * i / nth; };
    s.first = begin(ith);
    s.last = begin(ith + 1);
    s.token = s.first * stride;
    s.tokens = tokens_of(s.last - s.first);
    return {};
}

template <class I>
[[nodiscard]] status share_of_runs(trm_batch const& b, std::int64_t runs, std::int64_t ith, std::int64_t nth,
                                   std::int64_t* offsets, share& s) noexcept {
    if (b.cu_seqlens == nullptr && runs == 0) return {};
    if (status e = check_array<I>(b.cu_seqlens, runs + 1, "cu_seqlens is a null pointer"); !e.ok()) return e;
    if (offsets == nullptr) return bad_argument("offsets is a null pointer");
    auto const* const cu = static_cast<I const*>(b.cu_seqlens);
    if (cu[0] != 0) return {errc::decreasing_offsets, 0, -1, "cu_seqlens"};
    for (std::int64_t j = 0; j < runs; ++j)
        if (cu[j + 1] < cu[j]) return {errc::decreasing_offsets, j, -1, "cu_seqlens"};
    std::int64_t const tokens = cu[runs];
    if (tokens > b.tokens || (tokens < b.tokens && b.partial == 0))
        return {errc::size_mismatch, -1, -1, "tokens", tokens, b.tokens};
    std::int64_t const whole = tokens / nth, rest = tokens % nth;
    auto const begin = [&](std::int64_t i) {
        if (i == nth) return runs;
        std::int64_t const token = whole * i + rest * i / nth;
        return static_cast<std::int64_t>(std::lower_bound(cu, cu + runs, token) - cu);
    };
    s.first = begin(ith);
    s.last = begin(ith + 1);
    s.token = cu[s.first];
    s.tokens = cu[s.last] - cu[s.first];
    for (std::int64_t j = s.first; j <= s.last; ++j) offsets[j - s.first] = cu[j] - cu[s.first];
    return {};
}

[[nodiscard]] status slice(trm_batch const& b, std::int32_t ith, std::int32_t nth, std::int64_t* offsets, trm_batch& to,
                           share& s) noexcept {
    if (nth < 1 || ith < 0 || ith >= nth) return bad_argument("a slice takes 0 <= ith < nth");
    if (b.dtype < TRM_F32 || b.dtype > TRM_F16)
        return bad_argument("dtype is not one of TRM_F32, TRM_F64, TRM_BF16, TRM_F16");
    bool const is_segments = b.layout == TRM_SEGMENTS;
    std::int64_t const runs = is_segments ? b.runs : b.sequences;
    if (b.tokens < 0 || b.tokens > most_elements || b.sequences < 0 || b.sequences > most_elements || runs < 0)
        return {errc::bad_layout, -1, -1, "tokens, sequences or runs is negative or too large"};
    status e;
    if (b.layout == TRM_PADDED) {
        e = share_of_rows(b, ith, nth, s);
    } else if (b.layout != TRM_PACKED && !is_segments) {
        return bad_argument("layout is not one of TRM_PACKED, TRM_PADDED, TRM_SEGMENTS");
    } else if (b.cu_dtype == TRM_I32) {
        e = share_of_runs<std::int32_t>(b, runs, ith, nth, offsets, s);
    } else if (b.cu_dtype == TRM_I64) {
        e = share_of_runs<std::int64_t>(b, runs, ith, nth, offsets, s);
    } else {
        return bad_argument("cu_dtype is not one of TRM_I32, TRM_I64");
    }
    if (!e.ok()) return e;
    std::size_t const logp = bytes_of(b.dtype), real = b.dtype == TRM_F64 ? 8 : 4;
    to = b;
    to.tokens = s.tokens;
    to.partial = 0;
    if (b.layout != TRM_PADDED) {
        to.cu_seqlens = offsets;
        to.cu_dtype = TRM_I64;
    }
    if (is_segments) {
        to.runs = s.last - s.first;
        advance(to.sequence_of, s.first);
    } else {
        to.sequences = s.last - s.first;
        advance(to.group_of, s.first);
        if (to.sequence_advantages != nullptr)
            to.sequence_advantages =
                static_cast<std::byte const*>(b.sequence_advantages) + s.first * static_cast<std::int64_t>(real);
    }
    for (trm_stream* stream : {&to.logp, &to.rollout_logp, &to.proximal_logp, &to.ref_logp})
        advance(*stream, s.token, logp);
    for (trm_stream* stream : {&to.advantages, &to.given, &to.token_weights}) advance(*stream, s.token, real);
    advance(to.loss_mask, s.token, 1);
    advance(to.rejected, s.token);
    advance(to.marks, s.token);
    return {};
}

}  // namespace
}  // namespace c_api
TRM_NAMESPACE_END

using namespace trm::c_api;

int trm_slice(trm_batch const* batch, trm_outputs const* out, int32_t ith, int32_t nth, int64_t* offsets,
              trm_batch* batch_slice, trm_outputs* out_slice, trm_error* error) {
    return call(error, [&]() -> trm::status {
        trm_batch whole, part;
        share s;
        if (trm::status e = read_struct(batch, whole); !e.ok()) return e;
        if (batch_slice == nullptr || (out != nullptr && out_slice == nullptr))
            return bad_argument("batch_slice or out_slice is a null pointer");
        if (trm::status e = slice(whole, ith, nth, offsets, part, s); !e.ok()) return e;
        if (out != nullptr) {
            trm_outputs to;
            if (trm::status e = read_struct(out, to); !e.ok()) return e;
            std::size_t const real = whole.dtype == TRM_F64 ? 8 : 4;
            advance(to.grad, s.token, real);
            advance(to.keep, s.token, 1);
            advance(to.reasons, s.token, 2);
            advance(to.weights, s.token, real);
            to.size = sizeof to;
            *out_slice = to;
        }
        part.size = sizeof part;
        *batch_slice = part;
        return {};
    });
}

int trm_diagnostics_merge(trm_diagnostics* into, trm_diagnostics const* from, trm_error* error) {
    return call(error, [&]() -> trm::status {
        trm_diagnostics a, b;
        if (trm::status s = read_struct<trm_diagnostics>(into, a); !s.ok()) return s;
        if (trm::status s = read_struct(from, b); !s.ok()) return s;
        trm::diagnostics sum = from_c(a);
        sum.merge(from_c(b));
        write_struct(to_c(sum), into);
        return {};
    });
}

int trm_version(void) { return TRM_VERSION; }
