// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/interop/c.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

/// \file
/// A loss called with named arrays, as tensor frameworks hand them over. On the C interface: link trm::c. For what an
/// operator of a framework needs, see interop/xla_ffi.hpp.

namespace trm_operands {

/// Elements of an operand. `truth` has one byte, not 0 means true.
enum class type : std::uint8_t { f32 = TRM_F32, f64 = TRM_F64, bf16 = TRM_BF16, f16 = TRM_F16, i32, i64, u16, truth };

/// Contiguous memory with a name: an input is a member of trm_batch, a result "loss" (one number), "grad", "keep", "reasons",
/// "weights" or "diagnostics" (the members of trm_diagnostics after `size`, in order).
struct operand {
    std::string_view name;
    void* data;
    type of;
    std::span<std::int64_t const> shape;

    [[nodiscard]] std::int64_t size() const noexcept {
        std::int64_t n = 1;
        for (std::int64_t const s : shape) n *= s;
        return n;
    }
};

inline constexpr std::int64_t diagnostic_count = (sizeof(trm_diagnostics) - sizeof(std::size_t)) / sizeof(double);

/// Losses by their text, parsed once. Thread-safe; forgets all when there are many.
class losses_by_text {
public:
    /// Null after a failure that `error` describes.
    [[nodiscard]] std::shared_ptr<trm_loss const> find(std::string_view text, trm_error& error) {
        std::lock_guard const lock(mutex_);
        if (auto const found = all_.find(text); found != all_.end()) return found->second;
        std::string key(text);
        std::shared_ptr<trm_loss const> made(trm_loss_from_text(key.c_str(), &error),
                                             [](trm_loss const* p) { trm_loss_free(const_cast<trm_loss*>(p)); });
        if (made == nullptr) return made;
        if (all_.size() >= most) all_.clear();
        all_.emplace(std::move(key), made);
        return made;
    }

private:
    static constexpr std::size_t most = 256;
    std::mutex mutex_;
    std::map<std::string, std::shared_ptr<trm_loss const>, std::less<>> all_;
};

/// One call: inputs, then results, then `run`. Every function returns whether it went well; `problem` is the sentence if not.
class call {
public:
    std::string problem;

    /// logp first, [T] or [B, T]; cu_seqlens [B + 1] second, if there; the others in any order. Advantages are per token if
    /// they have the shape of logp, else per sequence.
    [[nodiscard]] bool input(operand const& o) {
        if (!have_logp_) return logp(o);
        if (o.name == "cu_seqlens") return offsets(o);
        if (o.name == "rollout_logp") return stream(o, storage_, batch_.rollout_logp);
        if (o.name == "proximal_logp") return stream(o, storage_, batch_.proximal_logp);
        if (o.name == "ref_logp") return stream(o, storage_, batch_.ref_logp);
        if (o.name == "given") return stream(o, real(), batch_.given);
        if (o.name == "token_weights") return stream(o, real(), batch_.token_weights);
        if (o.name == "loss_mask") return stream(o, type::truth, batch_.loss_mask);
        if (o.name == "group_of") {
            batch_.group_of = static_cast<std::int32_t const*>(o.data);
            return per_sequence(o, type::i32, " must have one number per sequence");
        }
        if (o.name != "advantages") return fail("there is no input of the name " + std::string(o.name));
        if (same_shape(o)) return stream(o, real(), batch_.advantages);
        batch_.sequence_advantages = o.data;
        return per_sequence(o, real(), " must have the shape of logp or one number per sequence");
    }
    [[nodiscard]] bool result(operand const& o) {
        if (o.name == "grad") return stream(o, real(), out_.grad);
        if (o.name == "weights") return stream(o, real(), out_.weights);
        if (o.name == "keep") return stream(o, type::truth, out_.keep);
        if (o.name == "reasons") return stream(o, type::u16, out_.reasons);
        operand& kept = o.name == "loss" ? loss_ : diagnostics_;
        if (o.name != "loss" && o.name != "diagnostics")
            return fail("there is no result of the name " + std::string(o.name));
        if (o.of != type::f32 && o.of != type::f64) return fail(std::string(o.name) + " must be float32 or float64");
        if (o.size() != (o.name == "loss" ? 1 : diagnostic_count))
            return fail(std::string(o.name) + " has the wrong number of elements");
        kept = o;
        return true;
    }
    [[nodiscard]] bool run(losses_by_text& losses, std::string_view text, double loss_scale = 1) {
        trm_error error = trm_error_init();
        auto const loss = losses.find(text, error);
        double value = 0;
        trm_diagnostics d = trm_diagnostics_init();
        out_.loss_scale = loss_scale;
        if (loss == nullptr || trm_loss_call(loss.get(), &batch_, &out_, nullptr, scratch(), &value,
                                             diagnostics_.data == nullptr ? nullptr : &d, &error) != TRM_OK)
            return fail_with(error.message);
        store(loss_, &value, 1);
        store(diagnostics_, &d.tokens, diagnostic_count);
        return true;
    }

private:
    trm_batch batch_ = trm_batch_init();
    trm_outputs out_ = trm_outputs_init();
    operand loss_{}, diagnostics_{};
    std::span<std::int64_t const> shape_;
    type storage_ = type::f32;
    bool have_logp_ = false;

