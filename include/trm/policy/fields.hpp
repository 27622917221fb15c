// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/config.hpp>

#include <cstdint>
#include <type_traits>

/// \file
/// How policies are named, in text, in JSON and in messages. A policy has `name` and, if it has parameters, `fields`, which calls
/// f(name, where, is it required? false if left out) for each of them; `where` is a pointer to member or a function of the
/// policy. (Not a tuple: compiling those takes longer than parsing everything else.)

TRM_NAMESPACE_BEGIN

/// Calls Policy::fields(f), if there are any.
template <class Policy, class F>
constexpr void each_field(F&& f) {
    if constexpr (requires { Policy::fields(f); }) Policy::fields(f);
}

/// The parameter of a policy that `fields` named by `where`.
template <class Where, class P>
[[nodiscard]] constexpr auto& field_of(Where where, P& policy) {
    if constexpr (std::is_member_object_pointer_v<Where>) {
        return policy.*where;
    } else {
        return where(policy);
    }
}

/// A type parameter that is written like a field: `gradient=straight_through`. The first policy of a name is the default.
struct type_choice {
    char const* field;
    char const* word;
};

/// Words for the values of an enumeration, beside its definition.
template <class Enum>
struct enum_word {
    char const* word;
    Enum value;
};
template <class Enum>
inline constexpr bool enum_words = false;
template <>
inline constexpr enum_word<bool> enum_words<bool>[] = {{"false", false}, {"true", true}};

/// How a criterion of a mask is written.
enum class criterion_form : std::uint8_t {
    measured,  ///< `[seq_<statistic>_]divergence <band>`: without a name of its own
    banded,  ///< `name(fields) <band>`
    around,  ///< name(criterion, fields): divergence, statistic and band are those of the criterion inside
    plain  ///< name(fields)
};

TRM_NAMESPACE_END
