// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/batch_view.hpp>
#include <trm/loss/result.hpp>

#include <Eigen/Core>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

/// \file
/// Eigen vectors, matrices, arrays, Maps and Refs as batches and outputs, without copies. Needs Eigen 3.4.
///
/// A vector is packed tokens. A column-major matrix has one sequence a column: T x B, as `padded`. All matrices of a batch
/// and its outputs have the same shape and outer stride. What can be seen at compile time is a static_assert; what cannot
/// (run-time strides and shapes) is `status` with a sentence, and then the views are made so that every loss refuses them.

TRM_NAMESPACE_BEGIN

template <>
struct storage_traits<Eigen::half> {
    using type = f16;
};
template <>
struct storage_traits<Eigen::bfloat16> {
    using type = bf16;
};

namespace eigen {
namespace detail {

template <class X>
using plain = std::remove_cvref_t<X>;
template <class X>
using scalar_of = typename plain<X>::Scalar;
template <class X>
inline constexpr bool is_vector = plain<X>::IsVectorAtCompileTime;

/// Everything about X that the compiler knows.
template <class X>
constexpr void check_type() {
    using D = plain<X>;
    static_assert((Eigen::internal::traits<D>::Flags & Eigen::DirectAccessBit) != 0,
                  "trm: this Eigen expression has no memory of its own; evaluate it into an array or matrix first");
    static_assert(D::InnerStrideAtCompileTime == 1 || D::InnerStrideAtCompileTime == Eigen::Dynamic,
                  "trm: the elements of a column must be adjacent in memory (inner stride 1)");
    static_assert(
        is_vector<X> || !D::IsRowMajor,
        "trm: a column is a sequence, so matrices must be column-major; pass the transpose of a row-major one");
    static_assert(std::is_lvalue_reference_v<X> || !std::is_base_of_v<Eigen::PlainObjectBase<D>, D>,
                  "trm: this matrix is a temporary, gone before its view is read; give it a name");
}

/// Offsets may be Eigen's or of any contiguous range; not of a temporary that owns them.
template <class C>
constexpr void check_offsets() {
    if constexpr (requires { plain<C>::InnerStrideAtCompileTime; }) {
        check_type<C>();
    } else {
        ::trm::detail::refuse_temporary<C>();
    }
}

/// Sentences about one stream, in static storage, as `status` wants them.
struct sentences {
    char const* inner;
    char const* outer;
    char const* shape;
};

/// Rows, columns and the distance of columns of everything in a batch.
struct shape {
    std::int64_t rows = 0, columns = 0, outer = 0;

    template <class X>
    [[nodiscard]] static shape of(X const& x) noexcept {
        if constexpr (is_vector<X>) {
            return {x.size(), 1, x.size()};
        } else {
            return {x.rows(), x.cols(), x.outerStride()};
        }
    }
    [[nodiscard]] std::size_t extent() const noexcept {
        return columns == 0 ? 0 : static_cast<std::size_t>((columns - 1) * outer + rows);
    }
    template <class X>
    [[nodiscard]] status accepts(X const& x, sentences const& why) const noexcept {
        shape const s = of(x);
        if (x.size() > 1 && x.innerStride() != 1) return {errc::unsupported, -1, -1, why.inner};
        if (s.rows != rows || s.columns != columns) return {errc::size_mismatch, -1, -1, why.shape};
        if (columns > 1 && s.outer != outer) return {errc::unsupported, -1, -1, why.outer};
        return {};
    }
};

template <class To, class X>
[[nodiscard]] auto span_of(X& x, std::size_t n) noexcept {
    return std::span<To>(reinterpret_cast<To*>(x.data()), n);
}

#define TRM_EIGEN_SENTENCES(name)                                                                           \
    ::trm::eigen::detail::sentences{name ": elements of a column are not adjacent (inner stride is not 1)", \
                                    name ": columns are not as far apart as those of logp (outer stride)",  \
                                    name ": shape differs from that of logp"}

}  // namespace detail

/// The input side: `trm::eigen::batch in(logp, rollout_logp); in.advantages(a).loss_mask(m);`, then `in.view` is the batch
/// of a loss, if `in.status.ok()`. S is the scalar of the log-probabilities.
template <storage_type S>
class batch {
public:
    using real = default_arithmetic_t<S>;
    batch_view<S> view;
    struct status status;

