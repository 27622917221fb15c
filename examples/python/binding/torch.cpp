// SPDX-License-Identifier: Apache-2.0
// The operator trm::masked_loss behind trm.torch, through the stable ABI of LibTorch: built once for all versions from 2.10.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>
#include <optional>
#include <string>
#include <trm/interop/c/operands.hpp>
#include <tuple>
#include <vector>

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

trm_operands::type type_of(Tensor const& t, char const* name) {
    using trm_operands::type;
    switch (t.scalar_type()) {
        case ScalarType::Float:
            return type::f32;
        case ScalarType::Double:
            return type::f64;
        case ScalarType::BFloat16:
            return type::bf16;
        case ScalarType::Half:
            return type::f16;
        case ScalarType::Int:
            return type::i32;
        case ScalarType::Long:
            return type::i64;
        case ScalarType::Bool:
        case ScalarType::Byte:
            return type::truth;
        default:
            STD_TORCH_CHECK(false, "trm: ", name, " has a dtype that trm does not read");
            return type::f32;
    }
}
trm_operands::operand operand_of(char const* name, Tensor const& t) {
    STD_TORCH_CHECK(t.is_contiguous(), "trm: ", name, " must be contiguous");
    auto const sizes = t.sizes();
    return {name, t.data_ptr(), type_of(t, name), {sizes.data(), sizes.size()}};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> masked_loss(
    Tensor const& logp, std::optional<Tensor> const& rollout_logp, std::optional<Tensor> const& advantages,
    std::optional<Tensor> const& loss_mask, std::optional<Tensor> const& cu_seqlens,
    std::optional<Tensor> const& proximal_logp, std::optional<Tensor> const& ref_logp,
    std::optional<Tensor> const& given, std::optional<Tensor> const& token_weights,
    std::optional<Tensor> const& group_of, std::string spec, double loss_scale, bool keep, bool diagnostics) {
    static trm_operands::losses_by_text losses;
    trm_operands::call call;
    auto const done = [&](bool good) { STD_TORCH_CHECK(good, call.problem); };
    auto const input = [&](char const* name, std::optional<Tensor> const& t) {
        if (t.has_value()) done(call.input(operand_of(name, *t)));
    };
    done(call.input(operand_of("logp", logp)));
    input("cu_seqlens", cu_seqlens);
    input("rollout_logp", rollout_logp);
    input("advantages", advantages);
    input("loss_mask", loss_mask);
    input("proximal_logp", proximal_logp);
    input("ref_logp", ref_logp);
    input("given", given);
    input("token_weights", token_weights);
    input("group_of", group_of);

    ScalarType const real = logp.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
    std::vector<std::int64_t> const none{0}, numbers{trm_operands::diagnostic_count};
    auto const shape = logp.sizes();
    auto const make = [](auto const& sizes, ScalarType of) {
        return torch::stable::empty({sizes.data(), sizes.size()}, of);
    };
    std::vector<std::int64_t> const scalar;
    Tensor const loss = make(scalar, real), grad = make(shape, real);
    Tensor const kept = keep ? make(shape, ScalarType::Bool) : make(none, ScalarType::Bool);
    Tensor const d = make(diagnostics ? numbers : none, ScalarType::Double);
    done(call.result(operand_of("loss", loss)));
    done(call.result(operand_of("grad", grad)));
    if (keep) done(call.result(operand_of("keep", kept)));
    if (diagnostics) done(call.result(operand_of("diagnostics", d)));
    done(call.run(losses, spec, loss_scale));
    return {loss, grad, kept, d};
}

}  // namespace

STABLE_TORCH_LIBRARY(trm, m) {
    m.def(
        "masked_loss(Tensor logp, Tensor? rollout_logp, Tensor? advantages, Tensor? loss_mask, Tensor? cu_seqlens, "
        "Tensor? proximal_logp, Tensor? ref_logp, Tensor? given, Tensor? token_weights, Tensor? group_of, str spec, "
        "float loss_scale, bool keep, bool diagnostics) -> (Tensor, Tensor, Tensor, Tensor)");
}
STABLE_TORCH_LIBRARY_IMPL(trm, CPU, m) { m.impl("masked_loss", TORCH_BOX(&masked_loss)); }
