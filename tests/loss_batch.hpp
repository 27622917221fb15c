// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/batch_view.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

/// Ragged batches for the tests of the token pipeline: ordinary log-probabilities with outliers, holes in loss_mask
/// filled with hostile content, and rearrangements of the same tokens.
namespace batches {

inline constexpr double inf = std::numeric_limits<double>::infinity();
inline constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// splitmix64: the same numbers with every standard library.
class random {
public:
    explicit random(std::uint64_t seed) : state_(seed) {}
    std::uint64_t operator()() {
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    std::int64_t below(std::int64_t n) { return static_cast<std::int64_t>((*this)() % static_cast<std::uint64_t>(n)); }
    double uniform() { return (static_cast<double>((*this)() >> 11) + 0.5) * 0x1p-53; }
    double normal() { return std::sqrt(-2 * std::log(uniform())) * std::cos(6.283185307179586 * uniform()); }

private:
    std::uint64_t state_;
};

template <class S>
S narrow(double v) {
    if constexpr (std::is_same_v<S, trm::bf16>) return trm::to_bf16(static_cast<float>(v));
    else if constexpr (std::is_same_v<S, trm::f16>) return trm::to_f16(static_cast<float>(v));
    else return static_cast<S>(v);
}

/// What may stand in masked slots and must never matter.
inline double hostile(std::size_t i) {
    constexpr double values[] = {nan, inf, -inf, 1e38, -1e38, 1e-40, -1e-40, 5.0};
    return values[i % 8];
}

struct shape {
    std::vector<std::int64_t> lengths;
    bool holes = true;
    double spread = 0.3;      ///< of log-ratios
    double outliers = 0.004;  ///< fraction of tokens with a log-ratio far out, some beyond the clamp
};

inline std::vector<std::int64_t> edge_lengths() {
    return {0,  1,  15, 16, 17,   5,    31,   32, 0,  33, 63,   64, 65, 127, 128, 129, 2,  3,
            50, 90, 7,  11, 1023, 1024, 1025, 40, 41, 42, 5000, 1,  1,  200, 300, 77,  78, 0};
}
/// Many short sequences: what statistics per sequence are tested with.
inline std::vector<std::int64_t> short_lengths(std::size_t n, std::uint64_t seed) {
    random r(seed);
    std::vector<std::int64_t> v(n);
    for (auto& l : v) l = r.below(60);
    return v;
}

/// Owned streams of a packed or segmented batch.
template <class S>
struct ragged {
    using real = trm::default_arithmetic_t<S>;
    std::vector<S> logp, rollout, proximal, ref;
    std::vector<real> advantages, sequence_advantages, given, token_weights;
    std::vector<std::uint8_t> mask;
    std::vector<std::int32_t> groups, sequence_of;
    std::vector<std::int64_t> cu{0};
    std::vector<std::int64_t> origin;  ///< where each token was in the batch that this one was made from, or -1
    std::int64_t sequences = 0;
    std::int64_t row = 0, stride = 0;  ///< padded if stride > 0

