// SPDX-License-Identifier: Apache-2.0
// Advantages from rewards.
#include "array.hpp"
#include "module.hpp"

#include <nanobind/stl/string.h>
#include <trm/advantages.hpp>
#include <trm/loss/checked.hpp>

namespace trm_python {
namespace {

using trm::advantages::rule;

rule rule_of(std::string const& name) {
    if (name == "grpo") return trm::advantages::grpo();
    if (name == "dr_grpo") return trm::advantages::dr_grpo();
    if (name == "rloo") return trm::advantages::rloo();
    if (name == "leave_one_out") return trm::advantages::leave_one_out();
    if (name == "batch_scaled") return trm::advantages::batch_scaled();
    if (name == "opo") return trm::advantages::opo();
    refuse("unknown rule \"" + name + "\"; known are grpo, dr_grpo, rloo, leave_one_out, batch_scaled, opo");
}

/// An optional array with one number per sequence.
template <class T>
trm::stream_view<T> numbers(array const& a, std::vector<std::byte>& memory) {
    if (!a.given()) return {};
    return trm::stream_view<T>(a.as<T>(memory), static_cast<std::size_t>(a.size()));
}

nb::tuple advantages(nb::object rewards, nb::object groups, std::string const& name, nb::object epsilon, bool unbiased,
                     bool lone_reward, nb::object kept, nb::object lengths) {
    array const reward(rewards, "rewards"), group(groups, "groups"), keep(kept, "kept"), length(lengths, "lengths");
    if (!reward.given() || !group.given()) refuse("rewards and groups are needed");
    std::vector<std::byte> memory[4];
    trm::advantages::input in;
    in.rewards = numbers<double>(reward, memory[0]);
    in.group_of = numbers<std::int32_t>(group, memory[1]);
    in.kept = numbers<std::uint8_t>(keep, memory[2]);
    in.lengths = numbers<double>(length, memory[3]);
    rule r = rule_of(name);
    if (!epsilon.is_none()) r.epsilon = nb::cast<double>(epsilon);
    r.unbiased = unbiased;
    r.single = lone_reward ? trm::advantages::lone::reward : trm::advantages::lone::zero;

    nb::handle const yes(Py_True);
    output const out = make_output<double>(yes, reward.shape(), "advantages"),
                 informative = make_output<std::uint8_t>(yes, reward.shape(), "informative");
    auto const n = in.rewards.size();
    auto const s = trm::advantages::from_rewards(r, in, std::span<double>(static_cast<double*>(out.data), n),
                                                 {static_cast<std::uint8_t*>(informative.data), n});
    if (!s.status.ok()) throw nb::value_error(trm::to_string(s.status).c_str());
    return nb::make_tuple(out.object, informative.object, s.sequences, s.informative_sequences, s.groups,
                          s.informative_groups, s.nonfinite);
}

}  // namespace

void bind_advantages(nb::module_& m) {
    nb::object const none = nb::none();
    m.def("advantages", advantages, nb::arg("rewards"), nb::arg("groups"), nb::arg("rule"),
          nb::arg("epsilon").none() = none, nb::arg("unbiased") = true, nb::arg("lone_reward") = false,
          nb::arg("kept").none() = none, nb::arg("lengths").none() = none);
}

}  // namespace trm_python
