// SPDX-License-Identifier: Apache-2.0

// A loss over MPI ranks, in two ways: whole sequences on each rank, and a slice of every sequence on each rank. Every rank
// also computes the whole batch by itself and compares. Run with: mpirun -n 3 mpi_ranks
#include <trm/interop/mpi.hpp>
#include <trm/trm.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

namespace {

constexpr std::int32_t sequences = 24;

trm::masked_loss const loss{trm::sequence_mask{trm::k2{}, trm::stat::max, trm::at_most(0.05)} &&
                                trm::sequence_mask{trm::k3{}, trm::stat::mean, trm::at_most(0.01)},
                            trm::importance_ratio{}, trm::token_mean{trm::over_kept}};

/// Runs of tokens; run j belongs to sequence sequence_of[j] of the whole batch.
struct tokens {
    std::vector<double> logp, rollout_logp, advantages, grad;
    std::vector<std::int64_t> cu_seqlens{0};
    std::vector<std::int32_t> sequence_of;

    /// The part [from, to) of sequence s. Every rank can make any token, so that none needs to be sent.
    void append(std::int32_t s, std::int32_t from, std::int32_t to) {
        for (std::int32_t t = from; t < to; ++t) {
            double const wave = std::sin(0.7 * t + 1.3 * s);
            rollout_logp.push_back(-1.5 + wave);
            logp.push_back(-1.5 + wave + (s % 3 == 0 ? 0.4 : 0.06) * std::sin(2.9 * t + s));
            advantages.push_back(s % 2 == 0 ? 1.0 : -0.7);
        }
        grad.resize(logp.size());
        cu_seqlens.push_back(static_cast<std::int64_t>(logp.size()));
        sequence_of.push_back(s);
    }
    [[nodiscard]] trm::batch_view<double> view() const {
        return {.logp = logp,
                .rollout_logp = rollout_logp,
                .advantages = advantages,
                .layout = trm::segments{cu_seqlens, sequence_of, sequences}};
    }
};
constexpr std::int32_t length(std::int32_t s) { return 30 + 11 * (s % 7); }

trm::result step(MPI_Comm comm, tokens& mine, bool ranks_share_sequences) {
    // [mpi]
    trm::outputs<double> out;
    out.grad = mine.grad;
    trm::sequence_totals totals;
    trm::checked(loss).measure(mine.view(), totals);
    if (ranks_share_sequences) trm::mpi::all_reduce(comm, totals);
    trm::counts n = trm::checked(loss).count(mine.view(), totals);
    trm::mpi::all_reduce(comm, n);
    trm::result r = trm::checked(loss).apply(mine.view(), totals, n, out);
    trm::mpi::all_reduce(comm, r);  // only for the logs: the gradient needs nothing more
    // [/mpi]
    return r;
}

/// The largest difference between the gradient of this rank's tokens and that of the whole batch.
double difference(tokens const& mine, tokens const& whole, std::vector<std::int32_t> const& from) {
    double largest = 0;
    for (std::size_t j = 0; j + 1 < mine.cu_seqlens.size(); ++j) {
        auto const at = static_cast<std::size_t>(mine.cu_seqlens[j]),
                   n = static_cast<std::size_t>(mine.cu_seqlens[j + 1]) - at;
        std::size_t const there =
            static_cast<std::size_t>(whole.cu_seqlens[static_cast<std::size_t>(mine.sequence_of[j])] + from[j]);
        for (std::size_t t = 0; t < n; ++t)
            largest = std::max(largest, std::fabs(mine.grad[at + t] - whole.grad[there + t]));
    }
    return largest;
}

}  // namespace

int main(int argc, char** argv) {
    MPI_Init(&argc, &argv);
    int rank = 0, ranks = 1;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);

    tokens whole;
    for (std::int32_t s = 0; s < sequences; ++s) whole.append(s, 0, length(s));
    trm::result const expected = trm::checked(loss)(whole.view(), whole.grad);

    bool good = expected.diagnostics.kept_sequences > 0 && expected.diagnostics.kept_sequences < sequences;
    for (bool share : {false, true}) {
        tokens mine;
        std::vector<std::int32_t> from;
        for (std::int32_t s = 0; s < sequences; ++s) {
            if (!share && s % ranks != rank) continue;
            from.push_back(share ? length(s) * rank / ranks : 0);
            mine.append(s, from.back(), share ? length(s) * (rank + 1) / ranks : length(s));
        }
        trm::result const r = step(MPI_COMM_WORLD, mine, share);
        double apart = difference(mine, whole, from);
        MPI_Allreduce(MPI_IN_PLACE, &apart, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
        bool const same_kept = r.diagnostics.kept_tokens == expected.diagnostics.kept_tokens;
        good = good && same_kept && std::fabs(r.loss - expected.loss) < 1e-14 && apart < 1e-14;
        if (rank == 0)
            std::printf("%d ranks, %s: loss %.15f, alone %.15f; kept tokens %.0f, alone %.0f; gradients %.1e apart\n",
                        ranks, share ? "sequences shared" : "whole sequences ", r.loss, expected.loss,
                        r.diagnostics.kept_tokens, expected.diagnostics.kept_tokens, apart);
    }
    MPI_Finalize();
    return good ? 0 : 1;
}
