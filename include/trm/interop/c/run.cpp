// SPDX-License-Identifier: Apache-2.0
// The calls of losses: everything at once, and in phases. What is compiled for a dtype is in run_f32.cpp and run_f64.cpp.
#include <algorithm>
#include <trm/interop/c/typed_calls.hpp>

struct trm_totals {
    trm::sequence_totals value;
};
struct trm_counts {
    trm::counts value;
};

TRM_NAMESPACE_BEGIN
namespace c_api {
extern template struct typed_calls<float>;
extern template struct typed_calls<bf16>;
extern template struct typed_calls<f16>;
extern template struct typed_calls<double>;

namespace {

/// f(typed_calls<S>, batch) for a caller's batch.
template <class F>
[[nodiscard]] status with_batch(trm_batch const* given, F const& f) {
    trm_batch batch;
    if (status s = read_struct(given, batch); !s.ok()) return s;
    return at_dtype(batch.dtype, [&]<class S>(std::type_identity<S>) -> status { return f(typed_calls<S>{}, batch); });
}
/// The form of the loss that computes what is asked for.
[[nodiscard]] any_loss const& form_of(trm_loss const& loss, trm_diagnostics const* diagnostics) noexcept {
    return diagnostics != nullptr ? loss.with_diagnostics : loss.without;
}

}  // namespace
}  // namespace c_api
TRM_NAMESPACE_END

using namespace trm::c_api;

static_assert(trm::counts::numbers.size() == TRM_COUNTS);

trm_scratch* trm_scratch_new(void) { return make<trm_scratch>(); }
void trm_scratch_free(trm_scratch* scratch) { delete scratch; }
size_t trm_scratch_bytes(trm_scratch const* scratch) { return scratch == nullptr ? 0 : scratch->bytes(); }

int trm_loss_call(trm_loss const* loss, trm_batch const* batch, trm_outputs const* out, trm_executor const* execute,
                  trm_scratch* scratch, double* loss_value, trm_diagnostics* diagnostics, trm_error* error) {
    return call(error, [&]() -> trm::status {
        if (loss == nullptr) return bad_argument("loss is a null pointer");
        if (trm::status s = check_struct(diagnostics); !s.ok()) return s;
        scratch_of const memory(scratch);
        return with_batch(batch, [&](auto calls, trm_batch const& b) {
            return calls.call(form_of(*loss, diagnostics), b, *memory, out, {execute}, loss_value, diagnostics);
        });
    });
}

// --- phases ---------------------------------------------------------------------------------------------------------------

int trm_loss_select(trm_loss const* loss, trm_batch const* batch, uint16_t* rejected, uint8_t* marks,
                    trm_executor const* execute, trm_scratch* scratch, trm_error* error) {
    return call(error, [&]() -> trm::status {
        if (loss == nullptr) return bad_argument("loss is a null pointer");
        if (!is_aligned<std::uint16_t>(rejected)) return bad_argument("a pointer is not aligned for its type");
        scratch_of const memory(scratch);
        return with_batch(batch, [&](auto calls, trm_batch const& b) -> trm::status {
            if (trm::status s = calls.select(loss->with_diagnostics, b, *memory, {execute}); !s.ok()) return s;
            trm::selection& chosen = (*memory).chosen;
            if ((!chosen.reasons().empty() && rejected == nullptr) || (!chosen.marks().empty() && marks == nullptr))
                return bad_argument("the loss selects, but rejected or marks is a null pointer");
            auto const n = std::min(static_cast<std::size_t>(b.tokens), chosen.reasons().size());
            auto const marked = std::min(static_cast<std::size_t>(b.tokens), chosen.marks().size());
            std::copy_n(chosen.reasons().data(), n, rejected);
            std::copy_n(chosen.marks().data(), marked, marks);
            return {};
        });
    });
}

int trm_loss_weigh(trm_loss const* loss, trm_batch const* batch, void* weights, trm_executor const* execute,
                   trm_scratch* scratch, trm_error* error) {
    return call(error, [&]() -> trm::status {
        if (loss == nullptr || weights == nullptr) return bad_argument("loss or weights is a null pointer");
        scratch_of const memory(scratch);
        return with_batch(batch, [&](auto calls, trm_batch const& b) {
            return calls.weigh(loss->with_diagnostics, b, *memory, weights, {execute});
        });
    });
}

int trm_loss_measure(trm_loss const* loss, trm_batch const* batch, trm_executor const* execute, trm_scratch* scratch,
                     trm_totals* totals, trm_error* error) {
    return call(error, [&]() -> trm::status {
        if (loss == nullptr || totals == nullptr) return bad_argument("loss or totals is a null pointer");
        scratch_of const memory(scratch);
        return with_batch(batch, [&](auto calls, trm_batch const& b) {
            return calls.measure(loss->with_diagnostics, b, *memory, totals->value, {execute});
        });
    });
}