    [[nodiscard]] std::size_t tokens() const { return logp.size(); }
    /// The view with every stream; drop what a test does not want.
    [[nodiscard]] trm::batch_view<S> view() const {
        trm::batch_view<S> v;
        v.logp = logp;
        v.rollout_logp = rollout;
        v.proximal_logp = proximal;
        v.ref_logp = ref;
        v.advantages = advantages;
        v.given = given;
        v.token_weights = token_weights;
        v.loss_mask = mask;
        v.group_of = groups;
        if (stride > 0) v.layout = trm::padded{sequences, row, stride};
        else if (!sequence_of.empty()) v.layout = trm::segments{cu, sequence_of, sequences};
        else v.layout = trm::packed{cu};
        return v;
    }
    /// One token, copied from another batch, or hostile filling.
    void push(ragged const& from, std::int64_t at) {
        bool const real_token = at >= 0;
        auto const i = static_cast<std::size_t>(at);
        auto const put = [&](auto& to, auto const& source) {
            using E = typename std::remove_cvref_t<decltype(to)>::value_type;
            to.push_back(real_token ? source[i] : narrow<E>(hostile(to.size())));
        };
        put(logp, from.logp);
        put(rollout, from.rollout);
        put(proximal, from.proximal);
        put(ref, from.ref);
        put(advantages, from.advantages);
        put(given, from.given);
        put(token_weights, from.token_weights);
        mask.push_back(real_token ? from.mask[i] : std::uint8_t{0});
        origin.push_back(at);
    }
};

template <class S>
ragged<S> make(shape const& s, std::uint64_t seed) {
    random r(seed);
    ragged<S> b;
    using real = typename ragged<S>::real;
    for (std::int64_t length : s.lengths) {
        double const tilt = 0.2 * s.spread * r.normal(), level = r.uniform() < 0.2 ? 0.1 : 1.0;
        for (std::int64_t t = 0; t < length; ++t) {
            bool const far = r.uniform() < s.outliers;
            double rollout = far && r.uniform() < 0.5 ? -35.0 * r.uniform() : 2 * std::log(r.uniform());
            double x = level * s.spread * r.normal() + tilt;
            if (far) x = (r.uniform() < 0.5 ? -1 : 1) * (4 + 26 * r.uniform());
            double const proximal = rollout + 0.5 * s.spread * r.normal();
            auto const below_zero = [](double l) { return -std::fabs(l) - 1e-3; };
            bool const hole = s.holes && r.uniform() < 0.2;
            std::size_t const k = b.logp.size();
            b.logp.push_back(narrow<S>(hole ? hostile(k) : below_zero(rollout + x)));
            b.rollout.push_back(narrow<S>(hole ? hostile(k + 3) : below_zero(rollout)));
            b.proximal.push_back(narrow<S>(hole ? hostile(k / 2) : below_zero(proximal)));
            b.ref.push_back(narrow<S>(hole ? hostile(k + 5) : below_zero(rollout + s.spread * r.normal())));
            b.advantages.push_back(static_cast<real>(hole ? hostile(k / 3) : r.normal()));
            b.given.push_back(static_cast<real>(hole ? hostile(k + 1) : 0.1 * r.uniform()));
            b.token_weights.push_back(static_cast<real>(hole ? hostile(k + 2) : 0.5 + r.uniform()));
            b.mask.push_back(hole ? std::uint8_t{0} : static_cast<std::uint8_t>(1 + r.below(255)));
            b.origin.push_back(static_cast<std::int64_t>(k));
        }
        b.cu.push_back(static_cast<std::int64_t>(b.logp.size()));
        b.groups.push_back(static_cast<std::int32_t>(b.sequences / 4 * 2));  // every second prompt id is empty
        b.sequence_advantages.push_back(static_cast<real>(r.normal()));
        ++b.sequences;
    }
    return b;
}

/// Tokens [begin, begin + size) of a batch, as part of sequence `sequence` of the new one.
struct piece {
    std::int64_t begin, size, sequence;
};
inline std::vector<piece> whole_sequences(std::vector<std::int64_t> const& cu) {
    std::vector<piece> p;
    for (std::size_t i = 0; i + 1 < cu.size(); ++i)
        p.push_back({cu[i], cu[i + 1] - cu[i], static_cast<std::int64_t>(i)});
    return p;
}
/// Every sequence cut into up to `parts` consecutive runs.
inline std::vector<piece> cut(std::vector<std::int64_t> const& cu, int parts, random& r) {
    std::vector<piece> out;
    for (piece const& p : whole_sequences(cu)) {
        std::int64_t at = p.begin;
        std::int64_t const end = p.begin + p.size;
        for (int k = 1; k < parts; ++k) {
            std::int64_t const n = r.below(end - at + 1);
            out.push_back({at, n, p.sequence});
            at += n;
        }
        out.push_back({at, end - at, p.sequence});
    }
    return out;
}

/// The pieces in this order, as segments of `sequences` sequences whose groups are given.
template <class S>
ragged<S> segmented(ragged<S> const& from, std::vector<piece> const& pieces) {
    ragged<S> b;
    for (piece const& p : pieces) {
        for (std::int64_t t = 0; t < p.size; ++t) b.push(from, p.begin + t);
        b.cu.push_back(static_cast<std::int64_t>(b.logp.size()));
        b.sequence_of.push_back(static_cast<std::int32_t>(p.sequence));
    }
    b.sequences = from.sequences;
    b.groups = from.groups;
    b.sequence_advantages = from.sequence_advantages;
    return b;
}
/// The sequences named, in this order, packed.
template <class S>
ragged<S> packed(ragged<S> const& from, std::vector<std::int64_t> const& sequences) {
    ragged<S> b;
    for (std::int64_t i : sequences) {
        auto const k = static_cast<std::size_t>(i);
        for (std::int64_t t = from.cu[k]; t < from.cu[k + 1]; ++t) b.push(from, t);
        b.cu.push_back(static_cast<std::int64_t>(b.logp.size()));
        b.groups.push_back(from.groups[k]);
        b.sequence_advantages.push_back(from.sequence_advantages[k]);
        ++b.sequences;
    }
    return b;
}
/// One row per sequence, `gap` unused slots between rows.
template <class S>
ragged<S> padded(ragged<S> const& from, std::int64_t gap) {
    ragged<S> b;
    for (piece const& p : whole_sequences(from.cu)) b.row = p.size > b.row ? p.size : b.row;
    b.stride = b.row + gap;
    for (piece const& p : whole_sequences(from.cu)) {
        for (std::int64_t t = 0; t < b.stride; ++t) b.push(from, t < p.size ? p.begin + t : -1);
        ++b.sequences;
    }
    b.groups = from.groups;
    b.sequence_advantages = from.sequence_advantages;
    return b;
}
/// An output of a rearranged batch at the places of the n tokens that it was made from; 99 at tokens that it does not have.
template <class V, class S>
std::vector<V> at_origin(std::vector<V> const& out, ragged<S> const& of, std::size_t n) {
    std::vector<V> to(n, V(99));
    for (std::size_t i = 0; i < out.size(); ++i)
        if (of.origin[i] >= 0) to[static_cast<std::size_t>(of.origin[i])] = out[i];
    return to;
}

}  // namespace batches
