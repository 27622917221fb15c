// SPDX-License-Identifier: Apache-2.0
#include "methods.hpp"

#include "settings.hpp"

#include <array>

std::span<named_method const> methods() {
    static std::array<named_method, 20> const all{{
        {"none", "surrogate: policy_gradient", "no correction"},
        {"ratio", "surrogate: importance_ratio", "importance ratio"},
        {"ppo", "surrogate: ppo_clip(eps_low=0.2, eps_high=0.2)", "PPO clip 0.2"},
        {"tis", "weight: token(truncate_above=2); surrogate: policy_gradient", "token TIS, 2"},
        {"centered", "centered: surrogate: policy_gradient", "score centering"},
        {"centered-tis", "centered: weight: token(truncate_above=2); surrogate: policy_gradient",
         "score centering, TIS 2"},
        {"icepop", "weight: token(zero_outside=[0.5, 5]); surrogate: policy_gradient", "IcePop [0.5, 5]"},
        {"token-mask", "mask: ratio in [0.5, 2]; surrogate: importance_ratio", "token ratio in [0.5, 2]"},
        {"dppo", "mask: away(binary_tv <= 0.2); surrogate: importance_ratio", "DPPO, binary TV 0.2"},
        {"gspo", "surrogate: gspo(eps_low=3e-4, eps_high=4e-4); aggregate: seq_mean_token_mean", "GSPO"},
        {"seq-is", "weight: product(truncate_above=1e8); surrogate: policy_gradient", "sequence ratio"},
        {"seq-tis", "weight: product(truncate_above=2); surrogate: policy_gradient", "sequence TIS, 2"},
        {"geometric", "mask: geometric_ratio in [0.99, 1.01]; surrogate: importance_ratio", "geometric ratio, 1%"},
        {"opsm", "mask: signed(seq_mean_k1 <= 0.01); surrogate: importance_ratio", "OPSM, mean k1 0.01"},
        {"trm-max", "mask: seq_max_k2 <= 0.05; surrogate: importance_ratio", "TRM max k2 0.05"},
        {"trm-max-1", "mask: seq_max_k2 <= 1; surrogate: importance_ratio", "TRM max k2 1"},
        {"trm-mean", "mask: seq_mean_k3 <= 0.01; surrogate: importance_ratio", "TRM mean k3 0.01"},
        {"trm-mean-0.1", "mask: seq_mean_k3 <= 0.1; surrogate: importance_ratio", "TRM mean k3 0.1"},
        {"trm-exact", "mask: seq_max_given <= 0.05; surrogate: importance_ratio", "TRM max exact KL 0.05"},
        {"ln-trm", "mask: length_neutral(threshold=0.1, horizon=1024, eps=0.5); surrogate: importance_ratio",
         "length-neutral TRM 0.1"},
    }};
    return all;
}

std::string text_of(std::string const& method) {
    for (named_method const& m : methods())
        if (m.name == method) return m.text;
    return method;
}
