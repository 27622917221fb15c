// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "array.hpp"

#include <deque>

namespace trm_python {

/// The arrays of a call as a trm_batch, with everything that it refers to. Padded: logp [B, T]. Packed: logp [N] and
/// cu_seqlens [B + 1]. Segments: also sequence_of [runs].
class batch {
public:
    batch(nb::object logp, nb::object rollout_logp, nb::object advantages, nb::object loss_mask, nb::object cu_seqlens,
          nb::object proximal_logp, nb::object ref_logp, nb::object given, nb::object token_weights,
          nb::object sequence_advantages, nb::object group_of, nb::object sequence_of, nb::object sequences);

    [[nodiscard]] trm_batch const& view() const noexcept { return view_; }
    [[nodiscard]] std::vector<std::int64_t> const& shape() const noexcept { return shape_; }
    [[nodiscard]] bool is_double() const noexcept { return view_.dtype == TRM_F64; }
    /// Phase 0: what the loss selects becomes part of the batch.
    void select(trm_loss const* loss);

    /// A stream of numbers of the arithmetic's type that stays with the batch: for certificates.
    [[nodiscard]] void const* real_stream(nb::object object, char const* name);
    /// One number per sequence.
    template <class T>
    [[nodiscard]] T const* per_sequence(nb::object object, char const* name);

private:
    void layout(nb::object cu_seqlens, nb::object sequence_of, nb::object sequences);
    void advantages(array values);
    void must_have_tokens(array const& a) const;
    [[nodiscard]] void const* real(array a);
    /// Memory that lives as long as the batch.
    [[nodiscard]] std::vector<std::byte>& memory() { return copies_.emplace_back(); }
    array& keep(array a) { return held_.emplace_back(std::move(a)); }

    trm_batch view_ = trm_batch_init();
    std::vector<std::int64_t> shape_;
    std::deque<array> held_;
    std::deque<std::vector<std::byte>> copies_;
    std::vector<std::uint16_t> rejected_;
    std::vector<std::uint8_t> marks_;
};

}  // namespace trm_python
