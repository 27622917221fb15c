// SPDX-License-Identifier: Apache-2.0
// Callers' own thread pools: which calls reach them, and that results do not depend on them.
#include <trm/logits/log_prob.hpp>
#include <trm/loss/masked_loss.hpp>

#include "catch.hpp"
#include "loss_batch.hpp"

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace {

/// Two threads that live as long as the pool, for tasks without a type.
class pool {
public:
    pool() {
        for (int i = 0; i < 2; ++i) threads_.emplace_back([this] { work(); });
    }
    pool(pool const&) = delete;
    ~pool() {
        {
            std::lock_guard const lock(mutex_);
            stop_ = true;
        }
        changed_.notify_all();
        for (std::thread& t : threads_) t.join();
    }
    void run(std::int64_t n, std::function<void(std::int64_t)> const& f) {
        std::unique_lock lock(mutex_);
        ++calls;
        task_ = &f;
        next_ = n;  // backwards
        unfinished_ = n;
        changed_.notify_all();
        done_.wait(lock, [&] { return unfinished_ == 0; });
    }
    int calls = 0;

private:
    void work() {
        std::unique_lock lock(mutex_);
        for (;;) {
            changed_.wait(lock, [&] { return stop_ || next_ > 0; });
            if (stop_) return;
            std::int64_t const i = --next_;
            auto const& f = *task_;
            lock.unlock();
            f(i);
            lock.lock();
            if (--unfinished_ == 0) done_.notify_all();
        }
    }
    std::mutex mutex_;
    std::condition_variable changed_, done_;
    std::function<void(std::int64_t)> const* task_ = nullptr;
    std::int64_t next_ = 0, unfinished_ = 0;
    bool stop_ = false;
    std::vector<std::thread> threads_;
};

struct tokens {
    std::vector<std::int64_t> cu{0};
    std::vector<float> logp, mu, advantages, grad;
    explicit tokens(std::int64_t n) : grad(static_cast<std::size_t>(n)) {
        batches::random next(5);
        for (std::int64_t i = 0; i < n; ++i) {
            mu.push_back(-0.01f - static_cast<float>(std::fabs(next.normal())));
            logp.push_back(mu.back() + 0.1f * static_cast<float>(next.normal()));
            advantages.push_back(static_cast<float>(next.normal()));
        }
        while (cu.back() < n) cu.push_back(std::min(n, cu.back() + next.below(700)));
    }
    trm::batch_view<float> view() const {
        return {.logp = logp, .rollout_logp = mu, .advantages = advantages, .layout = trm::packed{cu}};
    }
    trm::outputs<float> outputs() {
        trm::outputs<float> out;
        out.grad = grad;
        return out;
    }
};

trm::masked_loss const loss{trm::sequence_mask{trm::k2{}, trm::stat::max, trm::at_most(0.04)}, trm::ppo_clip{},
                            trm::token_mean{trm::over_kept}};

}  // namespace

TEST_CASE("A caller's pool gives the serial call's bits", "[unit][executor]") {
    tokens serial(40000), parallel(40000);
    trm::result const want = loss(serial.view(), serial.outputs());
    REQUIRE(want.status.ok());
    REQUIRE(want.diagnostics.kept_sequences > 0);
    REQUIRE(want.diagnostics.kept_sequences < want.diagnostics.sequences);
    pool threads;
    auto const lambda = [&](std::int64_t n, auto&& f) { threads.run(n, f); };
    std::function<void(std::int64_t, std::function<void(std::int64_t)>)> const function =
        [&](std::int64_t n, std::function<void(std::int64_t)> const& f) { threads.run(n, f); };
    auto const check = [&](trm::result const& r) {
        CHECK(r.loss == want.loss);
        CHECK(r.diagnostics.sum_k3 == want.diagnostics.sum_k3);
        CHECK(parallel.grad == serial.grad);
        CHECK(threads.calls > 0);
        threads.calls = 0;
        parallel.grad.assign(parallel.grad.size(), 7);
    };
    trm::workspace scratch;
    check(loss(parallel.view(), parallel.outputs(), lambda, scratch));
    check(loss(parallel.view(), parallel.outputs(), function, scratch));
    check(loss(parallel.view(), parallel.outputs(), trm::with_grain{lambda, 40000}, scratch));

    trm::sequence_totals totals;
    trm::counts total;
    REQUIRE(loss.measure(parallel.view(), totals, lambda).ok());
    REQUIRE(loss.count(parallel.view(), totals, total).ok());
    check(loss.apply(parallel.view(), totals, total, parallel.outputs(), lambda));
}

