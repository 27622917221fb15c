// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "weights.hpp"

#include <cmath>
#include <limits>

/// Adam (Kingma and Ba, arXiv 1412.6980) or plain gradient descent, with the whole gradient cut to a norm first. Adam's steps
/// do not depend on the scale of the gradient, so that a mask which rejects most of a batch does not make them smaller.
class optimiser {
public:
    optimiser(Eigen::Index parameters, bool adaptive, double learning_rate, double max_norm)
        : adaptive_(adaptive),
          rate_(learning_rate),
          max_norm_(max_norm),
          mean_(vector<float>::Zero(parameters)),
          square_(vector<float>::Zero(parameters)) {}

    /// Returns the norm before the cut. A gradient that is not finite changes nothing.
    double step(vector<float>& parameters, vector<float> gradient) {
        double const norm = static_cast<double>(gradient.norm());
        if (!(norm < std::numeric_limits<double>::infinity())) return norm;
        if (max_norm_ > 0 && norm > max_norm_) gradient *= static_cast<float>(max_norm_ / norm);
        if (!adaptive_) {
            parameters -= static_cast<float>(rate_) * gradient;
            return norm;
        }
        ++steps_;
        mean_ = 0.9F * mean_ + 0.1F * gradient;
        square_ = 0.999F * square_ + 0.001F * gradient.cwiseAbs2();
        double const rate = rate_ * std::sqrt(1 - std::pow(0.999, steps_)) / (1 - std::pow(0.9, steps_));
        parameters.array() -= static_cast<float>(rate) * mean_.array() / (square_.array().sqrt() + 1e-8F);
        return norm;
    }

private:
    bool adaptive_;
    double rate_, max_norm_;
    int steps_ = 0;
    vector<float> mean_, square_;
};
