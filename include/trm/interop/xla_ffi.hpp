// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/interop/c/operands.hpp>

#include <xla/ffi/api/ffi.h>

/// \file
/// Losses as a custom call of XLA, for JAX on the CPU. Needs the headers that jaxlib ships (jax.ffi.include_dir(), to be
/// included as system headers), trm::c, and in one source file
///
///     #include <trm/interop/xla_ffi.hpp>
///     TRM_XLA_DEFINE(trm_masked_loss);
///
/// whose symbol is registered with jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(symbol), platform="cpu").
///
/// Operands and results are named by the attributes `inputs` and `results`, words separated by spaces, in the order of the
/// buffers: "logp cu_seqlens rollout_logp advantages", "loss grad". What each is: trm/interop/c/operands.hpp. Other
/// attributes: `spec`, the text of the loss, and `loss_scale`, a double. Runs on XLA's calling thread.

namespace trm_xla {

namespace ffi = ::xla::ffi;

inline bool type_of(ffi::DataType from, trm_operands::type& to) noexcept {
    using trm_operands::type;
    switch (from) {
        case ffi::DataType::F32:
            to = type::f32;
            return true;
        case ffi::DataType::F64:
            to = type::f64;
            return true;
        case ffi::DataType::BF16:
            to = type::bf16;
            return true;
        case ffi::DataType::F16:
            to = type::f16;
            return true;
        case ffi::DataType::S32:
            to = type::i32;
            return true;
        case ffi::DataType::S64:
            to = type::i64;
            return true;
        case ffi::DataType::U16:
            to = type::u16;
            return true;
        case ffi::DataType::PRED:
        case ffi::DataType::U8:
            to = type::truth;
            return true;
        default:
            return false;
    }
}
inline std::string_view next_word(std::string_view& rest) noexcept {
    auto const end = rest.find(' ');
    std::string_view const word = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
    return word;
}
inline ffi::Error refuse(std::string sentence) { return {ffi::ErrorCode::kInvalidArgument, std::move(sentence)}; }

inline ffi::Error masked_loss(std::string_view spec, std::string_view inputs, std::string_view results,
                              double loss_scale, ffi::RemainingArgs args, ffi::RemainingRets rets) {
    static trm_operands::losses_by_text losses;
    trm_operands::call call;
    auto const operand = [](std::string_view name, ffi::AnyBuffer const& b, trm_operands::operand& o) {
        o = {name, b.untyped_data(), {}, {b.dimensions().begin(), b.dimensions().size()}};
        return type_of(b.element_type(), o.of);
    };
    trm_operands::operand o{};
    for (std::size_t i = 0; i < args.size(); ++i) {
        auto const buffer = args.get<ffi::AnyBuffer>(i);
        if (buffer.has_error()) return buffer.error();
        std::string_view const name = next_word(inputs);
        if (!operand(name, *buffer, o))
            return refuse("trm: " + std::string(name) + " has a type that trm does not read");
        if (!call.input(o)) return refuse(call.problem);
    }
    for (std::size_t i = 0; i < rets.size(); ++i) {
        auto buffer = rets.get<ffi::AnyBuffer>(i);
        if (buffer.has_error()) return buffer.error();
        std::string_view const name = next_word(results);
        if (!operand(name, **buffer, o))
            return refuse("trm: " + std::string(name) + " has a type that trm does not write");
        if (!call.result(o)) return refuse(call.problem);
    }
    return call.run(losses, spec, loss_scale) ? ffi::Error::Success() : refuse(call.problem);
}

}  // namespace trm_xla

/// Defines the handler as an extern "C" function of this name.
#define TRM_XLA_DEFINE(symbol)                                           \
    XLA_FFI_DEFINE_HANDLER_SYMBOL(symbol, ::trm_xla::masked_loss,        \
                                  ::xla::ffi::Ffi::Bind()                \
                                      .Attr<std::string_view>("spec")    \
                                      .Attr<std::string_view>("inputs")  \
                                      .Attr<std::string_view>("results") \
                                      .Attr<double>("loss_scale")        \
                                      .RemainingArgs()                   \
                                      .RemainingRets())