TEST_CASE("Calls below the grain do not reach the pool", "[unit][executor]") {
    std::int64_t const n = 5000;
    tokens batch(n);
    pool threads;
    auto const lambda = [&](std::int64_t blocks, auto&& f) { threads.run(blocks, f); };
    auto const calls_of = [&](std::int64_t grain) {
        threads.calls = 0;
        trm::with_grain const executor{lambda, grain};
        trm::workspace scratch;
        REQUIRE(loss(batch.view(), batch.outputs(), executor, scratch).status.ok());
        std::vector<std::int32_t> const ids(10, 3);
        std::vector<float> logp(10);
        trm::logits_view<float> const logits{.data = batch.logp.data(), .rows = 10, .vocab = n / 10};
        REQUIRE(trm::log_prob(logits, ids, trm::log_prob_out<float>{.logp = logp}, executor).ok());
        return threads.calls;
    };
    CHECK(calls_of(n + 1) == 0);
    CHECK(calls_of(n) == 3);  // statistics and gradient of the loss; the logits
    CHECK(trm::with_grain{lambda}.grain == trm::default_grain);
}

TEST_CASE("any callable is an executor", "[loss][unit]") {
    tokens t(3000);
    auto const view = t.view();
    trm::masked_loss const max_loss{trm::sequence_mask{trm::k2{}, trm::stat::max, trm::at_most(0.05)}, trm::ppo_clip{},
                                    trm::token_mean{}};
    trm::workspace scratch;
    double const want = max_loss(view, t.outputs()).loss;
    auto const generic = [](auto n, auto&& f) {  // its return type is deduced from its body
        for (std::int64_t i = n; i-- > 0;) f(i);
        return n;
    };
    CHECK(max_loss(view, t.outputs(), generic, scratch).loss == want);
    CHECK(max_loss(view, t.outputs(), [](std::int64_t n, auto f) {
              while (n-- > 0) f(n);
          }).loss == want);
    std::function<void(std::int64_t, std::function<void(std::int64_t)>)> const erased = generic;
    CHECK(max_loss(view, t.outputs(), erased).loss == want);
}

TEST_CASE("what an executor throws reaches the caller", "[loss][unit]") {
    struct failed {};
    tokens t(3000);
    auto const view = t.view();
    auto const throwing = [](std::int64_t, auto const&) { throw failed{}; };
    using trm::k2, trm::at_most;
    auto const check = [&](auto const& each) {
        CHECK_THROWS_AS((void)each(view, t.outputs(), throwing), failed);
        trm::sequence_totals stats;
        CHECK_THROWS_AS((void)each.measure(view, stats, throwing), failed);
        trm::counts n;
        REQUIRE(each.measure(view, stats).ok());
        REQUIRE(each.count(view, stats, n).ok());
        CHECK_THROWS_AS((void)each.apply(view, stats, n, t.outputs(), throwing), failed);
        CHECK(each(view, t.outputs()).status.ok());  // the loss is as good as before
    };
    check(
        trm::masked_loss{trm::sequence_mask{k2{}, trm::stat::max, at_most(0.05)}, trm::ppo_clip{}, trm::token_mean{}});
    check(trm::masked_loss{trm::sequence_mask{k2{}, trm::stat::max, at_most(0.05)}, trm::ppo_clip{},
                           trm::token_mean{trm::over_kept}});
}
