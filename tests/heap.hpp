// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <malloc.h>
#if defined(__SSE2__)
#include <xmmintrin.h>  // declares posix_memalign in clang, and may not do so after the definition below
#endif

#include <atomic>
#include <cstdint>
#include <cstdlib>

/// Counts every heap byte of the process by replacing malloc. For one translation unit of a program, without sanitizers.
namespace heap {
std::atomic<std::int64_t> live{0}, peak{0}, calls{0};
std::atomic<std::size_t> most{static_cast<std::size_t>(-1)};  ///< malloc refuses more bytes than these
void grow(void* p) {
    if (p == nullptr) return;
    ++calls;
    std::int64_t const now = live += static_cast<std::int64_t>(malloc_usable_size(p));
    for (std::int64_t top = peak; now > top && !peak.compare_exchange_weak(top, now);) {
    }
}
void shrink(void* p) {
    if (p != nullptr) live -= static_cast<std::int64_t>(malloc_usable_size(p));
}
struct result {
    std::int64_t calls, peak;
};
/// Allocations of f, and the most bytes that they held at once.
template <class F>
result of(F const& f) {
    std::int64_t const before = calls, base = live;
    peak = base;
    f();
    return {calls - before, peak - base};
}
}  // namespace heap

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);
void* malloc(std::size_t n) noexcept {
    if (n > heap::most) return nullptr;
    void* const p = __libc_malloc(n);
    heap::grow(p);
    return p;
}
void* calloc(std::size_t n, std::size_t m) noexcept {
    void* const p = __libc_calloc(n, m);
    heap::grow(p);
    return p;
}
void* realloc(void* old, std::size_t n) noexcept {
    heap::shrink(old);
    void* const p = __libc_realloc(old, n);
    heap::grow(p);
    return p;
}
void* aligned_alloc(std::size_t a, std::size_t n) noexcept {
    void* const p = __libc_memalign(a, n);
    heap::grow(p);
    return p;
}
int posix_memalign(void** to, std::size_t a, std::size_t n) noexcept {
    *to = __libc_memalign(a, n);
    heap::grow(*to);
    return *to == nullptr ? 12 : 0;
}
void free(void* p) noexcept {
    heap::shrink(p);
    __libc_free(p);
}
}
