// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/interop/mpi.hpp>
#include <trm/loss/calls.hpp>

/// \file
/// A loss over a batch that is spread over MPI ranks: phases and exchanges in one call that all ranks leave together.

TRM_NAMESPACE_BEGIN
namespace mpi {

/// Who shares what. `sequences` is a part of `all` (MPI_Comm_split), or MPI_COMM_SELF: data parallel, whole sequences on
/// every rank.
struct communicators {
    MPI_Comm all = MPI_COMM_WORLD;  ///< ranks whose batches together are the batch
    MPI_Comm sequences =
        MPI_COMM_SELF;  ///< ranks that have tokens of the same sequences: `segments`, the same ids on each
};

namespace detail {

/// Sums and maxima of the sequences that ranks share, as a status that all ranks of `comm` have.
[[nodiscard]] inline status exchange(MPI_Comm comm, sequence_totals& totals) noexcept {
    int const e = all_reduce(comm, totals);
    if (e == MPI_SUCCESS) return {};
    if (e == MPI_ERR_COUNT) return {errc::size_mismatch, -1, -1, "ranks that share sequences count them differently"};
    return {errc::rank_failed, -1, -1, "MPI_Allreduce of sequence_totals"};
}

}  // namespace detail

/// Loss and diagnostics of the whole batch, the same on every rank, and gradient and other outputs of this rank's tokens:
/// what one process computes from all tokens, up to the rounding of sums. Every rank of `over.all` calls it; a rank may have no
/// tokens. `chosen` is what `select` of the loss gave for these tokens, for losses that have selections (which see what is
/// given to `select`: where ranks share what is compared, all of it must be gathered first).
///
/// If a rank fails, whatever the reason, all return a status that is not ok, after the phase in which it happened; ranks on
/// which nothing is wrong may have written their outputs then. An exception of an executor leaves the rank that it happened on,
/// after the others were told. Memory for the exchange itself is not provided for: std::bad_alloc there leaves the other ranks
/// waiting, and should end in MPI_Abort, as should a crash.
template <class Loss, storage_type S, arithmetic_type T, executor E = serial_executor>
[[nodiscard]] result run(communicators const& over, Loss const& loss, batch_view<S> const& batch,
                         selection_view const& chosen, outputs<T> const& out, E const& execute = {}) {
    sequence_totals totals;
    counts n;
    result r;
    r.status = agree(over.all, [&] { return loss.template measure<T>(batch, chosen, totals, execute); });
    if (!r.status.ok()) return r;
    status const exchanged = detail::exchange(over.sequences, totals);
    r.status = agree(over.all, [&] { return exchanged.ok() ? loss.count(batch, chosen, totals, n) : exchanged; });
    if (!r.status.ok()) return r;
    status const counted =
        all_reduce(over.all, n) == MPI_SUCCESS ? status{} : status{errc::rank_failed, -1, -1, "MPI: counts"};
    status const applied = agree(over.all, [&] {
        if (!counted.ok()) return counted;
        r = loss.apply(batch, chosen, totals, n, out, execute);
        return r.status;
    });
    if (applied.ok() && all_reduce(over.all, r) == MPI_SUCCESS) return r;
    return {applied.ok() ? status{errc::rank_failed, -1, -1, "MPI: result"} : applied, 0, {}};
}
template <class Loss, storage_type S, arithmetic_type T, executor E = serial_executor>
[[nodiscard]] result run(communicators const& over, Loss const& loss, batch_view<S> const& batch, outputs<T> const& out,
                         E const& execute = {}) {
    return run(over, loss, batch, selection_view{}, out, execute);
}

}  // namespace mpi
TRM_NAMESPACE_END
