// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "logits_ceilings.hpp"

#include <trm/loss/result.hpp>

#include <cmath>
#include <memory>
#include <string>
#include <utility>

namespace bench {

enum class lengths { ragged, sixteen, million, four_million };

inline char const* name_of(lengths l) {
    return l == lengths::ragged ? "ragged" : l == lengths::sixteen ? "16" : l == lengths::million ? "1M" : "4M";
}

/// splitmix64 (S. Vigna).
class splitmix {
public:
    explicit splitmix(std::uint64_t seed) : state_(seed) {}
    std::uint64_t operator()() {
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    float uniform() { return static_cast<float>((*this)() >> 40) * 0x1p-24f; }
    std::int64_t below(std::int64_t n) { return static_cast<std::int64_t>((*this)() % static_cast<std::uint64_t>(n)); }

private:
    std::uint64_t state_;
};

/// One process-wide set of token streams of storage S, as long as the longest batch asked for. A batch is a prefix of
/// them, cut into sequences; `rejected` percent of the sequences have one log-probability moved out of the trust region,
/// which the next batch puts back.
template <class S>
class rollouts {
public:
    static rollouts& get(std::int64_t tokens, lengths shape, int rejected) {
        auto& r = at_least(tokens);
        r.tokens = tokens;
        r.cut(shape, rejected);
        return r;
    }
    /// The streams themselves, with room for so many tokens; the current batch stays as it is.
    static rollouts& at_least(std::int64_t tokens) {
        static rollouts r;
        r.grow(tokens);
        return r;
    }

    std::int64_t tokens = 0;
    std::vector<std::int64_t> cu;
    std::vector<float> sequence_advantages;
    [[nodiscard]] S* logp() const { return streams_->logp.data(); }
    [[nodiscard]] S* rollout() const { return streams_->rollout.data(); }
    [[nodiscard]] float* advantage() const { return streams_->advantage.data(); }
    [[nodiscard]] float* grad() const { return streams_->grad.data(); }
    /// One token in 16 masked out, in runs of 100 as tool output has them.
    [[nodiscard]] std::span<std::uint8_t const> loss_mask() const { return span(streams_->mask.data()); }
    /// The same share, one by one: hardly a register without a hole.
    [[nodiscard]] std::span<std::uint8_t const> scattered_mask() const { return span(streams_->scattered.data()); }
    template <class T>
    [[nodiscard]] std::span<T> span(T* p) const {
        return {p, static_cast<std::size_t>(tokens)};
    }
    /// logp, rollout_logp and advantages; other streams are the caller's to add.
    [[nodiscard]] trm::batch_view<S> view() const {
        return {.logp = span(logp()),
                .rollout_logp = span(rollout()),
                .advantages = span(advantage()),
                .layout = trm::packed{cu}};
    }
    [[nodiscard]] trm::outputs<float> outputs() const {
        trm::outputs<float> out;
        out.grad = span(grad());
        return out;
    }
    /// Advantages as they were, after a call that wrote over them.
    void restore_advantages() const { fill_advantages(*streams_, tokens); }

private:
    struct streams {
        buffer<S> logp, rollout;
        buffer<float> advantage, grad;
        buffer<std::uint8_t> mask, scattered;
        explicit streams(std::int64_t n) : logp(n), rollout(n), advantage(n), grad(n), mask(n), scattered(n) {}
    };
    static void fill_advantages(streams& s, std::int64_t n) {
        splitmix g(11);
        for (std::int64_t i = 0; i < n; ++i) s.advantage.data()[i] = 2 * g.uniform() - 1;
    }
    void grow(std::int64_t n) {
        if (n <= capacity_) return;
        n += n / 4;  // room for ceilings of more bytes a token than four floats
        moved_.clear();
        streams_.reset();
        streams_ = std::make_unique<streams>(n);
        capacity_ = n;
        splitmix g(7);
        bool hole = false;
        for (std::int64_t i = 0; i < n; ++i) {
            if (i % 100 == 0) hole = g.below(16) == 0;
            streams_->mask.data()[i] = !hole;
            float const mu = -0.05f - 3 * g.uniform();
            rollout()[i] = trm::to_storage<S>(mu);
            logp()[i] = trm::to_storage<S>(mu + 0.05f * (g.uniform() + g.uniform() + g.uniform() - 1.5f));
            streams_->scattered.data()[i] = g.below(16) != 0;
        }
        fill_advantages(*streams_, n);
    }
    void cut(lengths shape, int rejected) {
        for (auto const& [at, old] : moved_) logp()[at] = old;
        moved_.clear();
        splitmix g(13);
        cu.assign(1, 0);
        while (cu.back() < tokens) {
            double const u = static_cast<double>(g.uniform());
            std::int64_t const length = shape == lengths::ragged    ? static_cast<std::int64_t>(std::exp2(14 * u))
                                        : shape == lengths::sixteen ? 1 + static_cast<std::int64_t>(31 * u)
                                        : shape == lengths::million ? std::int64_t(1) << 20
                                                                    : std::int64_t(1) << 22;
            cu.push_back(std::min(tokens, cu.back() + length));
        }
        std::int64_t const count = std::ssize(cu) - 1;
        sequence_advantages.assign(static_cast<std::size_t>(count), 0.5f);
        std::vector<std::int64_t> order;
        for (std::int64_t i = 0; i < count; ++i) order.push_back(i);
        for (std::int64_t i = 0; i < (count * rejected + 50) / 100; ++i) {
            std::swap(order[std::size_t(i)], order[std::size_t(i + g.below(count - i))]);
            auto const sequence = std::size_t(order[std::size_t(i)]);
            std::int64_t const at = cu[sequence] + g.below(cu[sequence + 1] - cu[sequence]);
            moved_.emplace_back(at, logp()[at]);
            logp()[at] = trm::to_storage<S>(float(trm::to_float(rollout()[at])) + 1);
        }
    }

    std::unique_ptr<streams> streams_;
    std::int64_t capacity_ = 0;
    std::vector<std::pair<std::int64_t, S>> moved_;
};

}  // namespace bench