    [[nodiscard]] static trm_scratch* scratch() {
        struct freed {
            void operator()(trm_scratch* s) const noexcept { trm_scratch_free(s); }
        };
        thread_local std::unique_ptr<trm_scratch, freed> const mine(trm_scratch_new());
        return mine.get();
    }
    bool fail_with(std::string sentence) {
        problem = std::move(sentence);
        return false;
    }
    bool fail(std::string const& sentence) { return fail_with("trm: " + sentence); }
    [[nodiscard]] type real() const noexcept { return storage_ == type::f64 ? type::f64 : type::f32; }
    [[nodiscard]] bool same_shape(operand const& o) const noexcept {
        return std::equal(o.shape.begin(), o.shape.end(), shape_.begin(), shape_.end());
    }
    bool logp(operand const& o) {
        if (o.name != "logp") return fail("the first input must be logp");
        if (o.of > type::f16) return fail("logp must be float32, float64, bfloat16 or float16");
        if (o.shape.empty() || o.shape.size() > 2) return fail("logp must have one or two dimensions");
        have_logp_ = true;
        shape_ = o.shape;
        storage_ = o.of;
        batch_.dtype = static_cast<std::int32_t>(o.of);
        batch_.tokens = o.size();
        batch_.logp.data = o.data;
        batch_.layout = TRM_PADDED;
        batch_.sequences = o.shape.size() == 2 ? o.shape[0] : 1;
        batch_.max_tokens = o.shape.back();
        return true;
    }
    bool offsets(operand const& o) {
        if (shape_.size() != 1) return fail("with cu_seqlens, logp must have one dimension");
        if (o.shape.size() != 1 || o.shape[0] < 1) return fail("cu_seqlens must have one dimension and a number");
        if (o.of != type::i32 && o.of != type::i64) return fail("cu_seqlens must be int32 or int64");
        batch_.layout = TRM_PACKED;
        batch_.cu_seqlens = o.data;
        batch_.cu_dtype = o.of == type::i32 ? TRM_I32 : TRM_I64;
        batch_.sequences = o.shape[0] - 1;
        return true;
    }
    template <class Stream>
    bool stream(operand const& o, type wanted, Stream& to) {
        if (!same_shape(o)) return fail(std::string(o.name) + " must have the shape of logp");
        if (o.of != wanted) return fail(std::string(o.name) + wrong_type(wanted));
        to.data = o.data;
        return true;
    }
    bool per_sequence(operand const& o, type wanted, char const* wrong_size) {
        if (o.size() != batch_.sequences) return fail(std::string(o.name) + wrong_size);
        return o.of == wanted ? true : fail(std::string(o.name) + wrong_type(wanted));
    }
    [[nodiscard]] std::string wrong_type(type wanted) const {
        if (wanted == type::truth) return " must be bool or uint8";
        if (wanted == type::i32) return " must be int32";
        if (wanted == type::u16) return " must be uint16";
        if (wanted == storage_ && wanted != real()) return " must have the type of logp";
        return wanted == type::f64 ? " must be float64, as logp is" : " must be float32";
    }
    static void store(operand const& to, double const* from, std::int64_t n) noexcept {
        for (std::int64_t i = 0; to.data != nullptr && i < n; ++i) {
            if (to.of == type::f64) static_cast<double*>(to.data)[i] = from[i];
            else static_cast<float*>(to.data)[i] = static_cast<float>(from[i]);
        }
    }
};

}  // namespace trm_operands
