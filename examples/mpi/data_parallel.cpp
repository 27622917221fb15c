// SPDX-License-Identifier: Apache-2.0

// Data parallel: whole sequences on each rank, as many as its share of the work, or none. Run with: mpirun -n 3 mpi_data_parallel
#include "shard.hpp"

namespace {

/// Deals sequences out: rank r gets them in proportion to `share[r]`.
shard deal(std::vector<int> const& share, int rank) {
    std::vector<int> turns;
    for (std::size_t r = 0; r < share.size(); ++r)
        turns.insert(turns.end(), static_cast<std::size_t>(share[r]), static_cast<int>(r));
    shard mine;
    for (std::int32_t s = 0; s < sequences; ++s)
        if (turns[static_cast<std::size_t>(s) % turns.size()] == rank) mine.append(s);
    return mine;
}

template <class Loss>
bool agrees(char const* what, Loss const& loss, std::vector<int> const& share) {
    shard whole = whole_batch(), mine = deal(share, rank_in(MPI_COMM_WORLD));
    trm::result const alone = trm::checked(loss)(whole.whole_sequences(), whole.outputs());
    // [mpi]
    trm::mpi::communicators const ranks{.all = MPI_COMM_WORLD};
    trm::result const r = trm::mpi::run(ranks, loss, mine.whole_sequences(), mine.outputs());
    if (!r.status.ok()) std::fprintf(stderr, "%s\n", trm::to_string(r.status).c_str());
    // [/mpi]
    return same(what, r, mine, alone, whole);
}

}  // namespace

int main(int argc, char** argv) {
    MPI_Init(&argc, &argv);
    auto const ranks = static_cast<std::size_t>(size_of(MPI_COMM_WORLD));
    std::vector<int> uneven(ranks), idle(ranks, 1);
    for (std::size_t r = 0; r < ranks; ++r) uneven[r] = static_cast<int>(r == 0 ? 5 : r);
    if (ranks > 1) idle[ranks / 2] = 0;

    trm::sequence_mask const near{trm::k2{}, trm::stat::max, trm::at_most(0.05)};
    trm::masked_loss const by_token{near, trm::importance_ratio{}, trm::token_mean{trm::over_kept}};
    trm::masked_loss const by_sequence{near, trm::ppo_clip{}, trm::seq_mean_token_mean{},
                                       trm::normalised{trm::sequence_weight{trm::stat::mean}}};
    trm::masked_loss const by_prompt{near, trm::ppo_clip{}, trm::prompt_mean{trm::over_kept}};
    bool good = agrees("uneven shards, mean over tokens", by_token, uneven);
    good = agrees("uneven shards, mean over sequences", by_sequence, uneven) && good;
    good = agrees("uneven shards, mean over prompts", by_prompt, uneven) && good;
    good = agrees("a rank without tokens", by_token, idle) && good;
    good = agrees("a rank without tokens, mean over prompts", by_prompt, idle) && good;
    MPI_Finalize();
    return good ? 0 : 1;
}