    /// Vectors: one sequence. Matrices: one sequence a column.
    template <class L, class R>
    batch(L&& logp, R&& rollout_logp) noexcept : shape_(detail::shape::of(logp)) {
        bool const padded_shape = shape_.outer >= shape_.rows || shape_.columns <= 1;
        streams<L, R>(logp, rollout_logp);
        view.layout = padded{shape_.columns, shape_.rows, padded_shape && shape_.columns > 1 ? shape_.outer : 0};
        if (!padded_shape) fail({errc::bad_layout, -1, -1, "logp: columns overlap (outer stride)"});
        poison();
    }
    /// Vectors of packed sequences with n + 1 offsets, in an Eigen vector or any contiguous range.
    template <class L, class R, class C>
    batch(L&& logp, R&& rollout_logp, C&& cu_seqlens) noexcept : shape_(detail::shape::of(logp)) {
        static_assert(detail::is_vector<L>, "trm: cu_seqlens goes with vectors; a matrix has one sequence a column");
        detail::check_offsets<C>();
        streams<L, R>(logp, rollout_logp);
        view.layout = packed{std::span(cu_seqlens.data(), static_cast<std::size_t>(cu_seqlens.size()))};
        poison();
    }

    template <class X>
    batch& proximal_logp(X&& x) noexcept {
        return attach<X>(view.proximal_logp, x, TRM_EIGEN_SENTENCES("proximal_logp"));
    }
    template <class X>
    batch& ref_logp(X&& x) noexcept {
        return attach<X>(view.ref_logp, x, TRM_EIGEN_SENTENCES("ref_logp"));
    }
    /// One per token, shaped like logp.
    template <class X>
    batch& advantages(X&& x) noexcept {
        return attach<X>(view.advantages, x, TRM_EIGEN_SENTENCES("advantages"));
    }
    /// A vector, one per sequence.
    template <class X>
    batch& sequence_advantages(X&& x) noexcept {
        detail::check_type<X>();
        static_assert(detail::is_vector<X>, "trm: sequence_advantages is a vector");
        static_assert(std::is_same_v<detail::scalar_of<X>, real>, "trm: advantages have the type of the arithmetic");
        if (x.size() > 1 && x.innerStride() != 1)
            fail({errc::unsupported, -1, -1, TRM_EIGEN_SENTENCES("sequence_advantages").inner});
        view.sequence_advantages = std::span<real const>(x.data(), static_cast<std::size_t>(x.size()));
        return poison();
    }
    template <class X>
    batch& given(X&& x) noexcept {
        return attach<X>(view.given, x, TRM_EIGEN_SENTENCES("given"));
    }
    template <class X>
    batch& token_weights(X&& x) noexcept {
        return attach<X>(view.token_weights, x, TRM_EIGEN_SENTENCES("token_weights"));
    }
    /// bool or uint8, shaped like logp.
    template <class X>
    batch& loss_mask(X&& x) noexcept {
        using E = detail::scalar_of<X>;
        static_assert(std::is_same_v<E, bool> || std::is_same_v<E, std::uint8_t>, "trm: loss_mask is bool or uint8");
        return attach<X, true>(view.loss_mask, x, TRM_EIGEN_SENTENCES("loss_mask"));
    }
    [[nodiscard]] detail::shape const& shape() const noexcept { return shape_; }

private:
    struct detail::shape shape_;

