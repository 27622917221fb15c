// SPDX-License-Identifier: Apache-2.0
// Log-probabilities, exact divergences and the gradient in the logits.
#include <trm/interop/c/support.hpp>
#include <trm/logits/divergence.hpp>
#include <trm/logits/gradient.hpp>
#include <trm/logits/log_prob.hpp>

TRM_NAMESPACE_BEGIN
namespace c_api {
namespace {

template <class S>
[[nodiscard]] status view_of(trm_logits const& l, logits_view<S>& v) noexcept {
    if (l.rows < 0 || l.rows > most_elements)
        return {errc::bad_layout, -1, -1, "logits: rows is negative or too large"};
    if (!is_aligned<S>(l.data)) return bad_argument("a pointer is not aligned for its type");
    v = {static_cast<S const*>(l.data), l.rows,    l.vocab, l.row_stride, l.temperature, l.vocab_mask,
         l.vocab_mask_stride,           l.row_mask};
    return {};
}
/// An optional array with one number per row.
template <class T>
[[nodiscard]] status rows_of(std::conditional_t<std::is_const_v<T>, void const*, void*> p, std::int64_t rows,
                             std::span<T>& to) noexcept {
    if (!is_aligned<T>(p)) return bad_argument("a pointer is not aligned for its type");
    if (p != nullptr) to = std::span<T>(static_cast<T*>(p), static_cast<std::size_t>(rows));
    return {};
}
/// f(span of token ids).
template <class F>
[[nodiscard]] status with_targets(void const* targets, std::int32_t dtype, std::int64_t rows, F const& f) {
    auto const as = [&]<class I>(std::type_identity<I>) -> status {
        if (status s = check_array<I>(targets, rows, "targets is a null pointer"); !s.ok()) return s;
        return f(std::span<I const>(static_cast<I const*>(targets), static_cast<std::size_t>(rows)));
    };
    if (dtype == TRM_I32) return as(std::type_identity<std::int32_t>{});
    if (dtype == TRM_I64) return as(std::type_identity<std::int64_t>{});
    return bad_argument("target_dtype is not one of TRM_I32, TRM_I64");
}

}  // namespace
}  // namespace c_api
TRM_NAMESPACE_END

using namespace trm::c_api;

int trm_log_prob(trm_logits const* logits, void const* targets, int32_t target_dtype, void* logp, double* logsumexp,
                 void* entropy, trm_executor const* execute, trm_error* error) {
    return call(error, [&]() -> trm::status {
        trm_logits l;
        if (trm::status s = read_struct(logits, l); !s.ok()) return s;
        return at_dtype(l.dtype, [&]<class S>(std::type_identity<S>) -> trm::status {
            trm::logits_view<S> v;
            if (trm::status s = view_of(l, v); !s.ok()) return s;
            trm::log_prob_out<trm::default_arithmetic_t<S>> out;
            if (trm::status s = rows_of(logp, l.rows, out.logp); !s.ok()) return s;
            if (trm::status s = rows_of(logsumexp, l.rows, out.logsumexp); !s.ok()) return s;
            if (trm::status s = rows_of(entropy, l.rows, out.entropy); !s.ok()) return s;
            return with_targets(targets, target_dtype, l.rows,
                                [&](auto ids) { return trm::log_prob(v, ids, out, executor_of{execute}); });
        });
    });
}

int trm_exact_divergence(trm_logits const* mu, trm_logits const* pi, void* kl_mu_pi, void* kl_pi_mu, void* tv,
                         trm_executor const* execute, trm_error* error) {
    return call(error, [&]() -> trm::status {
        trm_logits a, b;
        if (trm::status s = read_struct(mu, a); !s.ok()) return s;
        if (trm::status s = read_struct(pi, b); !s.ok()) return s;
        if (a.dtype != b.dtype) return {trm::errc::unsupported, -1, -1, "logits of mu and pi differ in dtype"};
        return at_dtype(a.dtype, [&]<class S>(std::type_identity<S>) -> trm::status {
            trm::logits_view<S> from, to;
            if (trm::status s = view_of(a, from); !s.ok()) return s;
            if (trm::status s = view_of(b, to); !s.ok()) return s;
            trm::divergence_out<trm::default_arithmetic_t<S>> out;
            if (trm::status s = rows_of(kl_mu_pi, a.rows, out.kl_mu_pi); !s.ok()) return s;
            if (trm::status s = rows_of(kl_pi_mu, a.rows, out.kl_pi_mu); !s.ok()) return s;
            if (trm::status s = rows_of(tv, a.rows, out.tv); !s.ok()) return s;
            return trm::exact_divergence(from, to, out, {}, executor_of{execute});
        });
    });
}

int trm_logits_gradient(trm_logits const* logits, void const* targets, int32_t target_dtype, double const* logsumexp,
                        void const* d_logp, void const* d_entropy, void const* entropy, void* d_logits,
                        int64_t d_row_stride, int32_t write, trm_executor const* execute, trm_error* error) {
    return call(error, [&]() -> trm::status {
        trm_logits l;
        if (trm::status s = read_struct(logits, l); !s.ok()) return s;
        if (write < TRM_OVERWRITE || write > TRM_NONZERO_ROWS)
            return bad_argument("write is not one of TRM_OVERWRITE, TRM_ACCUMULATE, TRM_NONZERO_ROWS");
        return at_dtype(l.dtype, [&]<class S>(std::type_identity<S>) -> trm::status {
            using real = trm::default_arithmetic_t<S>;
            trm::logits_view<S> v;
            if (trm::status s = view_of(l, v); !s.ok()) return s;
            if (!is_aligned<S>(d_logits)) return bad_argument("a pointer is not aligned for its type");
            if (l.rows > 0 && (logsumexp == nullptr || d_logp == nullptr))
                return bad_argument("logsumexp or d_logp is a null pointer");
            trm::logits_gradient_in<real> in;
            if (trm::status s = rows_of(logsumexp, l.rows, in.logsumexp); !s.ok()) return s;
            if (trm::status s = rows_of(d_logp, l.rows, in.d_logp); !s.ok()) return s;
            if (trm::status s = rows_of(d_entropy, l.rows, in.d_entropy); !s.ok()) return s;
            if (trm::status s = rows_of(entropy, l.rows, in.entropy); !s.ok()) return s;
            trm::logits_gradient_out<S> const out{static_cast<S*>(d_logits), d_row_stride,
                                                  static_cast<trm::logits_write>(write)};
            return with_targets(targets, target_dtype, l.rows,
                                [&](auto ids) { return trm::logits_gradient(v, ids, in, out, executor_of{execute}); });
        });
    });
}
