// SPDX-License-Identifier: Apache-2.0
#include "batch.hpp"

#include <algorithm>
#include <limits>

namespace trm_python {
namespace {

/// float64 if one of them is, the common type if there is one, else float32, which has every bfloat16 and float16.
element common_type(std::initializer_list<array const*> streams) {
    element type = (*streams.begin())->type();
    for (array const* a : streams) {
        if (!a->given()) continue;
        if (!a->is_floating()) refuse(std::string(a->name()) + " must have floating-point numbers");
        if (a->type() == type) continue;
        type = a->type() == element::f64 || type == element::f64 ? element::f64 : element::f32;
    }
    return type;
}

}  // namespace

batch::batch(nb::object logp, nb::object rollout_logp, nb::object advantage, nb::object loss_mask,
             nb::object cu_seqlens, nb::object proximal_logp, nb::object ref_logp, nb::object given,
             nb::object token_weights, nb::object sequence_advantages, nb::object group_of, nb::object sequence_of,
             nb::object sequences) {
    array& current = keep({logp, "logp"});
    if (!current.given()) refuse("logp is missing");
    shape_ = current.shape();
    view_.tokens = current.size();
    layout(cu_seqlens, sequence_of, sequences);

    array& rollout = keep({rollout_logp, "rollout_logp"});
    array& proximal = keep({proximal_logp, "proximal_logp"});
    array& reference = keep({ref_logp, "ref_logp"});
    element const type = common_type({&current, &rollout, &proximal, &reference});
    view_.dtype = static_cast<std::int32_t>(type);
    auto const stream = [&](array const& a, trm_stream& to) {
        if (!a.given()) return;
        must_have_tokens(a);
        to.data = a.as(type, memory());
    };
    stream(current, view_.logp);
    stream(rollout, view_.rollout_logp);
    stream(proximal, view_.proximal_logp);
    stream(reference, view_.ref_logp);
    view_.given.data = real_stream(given, "given");
    view_.token_weights.data = real_stream(token_weights, "token_weights");
    array& mask = keep({loss_mask, "loss_mask"});
    if (mask.given()) {
        must_have_tokens(mask);
        view_.loss_mask.data = mask.as<std::uint8_t>(memory());
    }
    view_.group_of = per_sequence<std::int32_t>(group_of, "group_of");
    array whole(sequence_advantages, "sequence_advantages");
    if (whole.given()) {
        if (whole.size() != view_.sequences)
            refuse("sequence_advantages must have one number for each of the " + std::to_string(view_.sequences) +
                   " sequences");
        view_.sequence_advantages = real(std::move(whole));
    }
    advantages({advantage, "advantages"});
}

void batch::layout(nb::object cu_seqlens, nb::object sequence_of, nb::object sequences) {
    array& cu = keep({cu_seqlens, "cu_seqlens"});
    if (!cu.given()) {
        if (shape_.size() != 2) refuse("logp must have the shape [sequences, tokens], or cu_seqlens be given");
        view_.layout = TRM_PADDED;
        view_.sequences = shape_[0];
        view_.max_tokens = shape_[1];
        return;
    }
    if (shape_.size() != 1) refuse("with cu_seqlens, logp must have one dimension");
    if (cu.shape().size() != 1 || cu.size() < 1) refuse("cu_seqlens must have one dimension and at least one number");
    view_.cu_seqlens = cu.as<std::int64_t>(memory());
    view_.cu_dtype = TRM_I64;
    array& owner = keep({sequence_of, "sequence_of"});
    if (!owner.given()) {
        view_.layout = TRM_PACKED;
        view_.sequences = cu.size() - 1;
        return;
    }
    view_.layout = TRM_SEGMENTS;
    view_.runs = cu.size() - 1;
    if (owner.size() != view_.runs) refuse("sequence_of must have one number for each run of cu_seqlens");
    view_.sequence_of = owner.as<std::int32_t>(memory());
    view_.sequences = view_.runs == 0 ? 0 : *std::max_element(view_.sequence_of, view_.sequence_of + view_.runs) + 1;
    if (!sequences.is_none()) view_.sequences = nb::cast<std::int64_t>(sequences);
}

void batch::must_have_tokens(array const& a) const {
    if (a.shape() != shape_)
        refuse(std::string(a.name()) + " has the shape " + text(a.shape()) + ", logp " + text(shape_));
}
void const* batch::real(array values) {
    array const& a = keep(std::move(values));
    return a.as(is_double() ? element::f64 : element::f32, memory());
}
void const* batch::real_stream(nb::object object, char const* name) {
    array a(object, name);
    if (!a.given()) return nullptr;
    must_have_tokens(a);
    return real(std::move(a));
}
template <class T>
T const* batch::per_sequence(nb::object object, char const* name) {
    array& a = keep({object, name});
    if (!a.given()) return nullptr;
    if (a.size() != view_.sequences)
        refuse(std::string(name) + " must have one number for each of the " + std::to_string(view_.sequences) +
               " sequences");
    return a.as<T>(memory());
}
template double const* batch::per_sequence(nb::object, char const*);
template std::int32_t const* batch::per_sequence(nb::object, char const*);
template std::int64_t const* batch::per_sequence(nb::object, char const*);

/// Per token where the shape is that of logp, else per sequence: [B] or [B, 1].
void batch::advantages(array a) {
    if (!a.given()) return;
    bool const per_token = a.shape() == shape_;
    if (!per_token && a.size() != view_.sequences)
        refuse("advantages has the shape " + text(a.shape()) + "; give one number per token, " + text(shape_) +
               ", or per sequence, (" + std::to_string(view_.sequences) + ",)");
    if (per_token && shape_.size() == 1 && view_.tokens == view_.sequences)
        for (std::int64_t i = 0; view_.layout == TRM_PACKED && i < view_.sequences; ++i)
            if (static_cast<std::int64_t const*>(view_.cu_seqlens)[i] != i)
                refuse("advantages could be per token or per sequence here: both are " + std::to_string(view_.tokens) +
                       "; give the latter as sequence_advantages");
    if (per_token) {
        view_.advantages.data = real(std::move(a));
    } else if (view_.sequence_advantages != nullptr) {
        refuse("give advantages or sequence_advantages, not both");
    } else {
        view_.sequence_advantages = real(std::move(a));
    }
}

void batch::select(trm_loss const* loss) {
    rejected_.assign(static_cast<std::size_t>(view_.tokens) + 1, 0);
    marks_.assign(static_cast<std::size_t>(view_.tokens) + 1, 0);
    without_gil([&](trm_error* e) {
        return trm_loss_select(loss, &view_, rejected_.data(), marks_.data(), nullptr, scratch(), e);
    });
    view_.rejected = rejected_.data();
    view_.marks = marks_.data();
}

}  // namespace trm_python
