// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>

#include <type_traits>

/// Sizes of the policy. `experts` 0: no mixture of experts.
struct model_shape {
    int vocabulary = 8;
    int hidden = 16;
    int experts = 0;
};

template <class T>
using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
template <class T>
using vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;

/// Views into one flat vector of parameters, or of their gradient. T may be const. Gates stand in the order reset, update,
/// candidate.
template <class T>
struct weights {
    using value = std::remove_const_t<T>;
    template <class M>
    using view = Eigen::Map<std::conditional_t<std::is_const_v<T>, M const, M>>;

    view<matrix<value>> input;  ///< 3H x V: what each token adds to the gates, biases included
    view<matrix<value>> recurrent;  ///< 3H x H
    view<vector<value>> candidate_bias;  ///< H: of the recurrent part of the candidate
    view<matrix<value>> router;  ///< E x H
    view<vector<value>> router_bias;  ///< E
    view<matrix<value>> expert;  ///< H x E H, side by side
    view<matrix<value>> expert_bias;  ///< H x E
    view<matrix<value>> output;  ///< V x H
    view<vector<value>> output_bias;  ///< V

    weights(T* data, model_shape const& s) : weights(cursor{data}, s) {}

    [[nodiscard]] static Eigen::Index count(model_shape const& s) {
        Eigen::Index const v = s.vocabulary, h = s.hidden, e = s.experts;
        return 3 * h * v + 3 * h * h + h + e * h + e + h * e * h + h * e + v * h + v;
    }

private:
    struct cursor {
        T* at;
        T* take(Eigen::Index n) {
            T* const here = at;
            at += n;
            return here;
        }
    };
    weights(cursor c, model_shape const& s) : weights(c, s.vocabulary, s.hidden, s.experts) {}
    /// Members are initialised in the order of their declaration, which is the order in memory.
    weights(cursor c, Eigen::Index v, Eigen::Index h, Eigen::Index e)
        : input(c.take(3 * h * v), 3 * h, v),
          recurrent(c.take(3 * h * h), 3 * h, h),
          candidate_bias(c.take(h), h),
          router(c.take(e * h), e, h),
          router_bias(c.take(e), e),
          expert(c.take(h * e * h), h, e * h),
          expert_bias(c.take(h * e), h, e),
          output(c.take(v * h), v, h),
          output_bias(c.take(v), v) {}
};
