// SPDX-License-Identifier: Apache-2.0
#include "trainer.hpp"

#include <trm/advantages.hpp>
#include <trm/bounds/certificate.hpp>
#include <trm/loss/checked.hpp>

#include <cstdio>

namespace {

constexpr std::size_t chunk = 16;

double certificate_of(trm::bounds::evidence const& e) {
    trm::bounds::certificate_options options;
    options.bootstrap.resamples = 0;
    trm::bounds::certificate const c = trm::bounds::certify(e, options);
    trm::bounds::rung const* r = c.find(trm::bounds::rung_name::blocks);
    if (r == nullptr) r = c.find(trm::bounds::rung_name::second_moment);
    return r == nullptr ? 0 : r->value;
}

}  // namespace

std::string step_row::header() {
    return "update,reward,kept_tokens,kept_sequences,max_kl,mean_kl,chi2_token,chi2_sequence,ess_token,ess_sequence,"
           "entropy,gradient_norm,expert_flips,certificate";
}

std::string step_row::csv() const {
    std::string out = std::to_string(update);
    for (double x : {reward, kept_tokens, kept_sequences, max_kl, mean_kl, chi2_token, chi2_sequence, ess_token,
                     ess_sequence, entropy, gradient_norm, expert_flips, certificate}) {
        char buffer[32];
        std::snprintf(buffer, sizeof buffer, ",%.6g", x);
        out += buffer;
    }
    return out;
}

trainer::trainer(run_settings s)
    : settings_((validate(s), std::move(s))),
      task_(make_task(settings_.task, settings_.horizon)),
      shape_{task_->vocabulary(), settings_.hidden, settings_.experts},
      parameters_(initial_parameters(shape_, settings_.horizon, settings_.seed)),
      optimiser_(parameters_.size(), settings_.optimiser == "adam", settings_.learning_rate, settings_.max_gradient),
      learner_(shape_, loss_from(text_of(settings_.method)), chunk) {
    batch_.resize(static_cast<std::size_t>(settings_.sequences()), static_cast<std::size_t>(settings_.horizon),
                  static_cast<std::size_t>(shape_.vocabulary), shape_.experts > 0);
    warm_start();
    history_.push_back(parameters_);
}

void trainer::warm_start() {
    learner<float> imitate(shape_, loss_from("surrogate: policy_gradient"), chunk);
    optimiser imitation(parameters_.size(), true, 0.02, 1);
    std::fill(batch_.advantages.begin(), batch_.advantages.end(), 1.0F);
    std::size_t const row = batch_.horizon + 1;
    for (int update = 0; update < settings_.warm_start; ++update) {
        for (std::size_t i = 0; i < batch_.sequences; ++i) {
            random_stream random(settings_.seed, for_demonstrations, static_cast<std::uint64_t>(update), i);
            problem const p = task_->make(random);
            std::span<std::int32_t> const tokens = std::span(batch_.tokens).subspan(i * row, row);
            for (std::size_t t = 0; t < row; ++t) {
                bool const writes = p.forced[t] < 0, slips = random.uniform() < settings_.slips;
                tokens[t] = !writes ? p.forced[t]
                            : slips ? random.below(shape_.vocabulary)
                                    : task_->demonstrate(p, tokens.first(t), random);
                if (t > 0) batch_.loss_mask[i * batch_.horizon + t - 1] = writes;
            }
        }
        imitate(parameters_, batch_, gradient_);
        imitation.step(parameters_, gradient_);
    }
}

void trainer::sample(parallel_for const& parallel) {
    auto const round = static_cast<std::uint64_t>(update_);
    auto const group = static_cast<std::size_t>(settings_.responses);
    std::vector<problem> problems(batch_.sequences);
    for (std::size_t i = 0; i < problems.size(); ++i) {
        batch_.group_of[i] = static_cast<std::int32_t>(i / group);
        random_stream random(settings_.seed, for_problems, round, i / group);
        problems[i] = i % group == 0 ? task_->make(random) : problems[i - 1];
    }
    rollout_engine const engine(shape_, history_.front(), precision_of(settings_.rollout), settings_.noise);
    parallel(static_cast<std::int64_t>((problems.size() + chunk - 1) / chunk), [&](std::int64_t c) {
        std::size_t const first = static_cast<std::size_t>(c) * chunk, n = std::min(chunk, problems.size() - first);
        engine.decode(std::span(problems).subspan(first, n), first, settings_.seed, round, batch_);
    });
    for (std::size_t i = 0; i < problems.size(); ++i)
        batch_.rewards[i] = task_->reward(problems[i], batch_.response(i));
    auto const rule = settings_.advantage == "rloo" ? trm::advantages::rloo() : trm::advantages::grpo();
    trm::throw_if(trm::advantages::from_rewards(rule, {.rewards = batch_.rewards, .group_of = batch_.group_of},
                                                std::span(batch_.advantages))
                      .status);
}

step_row trainer::step(parallel_for const& parallel) {
    sample(parallel);
    batch_report const report = learner_(parameters_, batch_, gradient_, parallel);
    trm::diagnostics const& d = report.loss.diagnostics;
    step_row row;
    row.update = update_++;
    for (double r : batch_.rewards) row.reward += r / static_cast<double>(batch_.sequences);
    row.kept_tokens = d.kept_fraction();
    row.kept_sequences = d.kept_sequence_fraction();
    row.max_kl = report.max_kl;
    row.mean_kl = report.mean_kl;
    row.chi2_token = d.chi2_token();
    row.chi2_sequence = d.chi2_sequence();
    row.ess_token = d.ess();
    row.ess_sequence = d.ess_sequence();
    row.entropy = report.entropy;
    row.expert_flips = report.expert_flips;
    row.certificate = certificate_of(learner_.evidence(batch_));
    row.gradient_norm = optimiser_.step(parameters_, gradient_);
    history_.push_back(parameters_);
    while (history_.size() > static_cast<std::size_t>(settings_.staleness) + 1) history_.pop_front();
    return row;
}

double trainer::evaluate(int prompts, parallel_for const& parallel) const {
    auto const n = static_cast<std::size_t>(prompts);
    rollouts fresh;
    fresh.resize(n, batch_.horizon, batch_.vocabulary, shape_.experts > 0);
    std::vector<problem> problems;
    for (std::size_t i = 0; i < n; ++i) {
        random_stream random(settings_.seed, for_evaluation, 0, i);
        problems.push_back(task_->make(random));
    }
    rollout_engine const engine(shape_, parameters_, precision::f32);
    parallel(static_cast<std::int64_t>((n + chunk - 1) / chunk), [&](std::int64_t c) {
        std::size_t const first = static_cast<std::size_t>(c) * chunk;
        engine.decode(std::span(problems).subspan(first, std::min(chunk, n - first)), first,
                      settings_.seed + for_evaluation, 0, fresh);
    });
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += task_->reward(problems[i], fresh.response(i));
    return sum / static_cast<double>(n);
}
