// SPDX-License-Identifier: Apache-2.0
#include "array.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <trm/core/dtype.hpp>
#include <type_traits>

namespace trm_python {
namespace {

struct freed {
    static void release(void* p) noexcept { std::free(p); }
    void operator()(void* p) const noexcept { release(p); }
};

bool has_name(nb::handle object, char const* name) { return std::strcmp(nb::str(object).c_str(), name) == 0; }
/// The memory of an object; `bfloat16` where it is NumPy's of the type of ml_dtypes, which NumPy cannot name to others.
nb::ndarray<nb::ro> view_of(nb::handle object, char const* name, bool& bfloat16) {
    nb::ndarray<nb::ro> view;
    if (PyObject_CheckBuffer(object.ptr()) == 0 &&  // a tensor: its gradient would be lost without a word
        nb::getattr(object, "requires_grad", nb::none()).is(nb::handle(Py_True)))
        refuse(std::string(name) + " requires grad: detach() it, or call trm.torch, which has the gradient");
    if (nb::try_cast(object, view)) return view;
    if (PyErr_Occurred() != nullptr) PyErr_Clear();
    nb::object other;
    if (bfloat16 = has_name(nb::getattr(object, "dtype", nb::none()), "bfloat16"); bfloat16) {
        if (nb::hasattr(object, "view")) other = object.attr("view")("uint16");
    } else if (nb::isinstance<nb::list>(object) || nb::isinstance<nb::tuple>(object)) {
        other = nb::module_::import_("numpy").attr("asarray")(object);
    }
    if (other.is_valid() && nb::try_cast(other, view)) return view;
    if (PyErr_Occurred() != nullptr) PyErr_Clear();
    refuse(std::string(name) + " is no array that speaks DLPack or the buffer protocol, but " +
           nb::str(object.type().attr("__name__")).c_str());
}

/// Elements of U behind p as T.
template <class T, class U>
T convert(std::byte const* p) noexcept {
    U v;
    std::memcpy(&v, p, sizeof v);
    if constexpr (std::is_same_v<T, std::uint8_t>) {
        if constexpr (std::is_same_v<U, trm::bf16> || std::is_same_v<U, trm::f16>) return trm::to_float(v) != 0;
        else return v != 0;
    } else if constexpr (std::is_same_v<U, trm::bf16> || std::is_same_v<U, trm::f16>) {
        if constexpr (std::is_same_v<T, std::uint16_t>) return v.bits;
        else return static_cast<T>(trm::to_float(v));
    } else {
        return static_cast<T>(v);
    }
}
template <class F>
void for_each(std::vector<std::int64_t> const& shape, std::vector<std::int64_t> const& strides, std::size_t dimension,
              std::int64_t at, F& f) {
    if (dimension == shape.size()) {
        f(at);
        return;
    }
    for (std::int64_t i = 0; i < shape[dimension]; ++i)
        for_each(shape, strides, dimension + 1, at + i * strides[dimension], f);
}

}  // namespace

void refuse(std::string const& sentence) { throw nb::value_error(("trm: " + sentence).c_str()); }

array::array(nb::handle object, char const* name) {
    if (object.is_none()) return;
    name_ = name;
    bool bfloat16 = false;
    held_ = view_of(object, name, bfloat16);
    if (held_.device_type() != nb::device::cpu::value)
        refuse(std::string(name) + " is not in the memory of the CPU; trm computes on the CPU: move it there first");
    auto const type = held_.dtype();
    auto const code = static_cast<nb::dlpack::dtype_code>(type.code);
    bytes_ = type.bits / 8;
    is_signed_ = code == nb::dlpack::dtype_code::Int;
    if (bfloat16 || (code == nb::dlpack::dtype_code::Bfloat && type.bits == 16)) {
        type_ = element::bf16;
    } else if (code == nb::dlpack::dtype_code::Float && (type.bits == 16 || type.bits == 32 || type.bits == 64)) {
        type_ = type.bits == 16 ? element::f16 : type.bits == 32 ? element::f32 : element::f64;
    } else if (code == nb::dlpack::dtype_code::Bool) {
        type_ = element::truth;
    } else if ((is_signed_ || code == nb::dlpack::dtype_code::UInt) && bytes_ >= 1 && bytes_ <= 8) {
        type_ = element::integer;
    } else {
        refuse(std::string(name) +
               " has a type of elements that trm does not read; known are float32, float64, bfloat16, "
               "float16, integers and bool");
    }
    data_ = static_cast<std::byte const*>(held_.data());
    for (std::size_t i = 0; i < held_.ndim(); ++i) {
        shape_.push_back(static_cast<std::int64_t>(held_.shape(i)));
        strides_.push_back(held_.stride(i));
    }
}

std::int64_t array::size() const noexcept {
    std::int64_t n = 1;
    for (std::int64_t const s : shape_) n *= s;
    return n;
}
bool array::contiguous() const noexcept {
    std::int64_t expected = 1;
    for (std::size_t i = shape_.size(); i-- > 0; expected *= shape_[i])
        if (shape_[i] != 1 && strides_[i] != expected && size() != 0) return false;
    return true;
}
template <class T>
bool array::is_exactly() const noexcept {
    if constexpr (std::is_same_v<T, float>) return type_ == element::f32;
    if constexpr (std::is_same_v<T, double>) return type_ == element::f64;
    if constexpr (std::is_same_v<T, std::uint16_t>) return type_ == element::bf16 || type_ == element::f16;
    if constexpr (std::is_same_v<T, std::uint8_t>)
        return type_ == element::truth || (type_ == element::integer && bytes_ == 1);
    return type_ == element::integer && is_signed_ && bytes_ == sizeof(T);
}

template <class T>
T const* array::as(std::vector<std::byte>& memory) const {
    bool const aligned = std::bit_cast<std::uintptr_t>(data_) % alignof(T) == 0;
    if (is_exactly<T>() && aligned && data_ != nullptr && contiguous()) return reinterpret_cast<T const*>(data_);
    memory.resize(std::max<std::size_t>(static_cast<std::size_t>(size()), 1) * sizeof(T));
    T* to = reinterpret_cast<T*>(memory.data());
    auto const copy = [&]<class U>(std::type_identity<U>) {
        if constexpr (std::is_same_v<T, std::uint16_t> && !std::is_same_v<U, trm::bf16> &&
                      !std::is_same_v<U, trm::f16>) {
            refuse(std::string(name_) + " is not of the type that was asked for");
        } else {
            auto one = [&](std::int64_t at) {
                *to++ = convert<T, U>(data_ + at * static_cast<std::int64_t>(sizeof(U)));
            };
            for_each(shape_, strides_, 0, 0, one);
        }
    };
    constexpr bool wants_integers = std::is_same_v<T, std::int32_t> || std::is_same_v<T, std::int64_t>;
    if (wants_integers && type_ != element::integer) refuse(std::string(name_) + " must have integers");
    switch (type_) {
        case element::f32:
            copy(std::type_identity<float>{});
            break;
        case element::f64:
            copy(std::type_identity<double>{});
            break;
        case element::bf16:
            copy(std::type_identity<trm::bf16>{});
            break;
        case element::f16:
            copy(std::type_identity<trm::f16>{});
            break;
        case element::truth:
            copy(std::type_identity<std::uint8_t>{});
            break;
        case element::integer:
            if (bytes_ == 1)
                is_signed_ ? copy(std::type_identity<std::int8_t>{}) : copy(std::type_identity<std::uint8_t>{});
            if (bytes_ == 2)
                is_signed_ ? copy(std::type_identity<std::int16_t>{}) : copy(std::type_identity<std::uint16_t>{});
            if (bytes_ == 4)
                is_signed_ ? copy(std::type_identity<std::int32_t>{}) : copy(std::type_identity<std::uint32_t>{});
            if (bytes_ == 8)
                is_signed_ ? copy(std::type_identity<std::int64_t>{}) : copy(std::type_identity<std::uint64_t>{});
    }
    return reinterpret_cast<T const*>(memory.data());
}
template float const* array::as(std::vector<std::byte>&) const;
template double const* array::as(std::vector<std::byte>&) const;
template std::uint16_t const* array::as(std::vector<std::byte>&) const;
template std::uint8_t const* array::as(std::vector<std::byte>&) const;
template std::int32_t const* array::as(std::vector<std::byte>&) const;
template std::int64_t const* array::as(std::vector<std::byte>&) const;

void const* array::as(element wanted, std::vector<std::byte>& memory) const {
    if (wanted == element::f32) return as<float>(memory);
    if (wanted == element::f64) return as<double>(memory);
    return as<std::uint16_t>(memory);
}

template <class T>
output make_output(nb::handle wanted, std::vector<std::int64_t> const& shape, char const* name) {
    constexpr bool truth = std::is_same_v<T, std::uint8_t>;
    if (wanted.is_none() || wanted.is(nb::handle(Py_False))) return {};
    std::vector<std::size_t> extents(shape.begin(), shape.end());
    if (wanted.is(nb::handle(Py_True))) {
        std::size_t bytes = sizeof(T);
        for (std::size_t const n : extents) bytes *= n;
        // malloc gives recent blocks back, mapped already; the capsule frees it, or this scope if there is no capsule
        std::unique_ptr<void, freed> memory(std::malloc(std::max<std::size_t>(bytes, 1)));
        if (memory == nullptr) throw std::bad_alloc();
        nb::capsule const owner(memory.get(), freed::release);
        void* const data = memory.release();
        using shown = std::conditional_t<truth, bool, T>;
        return {nb::cast(nb::ndarray<nb::numpy, shown>(data, extents.size(), extents.data(), owner)), data};
    }
    auto const use = [&](auto view) -> output {
        bool same = view.ndim() == extents.size();
        for (std::size_t i = 0; same && i < extents.size(); ++i) same = view.shape(i) == extents[i];
        if (!same) refuse(std::string(name) + " must have the shape " + text(shape));
        return {nb::borrow(wanted), view.data()};
    };
    nb::ndarray<T, nb::c_contig, nb::device::cpu> view;
    if (nb::try_cast(wanted, view, false)) return use(view);
    if constexpr (truth) {
        nb::ndarray<bool, nb::c_contig, nb::device::cpu> as_truth;
        if (nb::try_cast(wanted, as_truth, false)) return use(as_truth);
    }
    if (PyErr_Occurred()) PyErr_Clear();
    refuse(std::string(name) + " must be True, False or a writable contiguous array of " +
           (truth                       ? "bool"
            : std::is_same_v<T, double> ? "float64"
            : std::is_same_v<T, float>  ? "float32"
                                        : "uint16") +
           " on the CPU");
}
template output make_output<float>(nb::handle, std::vector<std::int64_t> const&, char const*);
template output make_output<double>(nb::handle, std::vector<std::int64_t> const&, char const*);
template output make_output<std::uint8_t>(nb::handle, std::vector<std::int64_t> const&, char const*);
template output make_output<std::uint16_t>(nb::handle, std::vector<std::int64_t> const&, char const*);

std::string text(std::vector<std::int64_t> const& shape) {
    std::string out = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) out += (i > 0 ? ", " : "") + std::to_string(shape[i]);
    return out + (shape.size() == 1 ? ",)" : ")");
}

void check(int code, trm_error const& error) {
    if (code == TRM_OK) return;
    if (code == TRM_OUT_OF_MEMORY) throw std::bad_alloc();
    std::string sentence = error.message;
    std::string const word = error.suggestion;
    if (!word.empty() && sentence.find("did you mean") == std::string::npos)
        sentence += ", did you mean \"" + word + "\"?";
    throw nb::value_error(sentence.c_str());
}

trm_scratch* scratch() {
    struct returned {
        void operator()(trm_scratch* s) const noexcept { trm_scratch_free(s); }
    };
    thread_local std::unique_ptr<trm_scratch, returned> const mine(trm_scratch_new());
    return mine.get();
}

}  // namespace trm_python