    template <class L, class R>
    void streams(std::remove_reference_t<L> const& logp, std::remove_reference_t<R> const& rollout_logp) noexcept {
        attach<L>(view.logp, logp, TRM_EIGEN_SENTENCES("logp"));
        attach<R>(view.rollout_logp, rollout_logp, TRM_EIGEN_SENTENCES("rollout_logp"));
    }
    template <class X, bool AnyType = false, class To>
    batch& attach(std::span<To>& to, std::remove_reference_t<X> const& x, detail::sentences const& why) noexcept {
        detail::check_type<X>();
        static_assert(AnyType || std::is_same_v<detail::scalar_of<X> const, To>,
                      "trm: all log-probabilities have one type; advantages, given and weights that of the arithmetic");
        fail(shape_.accepts(x, why));
        to = detail::span_of<To>(x, shape_.extent());
        return poison();
    }
    void fail(struct status s) noexcept {
        if (status.ok()) status = s;
    }
    /// A layout that every loss refuses.
    batch& poison() noexcept {
        if (!status.ok()) view.layout = padded{-1, 0, 0};
        return *this;
    }
};
template <class L, class R>
batch(L&&, R&&) -> batch<detail::scalar_of<L>>;
template <class L, class R, class C>
batch(L&&, R&&, C&&) -> batch<detail::scalar_of<L>>;

/// The output side, shaped like the batch: `trm::eigen::results out(in); out.grad(g).keep(k);`, then `out.view`, if
/// `out.status.ok()`. T is the arithmetic; pass another to compute in double from float.
template <arithmetic_type T>
class results {
public:
    outputs<T> view;
    struct status status;

    template <storage_type S>
    explicit results(batch<S> const& in) noexcept : status(in.status), shape_(in.shape()) {}

    /// Matrices, arrays, Maps, Refs and blocks, writable.
    template <class X>
    results& grad(X&& x) noexcept {
        return attach<T, X>(view.grad, x, TRM_EIGEN_SENTENCES("grad"));
    }
    template <class X>
    results& keep(X&& x) noexcept {
        return attach<std::uint8_t, X>(view.keep, x, TRM_EIGEN_SENTENCES("keep"));
    }
    template <class X>
    results& reasons(X&& x) noexcept {
        return attach<std::uint16_t, X>(view.reasons, x, TRM_EIGEN_SENTENCES("reasons"));
    }
    template <class X>
    results& weights(X&& x) noexcept {
        return attach<T, X>(view.weights, x, TRM_EIGEN_SENTENCES("weights"));
    }

private:
    struct detail::shape shape_;

    template <class To, class X>
    results& attach(std::span<To>& to, std::remove_reference_t<X>& x, detail::sentences const& why) noexcept {
        detail::check_type<X>();
        static_assert(std::is_same_v<decltype(x.data()), detail::scalar_of<X>*>, "trm: this output is read-only");
        static_assert(std::is_same_v<detail::scalar_of<X>, To>, "trm: this output has another element type");
        struct status const s = shape_.accepts(x, why);
        if (status.ok()) status = s;
        to = std::span<To>(x.data(), s.ok() ? shape_.extent() : 0);
        if (!status.ok()) view.loss_scale = std::bit_cast<double>(0x7ff8000000000000u);  // every loss refuses NaN
        return *this;
    }
};
template <storage_type S>
results(batch<S> const&) -> results<default_arithmetic_t<S>>;

/// `loss(in.view, out.view)`, after a look at both statuses; an executor and a workspace may follow.
template <class Loss, storage_type S, arithmetic_type T, class... Rest>
[[nodiscard]] result run(Loss const& loss, batch<S> const& in, results<T> const& out, Rest&&... rest) {
    if (!in.status.ok()) return {in.status, 0, {}};
    if (!out.status.ok()) return {out.status, 0, {}};
    return loss(in.view, out.view, rest...);
}

#undef TRM_EIGEN_SENTENCES

}  // namespace eigen
TRM_NAMESPACE_END
