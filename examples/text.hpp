// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdarg>
#include <cstdio>
#include <string>

/// printf into a string.
[[gnu::format(printf, 1, 2)]] inline std::string text(char const* format, ...) {
    std::va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    std::string out(static_cast<std::size_t>(std::vsnprintf(nullptr, 0, format, args)), '\0');
    va_end(args);
    std::vsnprintf(out.data(), out.size() + 1, format, again);
    va_end(again);
    return out;
}
