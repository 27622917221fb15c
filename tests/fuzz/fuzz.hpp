// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <type_traits>

/// What the fuzz targets share. A target is LLVMFuzzerTestOneInput; libFuzzer calls it with bytes that it makes up, replay.cpp
/// with those of files. A property that does not hold ends the process, so that the input is kept.
namespace fuzz {

inline void require(bool holds, char const* what, char const* file, int line) {
    if (holds) return;
    std::fprintf(stderr, "%s:%d: %s does not hold\n", file, line, what);
    std::abort();
}
#define TRM_FUZZ_REQUIRE(...) ::fuzz::require(static_cast<bool>(__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__)

/// Reads numbers off the front of the input; zeros once it is used up.
class bytes {
public:
    bytes(std::uint8_t const* data, std::size_t size) : at_(data), left_(size) {}
    template <class T>
    T take() {
        static_assert(std::is_trivially_copyable_v<T>);
        T value{};
        std::size_t const n = sizeof value < left_ ? sizeof value : left_;
        if (n > 0) std::memcpy(&value, at_, n);
        at_ += n;
        left_ -= n;
        return value;
    }
    /// 0 ... n - 1, from one byte.
    int below(int n) { return take<std::uint8_t>() % n; }
    bool flag() { return (take<std::uint8_t>() & 1) != 0; }
    [[nodiscard]] std::string_view rest() const { return {reinterpret_cast<char const*>(at_), left_}; }

private:
    std::uint8_t const* at_;
    std::size_t left_;
};

}  // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size);
