// SPDX-License-Identifier: Apache-2.0
// A policy in a namespace that has functions of common names, which argument-dependent lookup finds and which fit
// everything: none may be called for trm's own.
#include <trm/trm.hpp>

#include <vector>

namespace user {

template <class... A>
void apply(A&&...) = delete;
template <class... A>
void check(A&&...) = delete;
template <class... A>
void count(A&&...) = delete;
template <class... A>
void data(A&&...) = delete;
template <class... A>
void finish(A&&...) = delete;
template <class... A>
void get(A&&...) = delete;
template <class... A>
void judge(A&&...) = delete;
template <class... A>
void load(A&&...) = delete;
template <class... A>
void max(A&&...) = delete;
template <class... A>
void measure(A&&...) = delete;
template <class... A>
void message(A&&...) = delete;
template <class... A>
void min(A&&...) = delete;
template <class... A>
void print(A&&...) = delete;
template <class... A>
void quoted(A&&...) = delete;
template <class... A>
void read(A&&...) = delete;
template <class... A>
void select(A&&...) = delete;
template <class... A>
void size(A&&...) = delete;
template <class... A>
void store(A&&...) = delete;
template <class... A>
void sum(A&&...) = delete;
template <class... A>
void to_string(A&&...) = delete;
template <class... A>
void validate(A&&...) = delete;
template <class... A>
void visit(A&&...) = delete;
template <class... A>
void width(A&&...) = delete;

struct jeffreys {
    static constexpr trm::ratio_kind over = trm::ratio_kind::current_over_rollout;
    template <class V>
    TRM_INLINE V operator()(trm::log_ratio<V> const& l) const noexcept {
        return l.value * l.expm1;
    }
};
struct executor {
    std::int64_t grain = 1;
    template <class F>
    void operator()(std::int64_t n, F&& f) const {
        for (std::int64_t i = 0; i < n; ++i) f(i);
    }
};

}  // namespace user

trm::result run(trm::batch_view<float> const& batch, std::vector<float>& grad);
trm::result run(trm::batch_view<float> const& batch, std::vector<float>& grad) {
    user::jeffreys const d;
    trm::masked_loss const loss{trm::token_mask{d, trm::at_most(0.05)} &&
                                    trm::sequence_mask{d, trm::stat::mean, trm::at_most(0.05)} &&
                                    trm::prefix_mask{d, trm::at_most(0.1)},
                                trm::importance_ratio{}, trm::token_mean{}};
    trm::workspace scratch;
    trm::outputs<float> const out{.grad = grad};
    trm::result const r = loss(batch, out, user::executor{}, scratch);
    return r.status.ok() ? trm::checked(loss)(batch, out, trm::with_grain{user::executor{}}, scratch) : r;
}
