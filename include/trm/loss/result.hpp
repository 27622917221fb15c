// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/batch_view.hpp>
#include <trm/core/executor.hpp>
#include <trm/core/nothrow_array.hpp>
#include <trm/loss/diagnostics.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

TRM_NAMESPACE_BEGIN

/// Where a call writes. Every span is optional; a present one covers the layout's extent. The type of the gradient is the
/// type of the arithmetic: float or double, whatever the storage of the batch. An output may be the same memory as an
/// input stream of the same type if both begin at the same element; memory that overlaps in any other way gives wrong results.
template <class T>
struct outputs {
    static_assert(arithmetic_type<T>, "trm: the gradient is float or double, whatever the storage of the batch");
    std::span<T> grad{};  ///< d loss / d logp per token; 0 where loss_mask is 0 or the token is rejected
    std::span<std::uint8_t> keep{};  ///< 1 where the surrogate of the token reaches the loss
    std::span<std::uint16_t> reasons{};  ///< bit i: criterion i rejects; bit 15: not finite; 0 where loss_mask is 0
    std::span<T> weights{};  ///< stop-gradient factor of each kept token's surrogate, else 0
    bool accumulate = false;  ///< add to grad instead of overwriting it
    double loss_scale = 1.0;  ///< factor of loss and gradient
};

/// Outcome of a loss call. Unless `status.ok()` nothing was written and the rest is zero.
struct result {
    struct status status;
    double loss = 0;
    struct diagnostics diagnostics;
};

/// Tokens of each prompt, by prompt id: what prompt_mean divides by. Ids may be any numbers.
class prompt_totals {
public:
    struct entry {
        std::int64_t id;
        double tokens;
    };
    /// In order of ids.
    [[nodiscard]] std::span<entry const> entries() const noexcept { return all_; }
    [[nodiscard]] double tokens(std::int64_t id) const noexcept {
        auto const at = place(id);
        return at != all_.end() && at->id == id ? at->tokens : 0.0;
    }
    void clear() noexcept { all_.clear(); }
    /// Another part of a prompt's tokens. `settle` must follow before anything is read.
    void add(std::int64_t id, double tokens) { all_.push_back({id, tokens}); }
    /// One entry per id, in order.
    void settle() {
        std::sort(all_.begin(), all_.end(),
                  [](entry const& a, entry const& b) { return a.id < b.id || (a.id == b.id && a.tokens < b.tokens); });
        std::size_t n = 0;
        for (entry const& e : all_) {
            if (n > 0 && all_[n - 1].id == e.id) {
                all_[n - 1].tokens += e.tokens;
            } else {
                all_[n++] = e;
            }
        }
        all_.resize(n);
    }
    void merge(prompt_totals const& o) {
        std::size_t const mine = all_.size(), more = o.all_.size();  // before the growth: o may be *this
        all_.resize(mine + more);
        std::copy_n(o.all_.data(), more, all_.data() + mine);
        settle();
    }

private:
    [[nodiscard]] std::vector<entry>::const_iterator place(std::int64_t id) const noexcept {
        return std::lower_bound(all_.begin(), all_.end(), id,
                                [](entry const& e, std::int64_t wanted) { return e.id < wanted; });
    }
    std::vector<entry> all_;
};

/// Sizes that denominators are made of. Sums over ranks: a sequence that several ranks share counts as the fraction
/// of its tokens that each rank has.
struct counts {
    double tokens = 0;
    double kept_tokens = 0;
    double sequences = 0;
    double kept_sequences = 0;
    double weight_sum = 0;  ///< what a normalised weight averages: sum of weights,
    double weight_units = 0;  ///< over this many tokens or sequences
    prompt_totals prompts;  ///< for prompt_mean only
    /// All but the prompts, in the order in which they travel between ranks and languages.
    static constexpr std::array<double counts::*, 6> numbers{&counts::tokens,     &counts::kept_tokens,
                                                             &counts::sequences,  &counts::kept_sequences,
                                                             &counts::weight_sum, &counts::weight_units};
    void merge(counts const& o) {
        for (auto const number : numbers) this->*number += o.*number;
        prompts.merge(o.prompts);
    }
};

/// Scratch that grows to the largest batch seen and is then reused: calls with the same workspace allocate nothing once they
/// have seen their largest batch. Only losses whose decisions or denominators need the whole batch, and segmented layouts,
/// use it: (sum_width + max_width) * sequences doubles for statistics, and 28 bytes a sequence where prompts are told apart,
/// whatever their ids. Masks that compare tokens with each other and surrogates that mark tokens take what the largest of their
/// selections needs: 9 bytes a token for scores, 8 more for each further channel and for advantages, and its own `scratch`. One
/// that looks at single sequences (policy/selection.hpp) takes at most that, 512 bytes a block (there are 128), 8 a run and a
/// sequence with segments, and 2 a sequence for prompts; of a batch of shorter sequences, only what the longest of each block
/// needs is touched. One of the whole batch (policy/selection_batch.hpp) takes at most 24 bytes a token more, and 256. In the
/// one-call form what was selected is also kept here, 3 bytes a token. Factors of token weights (policy/token_weight.hpp) take 25
/// bytes a token, 33 if they rank the batch, with segments 16 a sequence and 8 a run more, and in the one-call form a real a token.
class workspace {
public:
    enum class purpose : std::uint8_t { statistics, selection, streams, groups, weights };
    /// n bytes, aligned as operator new aligns them, or null when memory is exhausted. Contents are unspecified; arrays of
    /// plain numbers begin to exist in them when they are used as such ([intro.object]).
    [[nodiscard]] std::byte* reserve(purpose which, std::size_t n) noexcept {
        auto& buffer = buffers_[static_cast<std::size_t>(which)];
        if (n > buffer.size()) buffer = detail::nothrow_array<std::byte>(n);
        return buffer.data();
    }
    [[nodiscard]] std::size_t bytes() const noexcept {
        std::size_t n = 0;
        for (auto const& buffer : buffers_) n += buffer.size();
        return n;
    }

private:
    detail::nothrow_array<std::byte> buffers_[5];
};

TRM_NAMESPACE_END
