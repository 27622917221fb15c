// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/config.hpp>

#include <locale>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>

TRM_NAMESPACE_BEGIN
namespace detail {

/// Where the standard library has no from_chars of floating-point numbers (libc++ before 20): a stream, whatever the locale. `text`
/// begins with a digit, a point or a minus sign. libc++ refuses subnormal numbers.
template <class T>
[[nodiscard]] std::errc to_number_by_stream(std::string_view text, T& v) {
    bool const is_number = text.find_first_not_of("0123456789.eE+-") == text.npos && !text.empty() &&
                           text.back() != 'e' && text.back() != 'E' && text.back() != '+' && text.back() != '-' &&
                           text.front() != '+' && text.find_first_of("0123456789") <= 2;
    if (!is_number) return std::errc::invalid_argument;
    std::istringstream stream{std::string(text)};
    stream.imbue(std::locale::classic());
    T value{};
    stream >> value;
    if (stream.fail()) return std::errc::result_out_of_range;
    if (stream.peek() != std::istringstream::traits_type::eof()) return std::errc::invalid_argument;
    v = value;
    return {};
}

}  // namespace detail
TRM_NAMESPACE_END