int trm_loss_count(trm_loss const* loss, trm_batch const* batch, trm_scratch* scratch, trm_totals const* totals,
                   trm_counts* counts, trm_error* error) {
    return call(error, [&]() -> trm::status {
        if (loss == nullptr || totals == nullptr || counts == nullptr)
            return bad_argument("loss, totals or counts is a null pointer");
        scratch_of const memory(scratch);
        return with_batch(batch, [&](auto calls, trm_batch const& b) {
            return calls.count(loss->with_diagnostics, b, *memory, totals->value, counts->value);
        });
    });
}

int trm_loss_apply(trm_loss const* loss, trm_batch const* batch, trm_totals const* totals, trm_counts const* counts,
                   trm_outputs const* out, trm_executor const* execute, trm_scratch* scratch, double* loss_value,
                   trm_diagnostics* diagnostics, trm_error* error) {
    return call(error, [&]() -> trm::status {
        if (loss == nullptr || totals == nullptr || counts == nullptr)
            return bad_argument("loss, totals or counts is a null pointer");
        if (trm::status s = check_struct(diagnostics); !s.ok()) return s;
        scratch_of const memory(scratch);
        return with_batch(batch, [&](auto calls, trm_batch const& b) {
            return calls.apply(form_of(*loss, diagnostics), b, *memory, totals->value, counts->value, out, {execute},
                               loss_value, diagnostics);
        });
    });
}

// --- totals and counts ------------------------------------------------------------------------------------------------------

trm_totals* trm_totals_new(void) { return make<trm_totals>(); }
void trm_totals_free(trm_totals* totals) { delete totals; }
double* trm_totals_sums(trm_totals* totals, int64_t* n) {
    if (n != nullptr) *n = totals == nullptr ? 0 : std::ssize(totals->value.sums());
    return totals == nullptr ? nullptr : totals->value.sums().data();
}
double* trm_totals_maxima(trm_totals* totals, int64_t* n) {
    if (n != nullptr) *n = totals == nullptr ? 0 : std::ssize(totals->value.maxima());
    return totals == nullptr ? nullptr : totals->value.maxima().data();
}
int trm_totals_merge(trm_totals* into, trm_totals const* from, trm_error* error) {
    return call(error, [&]() -> trm::status {
        if (into == nullptr || from == nullptr) return bad_argument("totals is a null pointer");
        return into->value.merge(from->value);
    });
}

trm_counts* trm_counts_new(void) { return make<trm_counts>(); }
void trm_counts_free(trm_counts* counts) { delete counts; }
int trm_counts_merge(trm_counts* into, trm_counts const* from, trm_error* error) {
    return call(error, [&]() -> trm::status {
        if (into == nullptr || from == nullptr) return bad_argument("counts is a null pointer");
        into->value.merge(from->value);
        return {};
    });
}
int trm_counts_get(trm_counts const* counts, double values[TRM_COUNTS], trm_error* error) {
    return call(error, [&]() -> trm::status {
        if (counts == nullptr || values == nullptr) return bad_argument("counts or values is a null pointer");
        for (std::size_t i = 0; i < TRM_COUNTS; ++i) values[i] = counts->value.*trm::counts::numbers[i];
        return {};
    });
}
int64_t trm_counts_prompts(trm_counts const* counts, trm_prompt_tokens* prompts, int64_t room) {
    if (counts == nullptr) return 0;
    auto const all = counts->value.prompts.entries();
    for (std::int64_t i = 0; prompts != nullptr && i < room && i < std::ssize(all); ++i)
        prompts[i] = {all[static_cast<std::size_t>(i)].id, all[static_cast<std::size_t>(i)].tokens};
    return std::ssize(all);
}
int trm_counts_add(trm_counts* counts, double const values[TRM_COUNTS], trm_prompt_tokens const* prompts, int64_t n,
                   trm_error* error) {
    return call(error, [&]() -> trm::status {
        if (counts == nullptr || values == nullptr) return bad_argument("counts or values is a null pointer");
        if (trm::status s = check_array<trm_prompt_tokens>(prompts, n, "prompts is a null pointer"); !s.ok()) return s;
        trm::counts more;
        for (std::size_t i = 0; i < TRM_COUNTS; ++i) more.*trm::counts::numbers[i] = values[i];
        for (std::int64_t i = 0; i < n; ++i) more.prompts.add(prompts[i].id, prompts[i].tokens);
        counts->value.merge(more);
        return {};
    });
}
