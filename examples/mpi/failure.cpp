// SPDX-License-Identifier: Apache-2.0

// What goes wrong on one rank is an error on all, and no rank waits for one that has left. Every rank says what it was told.
// Run with: mpirun -n 3 mpi_failure, or mpirun -n 3 mpi_failure crash for a rank that does not live to tell.
#include "shard.hpp"

#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <string_view>

namespace {

trm::masked_loss const loss = trm::masked_loss{
    trm::sequence_mask{trm::k2{}, trm::stat::max, trm::at_most(0.05)}, trm::importance_ratio{},
    trm::token_mean{}}.with(trm::loss_options{.strict = true});

/// This rank's status, and whether it is what the rank on which it went wrong, or the others, should have.
bool told(char const* what, bool here, trm::status const& s, trm::errc code, char const* field) {
    std::string_view const expected = here ? field : "on another rank";
    bool const good = s.code == code && s.what == expected;
    std::printf("%s, rank %d: %s: %s\n", what, rank_in(MPI_COMM_WORLD), trm::to_string(s).c_str(),
                good ? "as it should be" : "NOT AS IT SHOULD BE");
    return good;
}

}  // namespace

int main(int argc, char** argv) {
    MPI_Init(&argc, &argv);
    int const rank = rank_in(MPI_COMM_WORLD), ranks = size_of(MPI_COMM_WORLD);
    bool const here = rank == ranks - 1;
    trm::mpi::communicators const context{.all = MPI_COMM_WORLD, .sequences = MPI_COMM_WORLD};
    shard mine;
    for (std::int32_t s = 0; s < sequences; ++s)
        mine.append(s, length(s) * rank / ranks, length(s) * (rank + 1) / ranks);
    auto const run = [&](trm::batch_view<double> const& batch, trm::outputs<double> const& out) {
        return trm::mpi::run(context, loss, batch, out).status;
    };
    if (argc > 1 && std::string_view(argv[1]) == "crash") {
        if (here) std::abort();
        return run(mine.parts_of_sequences(), mine.outputs()).ok() ? 0 : 1;  // mpirun ends it
    }

    bool good = run(mine.parts_of_sequences(), mine.outputs()).ok();

    // Before the first exchange: an infinite log-probability, which strict losses refuse.
    auto const selected =
        static_cast<std::size_t>(std::find(mine.loss_mask.begin(), mine.loss_mask.end(), 1) - mine.loss_mask.begin());
    double const before = mine.logp[selected];
    if (here) mine.logp[selected] = -std::numeric_limits<double>::infinity();
    good = told("a token that is not finite", here, run(mine.parts_of_sequences(), mine.outputs()),
                trm::errc::nonfinite_input, "logp") &&
           good;
    mine.logp[selected] = before;

    // Between the exchanges: a rank that numbers sequences otherwise. The ranks find out together.
    trm::batch_view<double> batch = mine.parts_of_sequences();
    if (here) batch.layout = trm::segments{mine.cu_seqlens, mine.sequence_of, sequences + 1};
    if (ranks > 1)
        good = told("another number of sequences", true, run(batch, mine.outputs()), trm::errc::size_mismatch,
                    "ranks that share sequences count them differently") &&
               good;

    // After the last exchange: an output that is too small.
    trm::outputs<double> out = mine.outputs();
    if (here) out.grad = out.grad.first(1);
    good =
        told("a gradient without room", here, run(mine.parts_of_sequences(), out), trm::errc::size_mismatch, "grad") &&
        good;

    // An exception of the caller's own executor leaves the rank that it happened on; the others are told.
    auto const no_threads = [&](std::int64_t n, auto&& block) {
        if (here) throw std::runtime_error("no threads left");
        trm::serial_executor{}(n, block);
    };
    try {
        trm::result const r = trm::mpi::run(context, loss, mine.parts_of_sequences(), mine.outputs(), no_threads);
        good = told("an exception", here, r.status, trm::errc::rank_failed, "") && good;
    } catch (std::runtime_error const& e) {
        std::printf("an exception, rank %d: %s\n", rank, e.what());
        good = here && good;
    }

    // None of it lasts.
    good = run(mine.parts_of_sequences(), mine.outputs()).ok() && good;
    MPI_Finalize();
    return good ? 0 : 1;
}
