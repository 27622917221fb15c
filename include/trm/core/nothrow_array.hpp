// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/config.hpp>

#include <cstddef>
#include <new>
#include <utility>

TRM_NAMESPACE_BEGIN
namespace detail {

/// n values, or none if memory is exhausted. As std::unique_ptr<T[]>, but <memory> takes compilers longer than most of trm's headers.
template <class T>
class nothrow_array {
    T* values_ = nullptr;
    std::size_t size_ = 0;

public:
    nothrow_array() = default;
    explicit nothrow_array(std::size_t n) noexcept
        : values_(new(std::nothrow) T[n]), size_(values_ != nullptr ? n : 0) {}
    nothrow_array(nothrow_array&& o) noexcept
        : values_(std::exchange(o.values_, nullptr)), size_(std::exchange(o.size_, 0)) {}
    nothrow_array& operator=(nothrow_array&& o) noexcept {
        std::swap(values_, o.values_);
        std::swap(size_, o.size_);
        return *this;
    }
    ~nothrow_array() { delete[] values_; }

    [[nodiscard]] T* data() const noexcept { return values_; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
};

}  // namespace detail
TRM_NAMESPACE_END
