// SPDX-License-Identifier: Apache-2.0
// Evidence and certificates.
#include <trm/interop/c/batch.hpp>
#include <trm/interop/c/certificate_json.hpp>

struct trm_evidence {
    trm::bounds::evidence value;
};

using namespace trm::c_api;

trm_evidence* trm_evidence_new(void) { return make<trm_evidence>(); }
void trm_evidence_free(trm_evidence* evidence) { delete evidence; }

int trm_evidence_add(trm_evidence* evidence, trm_batch const* batch, trm_outcomes const* outcomes, trm_scratch* scratch,
                     trm_error* error) {
    return call(error, [&]() -> trm::status {
        trm_batch b;
        trm_outcomes o;
        if (evidence == nullptr) return bad_argument("evidence is a null pointer");
        if (trm::status s = read_struct(batch, b); !s.ok()) return s;
        if (trm::status s = read_struct(outcomes, o); !s.ok()) return s;
        scratch_of const memory(scratch);
        return at_dtype(b.dtype, [&]<class S>(std::type_identity<S>) -> trm::status {
            batch_of<S> in;
            if (trm::status s = in.read(b, *memory); !s.ok()) return s;
            if (trm::status s = in.view.layout.validate(); !s.ok()) return s;
            auto t = trm::bounds::trajectories_of(in.view);
            auto const tokens = static_cast<std::size_t>(b.tokens), n = static_cast<std::size_t>(b.sequences);
            auto const array = [&]<class T>(void const* from, std::size_t size, trm::stream_view<T>& to) {
                trm::status const s = check_array<T>(from, static_cast<std::int64_t>(from == nullptr ? 0 : size), "");
                if (from != nullptr && s.ok()) to = trm::stream_view<T>(static_cast<T const*>(from), size);
                return s;
            };
            if (trm::status s = array(o.rewards, n, t.rewards); !s.ok()) return s;
            if (trm::status s = array(o.groups, n, t.groups); !s.ok()) return s;
            if (trm::status s = array(o.horizons, n, t.horizons); !s.ok()) return s;
            if (trm::status s = array(o.weights, n, t.weights); !s.ok()) return s;
            if (trm::status s = array(o.kl, tokens, t.kl); !s.ok()) return s;
            if (trm::status s = array(o.tv, tokens, t.tv); !s.ok()) return s;
            return evidence->value.add(t);
        });
    });
}

int trm_evidence_merge(trm_evidence* into, trm_evidence const* from, trm_error* error) {
    return call(error, [&]() -> trm::status {
        if (into == nullptr || from == nullptr || into == from)
            return bad_argument("two pieces of evidence are a null pointer or the same");
        into->value.merge(from->value);
        return {};
    });
}

char* trm_evidence_certificate(trm_evidence const* evidence, trm_certificate_options const* options, trm_error* error) {
    char* text = nullptr;
    (void)call(error, [&]() -> trm::status {
        if (evidence == nullptr) return bad_argument("evidence is a null pointer");
        trm::bounds::certificate_options with;
        if (options != nullptr) {
            trm_certificate_options o;
            if (trm::status s = read_struct(options, o); !s.ok()) return s;
            if (!trm::is_finite(o.reward_min) || !trm::is_finite(o.reward_max) || o.reward_min > o.reward_max)
                return {trm::errc::bad_threshold, -1, -1, "reward_min must be finite and at most reward_max"};
            if (!(o.level >= 0 && o.level < 1) || o.resamples < 0 || o.horizon < 0)
                return {trm::errc::bad_threshold, -1, -1,
                        "level must be in (0, 1), resamples and horizon not negative"};
            with.reward = {o.reward_min, o.reward_max};
            with.horizon = o.horizon;
            if (o.level > 0) with.bootstrap.level = o.level;
            if (o.seed != 0) with.bootstrap.seed = o.seed;
            if (o.resamples > 0) with.bootstrap.resamples = o.resamples;
            if (o.has_surrogate_gain != 0) with.surrogate_gain = o.surrogate_gain;
        }
        std::string const json = trm::bounds::to_json(trm::bounds::certify(evidence->value, with));
        text = new char[json.size() + 1];
        std::memcpy(text, json.c_str(), json.size() + 1);
        return {};
    });
    return text;
}
void trm_string_free(char* text) { delete[] text; }
