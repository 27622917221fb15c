// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/result.hpp>
#include <trm/pipeline/totals.hpp>

#include <mpi.h>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

/// \file
/// The collectives between the phases of a loss, over an MPI communicator. All block, work in place and leave the same
/// bits on every rank. Errors are MPI's: fatal unless the communicator's error handler says otherwise; the first return
/// code that is not MPI_SUCCESS is handed back. A rank that stays away from a collective leaves the others waiting in it:
/// between phases that can fail on one rank belongs `agree`. mpi_loss.hpp has all of it in one call.

TRM_NAMESPACE_BEGIN
namespace mpi {

/// Ranks add, or take the maximum of, numbers of the same meaning. More than 2^31 elements go in several pieces.
inline int all_reduce(MPI_Comm comm, std::span<double> values, MPI_Op op) {
    constexpr std::size_t most = (std::numeric_limits<int>::max)();
    for (std::size_t at = 0; at < values.size(); at += most) {
        auto const n = static_cast<int>((std::min)(most, values.size() - at));
        if (int const e = MPI_Allreduce(MPI_IN_PLACE, values.data() + at, n, MPI_DOUBLE, op, comm); e != MPI_SUCCESS)
            return e;
    }
    return MPI_SUCCESS;
}

/// Merges the values of all ranks in rank order: diagnostics, anything of plain numbers that has `merge`.
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

/// All ranks go on, or none: ok if the status of every rank is. Otherwise a rank's own status, and on ranks where that is good
/// the worst code of the others, "on another rank".
[[nodiscard]] inline status agree(MPI_Comm comm, status const& mine) noexcept {
    int worst = static_cast<int>(mine.code);
    if (MPI_Allreduce(MPI_IN_PLACE, &worst, 1, MPI_INT, MPI_MAX, comm) != MPI_SUCCESS && mine.ok())
        return {errc::rank_failed, -1, -1, "MPI_Allreduce"};
    return !mine.ok() || worst == 0 ? mine : status{static_cast<errc>(worst), -1, -1, "on another rank"};
}
/// The same for what `phase()` returns. An exception in it is `errc::rank_failed` on the other ranks, and goes on from here.
template <std::invocable F>
[[nodiscard]] status agree(MPI_Comm comm, F&& phase) {
    status mine;
#if TRM_EXCEPTIONS
    try {
        mine = phase();
    } catch (...) {
        (void)agree(comm, status{errc::rank_failed});
        throw;
    }
#else
    mine = phase();
#endif
    return agree(comm, mine);
}

/// After `measure`, where ranks share sequences: adds the sums, takes the maximum of the maxima. Totals of different sizes are
/// MPI_ERR_COUNT on all ranks, and nothing is changed.
inline int all_reduce(MPI_Comm comm, sequence_totals& totals) {
    auto const sums = static_cast<std::int64_t>(totals.sums().size()),
               maxima = static_cast<std::int64_t>(totals.maxima().size());
    std::array<std::int64_t, 4> most{sums, -sums, maxima, -maxima};
    if (int const e = MPI_Allreduce(MPI_IN_PLACE, most.data(), 4, MPI_INT64_T, MPI_MAX, comm); e != MPI_SUCCESS)
        return e;
    if (most[0] != -most[1] || most[2] != -most[3]) return MPI_ERR_COUNT;
    if (int const e = all_reduce(comm, totals.sums(), MPI_SUM); e != MPI_SUCCESS) return e;
    return all_reduce(comm, totals.maxima(), MPI_MAX);
}

/// After `count`: sizes of the whole batch, and the tokens of each prompt, whatever prompts each rank has.
inline int all_reduce(MPI_Comm comm, counts& n) {
    std::array<double, counts::numbers.size()> numbers;
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = n.*counts::numbers[i];
    if (int const e = all_reduce(comm, numbers, MPI_SUM); e != MPI_SUCCESS) return e;
    for (std::size_t i = 0; i < numbers.size(); ++i) n.*counts::numbers[i] = numbers[i];
    int ranks = 1;
    if (int const e = MPI_Comm_size(comm, &ranks); e != MPI_SUCCESS) return e;
    using entry = prompt_totals::entry;
    static_assert(std::is_trivially_copyable_v<entry>);
    std::vector<int> sizes(static_cast<std::size_t>(ranks)), places(static_cast<std::size_t>(ranks));
    auto const mine = n.prompts.entries();
    int const bytes = static_cast<int>(mine.size_bytes());
    if (int const e = MPI_Allgather(&bytes, 1, MPI_INT, sizes.data(), 1, MPI_INT, comm); e != MPI_SUCCESS) return e;
    int total = 0;
    for (std::size_t r = 0; r < sizes.size(); ++r) {
        places[r] = total;
        total += sizes[r];
    }
    std::vector<entry> all(static_cast<std::size_t>(total) / sizeof(entry));
    if (int const e =
            MPI_Allgatherv(mine.data(), bytes, MPI_BYTE, all.data(), sizes.data(), places.data(), MPI_BYTE, comm);
        e != MPI_SUCCESS)
        return e;
    n.prompts.clear();
    for (entry const& p : all) n.prompts.add(p.id, p.tokens);
    n.prompts.settle();
    return MPI_SUCCESS;
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
            code = (std::max)(code, o.code);
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
