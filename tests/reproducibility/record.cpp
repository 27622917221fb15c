// SPDX-License-Identifier: Apache-2.0
// Prints loss, some gradients and a checksum of all output bits of a few losses, in hexadecimal, for inputs that follow from a
// seed by exact arithmetic. Within a release the lines of a vector unit must not change: compare.cmake compares them with
// recorded/<unit>.txt.
#include "../loss_batch.hpp"

#include <trm/loss/masked_loss.hpp>
#include <trm/policy/catalogue.hpp>

#include <cstdio>
#include <cstring>

using namespace trm;

namespace {

/// Multiples of 2^-10 and 2^-14, exact in float: no function of the C library has a say in the inputs.
template <class T>
struct inputs {
    std::vector<T> logp, rollout, proximal, ref, advantages;
    std::vector<std::uint8_t> mask;
    std::vector<std::int64_t> cu{0};

    explicit inputs(std::uint64_t seed) {
        batches::random r(seed);
        for (std::int64_t length : {0, 1, 7, 16, 33, 300, 64, 5, 1030, 129, 2, 48}) {
            for (std::int64_t t = 0; t < length; ++t) {
                double const mu = -static_cast<double>(1 + r.below(4096)) / 1024;
                auto const near = [&] {
                    double const v = mu + static_cast<double>(r.below(8192) - 4096) / 16384;
                    return static_cast<T>(v < 0 ? v : mu);
                };
                rollout.push_back(static_cast<T>(mu));
                logp.push_back(r.below(200) == 0 ? static_cast<T>(mu - 6) : near());
                proximal.push_back(near());
                ref.push_back(near());
                advantages.push_back(static_cast<T>(static_cast<double>(r.below(4096) - 2048) / 1024));
                mask.push_back(r.below(8) != 0);
            }
            cu.push_back(static_cast<std::int64_t>(logp.size()));
        }
    }
    [[nodiscard]] batch_view<T> view() const {
        return {.logp = logp,
                .rollout_logp = rollout,
                .proximal_logp = proximal,
                .ref_logp = ref,
                .advantages = advantages,
                .loss_mask = mask,
                .layout = packed{cu}};
    }
};

/// FNV-1a.
std::uint64_t checksum(void const* data, std::size_t bytes, std::uint64_t h = 0xcbf29ce484222325u) {
    auto const* p = static_cast<unsigned char const*>(data);
    for (std::size_t i = 0; i < bytes; ++i) h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

template <class T, class Loss>
void record(char const* name, Loss const& loss) {
    inputs<T> const in(2026);
    std::vector<T> grad(in.logp.size()), weights(in.logp.size());
    std::vector<std::uint8_t> keep(in.logp.size());
    outputs<T> out;
    out.grad = grad;
    out.weights = weights;
    out.keep = keep;
    result const r = loss(in.view(), out);
    std::printf("%s %s loss %a kl_k3 %a kept %.0f grad", name, sizeof(T) == 4 ? "f32" : "f64", r.loss,
                r.diagnostics.kl_k3(), r.diagnostics.kept_tokens);
    for (std::size_t i = 3; i < grad.size(); i += 397) std::printf(" %a", static_cast<double>(grad[i]));
    std::uint64_t h = checksum(grad.data(), grad.size() * sizeof(T));
    h = checksum(weights.data(), weights.size() * sizeof(T), h);
    h = checksum(keep.data(), keep.size(), h);
    std::printf(" bits %016llx\n", static_cast<unsigned long long>(h));
}
template <class T>
void record_all() {
    record<T>("ppo", masked_loss{token_mask{ratio{}, within(0.6, 1.7)} && sequence_mask{k2{}, stat::max, at_most(0.6)},
                                 ppo_clip{0.2, 0.28, 3.0}, token_mean{}, token_weight{truncate_above(1.7)},
                                 kl_penalty{k3{}, 0.1}});
    record<T>("gspo", masked_loss{sequence_mask{k3{}, stat::mean, at_most(0.05)}, gspo{}, seq_mean_token_mean{},
                                  sequence_weight{stat::mean, clamp_to(0.9, 1.1)}});
    record<T>("sapo", masked_loss{dppo_kl(0.02, 0.02), sapo{}, seq_mean_token_sum{over_kept}});
}

}  // namespace

int main(int argc, char** argv) {
    if (argc > 1 && std::strcmp(argv[1], "--unit") == 0) return std::printf("%s\n", simd::default_arch::name()), 0;
    record_all<float>();
    record_all<double>();
    return 0;
}
