// SPDX-License-Identifier: Apache-2.0
#include "policy.hpp"

#include "random_stream.hpp"

#include <cmath>

namespace {

/// The columns of `from` in which expert k was chosen, and back.
template <class T, class From>
matrix<T> gather(From const& from, std::vector<Eigen::Index> const& columns) {
    return from(Eigen::all, columns);
}

std::vector<Eigen::Index> columns_of(std::vector<int> const& chosen, int k) {
    std::vector<Eigen::Index> columns;
    for (std::size_t i = 0; i < chosen.size(); ++i)
        if (chosen[i] == k) columns.push_back(static_cast<Eigen::Index>(i));
    return columns;
}

template <class T>
void route(weights<T const> const& w, activations<T>& a) {
    Eigen::Index const h = w.recurrent.cols(), n = a.sequences * a.horizon;
    auto const state = a.state.rightCols(n);
    a.routing.noalias() = w.router * state;
    a.routing.colwise() += w.router_bias;
    a.chosen.resize(static_cast<std::size_t>(n));
    a.expert.resize(h, n);
    a.mixed = state;
    for (Eigen::Index i = 0; i < n; ++i) {
        auto column = a.routing.col(i).array();
        Eigen::Index k = 0;
        T const largest = column.maxCoeff(&k);
        a.chosen[static_cast<std::size_t>(i)] = static_cast<int>(k);
        column = (column - largest).exp();
        column /= column.sum();
    }
    for (Eigen::Index k = 0; k < w.router.rows(); ++k) {
        auto const columns = columns_of(a.chosen, static_cast<int>(k));
        matrix<T> y = w.expert.middleCols(k * h, h) * gather<T>(state, columns);
        y.colwise() += w.expert_bias.col(k);
        y = y.array().tanh();
        for (std::size_t j = 0; j < columns.size(); ++j) {
            auto const from = y.col(static_cast<Eigen::Index>(j));
            a.expert.col(columns[j]) = from;
            a.mixed.col(columns[j]) += a.routing(k, columns[j]) * from;
        }
    }
}

/// d loss / d m becomes d loss / d h', in place.
template <class T>
void route_backward(weights<T const> const& w, activations<T> const& a, matrix<T>& d, weights<T>& gradient) {
    Eigen::Index const h = w.recurrent.cols(), n = a.sequences * a.horizon;
    auto const state = a.state.rightCols(n);
    matrix<T> d_router(w.router.rows(), n), d_expert(h, n);
    for (Eigen::Index i = 0; i < n; ++i) {
        Eigen::Index const k = a.chosen[static_cast<std::size_t>(i)];
        auto const p = a.routing.col(i);
        T const slope = d.col(i).dot(a.expert.col(i)) * p(k);  // d loss / d log g
        d_router.col(i) = -slope * p;
        d_router(k, i) += slope;
        d_expert.col(i) = p(k) * d.col(i).array() * (1 - a.expert.col(i).array().square());
    }
    gradient.router.noalias() += d_router * state.transpose();
    gradient.router_bias += d_router.rowwise().sum();
    d.noalias() += w.router.transpose() * d_router;
    for (Eigen::Index k = 0; k < w.router.rows(); ++k) {
        auto const columns = columns_of(a.chosen, static_cast<int>(k));
        if (columns.empty()) continue;
        matrix<T> const up = gather<T>(d_expert, columns);
        gradient.expert.middleCols(k * h, h).noalias() += up * gather<T>(state, columns).transpose();
        gradient.expert_bias.col(k) += up.rowwise().sum();
        matrix<T> const down = w.expert.middleCols(k * h, h).transpose() * up;
        for (std::size_t j = 0; j < columns.size(); ++j) d.col(columns[j]) += down.col(static_cast<Eigen::Index>(j));
    }
}

}  // namespace

