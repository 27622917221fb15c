// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/partials.hpp>

#include <mpi.h>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

/// \file
/// The collectives between the phases of a loss, over an MPI communicator. All block, work in place and leave the same
/// bits on every rank. Errors are MPI's: fatal unless the communicator's error handler says otherwise; the first return
/// code that is not MPI_SUCCESS is handed back.

TRM_NAMESPACE_BEGIN
namespace mpi {

/// Ranks add, or take the maximum of, numbers of the same meaning. More than 2^31 elements go in several pieces.
inline int all_reduce(MPI_Comm comm, std::span<double> values, MPI_Op op) {
    constexpr std::size_t most = std::numeric_limits<int>::max();
    for (std::size_t at = 0; at < values.size(); at += most) {
        auto const n = static_cast<int>(std::min(most, values.size() - at));
        if (int const e = MPI_Allreduce(MPI_IN_PLACE, values.data() + at, n, MPI_DOUBLE, op, comm); e != MPI_SUCCESS)
            return e;
    }
    return MPI_SUCCESS;
}

/// Merges the values of all ranks in rank order: counts, diagnostics, anything of plain numbers that has `merge`.
template <class T>
    requires std::is_trivially_copyable_v<T> && requires(T a, T const& b) { a.merge(b); }
int all_reduce(MPI_Comm comm, T& value) {
    int ranks = 1;
    if (int const e = MPI_Comm_size(comm, &ranks); e != MPI_SUCCESS) return e;
    std::vector<T> all(static_cast<std::size_t>(ranks));
    constexpr int bytes = static_cast<int>(sizeof(T));
    int const e = MPI_Allgather(&value, bytes, MPI_BYTE, all.data(), bytes, MPI_BYTE, comm);
    if (e != MPI_SUCCESS) return e;
    T total{};
    for (T const& part : all) total.merge(part);
    value = total;
    return MPI_SUCCESS;
}

/// After `measure`, where ranks share sequences: adds the sums, takes the maximum of the maxima.
inline int all_reduce(MPI_Comm comm, sequence_statistics const& stats) {
    if (int const e = all_reduce(comm, stats.sums, MPI_SUM); e != MPI_SUCCESS) return e;
    return all_reduce(comm, stats.maxima, MPI_MAX);
}

/// After `count` with prompt_mean: tokens of each prompt id.
inline int all_reduce(MPI_Comm comm, std::span<double> prompt_tokens) {
    return all_reduce(comm, prompt_tokens, MPI_SUM);
}

/// After `apply`: loss and diagnostics of the whole batch. The status is bad on all ranks if it is on one; a rank whose
/// own is good then reports the worst code of the others.
inline int all_reduce(MPI_Comm comm, result& r) {
    struct part {
        double loss;
        struct diagnostics diagnostics;
        int code;
        void merge(part const& o) noexcept {
            loss += o.loss;
            diagnostics.merge(o.diagnostics);
            code = std::max(code, o.code);
        }
    };
    part total{r.loss, r.diagnostics, static_cast<int>(r.status.code)};
    if (int const e = all_reduce(comm, total); e != MPI_SUCCESS) return e;
    if (r.status.ok() && total.code != 0) r.status = {static_cast<errc>(total.code), -1, -1, "on another rank"};
    r.loss = total.loss;
    r.diagnostics = total.diagnostics;
    return MPI_SUCCESS;
}

}  // namespace mpi
TRM_NAMESPACE_END
