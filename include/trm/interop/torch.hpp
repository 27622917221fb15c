// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/checked.hpp>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <string>
#include <type_traits>

/// \file
/// Losses on CPU tensors of LibTorch, from C++, with autograd. Compiled and tested with LibTorch 1.13 and the current release.
///
///     trm::torch::output out = trm::torch::masked_loss(loss, {.logp = logp, .rollout_logp = rollout, .advantages = a});
///     out.loss.backward();
///
/// Tensors are viewed, never copied: what is not a contiguous CPU tensor of the right dtype is a c10::Error with a sentence.
/// From Python: examples/python.

TRM_NAMESPACE_BEGIN

template <>
struct storage_traits<c10::BFloat16> {
    using type = bf16;
};
template <>
struct storage_traits<c10::Half> {
    using type = f16;
};

namespace torch {

/// What batch_view has, as tensors; undefined ones are absent. Padded: logp [B, T]. Packed: logp [N], and cu_seqlens [B + 1],
/// int32 or int64. The log-probabilities have one dtype: float32, float64, bfloat16 or float16. advantages (per token, in the
/// shape of logp, or [B] or [B, 1]), given and token_weights are float64 for float64, else float32. loss_mask is bool or
/// uint8, group_of [B] int32.
struct tensors {
    at::Tensor logp{}, rollout_logp{}, advantages{}, loss_mask{}, cu_seqlens{};
    at::Tensor proximal_logp{}, ref_logp{}, given{}, token_weights{}, group_of{};
};

/// What masked_loss returns. `loss` is a scalar with a gradient in logp; `grad` is d loss / d logp, a constant. Both are float64
/// for float64, else float32.
struct output {
    at::Tensor loss, grad;
    trm::diagnostics diagnostics;
};

namespace detail {

inline void require_memory(at::Tensor const& t, char const* name) {
    TORCH_CHECK(t.device().is_cpu(), "trm: ", name, " is on ", t.device(), "; trm computes on the CPU");
    TORCH_CHECK(t.layout() == at::kStrided && t.is_contiguous(), "trm: ", name, " must be contiguous");
}
template <class T>
inline constexpr at::ScalarType dtype_of = c10::CppTypeToScalarType<T>::value;

/// The numbers of a tensor that is either undefined or has this many of this dtype.
template <class T>
[[nodiscard]] stream_view<T> numbers(at::Tensor const& t, std::int64_t n, char const* name) {
    if (!t.defined()) return {};
    require_memory(t, name);
    TORCH_CHECK(t.scalar_type() == dtype_of<T>, "trm: ", name, " must be ", dtype_of<T>, ", not ", t.scalar_type());
    TORCH_CHECK(t.numel() == n, "trm: ", name, " must have ", n, " elements, not ", t.numel());
    return stream_view<T>(static_cast<T const*>(t.data_ptr()), static_cast<std::size_t>(n));
}
[[nodiscard]] inline stream_view<std::uint8_t> truth(at::Tensor const& t, std::int64_t n, char const* name) {
    if (!t.defined() || t.scalar_type() != at::kBool) return numbers<std::uint8_t>(t, n, name);
    return numbers<std::uint8_t>(t.view(at::kByte), n, name);
}
[[nodiscard]] inline layout_view layout_of(tensors const& t) {
    if (!t.cu_seqlens.defined()) {
        TORCH_CHECK(t.logp.dim() == 2, "trm: logp must have the shape [sequences, tokens], or cu_seqlens be given");
        return padded{t.logp.size(0), t.logp.size(1)};
    }
    TORCH_CHECK(t.logp.dim() == 1, "trm: with cu_seqlens, logp must have one dimension");
    std::int64_t const n = t.cu_seqlens.numel();
    if (t.cu_seqlens.scalar_type() == at::kInt) return packed{numbers<std::int32_t>(t.cu_seqlens, n, "cu_seqlens")};
    return packed{numbers<std::int64_t>(t.cu_seqlens, n, "cu_seqlens")};
}

}  // namespace detail

/// The tensors as a batch: S is the dtype of logp. The view is valid as long as the tensors are.
template <class S>
[[nodiscard]] batch_view<S> view_of(tensors const& t) {
    using real = default_arithmetic_t<S>;
    TORCH_CHECK(t.logp.defined(), "trm: logp is missing");
    std::int64_t const n = t.logp.numel();
    batch_view<S> v;
    v.layout = detail::layout_of(t);
    v.logp = detail::numbers<S>(t.logp, n, "logp");
    v.rollout_logp = detail::numbers<S>(t.rollout_logp, n, "rollout_logp");
    v.proximal_logp = detail::numbers<S>(t.proximal_logp, n, "proximal_logp");
    v.ref_logp = detail::numbers<S>(t.ref_logp, n, "ref_logp");
    v.given = detail::numbers<real>(t.given, n, "given");
    v.token_weights = detail::numbers<real>(t.token_weights, n, "token_weights");
    v.loss_mask = detail::truth(t.loss_mask, n, "loss_mask");
    v.group_of = detail::numbers<std::int32_t>(t.group_of, v.layout.sequences(), "group_of");
    if (t.advantages.defined() && t.advantages.sizes() == t.logp.sizes()) {
        v.advantages = detail::numbers<real>(t.advantages, n, "advantages");
    } else {
        v.sequence_advantages = detail::numbers<real>(t.advantages, v.layout.sequences(), "advantages");
    }
    return v;
}

namespace detail {

template <class S, class Loss>
[[nodiscard]] output run(Loss const& loss, tensors const& t) {
    using real = default_arithmetic_t<S>;
    output out;
    auto const options = t.logp.options().dtype(dtype_of<real>).requires_grad(false);
    out.grad = at::empty(t.logp.sizes(), options);
    std::span<real> const grad(static_cast<real*>(out.grad.data_ptr()), static_cast<std::size_t>(t.logp.numel()));
    result const r = loss(view_of<S>(t), grad);
    TORCH_CHECK(r.status.ok(), to_string(r.status));
    out.loss = at::scalar_tensor(r.loss, options);
    out.diagnostics = r.diagnostics;
    return out;
}

template <class Loss, class... S>
struct function : ::torch::autograd::Function<function<Loss, S...>> {
    using context = ::torch::autograd::AutogradContext;

