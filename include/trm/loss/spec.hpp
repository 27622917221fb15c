// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/any_loss.hpp>
#include <trm/loss/spec_read.hpp>
#include <trm/loss/spec_sections.hpp>

#include <concepts>
#include <new>
#if TRM_EXCEPTIONS
#include <stdexcept>
#endif

/// \file
/// Losses as text:
///
///     trm1: mask: seq_max_k2 <= 0.05 && ratio in [0.5, 2]; weight: token(truncate_above=2);
///           surrogate: ppo_clip(eps_low=0.2, eps_high=0.28); penalty: kl(k3, beta=0.01); aggregate: token_mean
///
/// Every policy and parameter of any_policies.hpp is reachable. What is left out has the default of `loss_spec` and of the
/// policy; what is unknown, given twice, contradictory or out of range is refused, with its place. Independent of locale.
/// The grammar and all names: loss/README.md.

TRM_NAMESPACE_BEGIN
namespace detail {

void print_node(auto const& n, std::string& to) {
    if (!n.key.empty() && !n.bare) to += n.key + "=";
    bool const list = n.is == spec_node::kind::list;
    to += n.text;
    if (!n.over.empty()) to += "@" + n.over;
    if (list || !n.items.empty()) {
        to += list ? "[" : "(";
        for (std::size_t i = 0; i < n.items.size(); ++i) {
            if (i > 0) to += ", ";
            print_node(n.items[i], to);
        }
        to += list ? "]" : ")";
    }
    if (!n.has_band) return;
    if (!n.lower.empty() && !n.upper.empty()) {
        to += " in [" + n.lower + ", " + n.upper + "]";
    } else {
        to += n.lower.empty() ? " <= " + n.upper : " >= " + n.lower;
    }
}

}  // namespace detail

#if TRM_EXCEPTIONS
/// Thrown where a spec_result that holds no spec is used as one.
class spec_error : public std::invalid_argument {
public:
    spec_error(std::string const& what, std::size_t at, std::string instead)
        : std::invalid_argument("trm: " + what), position(at), suggestion(std::move(instead)) {}
    std::size_t position;
    std::string suggestion;
};
#endif

/// A loss_spec, or what is wrong with the text. `position` counts bytes from 0, line and column from 1; `message` is a sentence
/// that starts with the place. Converts to loss_spec, so that `any_loss{parse_spec(text)}` works; if there is none it
/// throws spec_error (without exceptions there is no conversion: look at `status`, then take `spec`).
struct spec_result {
    loss_spec spec;
    struct status status;
    std::size_t position = 0, line = 1, column = 1;
    std::string message;
    std::string suggestion;  ///< the known word nearest to an unknown one, or empty

    [[nodiscard]] bool ok() const noexcept { return status.ok(); }
#if TRM_EXCEPTIONS
    template <std::same_as<loss_spec> Spec>  // a template so that only those who convert compile the copy
    [[nodiscard]] operator Spec() const {
        if (!ok()) throw spec_error(message, position, suggestion);
        return spec;
    }
#endif
};

namespace detail {

template <class Spec>
void parse_spec(std::string_view text, spec_result& r) {
    spec_problem problem;
    auto const sections = spec_reader(text, problem).sections();
    if (!problem.found) read_sections<Spec>(sections, r.spec, problem);
    if (!problem.found) return;
    r.spec = {};
    r.status = {errc::bad_spec, -1, -1, "spec"};
    r.position = (std::min)(problem.at, text.size());
    for (char c : text.substr(0, r.position)) {
        r.line += c == '\n';
        r.column = c == '\n' ? 1 : r.column + 1;
    }
    r.message = "line " + spec_number(r.line) + ", column " + spec_number(r.column) + ": " + problem.message;
    r.suggestion = std::move(problem.suggestion);
}

}  // namespace detail

/// The loss that a text describes. Never throws. (A template so that only those who call it pay for compiling it.)
template <class Spec = loss_spec>
[[nodiscard]] spec_result parse_spec(std::string_view text) noexcept {
    spec_result r;
#if TRM_EXCEPTIONS
    try {
        detail::parse_spec<Spec>(text, r);
    } catch (std::bad_alloc const&) {
        r = {};
        r.status = {errc::out_of_memory, -1, -1, "spec"};
    }
#else
    detail::parse_spec<Spec>(text, r);
#endif
    return r;
}

/// The canonical text of a spec: every parameter spelled out, numbers as short as they read back exactly. Parsing it gives the
/// same spec.
template <class Spec = loss_spec>
[[nodiscard]] std::string print_spec(std::type_identity_t<Spec> const& spec) {
    std::string text = "trm1:";
    for (auto const& section : detail::sections_of(spec)) {
        text += text.size() > 5 ? "; " : " ";
        text += section.key + ": ";
        for (std::size_t i = 0; i < section.items.size(); ++i) {
            if (i > 0) text += section.joint == '&' ? " && " : section.joint == '*' ? " * " : " + ";
            detail::print_node(section.items[i], text);
        }
    }
    return text;
}

TRM_NAMESPACE_END
