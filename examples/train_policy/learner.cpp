// SPDX-License-Identifier: Apache-2.0
#include "learner.hpp"

#include <trm/logits/divergence.hpp>
#include <trm/logits/gradient.hpp>
#include <trm/logits/log_prob.hpp>
#include <trm/loss/checked.hpp>

template <class T>
std::pair<std::size_t, std::size_t> learner<T>::range(rollouts const& batch, std::size_t chunk) const {
    std::size_t const first = chunk * chunk_;
    return {first, std::min(batch.sequences, first + chunk_)};
}

template <class T>
void learner<T>::read(vector<T> const& parameters, rollouts const& batch, std::size_t chunk) {
    auto const [first, last] = range(batch, chunk);
    std::size_t const t = batch.horizon, v = batch.vocabulary;
    activations<T>& a = chunks_[chunk];
    forward<T>(shape_, parameters, std::span(batch.tokens).subspan(first * (t + 1), (last - first) * (t + 1)),
               static_cast<Eigen::Index>(last - first), a);
    for (std::size_t i = first; i < last; ++i) {
        auto const part = [&](auto& all) { return std::span(all).subspan(i * t, t); };
        trm::logits_view<T> const pi{.data = a.logits.col(static_cast<Eigen::Index>(i - first)).data(),
                                     .rows = static_cast<std::int64_t>(t),
                                     .vocab = static_cast<std::int64_t>(v),
                                     .row_stride = static_cast<std::int64_t>((last - first) * v)};
        trm::logits_view<T> const mu{.data = &rollout_logits_[i * t * v], .rows = pi.rows, .vocab = pi.vocab};
        trm::throw_if(trm::log_prob(
            pi, batch.response(i).subspan(1),
            trm::log_prob_out<T>{.logp = part(logp), .logsumexp = part(logsumexp_), .entropy = part(entropy_)}));
        trm::throw_if(trm::exact_divergence(
            mu, pi,
            trm::divergence_out<T>{.kl_mu_pi = part(kl), .tv = part(tv), .mu_logsumexp = part(rollout_logsumexp_)}));
    }
}

template <class T>
void learner<T>::backward_of(vector<T> const& parameters, rollouts const& batch, std::size_t chunk) {
    auto const [first, last] = range(batch, chunk);
    std::size_t const t = batch.horizon, v = batch.vocabulary;
    activations<T> const& a = chunks_[chunk];
    matrix<T> d_logits(a.logits.rows(), a.logits.cols());
    for (std::size_t i = first; i < last; ++i) {
        auto const column = static_cast<Eigen::Index>(i - first);
        trm::logits_view<T> const pi{.data = a.logits.col(column).data(),
                                     .rows = static_cast<std::int64_t>(t),
                                     .vocab = static_cast<std::int64_t>(v),
                                     .row_stride = static_cast<std::int64_t>((last - first) * v)};
        auto const part = [&](auto const& all) { return std::span(all).subspan(i * t, t); };
        trm::logits_gradient_out<T> const to{.data = d_logits.col(column).data(), .row_stride = pi.row_stride};
        auto const targets = batch.response(i).subspan(1);
        if (centering_) {
            trm::logits_view<T> const mu{.data = &rollout_logits_[i * t * v], .rows = pi.rows, .vocab = pi.vocab};
            trm::throw_if(trm::centered_gradient(mu, pi, targets,
                                                 trm::centered_gradient_in<T>{.mu_logsumexp = part(rollout_logsumexp_),
                                                                              .pi_logsumexp = part(logsumexp_),
                                                                              .d_logp = part(d_logp),
                                                                              .d_center = part(d_center_)},
                                                 *centering_, to));
        } else {
            trm::throw_if(trm::logits_gradient(
                pi, targets, trm::logits_gradient_in<T>{.logsumexp = part(logsumexp_), .d_logp = part(d_logp)}, to));
        }
    }
    gradients_[chunk].setZero(parameters.size());
    backward<T>(shape_, parameters, std::span(batch.tokens).subspan(first * (t + 1), (last - first) * (t + 1)), a,
                d_logits, gradients_[chunk]);
}

