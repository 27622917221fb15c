// SPDX-License-Identifier: Apache-2.0
// Every surrogate under the same mask, chosen at compile time and at run time (any_loss). Rows are
// surrogate/<name>/<static or any>/<tokens>.
#include "token_loss.hpp"

namespace {

using namespace bench;

/// What some surrogates read besides the usual streams.
struct extra_streams {
    buffer<float> ref;
    buffer<std::uint8_t> marks;
    explicit extra_streams(std::int64_t n) : ref(n), marks(n) {
        splitmix g(17);
        for (std::int64_t i = 0; i < n; ++i) {
            ref.data()[i] = -0.05f - 3 * g.uniform();
            marks.data()[i] = g.below(5000) == 0;
        }
    }
};

template <class Surrogate>
double bytes_of() {
    unsigned const needs = Surrogate::needs();
    return 12 + ((needs & trm::need::advantage) != 0 ? 4 : 0) + ((needs & trm::need::ref_logp) != 0 ? 4 : 0) +
           ((needs & trm::need::marks) != 0 ? 1 : 0);
}

template <class Surrogate>
void one(benchmark::State& state, Surrogate surrogate, bool at_run_time, std::int64_t tokens) {
    static extra_streams extra(std::int64_t(1) << 22);
    auto const with_extra = [&](trm::batch_view<float> b) {
        auto const n = static_cast<std::size_t>(b.layout.extent());
        if ((Surrogate::needs() & trm::need::ref_logp) != 0) b.ref_logp = {extra.ref.data(), n};
        return b;
    };
    auto const chosen_of = [&](trm::batch_view<float> const& b) {
        trm::selection_view chosen;
        auto const n = static_cast<std::size_t>(b.layout.extent());
        if ((Surrogate::needs() & trm::need::marks) != 0) chosen.marks = {extra.marks.data(), n};
        return chosen;
    };
    auto const loss = quiet(trm::masked_loss{max_k2, surrogate, trm::token_mean{}});
    trm::loss_spec spec;
    spec.mask = {trm::sequence_mask{trm::any_divergence{trm::k2{}}, trm::stat::max, trm::at_most(0.125)}};
    spec.surrogate = surrogate;
    spec.aggregate = trm::token_mean{};
    auto const any = quiet(trm::any_loss{spec});
    auto const small = with_extra(small_batch<float>());
    auto const of_small = chosen_of(small);
    auto const run = [&](auto const& l) { return [&](auto const& b, auto grad) { return l(b, of_small, grad).loss; }; };
    if (!agrees(loss, small, run(loss), of_small) || !agrees(loss, small, run(any), of_small))
        return state.SkipWithError("not what the oracle says");
    auto& r = rollouts<float>::get(tokens, lengths::ragged, 10);
    auto const chosen = chosen_of(r.view());
    if (at_run_time) {
        pipeline_row(state, any, with_extra(r.view()), r.outputs(), bytes_of<Surrogate>(), 1, chosen);
    } else {
        pipeline_row(state, loss, with_extra(r.view()), r.outputs(), bytes_of<Surrogate>(), 1, chosen);
    }
}

template <class Surrogate>
void add(std::string const& name, Surrogate surrogate) {
    for (std::int64_t const tokens : {std::int64_t(1) << 14, std::int64_t(1) << 22})
        for (bool at_run_time : {false, true})
            add_row("surrogate/" + name + (at_run_time ? "/any/" : "/static/") + size_name(tokens),
                    [=](benchmark::State& s) { one(s, surrogate, at_run_time, tokens); });
}

}  // namespace

int main(int argc, char** argv) {
    add("importance_ratio", trm::importance_ratio{});
    add("ppo_clip", trm::ppo_clip{});
    add("policy_gradient", trm::policy_gradient{});
    add("cispo", trm::cispo{});
    add("reference_gap", trm::reference_gap{});
    add("gspo", trm::gspo{});
    add("gspo_token", trm::gspo_token{});
    add("gmpo", trm::gmpo{});
    add("sapo", trm::sapo{});
    add("dro", trm::dro{0.1});
    add("kl_cov", trm::kl_cov{});
    add("vespo", trm::vespo{});
    add("topr", trm::topr{});
    return run_rows(argc, argv);
}
