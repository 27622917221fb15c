// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the MPI examples share: tokens of sequences that any rank can make, so that each can also compute the whole batch
// alone and compare.
#include <trm/interop/mpi_loss.hpp>
#include <trm/trm.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

inline constexpr std::int32_t sequences = 24;

/// From one token to 89.
inline std::int32_t length(std::int32_t s) { return 1 + s * s * 7 % 89; }

/// Runs of tokens: run j is the part of sequence sequence_of[j] that begins at its token from[j].
struct shard {
    std::vector<double> logp, rollout_logp, advantages, grad;
    std::vector<std::uint8_t> loss_mask, keep;
    std::vector<std::int64_t> cu_seqlens{0};
    std::vector<std::int32_t> sequence_of, from, group_of;

    /// The part [begin, end) of sequence s. Every third sequence drifts from the policy that sampled it; tools wrote some tokens.
    void append(std::int32_t s, std::int32_t begin, std::int32_t end) {
        for (std::int32_t t = begin; t < end; ++t) {
            double const wave = std::sin(0.7 * t + 1.3 * s);
            rollout_logp.push_back(-1.5 + wave);
            logp.push_back(-1.5 + wave + (s % 3 == 0 ? 0.4 : 0.06) * std::sin(2.9 * t + s));
            advantages.push_back(s % 2 == 0 ? 1.0 : -0.7);
            loss_mask.push_back(t % 11 == 5 ? 0 : 1);
        }
        grad.resize(logp.size());
        keep.resize(logp.size());
        cu_seqlens.push_back(static_cast<std::int64_t>(logp.size()));
        sequence_of.push_back(s);
        from.push_back(begin);
    }
    void append(std::int32_t s) {
        append(s, 0, length(s));
        group_of.push_back(s / 4);  // four responses to each prompt
    }
    /// Whole sequences: a run is a sequence.
    [[nodiscard]] trm::batch_view<double> whole_sequences() const {
        trm::batch_view<double> batch = streams();
        batch.group_of = group_of;
        batch.layout = trm::packed{cu_seqlens};
        return batch;
    }
    /// Parts of sequences, under the numbers that these have on every rank.
    [[nodiscard]] trm::batch_view<double> parts_of_sequences() const {
        trm::batch_view<double> batch = streams();
        batch.layout = trm::segments{cu_seqlens, sequence_of, sequences};
        return batch;
    }
    [[nodiscard]] trm::outputs<double> outputs() {
        trm::outputs<double> out;
        out.grad = grad;
        out.keep = keep;
        return out;
    }

private:
    [[nodiscard]] trm::batch_view<double> streams() const {
        return {.logp = logp, .rollout_logp = rollout_logp, .advantages = advantages, .loss_mask = loss_mask};
    }
};

inline int rank_in(MPI_Comm comm) {
    int rank = 0;
    MPI_Comm_rank(comm, &rank);
    return rank;
}
inline int size_of(MPI_Comm comm) {
    int size = 1;
    MPI_Comm_size(comm, &size);
    return size;
}

/// Every sequence in order, in one process: what the ranks together must give.
inline shard whole_batch() {
    shard whole;
    for (std::int32_t s = 0; s < sequences; ++s) whole.append(s);
    return whole;
}

/// Do all ranks have the whole batch's loss and counts, each of its tokens the whole batch's gradient, and is the same kept?
inline bool same(char const* what, trm::result const& r, shard const& mine, trm::result const& alone,
                 shard const& whole) {
    double apart = 0, other = 0;  // the largest difference of gradients, and how many tokens differ
    for (std::size_t j = 0; j < mine.sequence_of.size(); ++j) {
        std::int64_t const there = whole.cu_seqlens[static_cast<std::size_t>(mine.sequence_of[j])] + mine.from[j];
        for (std::int64_t i = mine.cu_seqlens[j]; i < mine.cu_seqlens[j + 1]; ++i) {
            auto const a = static_cast<std::size_t>(i), b = static_cast<std::size_t>(there + i - mine.cu_seqlens[j]);
            double const difference = std::fabs(mine.grad[a] - whole.grad[b]);
            apart = std::max(apart, difference);
            other += mine.keep[a] != whole.keep[b] || !(difference < 1e-15);  // NaN differs
        }
    }
    auto const tokens = static_cast<double>(mine.logp.size());
    bool const same_loss = std::fabs(r.loss - alone.loss) < 1e-14;
    double sums[] = {other, tokens, same_loss ? 0.0 : 1.0}, most[] = {apart, tokens, -tokens};
    MPI_Allreduce(MPI_IN_PLACE, sums, 3, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    MPI_Allreduce(MPI_IN_PLACE, most, 3, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    auto const &seen = r.diagnostics, &expected = alone.diagnostics;
    bool const same_counts = seen.tokens == expected.tokens && seen.kept_tokens == expected.kept_tokens &&
                             std::fabs(seen.kept_sequences - expected.kept_sequences) < 1e-9;
    bool const some = expected.kept_tokens > 0 && expected.kept_tokens < expected.tokens;
    bool const good =
        some && same_counts && sums[0] == 0 && sums[1] == static_cast<double>(whole.logp.size()) && sums[2] == 0;
    if (rank_in(MPI_COMM_WORLD) == 0)
        std::printf(
            "%-46s %d ranks of %3.0f to %3.0f tokens: loss %.15f, alone %.15f; %.0f tokens kept, alone %.0f; "
            "gradients %.1e apart: %s\n",
            what, size_of(MPI_COMM_WORLD), -most[2], most[1], r.loss, alone.loss, seen.kept_tokens,
            expected.kept_tokens, most[0], good ? "the same" : "DIFFERENT");
    return good;
}
