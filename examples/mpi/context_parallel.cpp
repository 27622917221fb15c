// SPDX-License-Identifier: Apache-2.0

// Context parallel: the tokens of a sequence lie on several ranks. With causal attention they are dealt out in zig-zag: 2n
// chunks for n ranks, chunk r and chunk 2n - 1 - r for rank r, so that all have as much to attend to. What a mask says of a
// sequence is then known only to all of its ranks together: they merge its statistics. Run with: mpirun -n 4 mpi_context_parallel
#include "shard.hpp"

#include <numeric>
#include <span>

namespace {

/// This rank's two chunks of sequence s, where n ranks share it. Short sequences leave chunks, and so runs, empty.
void append_zig_zag(shard& mine, std::int32_t s, int rank, int n) {
    for (int const chunk : {rank, 2 * n - 1 - rank})
        mine.append(s, length(s) * chunk / (2 * n), length(s) * (chunk + 1) / (2 * n));
}

/// Ranks in `over.sequences` share sequences; other ranks of `over.all` have other sequences: data times context parallel.
/// The last `idle` ranks that share get nothing.
shard deal(trm::mpi::communicators const& over, int idle) {
    int const sharing = size_of(over.sequences), groups = size_of(over.all) / sharing;
    int const group = rank_in(over.all) / sharing, rank = rank_in(over.sequences), n = sharing - idle;
    shard mine;
    for (std::int32_t s = group; s < sequences && rank < n; s += groups) append_zig_zag(mine, s, rank, n);
    return mine;
}

template <class Loss>
bool agrees(char const* what, Loss const& loss, trm::mpi::communicators const& over, int idle = 0) {
    shard whole = whole_batch(), mine = deal(over, idle);
    trm::result const alone = trm::checked(loss)(whole.whole_sequences(), whole.outputs());
    trm::result const r = trm::mpi::run(over, loss, mine.parts_of_sequences(), mine.outputs());
    return r.status.ok() && same(what, r, mine, alone, whole);
}

/// What every rank has, one rank after another, and where the parts begin.
template <class T>
std::vector<T> gather(MPI_Comm comm, std::vector<T> const& mine, std::vector<int>* where = nullptr) {
    auto const ranks = static_cast<std::size_t>(size_of(comm));
    int const bytes = static_cast<int>(mine.size() * sizeof(T));
    std::vector<int> sizes(ranks), places(ranks);
    MPI_Allgather(&bytes, 1, MPI_INT, sizes.data(), 1, MPI_INT, comm);
    std::exclusive_scan(sizes.begin(), sizes.end(), places.begin(), 0);
    std::vector<T> all(static_cast<std::size_t>(places.back() + sizes.back()) / sizeof(T));
    MPI_Allgatherv(mine.data(), bytes, MPI_BYTE, all.data(), sizes.data(), places.data(), MPI_BYTE, comm);
    if (where != nullptr) *where = places;
    return all;
}

/// Criteria that compare tokens with each other need all of these tokens, in order: a prefix ends at the first violation,
/// on whatever rank that is. The ranks that share sequences gather the streams that the criterion reads, put the runs of each
/// sequence in order, select, and take what is theirs.
template <class Loss>
trm::selection select_on_gathered(MPI_Comm comm, Loss const& loss, shard const& mine) {
    std::vector<std::int64_t> sizes;
    for (std::size_t j = 0; j + 1 < mine.cu_seqlens.size(); ++j)
        sizes.push_back(mine.cu_seqlens[j + 1] - mine.cu_seqlens[j]);
    std::vector<int> first_run;
    auto const size = gather(comm, sizes, &first_run);
    auto const sequence = gather(comm, mine.sequence_of), from = gather(comm, mine.from);
    auto const logp = gather(comm, mine.logp), rollout_logp = gather(comm, mine.rollout_logp);
    auto const loss_mask = gather(comm, mine.loss_mask);

    std::vector<std::int64_t> begin(size.size());
    std::exclusive_scan(size.begin(), size.end(), begin.begin(), std::int64_t{0});
    std::vector<std::size_t> order(size.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return std::pair(sequence[a], from[a]) < std::pair(sequence[b], from[b]);
    });
    shard all;
    std::vector<std::int64_t> there(size.size());  // where run j of the gathered ones begins in `all`
    for (std::size_t const j : order) {
        there[j] = all.cu_seqlens.back();
        for (auto i = static_cast<std::size_t>(begin[j]); i < static_cast<std::size_t>(begin[j] + size[j]); ++i) {
            all.logp.push_back(logp[i]);
            all.rollout_logp.push_back(rollout_logp[i]);
            all.loss_mask.push_back(loss_mask[i]);
        }
        all.cu_seqlens.push_back(static_cast<std::int64_t>(all.logp.size()));
        all.sequence_of.push_back(sequence[j]);
    }
    all.advantages.resize(all.logp.size());  // a prefix does not look at them
    trm::selection chosen, of_mine;
    trm::checked(loss).select(all.parts_of_sequences(), chosen);

    of_mine.reset(mine.logp.size(), 0);
    auto const first =
        static_cast<std::size_t>(first_run[static_cast<std::size_t>(rank_in(comm))]) / sizeof(std::int64_t);
    for (std::size_t j = 0; j < sizes.size(); ++j)
        std::copy_n(chosen.reasons().begin() + there[first + j], sizes[j],
                    of_mine.reasons().begin() + mine.cu_seqlens[j]);
    return of_mine;
}

template <class Loss>
bool agrees_selected(char const* what, Loss const& loss, trm::mpi::communicators const& over) {
    shard whole = whole_batch(), mine = deal(over, 0);
    trm::result const alone = trm::checked(loss)(whole.whole_sequences(), whole.outputs());
    trm::selection const chosen = select_on_gathered(over.sequences, loss, mine);
    trm::result const r = trm::mpi::run(over, loss, mine.parts_of_sequences(), chosen, mine.outputs());
    return r.status.ok() && same(what, r, mine, alone, whole);
}

}  // namespace

int main(int argc, char** argv) {
    MPI_Init(&argc, &argv);
    int const ranks = size_of(MPI_COMM_WORLD);
    trm::masked_loss const loss{trm::sequence_mask{trm::k2{}, trm::stat::max, trm::at_most(0.05)} &&
                                    trm::sequence_mask{trm::k3{}, trm::stat::mean, trm::at_most(0.01)},
                                trm::importance_ratio{}, trm::seq_mean_token_mean{trm::over_kept},
                                trm::normalised{trm::sequence_weight{trm::stat::mean}}};
    trm::masked_loss const prefixes{trm::prefix_mask{trm::k2{}, trm::at_most(0.01)}, trm::ppo_clip{},
                                    trm::token_mean{}};

    trm::mpi::communicators const context{.all = MPI_COMM_WORLD, .sequences = MPI_COMM_WORLD};
    bool good = agrees("zig-zag", loss, context);
    if (ranks > 1) good = agrees("zig-zag, a rank without tokens", loss, context, 1) && good;
    good = agrees_selected("zig-zag, prefixes", prefixes, context) && good;
    if (ranks % 2 == 0) {  // pairs of ranks share sequences, each pair has its own
        trm::mpi::communicators pairs;
        MPI_Comm_split(MPI_COMM_WORLD, rank_in(MPI_COMM_WORLD) / 2, 0, &pairs.sequences);
        good = agrees("zig-zag in pairs, data parallel over pairs", loss, pairs) && good;
        good = agrees_selected("zig-zag in pairs, prefixes", prefixes, pairs) && good;
        MPI_Comm_free(&pairs.sequences);
    }
    MPI_Finalize();
    return good ? 0 : 1;
}
