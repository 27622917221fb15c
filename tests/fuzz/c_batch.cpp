// SPDX-License-Identifier: Apache-2.0
// The C interface validates whatever a caller claims about a batch: a code and a sentence, or a finite loss; never a read or
// write outside of what was given, and nothing written after a refusal.
#include "fuzz.hpp"

#include <trm/interop/c.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

namespace {

char const* const texts[] = {
    "mask: seq_max_k2 <= 0.05 && ratio in [0.5, 2]; surrogate: importance_ratio",
    "weight: token(truncate_above=2); surrogate: ppo_clip; aggregate: seq_mean_token_mean",
    "mask: budget(k2, limit=0.01) && prefix(k3 <= 0.1); surrogate: gspo; aggregate: seq_mean_token_sum",
    "mask: group(seq_mean_k3 <= 0.1); surrogate: kl_cov(fraction=0.2, coefficient=0.1); aggregate: prompt_mean",
    "mask: given <= 0.5 && quantile(binary_kl, q=0.9) <= 0.2; weight: normalised_product; surrogate: sapo",
    "surrogate: reference_gap; penalty: kl(k3, beta=0.1) + squared_log_ratio(coefficient=0.01); strict: true",
};
constexpr int losses = sizeof texts / sizeof texts[0];

/// The losses of all texts: each must be one, whichever an input asks for.
trm_loss const* loss_of(int i) {
    static auto const& made = *new std::vector<trm_loss*> const([] {  // reachable to the end: no leak
        std::vector<trm_loss*> all;
        for (char const* text : texts) {
            all.push_back(trm_loss_from_text(text, nullptr));
            TRM_FUZZ_REQUIRE(all.back() != nullptr);
        }
        return all;
    }());
    return made[static_cast<std::size_t>(i)];
}

/// Memory of exactly the size that a claim needs, so that AddressSanitizer sees one element too many.
class memory {
public:
    /// n elements, up to 2^16 of them; more are a claim that no caller can make good, and must be refused unread.
    template <class T>
    T* of(std::int64_t n, fuzz::bytes& in, bool numbers = false) {
        auto const size = static_cast<std::size_t>(n < 0 || n > 65536 ? 0 : n);
        blocks_.emplace_back(new unsigned char[size * sizeof(T) + 1]);
        auto* const p = reinterpret_cast<T*>(blocks_.back().get());
        for (std::size_t i = 0; i < size; ++i) {
            T v{};
            if constexpr (std::is_floating_point_v<T>) v = static_cast<T>(in.take<std::int8_t>()) / T(-32);
            else v = static_cast<T>(numbers ? in.take<std::uint8_t>() % 64 : in.take<std::uint8_t>());
            std::memcpy(p + i, &v, sizeof v);
        }
        return p;
    }

private:
    std::vector<std::unique_ptr<unsigned char[]>> blocks_;
};

std::int64_t claim(fuzz::bytes& in, int usual) {
    switch (in.take<std::uint8_t>() % 32) {
        case 0:
            return -1;
        case 1:
            return std::numeric_limits<std::int64_t>::max();
        case 2:
            return std::numeric_limits<std::int64_t>::min();
        case 3:
            return std::numeric_limits<std::int64_t>::max() / 2 + 1;
        default:
            return in.below(usual);
    }
}
std::int64_t stride(fuzz::bytes& in) { return in.below(8) > 0 ? 0 : in.below(4) > 0 ? in.below(3) : claim(in, 3); }

/// A stream of n numbers of `width` bytes, or none.
trm_stream stream(memory& m, fuzz::bytes& in, std::int64_t n, int width) {
    if (in.below(6) == 0) return {nullptr, 0};
    trm_stream s{nullptr, stride(in)};
    std::int64_t const step = s.stride > 1 && s.stride < 8 ? s.stride : 1;
    std::int64_t const slots = n > 0 && n <= 65536 ? (n - 1) * step + 1 : 0;
    if (width == 8) s.data = m.of<double>(slots, in);
    else if (width == 4) s.data = m.of<float>(slots, in);
    else if (width == 2) s.data = m.of<std::uint16_t>(slots, in);
    else s.data = m.of<std::uint8_t>(slots, in);
    if (in.below(64) == 0) s.data = static_cast<char const*>(s.data) + 1;
    return s;
}
trm_batch batch_from(memory& m, fuzz::bytes& in) {
    trm_batch b = trm_batch_init();
    if (in.below(32) == 0) b.size += static_cast<std::size_t>(in.take<std::int8_t>());
    if (b.size > sizeof b) b.size = sizeof b - 8;  // what a later version has is not in this memory
    b.dtype = in.below(16) == 0 ? in.take<std::int8_t>() : 1 + in.below(4);
    b.layout = in.below(16) == 0 ? in.take<std::int8_t>() : 1 + in.below(3);
    b.tokens = claim(in, 200);
    b.sequences = claim(in, 20);
    b.runs = claim(in, 20);
    b.cu_dtype = in.below(16) == 0 ? in.take<std::int8_t>() : 1 + in.below(2);
    b.partial = in.below(4) == 0;
    b.max_tokens = claim(in, 40);
    b.row_stride = in.flag() ? 0 : claim(in, 60);
    std::int64_t const runs = b.layout == TRM_SEGMENTS ? b.runs : b.sequences;
    std::vector<std::int64_t> cu(static_cast<std::size_t>(runs < 0 || runs > 65536 ? 0 : runs) + 1);
    bool const orderly = in.below(8) > 0;
    for (std::size_t i = 1; i < cu.size(); ++i) cu[i] = orderly ? cu[i - 1] + in.below(24) : in.take<std::int8_t>();
    if (orderly && in.flag() && b.tokens >= 0) b.tokens = cu.back();
    if (b.cu_dtype == TRM_I64) {
        auto* to = m.of<std::int64_t>(static_cast<std::int64_t>(cu.size()), in);
        std::memcpy(to, cu.data(), cu.size() * sizeof cu[0]);
        b.cu_seqlens = to;
    } else {
        auto* to = m.of<std::int32_t>(static_cast<std::int64_t>(cu.size()), in);
        for (std::size_t i = 0; i < cu.size(); ++i) to[i] = static_cast<std::int32_t>(cu[i]);
        b.cu_seqlens = to;
    }
    if (in.below(32) == 0) b.cu_seqlens = nullptr;
    auto* ids = m.of<std::int32_t>(b.runs, in, true);
    if (in.below(8) > 0 && b.sequences > 0 && b.runs <= 65536)  // beyond, there is no memory
        for (std::int64_t i = 0; i < b.runs; ++i) ids[i] = static_cast<std::int32_t>(ids[i] % b.sequences);
    b.sequence_of = in.below(32) == 0 ? nullptr : ids;
    int const width = b.dtype == TRM_F64 ? 8 : b.dtype == TRM_F32 ? 4 : 2, real = b.dtype == TRM_F64 ? 8 : 4;
    b.logp = stream(m, in, b.tokens, width);
    b.rollout_logp = stream(m, in, b.tokens, width);
    b.proximal_logp = stream(m, in, b.tokens, width);
    b.ref_logp = stream(m, in, b.tokens, width);
    b.advantages = stream(m, in, b.tokens, real);
    b.given = stream(m, in, b.tokens, real);
    b.token_weights = stream(m, in, b.tokens, real);
    b.loss_mask = stream(m, in, b.tokens, 1);
    if (in.flag())
        b.sequence_advantages =
            real == 8 ? static_cast<void*>(m.of<double>(b.sequences, in)) : m.of<float>(b.sequences, in);
    if (in.below(4) > 0) b.group_of = m.of<std::int32_t>(b.sequences, in, true);
    if (in.below(8) == 0) b.rejected = m.of<std::uint16_t>(b.tokens, in);
    if (in.below(8) == 0) b.marks = m.of<std::uint8_t>(b.tokens, in);
    return b;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    fuzz::bytes in(data, size);
    memory m;
    trm_loss const* const loss = loss_of(in.below(losses));
    bool const slices = in.flag();
    trm_batch const batch = batch_from(m, in);
    bool const sane = batch.tokens >= 0 && batch.tokens <= 65536;
    auto const n = static_cast<std::size_t>(sane ? batch.tokens : 0);
    std::vector<double> grad(n, -7.0);  // memory for either type of arithmetic
    std::vector<std::uint8_t> keep(n, 77);
    trm_outputs out = trm_outputs_init();
    out.grad.data = grad.data();
    out.keep.data = keep.data();
    auto const before = grad;
    auto const kept_before = keep;
    double value = -77;
    trm_error error = trm_error_init();
    int const code = trm_loss_call(loss, &batch, &out, nullptr, nullptr, &value, nullptr, &error);
    TRM_FUZZ_REQUIRE(code == error.code);
    if (code != TRM_OK) {
        TRM_FUZZ_REQUIRE(error.message[0] != '\0' && value == -77);
        TRM_FUZZ_REQUIRE(n == 0 || std::memcmp(grad.data(), before.data(), n * sizeof grad[0]) == 0);
        TRM_FUZZ_REQUIRE(keep == kept_before);
    } else {
        TRM_FUZZ_REQUIRE(sane && std::isfinite(value));
    }
    std::vector<std::uint16_t> rejected(n);
    std::vector<std::uint8_t> marks(n);
    trm_batch chosen = batch;
    if (trm_loss_select(loss, &batch, rejected.data(), marks.data(), nullptr, nullptr, nullptr) == TRM_OK) {
        chosen.rejected = rejected.data();
        chosen.marks = marks.data();
    }
    trm_batch part = chosen;
    trm_outputs out_part = out;
    std::vector<std::int64_t> offsets(static_cast<std::size_t>(std::max<std::int64_t>(
                                          0, std::min<std::int64_t>(65536, std::max(batch.runs, batch.sequences)))) +
                                      1);
    if (slices &&
        trm_slice(&chosen, &out, in.below(3), 1 + in.below(3), offsets.data(), &part, &out_part, nullptr) != TRM_OK)
        return 0;
    trm_totals* const totals = trm_totals_new();
    trm_counts* const counts = trm_counts_new();
    if (trm_loss_measure(loss, &part, nullptr, nullptr, totals, nullptr) == TRM_OK &&
        trm_loss_count(loss, &part, nullptr, totals, counts, nullptr) == TRM_OK) {
        double again = 0;
        int const applied =
            trm_loss_apply(loss, &part, totals, counts, &out_part, nullptr, nullptr, &again, nullptr, nullptr);
        TRM_FUZZ_REQUIRE(applied != TRM_OK || std::isfinite(again));
    }
    trm_counts_free(counts);
    trm_totals_free(totals);
    return 0;
}