template <class T>
void forward(model_shape const& shape, vector<T> const& parameters, std::span<std::int32_t const> tokens,
             Eigen::Index sequences, activations<T>& a) {
    weights<T const> const w(parameters.data(), shape);
    Eigen::Index const h = shape.hidden, b = sequences;
    Eigen::Index const horizon = static_cast<Eigen::Index>(tokens.size()) / b - 1, n = horizon * b;
    a.sequences = b;
    a.horizon = horizon;
    a.state.resize(h, n + b);
    for (matrix<T>* m : {&a.reset, &a.update, &a.candidate, &a.recurrent}) m->resize(h, n);
    a.state.leftCols(b).setZero();
    matrix<T> gates(3 * h, b), input(3 * h, b);
    for (Eigen::Index t = 0; t < horizon; ++t) {
        auto const before = a.state.middleCols(t * b, b);
        for (Eigen::Index s = 0; s < b; ++s)
            input.col(s) = w.input.col(tokens[static_cast<std::size_t>(s * (horizon + 1) + t)]);
        gates.noalias() = w.recurrent * before;
        auto r = a.reset.middleCols(t * b, b), z = a.update.middleCols(t * b, b);
        auto n_t = a.candidate.middleCols(t * b, b), u = a.recurrent.middleCols(t * b, b);
        r = (gates.topRows(h) + input.topRows(h)).array().logistic();
        z = (gates.middleRows(h, h) + input.middleRows(h, h)).array().logistic();
        u = gates.bottomRows(h).colwise() + w.candidate_bias;
        n_t = (input.bottomRows(h).array() + r.array() * u.array()).tanh();
        a.state.middleCols((t + 1) * b, b) = n_t.array() + z.array() * (before - n_t).array();
    }
    if (shape.experts > 0) {
        route<T>(w, a);
    } else {
        a.mixed = a.state.rightCols(n);
    }
    a.logits.noalias() = w.output * a.mixed;
    a.logits.colwise() += w.output_bias;
}

template <class T>
void backward(model_shape const& shape, vector<T> const& parameters, std::span<std::int32_t const> tokens,
              activations<T> const& a, matrix<T> const& d_logits, vector<T>& gradient) {
    weights<T const> const w(parameters.data(), shape);
    weights<T> g(gradient.data(), shape);
    Eigen::Index const h = shape.hidden, b = a.sequences, n = b * a.horizon;
    g.output.noalias() += d_logits * a.mixed.transpose();
    g.output_bias += d_logits.rowwise().sum();
    matrix<T> d_state = w.output.transpose() * d_logits;
    if (shape.experts > 0) route_backward<T>(w, a, d_state, g);

    matrix<T> d_gates(3 * h, n);  // of the recurrent products
    matrix<T> up = matrix<T>::Zero(h, b), d_candidate(h, b);
    for (Eigen::Index t = a.horizon - 1; t >= 0; --t) {
        auto const before = a.state.middleCols(t * b, b);
        auto const r = a.reset.middleCols(t * b, b).array(), z = a.update.middleCols(t * b, b).array();
        auto const c = a.candidate.middleCols(t * b, b).array(), u = a.recurrent.middleCols(t * b, b).array();
        auto d = d_gates.middleCols(t * b, b);
        up += d_state.middleCols(t * b, b);
        d_candidate = up.array() * (1 - z) * (1 - c.square());
        d.topRows(h) = d_candidate.array() * u * r * (1 - r);
        d.middleRows(h, h) = up.array() * (before.array() - c) * z * (1 - z);
        d.bottomRows(h) = d_candidate.array() * r;
        for (Eigen::Index s = 0; s < b; ++s) {
            auto to = g.input.col(tokens[static_cast<std::size_t>(s * (a.horizon + 1) + t)]);
            to.head(2 * h) += d.col(s).head(2 * h);
            to.tail(h) += d_candidate.col(s);
        }
        up.array() *= z;
        up.noalias() += w.recurrent.transpose() * d;
    }
    g.recurrent.noalias() += d_gates * a.state.leftCols(n).transpose();
    g.candidate_bias += d_gates.bottomRows(h).rowwise().sum();
}

template void forward<float>(model_shape const&, vector<float> const&, std::span<std::int32_t const>, Eigen::Index,
                             activations<float>&);
template void forward<double>(model_shape const&, vector<double> const&, std::span<std::int32_t const>, Eigen::Index,
                              activations<double>&);
template void backward<float>(model_shape const&, vector<float> const&, std::span<std::int32_t const>,
                              activations<float> const&, matrix<float> const&, vector<float>&);
template void backward<double>(model_shape const&, vector<double> const&, std::span<std::int32_t const>,
                               activations<double> const&, matrix<double> const&, vector<double>&);

vector<float> initial_parameters(model_shape const& shape, int horizon, std::uint64_t seed) {
    vector<float> p(weights<float>::count(shape));
    random_stream random(seed, for_weights);
    double const scale = 1 / std::sqrt(shape.hidden);
    for (float& x : p) x = static_cast<float>(scale * random.normal());
    weights<float> w(p.data(), shape);
    for (auto bias : {&w.candidate_bias, &w.router_bias, &w.output_bias}) bias->setZero();
    w.expert_bias.setZero();
    w.input *= 3;
    w.output *= 0.5F;
    for (Eigen::Index i = 0; i < shape.hidden; i += 2) {  // Tallec and Ollivier, arXiv 1804.11188
        double const memory = 1 + random.uniform() * (horizon - 1);
        w.input.row(shape.hidden + i).array() += static_cast<float>(std::log(memory));
    }
    return p;
}
