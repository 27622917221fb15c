// SPDX-License-Identifier: Apache-2.0
// Every function of the logits layer: a call whose status nobody looks at must not pass silently.
#include <trm/logits/divergence.hpp>
#include <trm/logits/gradient.hpp>
#include <trm/logits/linear_divergence.hpp>
#include <trm/logits/linear_gradient.hpp>
#include <trm/logits/log_prob.hpp>
#include <trm/logits/topk.hpp>

#include <utility>

namespace {
trm::logits_view<float> const v;
trm::linear_view<float, float> const head;
std::span<std::int32_t const> const ids;
std::span<std::byte> const bytes;
trm::logits_gradient_in<float> const in;
trm::logits_gradient_out<float> const out;

template <int call>
void ignore() {
    using namespace trm;
    if constexpr (call == 1) log_prob(v, ids, log_prob_out<float>{});
    if constexpr (call == 2) log_prob_partials(v, 0, ids, std::span<logits_partial>{});
    if constexpr (call == 3) finish(std::span<logits_partial const>{}, log_prob_out<float>{});
    if constexpr (call == 4) exact_divergence(v, v, divergence_out<float>{});
    if constexpr (call == 5) divergence_partials(v, v, std::span<divergence_partial>{});
    if constexpr (call == 6) logits_gradient(v, ids, in, out);
    if constexpr (call == 7) logits_gradient_shard(v, 0, ids, in, out);
    if constexpr (call == 8) topk_divergence(topk_view<float>{}, topk_out<float>{});
    if constexpr (call == 9) gather_log_prob(v, ids, 0, std::span<double const>{}, std::span<float>{});
    if constexpr (call == 10) linear_log_prob(head, ids, log_prob_out<float>{}, bytes);
    if constexpr (call == 11) linear_divergence(head, head, ids, log_prob_out<float>{}, divergence_out<float>{}, bytes);
    if constexpr (call == 12) linear_gradient(head, ids, in, linear_gradient_out{}, bytes);
    if constexpr (call == 13) partition_divergence(std::span<float const>{}, std::span<float const>{});
}
}  // namespace

void all() {
    []<int... call>(std::integer_sequence<int, call...>) {
        (ignore<call>(), ...);
    }(std::make_integer_sequence<int, 14>{});
}
