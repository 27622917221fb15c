// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/interop/c.h>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

/// \file
/// Arrays of Python as trm wants them. What is on the CPU, contiguous and of the right type is viewed; everything else is
/// converted into memory that the caller of these functions keeps.

namespace nb = nanobind;

namespace trm_python {

/// Types of elements; the first four are storage types of log-probabilities.
enum class element : std::uint8_t { f32 = TRM_F32, f64 = TRM_F64, bf16 = TRM_BF16, f16 = TRM_F16, integer, truth };

/// A ValueError with trm's beginning.
[[noreturn]] void refuse(std::string const& sentence);

/// The memory behind a Python object that speaks DLPack or the buffer protocol, or of a list; it is kept alive.
class array {
public:
    array() = default;
    /// None gives an absent array. `name` is what errors call it.
    array(nb::handle object, char const* name);

    [[nodiscard]] bool given() const noexcept { return name_ != nullptr; }
    [[nodiscard]] element type() const noexcept { return type_; }
    [[nodiscard]] char const* name() const noexcept { return name_; }
    [[nodiscard]] std::vector<std::int64_t> const& shape() const noexcept { return shape_; }
    [[nodiscard]] std::int64_t size() const noexcept;
    [[nodiscard]] bool is_floating() const noexcept { return type_ <= element::f16; }

    /// Adjacent elements of type T in C order: the array's own memory where it is so, else a copy in `memory`.
    /// T: float, double, std::uint16_t (bf16 and f16 as they are), std::uint8_t (truth values), std::int32_t, std::int64_t.
    template <class T>
    [[nodiscard]] T const* as(std::vector<std::byte>& memory) const;
    /// The same by element type, for log-probabilities and logits.
    [[nodiscard]] void const* as(element wanted, std::vector<std::byte>& memory) const;

private:
    template <class T>
    [[nodiscard]] bool is_exactly() const noexcept;
    [[nodiscard]] bool contiguous() const noexcept;

    nb::ndarray<nb::ro> held_;
    char const* name_ = nullptr;
    std::byte const* data_ = nullptr;
    element type_ = element::f32;
    bool is_signed_ = false;
    std::size_t bytes_ = 0;  ///< of an element
    std::vector<std::int64_t> shape_, strides_;  ///< strides in elements
};

/// An array that a call fills: `wanted` is False or None (none), True (a new NumPy array) or the caller's writable array.
struct output {
    nb::object object = nb::none();
    void* data = nullptr;
};
/// T: float, double, std::uint8_t (as bool, or the caller's uint8), std::uint16_t.
template <class T>
[[nodiscard]] output make_output(nb::handle wanted, std::vector<std::int64_t> const& shape, char const* name);

[[nodiscard]] std::string text(std::vector<std::int64_t> const& shape);

/// f with the GIL released; a trm_error becomes ValueError, memory MemoryError.
void check(int code, trm_error const& error);
template <class F>
void without_gil(F const& f) {
    trm_error error = trm_error_init();
    int code = TRM_OK;
    {
        nb::gil_scoped_release const release;
        code = f(&error);
    }
    check(code, error);
}

/// Memory that the calls of one thread use again.
[[nodiscard]] trm_scratch* scratch();

}  // namespace trm_python