template <class T>
batch_report learner<T>::operator()(vector<T> const& parameters, rollouts const& batch, vector<T>& gradient,
                                    parallel_for const& parallel) {
    std::size_t const tokens = batch.sequences * batch.horizon, chunks = (batch.sequences + chunk_ - 1) / chunk_;
    for (std::vector<T>* all : {&logp, &kl, &tv, &d_logp, &entropy_}) all->resize(tokens);
    rollout_logits_.assign(batch.logits.begin(), batch.logits.end());
    logsumexp_.resize(tokens);
    rollout_logsumexp_.resize(tokens);
    chunks_.resize(chunks);
    gradients_.resize(chunks);
    parallel(static_cast<std::int64_t>(chunks),
             [&](std::int64_t c) { read(parameters, batch, static_cast<std::size_t>(c)); });

    rollout_logp_.assign(batch.logp.begin(), batch.logp.end());
    advantages_.assign(batch.advantages.begin(), batch.advantages.end());
    offsets_.clear();
    for (std::size_t i = 0; i <= batch.sequences; ++i) offsets_.push_back(static_cast<std::int64_t>(i * batch.horizon));
    trm::batch_view<T> const view{.logp = logp,
                                  .rollout_logp = rollout_logp_,
                                  .sequence_advantages = advantages_,
                                  .given = kl,
                                  .loss_mask = batch.loss_mask,
                                  .group_of = batch.group_of,
                                  .layout = trm::packed{offsets_}};
    trm::outputs<T> out;
    out.grad = d_logp;
    batch_report report;
    report.loss = trm::checked(loss_)(view, out, scratch_);
    summarise(batch, report);
    if (centering_) {
        d_center_.resize(tokens);
        out.grad = d_center_;
        out.loss_scale = -1;
        trm::throw_if(center_(view, out, scratch_).status);
    }

    parallel(static_cast<std::int64_t>(chunks),
             [&](std::int64_t c) { backward_of(parameters, batch, static_cast<std::size_t>(c)); });
    gradient = gradients_[0];
    for (std::size_t c = 1; c < chunks; ++c) gradient += gradients_[c];
    return report;
}

template <class T>
void learner<T>::summarise(rollouts const& batch, batch_report& report) const {
    std::size_t n = 0, flips = 0;
    for (std::size_t i = 0; i < logp.size(); ++i) {
        if (batch.loss_mask[i] == 0) continue;
        ++n;
        report.max_kl = std::max(report.max_kl, static_cast<double>(kl[i]));
        report.mean_kl += static_cast<double>(kl[i]);
        report.entropy += static_cast<double>(entropy_[i]);
        if (batch.experts.empty()) continue;
        std::size_t const sequence = i / batch.horizon, place = i % batch.horizon, chunk = sequence / chunk_;
        auto const [first, last] = range(batch, chunk);
        flips += chunks_[chunk].chosen[place * (last - first) + sequence - first] != batch.experts[i];
    }
    if (n == 0) return;
    report.mean_kl /= static_cast<double>(n);
    report.entropy /= static_cast<double>(n);
    report.expert_flips = static_cast<double>(flips) / static_cast<double>(n);
}

template <class T>
trm::bounds::evidence learner<T>::evidence(rollouts const& batch) const {
    trm::bounds::trajectories<T> t;
    std::vector<std::int64_t> const groups(batch.group_of.begin(), batch.group_of.end());
    t.layout = trm::packed{offsets_};
    t.logp = logp;
    t.rollout_logp = rollout_logp_;
    t.kl = kl;
    t.tv = tv;
    t.loss_mask = batch.loss_mask;
    t.rewards = batch.rewards;
    t.groups = groups;
    trm::bounds::evidence e;
    trm::throw_if(e.add(t));
    return e;
}

template class learner<float>;
template class learner<double>;
