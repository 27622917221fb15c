// SPDX-License-Identifier: Apache-2.0

// One loss over ranks that each hold a part of the batch, with threads for ranks: first whole sequences on each rank (data
// parallel), then a slice of every sequence on each rank (context parallel). Both must give what one process gives: the
// same kept tokens, and loss and gradient up to rounding. examples/mpi does the same with MPI.
#include <trm/trm.hpp>

#include <algorithm>
#include <array>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <span>
#include <thread>
#include <vector>

namespace {

constexpr std::int32_t ranks = 3, sequences = 10;

/// What a rank holds: runs of tokens, and the sequence that each run belongs to.
struct shard {
    std::vector<float> logp, rollout_logp, advantages, grad;
    std::vector<std::uint8_t> keep;
    std::vector<std::int64_t> cu_seqlens{0};
    std::vector<std::int32_t> sequence_of;

    void append(shard const& from, std::int64_t first, std::int64_t last, std::int32_t sequence) {
        for (std::int64_t i = first; i < last; ++i) {
            auto const t = static_cast<std::size_t>(i);
            logp.push_back(from.logp[t]);
            rollout_logp.push_back(from.rollout_logp[t]);
            advantages.push_back(from.advantages[t]);
        }
        grad.resize(logp.size());
        keep.resize(logp.size());
        cu_seqlens.push_back(static_cast<std::int64_t>(logp.size()));
        sequence_of.push_back(sequence);
    }
    [[nodiscard]] trm::batch_view<float> view() const {
        return {.logp = logp,
                .rollout_logp = rollout_logp,
                .advantages = advantages,
                .layout = trm::segments{cu_seqlens, sequence_of, sequences}};
    }
    [[nodiscard]] trm::outputs<float> outputs() {
        trm::outputs<float> out;
        out.grad = grad;
        out.keep = keep;
        return out;
    }
};

/// Stands for the collectives of MPI, NCCL or gloo.
class communicator {
public:
    void all_reduce_sum(std::int32_t rank, std::span<double> values) {
        all_reduce(rank, values, [](double& a, double b) { a += b; });
    }
    void all_reduce_max(std::int32_t rank, std::span<double> values) {
        all_reduce(rank, values, [](double& a, double b) { a = std::max(a, b); });
    }
    /// For everything that has `merge`: trm::counts, trm::diagnostics.
    template <class T>
    void all_reduce_merge(std::int32_t rank, T& value) {
        T total;
        gather<T>(rank, value, [&](T const& other) { total.merge(other); });
        value = total;
    }

private:
    template <class With>
    void all_reduce(std::int32_t rank, std::span<double> values, With with) {
        std::vector<double> total;
        gather<std::span<double>>(rank, values, [&](std::span<double> other) {
            if (total.empty()) {
                total.assign(other.begin(), other.end());
            } else {
                for (std::size_t i = 0; i < total.size(); ++i) with(total[i], other[i]);
            }
        });
        std::copy(total.begin(), total.end(), values.begin());
    }
    /// Calls `see` with the value of every rank, in order, on every rank.
    template <class T, class See>
    void gather(std::int32_t rank, T const& mine, See see) {
        values_[static_cast<std::size_t>(rank)] = &mine;
        meet_.arrive_and_wait();
        for (void const* v : values_) see(*static_cast<T const*>(v));
        meet_.arrive_and_wait();
    }
    std::barrier<> meet_{ranks};
    std::array<void const*, ranks> values_{};
};

trm::masked_loss const loss{trm::sequence_mask{trm::k2{}, trm::stat::max, trm::at_most(0.05)} &&
                                trm::sequence_mask{trm::k3{}, trm::stat::mean, trm::at_most(0.01)},
                            trm::importance_ratio{}, trm::seq_mean_token_mean{trm::over_kept}};

trm::result step(shard& mine, communicator& comm, std::int32_t rank, bool sequences_are_shared) {
    // [ranks]
    trm::sequence_totals totals;
    trm::checked(loss).measure(mine.view(), totals);
    if (sequences_are_shared) {  // context or sequence parallel
        comm.all_reduce_sum(rank, totals.sums());
        comm.all_reduce_max(rank, totals.maxima());
    }
    trm::counts n = trm::checked(loss).count(mine.view(), totals);
    comm.all_reduce_merge(rank, n);  // data parallel: denominators are global
    trm::result part = trm::checked(loss).apply(mine.view(), totals, n, mine.outputs());
    // [/ranks]
    return part;
}

/// Deals the batch out, runs the ranks, and compares with `whole`. Tokens of rank r are where `owner` says r.
bool agrees(shard const& all, shard const& whole, double loss_of_whole, bool share_sequences) {
    std::vector<shard> parts(ranks);
    std::vector<std::vector<std::size_t>> token_of(ranks);
    for (std::int32_t s = 0; s < sequences; ++s) {
        auto const i = static_cast<std::size_t>(s);
        std::int64_t const first = all.cu_seqlens[i], length = all.cu_seqlens[i + 1] - first;
        for (std::int32_t r = 0; r < ranks; ++r) {
            if (!share_sequences && s % ranks != r) continue;
            std::int64_t const from = share_sequences ? first + length * r / ranks : first;
            std::int64_t const to = share_sequences ? first + length * (r + 1) / ranks : first + length;
            parts[static_cast<std::size_t>(r)].append(all, from, to, s);
            for (std::int64_t t = from; t < to; ++t)
                token_of[static_cast<std::size_t>(r)].push_back(static_cast<std::size_t>(t));
        }
    }
    communicator comm;
    std::vector<trm::result> results(ranks);
    {
        std::vector<std::jthread> threads;
        for (std::int32_t r = 0; r < ranks; ++r) {
            threads.emplace_back(
                [&, r, i = static_cast<std::size_t>(r)] { results[i] = step(parts[i], comm, r, share_sequences); });
        }
    }
    double total = 0, largest = 0;
    trm::diagnostics seen;
    bool same_kept = true, same_gradient = true;
    for (std::size_t r = 0; r < ranks; ++r) {
        total += results[r].loss;
        seen.merge(results[r].diagnostics);
        for (std::size_t t = 0; t < token_of[r].size(); ++t) {
            double const apart = std::fabs(double{parts[r].grad[t]} - double{whole.grad[token_of[r][t]]});
            largest = std::max(largest, apart);
            same_gradient = same_gradient && apart < 1e-7;  // false for NaN
            same_kept = same_kept && parts[r].keep[t] == whole.keep[token_of[r][t]];
        }
    }
    std::printf("%-16s loss %.9f, kept sequences %.0f, largest gradient difference %.1e, kept tokens %s\n",
                share_sequences ? "context parallel" : "data parallel", total, seen.kept_sequences, largest,
                same_kept ? "the same" : "DIFFERENT");
    return same_kept && same_gradient && std::fabs(total - loss_of_whole) < 1e-7;
}

}  // namespace

