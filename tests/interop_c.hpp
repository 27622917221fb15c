// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "loss_batch.hpp"

#include <trm/interop/c.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

/// The C interface as its tests use it.
namespace c {

template <class S>
constexpr std::int32_t dtype = std::is_same_v<S, double>      ? TRM_F64
                               : std::is_same_v<S, trm::bf16> ? TRM_BF16
                               : std::is_same_v<S, trm::f16>  ? TRM_F16
                                                              : TRM_F32;

template <auto Free>
struct with_free {
    template <class T>
    void operator()(T* p) const {
        Free(p);
    }
};
using loss = std::unique_ptr<trm_loss, with_free<trm_loss_free>>;
using scratch = std::unique_ptr<trm_scratch, with_free<trm_scratch_free>>;
using totals = std::unique_ptr<trm_totals, with_free<trm_totals_free>>;
using counts = std::unique_ptr<trm_counts, with_free<trm_counts_free>>;
using evidence = std::unique_ptr<trm_evidence, with_free<trm_evidence_free>>;
using string = std::unique_ptr<char, with_free<trm_string_free>>;

inline loss from_text(std::string const& text) { return loss(trm_loss_from_text(text.c_str(), nullptr)); }

/// Everything that `b` has but marks and rejections.
template <class S>
trm_batch batch_of(batches::ragged<S> const& b) {
    trm_batch v = trm_batch_init();
    v.dtype = dtype<S>;
    v.layout = b.stride > 0 ? TRM_PADDED : b.sequence_of.empty() ? TRM_PACKED : TRM_SEGMENTS;
    v.tokens = static_cast<std::int64_t>(b.tokens());
    v.sequences = v.layout == TRM_PACKED ? std::ssize(b.cu) - 1 : b.sequences;
    v.runs = std::ssize(b.sequence_of);
    v.cu_seqlens = b.cu.data();
    v.cu_dtype = TRM_I64;
    v.sequence_of = b.sequence_of.data();
    v.max_tokens = b.row;
    v.row_stride = b.stride;
    v.logp.data = b.logp.data();
    v.rollout_logp.data = b.rollout.data();
    v.proximal_logp.data = b.proximal.data();
    v.ref_logp.data = b.ref.data();
    v.advantages.data = b.advantages.data();
    v.given.data = b.given.data();
    v.token_weights.data = b.token_weights.data();
    v.loss_mask.data = b.mask.data();
    v.group_of = b.groups.data();
    return v;
}

/// Outputs in memory that shows what was not written.
template <class S>
struct results {
    using real = trm::default_arithmetic_t<S>;
    std::vector<real> grad, weights;
    std::vector<std::uint8_t> keep;
    std::vector<std::uint16_t> reasons;
    double loss = -77;
    trm_diagnostics diagnostics = trm_diagnostics_init();

    explicit results(std::size_t n) : grad(n, real(-7)), weights(n, real(-7)), keep(n, 77), reasons(n, 777) {}
    trm_outputs view() {
        trm_outputs out = trm_outputs_init();
        out.grad.data = grad.data();
        out.weights.data = weights.data();
        out.keep.data = keep.data();
        out.reasons.data = reasons.data();
        return out;
    }
    friend bool operator==(results const& a, results const& b) {
        auto const same = [](auto const& x, auto const& y) {
            return x.size() == y.size() && (x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof x[0]) == 0);
        };
        return same(a.grad, b.grad) && same(a.weights, b.weights) && a.keep == b.keep && a.reasons == b.reasons &&
               std::memcmp(&a.loss, &b.loss, sizeof a.loss) == 0 &&
               std::memcmp(&a.diagnostics, &b.diagnostics, sizeof a.diagnostics) == 0;
    }
};

inline batches::shape shape() {
    return {
        {0, 1, 16, 17, 5, 31, 0, 33, 64, 2, 3, 50, 90, 7, 130, 300, 1, 200, 12, 1030, 40, 41, 42, 5}, true, 0.3, 0.004};
}
template <class S>
std::vector<batches::ragged<S>> layouts(std::uint64_t seed) {
    auto const b = batches::make<S>(shape(), seed);
    batches::random r(seed);
    return {b, batches::padded(b, 3), batches::segmented(b, batches::cut(b.cu, 3, r))};
}

}  // namespace c
