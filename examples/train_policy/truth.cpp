// SPDX-License-Identifier: Apache-2.0
#include "truth.hpp"

#include "enumeration.hpp"
#include "losses.hpp"
#include "parallel.hpp"
#include "trainer.hpp"

#include <trm/bounds/batch_bounds.hpp>
#include <trm/bounds/estimates.hpp>
#include <trm/logits/divergence.hpp>
#include <trm/logits/log_prob.hpp>
#include <trm/loss/checked.hpp>

#include <cmath>
#include <stdexcept>

namespace b = trm::bounds;

namespace {

/// One prompt under one engine: probabilities of all responses under both policies, and what a loss reads.
struct moment {
    enumeration const* all;
    rollouts engine;
    std::vector<double> rollout_logp, kl, tv, mu, pi, rewards, advantages;
    std::vector<std::int64_t> offsets;
};

moment look(enumeration const& all, rollout_engine const& engine, task const& t, problem const& p) {
    moment m{&all, all.batch(), {}, {}, {}, {}, {}, {}, {}, {0}};
    std::size_t const n = all.responses(), length = all.horizon();
    engine.score(0, n, 0, 0, m.engine);
    std::vector<double> const logits(m.engine.logits.begin(), m.engine.logits.end());
    std::size_t const tokens = n * length;
    for (auto* v : {&m.rollout_logp, &m.kl, &m.tv}) v->resize(tokens);
    std::vector<std::int32_t> targets;
    for (std::size_t y = 0; y < n; ++y) {
        auto const response = all.batch().response(y).subspan(1);
        targets.insert(targets.end(), response.begin(), response.end());
    }
    auto const rows = static_cast<std::int64_t>(tokens);
    auto const vocabulary = static_cast<std::int64_t>(m.engine.vocabulary);
    trm::logits_view<double> const mu{.data = logits.data(), .rows = rows, .vocab = vocabulary};
    trm::logits_view<double> const pi{.data = all.logits().data(), .rows = rows, .vocab = vocabulary};
    trm::throw_if(trm::log_prob(mu, targets, trm::log_prob_out<double>{.logp = m.rollout_logp}));
    trm::throw_if(trm::exact_divergence(mu, pi, trm::divergence_out<double>{.kl_mu_pi = m.kl, .tv = m.tv}));
    double mean = 0;
    for (std::size_t y = 0; y < n; ++y) {
        double log_mu = 0, log_pi = 0;
        for (std::size_t i = y * length; i < (y + 1) * length; ++i) {
            log_mu += m.rollout_logp[i];
            log_pi += all.logp()[i];
        }
        m.mu.push_back(std::exp(log_mu));
        m.pi.push_back(std::exp(log_pi));
        m.rewards.push_back(t.reward(p, all.batch().response(y)));
        mean += m.mu.back() * m.rewards.back();
        m.offsets.push_back(static_cast<std::int64_t>((y + 1) * length));
    }
    for (double r : m.rewards) m.advantages.push_back(r - mean);
    return m;
}

/// First and second moment of the gradient of one response sampled from mu, uphill.
struct moments {
    vector<double> mean;
    double square = 0, kept = 0;
};

void add(moments& to, moment const& m, method_loss const& method, double weight) {
    enumeration const& all = *m.all;
    std::size_t const n = all.responses(), length = all.horizon(), vocabulary = m.engine.vocabulary;
    trm::batch_view<double> const view{.logp = all.logp(),
                                       .rollout_logp = m.rollout_logp,
                                       .sequence_advantages = m.advantages,
                                       .given = m.kl,
                                       .layout = trm::packed{m.offsets}};
    std::vector<double> uphill(n * length), center(method.centering ? n * length : 0);
    std::vector<std::uint8_t> keep(n * length);
    trm::outputs<double> out;
    trm::workspace scratch;
    out.loss_scale = -static_cast<double>(n);  // the mean over responses becomes each response's own share
    auto const run = [&](trm::loss_spec spec, std::span<double> gradient) {
        spec.aggregate = trm::seq_mean_token_sum{};
        out.grad = gradient;
        trm::throw_if(trm::any_loss{std::move(spec)}(view, out, scratch).status);
    };
    out.keep = keep;
    run(method.spec, uphill);
    out.keep = {};
    matrix<double> centers;
    if (method.centering) {
        run(method.center, center);
        centers.setZero(to.mean.size(), static_cast<Eigen::Index>(all.contexts()));
        for (std::size_t t = 0, step = n / vocabulary; t < length; ++t, step /= vocabulary)
            for (std::size_t y = 0; y < n; y += step * vocabulary)
                for (std::size_t v = 0; v < vocabulary; ++v) {
                    // The response that continues this prefix with v.
                    std::size_t const i = (y + v * step) * length + t;
                    centers.col(static_cast<Eigen::Index>(all.row(y, t))) +=
                        method.centering->part(std::exp(all.logp()[i]), std::exp(m.rollout_logp[i])) *
                        all.score(y, t, v);
                }
    }
    vector<double> g(to.mean.size());
    for (std::size_t y = 0; y < n; ++y) {
        g.setZero();
        bool kept = false;
        for (std::size_t t = 0; t < length; ++t) {
            std::size_t const i = y * length + t;
            kept = kept || keep[i] != 0;
            if (uphill[i] != 0) g += uphill[i] * all.score(y, t);
            if (method.centering) g -= center[i] * centers.col(static_cast<Eigen::Index>(all.row(y, t)));
        }
        double const w = weight * m.mu[y];
        to.mean += w * g;
        to.square += w * g.squaredNorm();
        to.kept += kept ? w : 0;
    }
}

vector<double> true_gradient(std::vector<moment> const& moments, Eigen::Index parameters) {
    vector<double> g = vector<double>::Zero(parameters);
    for (moment const& m : moments)
        for (std::size_t y = 0; y < m.all->responses(); ++y) {
            double const w = m.pi[y] * m.advantages[y] / static_cast<double>(moments.size());
            for (std::size_t t = 0; t < m.all->horizon(); ++t) g += w * m.all->score(y, t);
        }
    return g;
}

error_row errors_of(std::vector<moment> const& moments) {
    b::evidence e;
    double error = 0;
    for (std::size_t x = 0; x < moments.size(); ++x) {
        moment const& m = moments[x];
        std::vector<double> weights = m.mu;
        for (double& w : weights) w /= static_cast<double>(moments.size());
        std::vector<std::int64_t> const groups(weights.size(), static_cast<std::int64_t>(x));
        b::trajectories<double> t;
        t.layout = trm::packed{m.offsets};
        t.logp = m.all->logp();
        t.rollout_logp = m.rollout_logp;
        t.kl = m.kl;
        t.tv = m.tv;
        t.rewards = m.rewards;
        t.groups = groups;
        t.weights = weights;
        trm::throw_if(e.add(t));
        for (std::size_t y = 0; y < weights.size(); ++y) {
            double first_order = 0;
            for (std::size_t i = y * m.all->horizon(); i < (y + 1) * m.all->horizon(); ++i)
                first_order += std::expm1(m.all->logp()[i] - m.rollout_logp[i]);
            double const per_mu = m.pi[y] / m.mu[y] - 1 - first_order;
            error += weights[y] * m.rewards[y] * per_mu;
        }
    }
    b::batch_divergences const d = b::measure(e);
    b::bound_table const paper = b::batch_bounds(e, d);
    error_row row;
    row.error = std::fabs(error);
    row.worst_reward = b::direct(e.sequences).worst_case;
    row.second_moment = b::second_moment(e);
    row.adaptive = paper[b::bound_name::adaptive].value_or(0);
    row.mixed_kl = paper[b::bound_name::mixed_kl].value_or(0);
    row.pinsker = paper[b::bound_name::pinsker_marginal].value_or(0);
    row.classical = paper[b::bound_name::classical].value_or(0);
    row.max_kl = d.delta;
    row.sequence_kl = d.seq_kl;
    return row;
}

truth_table at_one_policy(truth_options const& o, std::string const& engine, std::uint64_t seed) {
    run_settings s = o.run;
    s.seed = seed;
    set_engine(s, engine);
    trainer run(s);
    std::vector<vector<float>> history{run.parameters()};
    for (int i = 0; i < s.updates; ++i) {
        run.step();
        history.push_back(run.parameters());
    }
    auto const t = make_task(s.task, s.horizon);
    vector<double> const parameters = run.parameters().cast<double>();
    std::vector<problem> problems;
    std::vector<enumeration> responses;
    for (std::uint64_t i = 0; problems.size() < 2; ++i) {  // one of each prompt
        random_stream random(i);
        problem p = t->make(random);
        if (!problems.empty() && problems[0].forced == p.forced) continue;
        responses.emplace_back(run.shape(), s.horizon, p.forced[0], parameters);
        problems.push_back(std::move(p));
    }
    truth_table table;
    for (int staleness : o.staleness) {
        if (static_cast<std::size_t>(staleness) >= history.size())
            throw std::invalid_argument("staleness is beyond the updates of the run");
        rollout_engine const old(run.shape(), history[history.size() - 1 - static_cast<std::size_t>(staleness)],
                                 precision_of(s.rollout));
        std::vector<moment> moments_at;
        for (std::size_t x = 0; x < problems.size(); ++x)
            moments_at.push_back(look(responses[x], old, *t, problems[x]));
        vector<double> const g = true_gradient(moments_at, parameters.size());
        for (std::string const& method : o.methods) {
            moments sum{vector<double>::Zero(parameters.size())};
            for (moment const& m : moments_at)
                add(sum, m, loss_from(text_of(method)), 1 / static_cast<double>(moments_at.size()));
            truth_row row{engine, method, staleness, seed};
            double const norm = g.norm(), bias = (sum.mean - g).squaredNorm();
            double const variance = std::max(sum.square - sum.mean.squaredNorm(), 0.0);
            row.bias = std::sqrt(bias) / norm;
            row.deviation = std::sqrt(variance) / norm;
            row.error = std::sqrt(bias + variance / s.sequences()) / norm;
            row.cosine = sum.mean.norm() > 0 ? sum.mean.dot(g) / (sum.mean.norm() * norm) : 0;
            row.kept = sum.kept;
            table.gradients.push_back(row);
        }
        error_row row = errors_of(moments_at);
        row.engine = engine, row.staleness = staleness, row.seed = seed;
        table.errors.push_back(row);
    }
    return table;
}

}  // namespace

truth_table compare_with_truth(truth_options const& o) {
    if (o.run.task != "branch" || o.run.horizon > 4)
        throw std::invalid_argument(
            "the truth needs a task in which all responses can be listed: branch, horizon 2 to 4");
    std::vector<truth_table> parts(o.engines.size() * static_cast<std::size_t>(o.seeds));
    parallel_for{o.threads}(static_cast<std::int64_t>(parts.size()), [&](std::int64_t i) {
        auto const seeds = static_cast<std::int64_t>(o.seeds);
        parts[static_cast<std::size_t>(i)] =
            at_one_policy(o, o.engines[static_cast<std::size_t>(i / seeds)], static_cast<std::uint64_t>(i % seeds));
    });
    truth_table all;
    for (truth_table const& p : parts) {
        all.gradients.insert(all.gradients.end(), p.gradients.begin(), p.gradients.end());
        all.errors.insert(all.errors.end(), p.errors.begin(), p.errors.end());
    }
    return all;
}