    static at::Tensor forward(context* ctx, at::Tensor const& logp, Loss const* loss, tensors const* rest,
                              output* out) {
        auto const run_as = [&]<class T>(std::type_identity<T>) {
            if (logp.scalar_type() != dtype_of<T>) return false;
            *out = run<T>(*loss, *rest);
            return true;
        };
        TORCH_CHECK((run_as(std::type_identity<S>{}) || ...), "trm: logp is ", logp.scalar_type(),
                    ", for which this call is not compiled");
        ctx->save_for_backward({out->grad});
        ctx->saved_data["dtype"] = static_cast<std::int64_t>(logp.scalar_type());
        return out->loss;
    }
    static ::torch::autograd::variable_list backward(context* ctx, ::torch::autograd::variable_list d) {
        auto const dtype = static_cast<at::ScalarType>(ctx->saved_data["dtype"].toInt());
        return {(ctx->get_saved_variables()[0] * d[0]).to(dtype), {}, {}, {}};
    }
};

}  // namespace detail

/// A loss, composed of types or read from text, on tensors. Only logp has a gradient, and no second derivative. S: the dtypes
/// of logp for which it is compiled, `masked_loss<float>(loss, t)`; none given: all four, which takes four times as long.
template <class... S, class Loss>
[[nodiscard]] output masked_loss(Loss const& loss, tensors const& t) {
    TORCH_CHECK(t.logp.defined(), "trm: logp is missing");
    output out;
    if constexpr (sizeof...(S) == 0) {
        out.loss = detail::function<Loss, float, double, c10::BFloat16, c10::Half>::apply(t.logp, &loss, &t, &out);
    } else {
        out.loss = detail::function<Loss, S...>::apply(t.logp, &loss, &t, &out);
    }
    return out;
}

}  // namespace torch
TRM_NAMESPACE_END