int main() {
    shard source;
    std::uint32_t state = 1;
    auto const uniform = [&] { return static_cast<float>((state = state * 1664525u + 1013904223u) >> 8) * 0x1p-24f; };
    std::vector<std::int64_t> ends{0};
    for (std::int32_t s = 0; s < sequences; ++s) {
        float const drift = s % 3 == 0 ? 0.3f : 0.05f;
        for (std::int32_t t = 0; t < 20 + 7 * s; ++t) {
            source.rollout_logp.push_back(-0.5f - 3 * uniform());
            source.logp.push_back(source.rollout_logp.back() + drift * (2 * uniform() - 1));
            source.advantages.push_back(s % 2 == 0 ? 1.0f : -0.7f);
        }
        ends.push_back(static_cast<std::int64_t>(source.logp.size()));
    }
    shard whole;
    for (std::int32_t s = 0; s < sequences; ++s)
        whole.append(source, ends[static_cast<std::size_t>(s)], ends[static_cast<std::size_t>(s) + 1], s);
    trm::result const r = trm::checked(loss)(whole.view(), whole.outputs());
    std::printf("%-16s loss %.9f, kept sequences %.0f\n", "one process", r.loss, r.diagnostics.kept_sequences);
    bool const split = agrees(whole, whole, r.loss, false), shared = agrees(whole, whole, r.loss, true);
    return split && shared ? 0 : 1;
}
