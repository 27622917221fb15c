// SPDX-License-Identifier: Apache-2.0
// The vector vocabulary: accuracy of exp and k3, conversions, partial loads and stores, byte counts.
#include "catch.hpp"
#include "larger.hpp"
#include "loss_batch.hpp"

#include <trm/policy/divergence_probability.hpp>
#include <trm/simd/dispatch.hpp>
#include <trm/simd/math.hpp>
#include <trm/simd/narrow.hpp>
#include <trm/simd/softmax.hpp>

#include <cmath>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

using namespace trm;

namespace {

/// e^v - 1 - v; the series where long double cancels.
long double k3_of(long double v) {
    return std::fabs(v) < 1e-3L ? v * v / 2 * (1 + v / 3 * (1 + v / 4 * (1 + v / 5))) : std::expm1(v) - v;
}

/// Largest relative errors of one vector unit's exp, expm1 and k3 over a set of points.
struct errors {
    double exp = 0, expm1 = 0, k3 = 0;
};
template <class V>
errors errors_over(std::vector<typename V::value_type> x) {
    using T = typename V::value_type;
    errors worst;
    while (x.size() % V::size != 0) x.push_back(x.back());
    for (std::size_t i = 0; i < x.size(); i += V::size) {
        auto const r = simd::exp_k3(simd::load<V>(x.data() + i));
        T exp[V::size], expm1[V::size], k3[V::size];
        simd::store(exp, r.exp);
        simd::store(expm1, r.expm1);
        simd::store(k3, r.k3);
        for (std::size_t k = 0; k < V::size; ++k) {
            long double const v = x[i + k], e = std::exp(v), em = std::expm1(v);
            long double const want = k3_of(v);
            auto const error = [](long double got, long double right) {
                return right == 0 ? (got == 0 ? 0.0 : 1.0) : static_cast<double>(std::fabs((got - right) / right));
            };
            worst.exp = std::fmax(worst.exp, error(exp[k], e));
            worst.expm1 = std::fmax(worst.expm1, error(expm1[k], em));
            worst.k3 = std::fmax(worst.k3, error(k3[k], want));
        }
    }
    return worst;
}

/// Both signs, uniform over the range and log-uniform down to where k3 is still a normal number, and the seams of the range
/// reduction.
template <class T>
std::vector<T> points(double limit) {
    batches::random r(8);
    double const smallest = sizeof(T) == 4 ? 1e-18 : 1e-150;
    std::vector<T> x{T(0), T(limit), T(-limit)};
    for (int i = 0; i < 60000; ++i) {
        double const sign = r.uniform() < 0.5 ? -1 : 1;
        x.push_back(T(sign * limit * r.uniform()));
        x.push_back(T(sign * smallest * std::exp(r.uniform() * std::log(limit / smallest))));
        double const seam = (std::floor(r.uniform() * limit / 0.6931471805599453) + 0.5) * 0.6931471805599453;
        x.push_back(T(sign * std::fmin(seam * (1 + 1e-6 * r.normal()), limit)));
    }
    return x;
}

template <class T, class A>
void check_math() {
    if constexpr (simd::is_supported<A>) {
        if (!simd::check_unit<A>().ok()) return;  // not on this CPU
        using V = simd::vec<T, A>;
        INFO(A::name());
        bool const single = sizeof(T) == 4;
        errors const near = errors_over<V>(points<T>(20)), all = errors_over<V>(points<T>(single ? 87 : 700));
        INFO("|x| <= 20: exp " << near.exp << " expm1 " << near.expm1 << " k3 " << near.k3);
        INFO("all: exp " << all.exp << " expm1 " << all.expm1 << " k3 " << all.k3);
        CHECK(near.exp <= (single ? 2e-7 : 4e-16));
        CHECK(near.k3 <= (single ? 2e-6 : 3e-15));
        CHECK(near.expm1 <= (single ? 4e-7 : 8e-16));
        CHECK(all.exp <= (single ? 2e-7 : 4e-16));
        CHECK(all.k3 <= (single ? 2e-6 : 3e-15));
        CHECK(all.expm1 <= (single ? 4e-7 : 8e-16));
        T nan_out[V::size];
        simd::store(nan_out, simd::exp_k3(V(std::numeric_limits<T>::quiet_NaN())).k3);
        CHECK(!is_finite(nan_out[0]));
    }
}

template <class T, class A>
void check_logarithms() {
    if constexpr (simd::is_supported<A>) {
        if (!simd::check_unit<A>().ok()) return;  // not on this CPU
        using V = simd::vec<T, A>;
        INFO(A::name());
        batches::random r(5);
        double const far = sizeof(T) == 4 ? 87 : 700;
        double worst = 0, worst_1p = 0;
        auto const check = [](double& error, V got, long double want) {
            T out[V::size];
            simd::store(out, got);
            error = larger(error, static_cast<double>(std::fabs((static_cast<long double>(out[0]) - want) / want)));
        };
        for (int i = 0; i < 60000; ++i) {
            double const u = r.uniform(), small = 1e-6 + 0.5 * u;
            for (double const v : {std::exp(far * (2 * u - 1)), 1 + small, 1 - small, 3 * u + 1e-3}) {
                T const x = static_cast<T>(v);
                check(worst, log(V(x)), std::log(static_cast<long double>(x)));
            }
            for (double const v :
                 {std::exp(-0.9 * far * u), -std::exp(-0.9 * far * u), std::exp(far * u), -0.999 * u, 3 * u}) {
                T const x = static_cast<T>(v);
                if (x != 0) check(worst_1p, log1p(V(x)), std::log1p(static_cast<long double>(x)));
            }
        }
        INFO("log " << worst << " log1p " << worst_1p);
        double const bound =
            (sizeof(T) == 4 ? 1.2e-7 : 2.3e-16) * (TRM_FAST_MATH ? 1.5 : 1);  // its divisions are not exact
        CHECK(worst <= bound);
        CHECK(worst_1p <= bound);
        if (TRM_FAST_MATH) return;
        using limits = std::numeric_limits<T>;
        for (T const x : {T(0), limits::infinity(), T(-2), -limits::infinity(), limits::quiet_NaN(), limits::min(),
                          limits::denorm_min(), limits::max(), T(1)}) {
            T out[V::size], out_1p[V::size];
            simd::store(out, log(V(x)));
            simd::store(out_1p, log1p(V(x - 1)));
            INFO(x << ": " << out[0] << " " << out_1p[0]);
            CHECK((std::isnan(x) || x < 0 ? std::isnan(out[0]) && std::isnan(out_1p[0])
                                          : std::fabs(out[0] - std::log(x)) <= 1e-3 || out[0] == std::log(x)));
        }
    }
}

template <class V>
void check_bernoulli() {
    using T = typename V::value_type;
    batches::random r(3);
    double worst = 0;
    for (int i = 0; i < 20000; ++i) {
        T volatile rounded = T(-1e-3 - 12 * r.uniform() * r.uniform());  // whatever the flags
        T const a = rounded, x = T(0.5 * r.normal() * (i % 2 ? 1e-3 : 1));
        rounded = T(std::fmin(double(a) + double(x), -1e-3));
        T const b = rounded;
        auto const l = simd::exp_k3(V(T(b - a)));
        T got[V::size];
        simd::store(got, detail::bernoulli_kl(detail::probability(V(a)), detail::probability(V(b)), V(T(b - a)),
                                              l.expm1, l.k3));
        long double const la = a, y = static_cast<long double>(b) - la, p = std::exp(la), q = -std::expm1(la);
        long double const want = p * k3_of(y) + q * k3_of(std::log1p(-p * std::expm1(y) / q));
        if (want > 0)
            worst = larger(worst, static_cast<double>(std::fabs((static_cast<long double>(got[0]) - want) / want)));
    }
    INFO(V::arch::name() << " worst relative error " << worst);
    CHECK(worst <= (sizeof(T) == 4 ? 3e-6 : 3e-14));
}

}  // namespace

TEST_CASE("exp, expm1 and k3 against long double", "[simd][unit]") {
    SECTION("f32") {
        check_math<float, simd::scalar>();
        check_math<float, simd::sse2>();
        check_math<float, simd::avx2>();
        check_math<float, simd::avx512>();
    }
    SECTION("f64") {
        check_math<double, simd::scalar>();
        check_math<double, simd::sse2>();
        check_math<double, simd::avx2>();
        check_math<double, simd::avx512>();
    }
}

TEST_CASE("logarithms against long double", "[simd][unit]") {
    check_logarithms<float, simd::scalar>();
    check_logarithms<float, simd::sse2>();
    check_logarithms<float, simd::avx2>();
    check_logarithms<float, simd::avx512>();
    check_logarithms<double, simd::sse2>();
    check_logarithms<double, simd::avx2>();
    check_logarithms<double, simd::avx512>();
    check_logarithms<float, simd::compiled_arch>();
}

namespace {

template <class V>
std::vector<typename V::value_type> exp2_of(std::vector<typename V::value_type> t, bool or_zero) {
    std::size_t const n = t.size();
    t.resize((n + 3 * V::size - 1) / (3 * V::size) * (3 * V::size));
    for (std::size_t i = 0; i < t.size(); i += 3 * V::size) {
        V v[3];
        for (std::size_t k = 0; k < 3; ++k) v[k] = simd::load<V>(t.data() + i + k * V::size);
        or_zero ? simd::exp2_or_zero_each(v) : simd::exp2_each(v);
        for (std::size_t k = 0; k < 3; ++k) simd::store(t.data() + i + k * V::size, v[k]);
    }
    t.resize(n);
    return t;
}

template <class V>
void check_exp2(double accuracy) {
    using T = typename V::value_type;
    std::vector<T> t;
    for (int i = 0; i <= 253 * 997; ++i) t.push_back(static_cast<T>(-126 + i / 997.0));
    std::vector<T> const got = exp2_of<V>(t, false);
    double worst = 0;
    for (std::size_t i = 0; i < t.size(); ++i) {
        if (i % 997 == 0 && !TRM_FAST_MATH) REQUIRE(got[i] == std::ldexp(T(1), static_cast<int>(i / 997) - 126));
        long double const want = std::exp2(static_cast<long double>(t[i]));
        worst = larger(worst, static_cast<double>(std::fabs((got[i] - want) / want)));
    }
    CHECK(worst < accuracy);
    T const inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
    std::vector<T> const small{-inf, T(-1e30), T(-2000), nan, -nan};
    std::vector<T> const zero = exp2_of<V>(small, true);
    for (std::size_t i = 0; i < 3; ++i) CHECK(zero[i] == 0);
    CHECK((TRM_FAST_MATH || (is_nan(zero[3]) && is_nan(zero[4]))));
    for (T below = T(-126); below > T(-130); below -= T(0.0625)) {  // where a float loses bits
        T const r = exp2_of<V>({below}, true)[0];
        CHECK(r >= 0);
        CHECK(r <= std::exp2(below) * T(1 + 1e-6));
    }
}

}  // namespace

TEST_CASE("2^t for softmax: accuracy, exact powers, nothing far below", "[simd][unit]") {
    check_exp2<simd::vec<float>>(2e-7);
    check_exp2<simd::vec<float, simd::scalar>>(2e-7);
    check_exp2<simd::vec<double>>(5e-16);
    check_exp2<simd::vec<double, simd::scalar>>(5e-16);
}

TEST_CASE("KL of Bernoulli distributions, close ones included", "[simd][unit]") {
    check_bernoulli<simd::vec<float>>();
    check_bernoulli<simd::vec<double>>();
    check_bernoulli<simd::vec<float, simd::scalar>>();
}

namespace {

/// The value of 16 bits with `exponent` and `mantissa` bits, by definition.
double by_definition(unsigned bits, int exponent, int mantissa) {
    int const bias = (1 << (exponent - 1)) - 1;
    int const e = static_cast<int>(bits >> mantissa) & ((1 << exponent) - 1);
    double const m = static_cast<double>(bits & ((1u << mantissa) - 1)), sign = (bits >> 15) != 0 ? -1 : 1;
    if (e == (1 << exponent) - 1) return m == 0 ? sign * batches::inf : batches::nan;
    if (e == 0) return sign * std::ldexp(m, 1 - bias - mantissa);
    return sign * std::ldexp(1 + std::ldexp(m, -mantissa), e - bias);
}

/// False where the program flushes subnormal floats to zero (linked with -ffast-math).
bool subnormals() {
    float volatile smallest = std::numeric_limits<float>::min();
    return smallest * 0.5f > 0;
}

/// Every 16-bit pattern: widened by definition, loaded by the vector unit alike, and narrowed back to itself.
template <class S, class V>
int wrong_patterns(int exponent, int mantissa) {
    int wrong = 0;
    for (unsigned first = 0; first < 65536; first += 16) {
        S in[16];
        for (unsigned k = 0; k < 16; ++k) in[k] = {static_cast<std::uint16_t>(first + k)};
        for (std::size_t at = 0; at + V::size <= 16; at += V::size) {
            typename V::value_type out[V::size];
            simd::store(out, simd::load<V>(in + at));
            S back[V::size];
            simd::store_as(back, simd::load<V>(in + at));
            for (std::size_t k = 0; k < V::size; ++k) {
                double const want = by_definition(in[at + k].bits, exponent, mantissa);
                if (std::fabs(want) < 0x1p-126 && !subnormals()) continue;
                double const got = static_cast<double>(out[k]);
                auto const scalar = to_float(in[at + k]);
                if (is_nan(want)) {
                    wrong += !is_nan(got) || !is_nan(static_cast<double>(scalar)) ||
                             !is_nan(static_cast<double>(to_float(back[k])));
                } else {
                    wrong += got != want || static_cast<double>(scalar) != want;
                    S again{};
                    if constexpr (std::is_same_v<S, bf16>) again = to_bf16(scalar);
                    else again = to_f16(scalar);
                    wrong += again.bits != in[at + k].bits;
                    // the CPU's own conversion may flush subnormal bf16 results to zero
                    bool const tiny = std::is_same_v<S, bf16> && std::fabs(want) < 0x1p-126;
                    wrong += back[k].bits != in[at + k].bits && !(tiny && (back[k].bits & 0x7fffu) == 0);
                }
            }
        }
    }
    return wrong;
}

/// Narrowing rounds to nearest, ties to even: against the neighbours of random floats.
template <class S>
int wrong_roundings(int exponent, int mantissa) {
    batches::random r(5);
    int wrong = 0;
    for (int i = 0; i < 200000; ++i) {
        auto const bits = static_cast<unsigned>(r() & 0x7fff);
        double const low = by_definition(bits, exponent, mantissa), high = by_definition(bits + 1, exponent, mantissa);
        if (!is_finite(low) || !is_finite(high) || (high <= 0x1p-126 && !subnormals())) continue;
        double const middle = (low + high) / 2;
        double const u[] = {low + (high - low) * r.uniform(), middle};
        for (double v : u) {
            auto const f = static_cast<float>(v);
            unsigned const want = double(f) < middle ? bits : double(f) > middle ? bits + 1 : bits + (bits & 1);
            S s{};
            if constexpr (std::is_same_v<S, bf16>) s = to_bf16(f);
            else s = to_f16(f);
            wrong += s.bits != want;
            if constexpr (std::is_same_v<S, bf16>) s = to_bf16(-f);
            else s = to_f16(-f);
            wrong += s.bits != (want | 0x8000u);
        }
    }
    return wrong;
}

}  // namespace

TEST_CASE("bf16 and f16: all 65536 patterns, and rounding", "[simd][unit]") {
    CHECK(wrong_patterns<bf16, simd::vec<float>>(8, 7) == 0);
    CHECK(wrong_patterns<bf16, simd::vec<double>>(8, 7) == 0);
    CHECK(wrong_patterns<f16, simd::vec<float>>(5, 10) == 0);
    CHECK(wrong_patterns<f16, simd::vec<double>>(5, 10) == 0);
    CHECK(wrong_patterns<f16, simd::vec<float, simd::scalar>>(5, 10) == 0);
    CHECK(wrong_roundings<bf16>(8, 7) == 0);
    CHECK(wrong_roundings<f16>(5, 10) == 0);
    CHECK(to_f16(65519.0f).bits == 0x7bff);
    CHECK(to_f16(65520.0f).bits == 0x7c00);
    CHECK(to_f16(1e38f).bits == 0x7c00);
}

TEST_CASE("finite looks at the bits", "[simd][unit]") {
    float const values[] = {0.0f,
                            -1.0f,
                            3e38f,
                            1e-45f,
                            std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()};
    for (int i = 0; i < 7; ++i) {
        using V = simd::vec<float>;
        CHECK(all(finite(V(values[i]))) == (i < 4));
        CHECK(any(finite(V(values[i]))) == (i < 4));
        CHECK(is_finite(values[i]) == (i < 4));
        CHECK(is_nan(static_cast<double>(values[i])) == (i == 6));
    }
}

TEST_CASE("sum, maximum and product under a mask", "[simd][unit]") {
    using V = simd::vec<float>;
    constexpr int n = static_cast<int>(V::size);
    float const values[] = {1.5f, -2.0f, 0.0f, 3e38f, -1e-40f, std::numeric_limits<float>::quiet_NaN(), 7.0f};
    batches::random r(5);
    for (int round = 0; round < 200; ++round) {
        alignas(64) float a[n], b[n], sum[n], largest[n], product[n];
        std::uint8_t chosen[n];
        for (int i = 0; i < n; ++i) {
            a[i] = values[r.below(5)];
            b[i] = values[r.below(round % 2 == 0 ? 5 : 7)];
            chosen[i] = round < 2 ? std::uint8_t{1} : static_cast<std::uint8_t>(r.below(2));
        }
        auto const mask = round == 0 ? V::mask::everywhere() : simd::load_mask_n<V>(chosen, n);
        simd::store(sum, add_where(mask, V::read(a), V::read(b)));
        simd::store(largest, max_where(mask, V::read(a), V::read(b)));
        simd::store(product, mul_or_zero(mask, V::read(b), V(2.0f)));
        for (int i = 0; i < n; ++i) {
            INFO("lane " << i << ": " << a[i] << ", " << b[i] << (chosen[i] != 0 ? ", chosen" : ""));
            auto const is = [](float x, float want) { return x == want || (std::isnan(x) && std::isnan(want)); };
            CHECK(is(sum[i], chosen[i] != 0 ? a[i] + b[i] : a[i]));
            CHECK(largest[i] == (chosen[i] != 0 && b[i] > a[i] ? b[i] : a[i]));
            CHECK(is(product[i], chosen[i] != 0 ? b[i] * 2 : 0.0f));
        }
    }
}

TEST_CASE("count_nonzero counts bytes that are not 0", "[simd][unit]") {
    batches::random r(2);
    std::vector<std::uint8_t> bytes(700);
    for (auto& b : bytes) b = r.uniform() < 0.4 ? std::uint8_t{0} : static_cast<std::uint8_t>(1 + r.below(255));
    for (std::int64_t begin : {0, 1, 7, 63})
        for (std::int64_t n = 0; n <= 600; ++n) {
            std::int64_t want = 0;
            for (std::int64_t i = 0; i < n; ++i) want += bytes[static_cast<std::size_t>(begin + i)] != 0;
            if (simd::count_nonzero(bytes.data() + begin, n) != want) FAIL("begin " << begin << " n " << n);
        }
    SUCCEED();
}

#if defined(__linux__)
namespace {

/// Memory whose last byte is followed by a page that may not be touched.
class guarded {
public:
    guarded() : page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))) {
        base_ = mmap(nullptr, 2 * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        REQUIRE(base_ != MAP_FAILED);
        REQUIRE(mprotect(static_cast<char*>(base_) + page_, page_, PROT_NONE) == 0);
    }
    guarded(guarded const&) = delete;
    guarded& operator=(guarded const&) = delete;
    ~guarded() { munmap(base_, 2 * page_); }
    template <class T>
    T* last(std::size_t n) const {
        return reinterpret_cast<T*>(static_cast<char*>(base_) + page_) - n;
    }

private:
    std::size_t page_;
    void* base_ = nullptr;
};

template <class S, class V>
void check_partial(guarded const& memory) {
    using T = typename V::value_type;
    for (std::size_t n = 0; n < V::size; ++n) {
        S* const p = memory.last<S>(n);
        for (std::size_t i = 0; i < n; ++i) p[i] = batches::narrow<S>(1.5 + double(i));
        T out[V::size];
        simd::store(out, simd::load_n<V>(p, n));
        for (std::size_t i = 0; i < V::size; ++i) CHECK(out[i] == (i < n ? T(1.5) + T(i) : T(0)));

        T* const to = memory.last<T>(n);
        T* const before = to - 1;
        *before = T(-3);
        simd::store_n(to, V(T(4)), n);
        CHECK(*before == T(-3));
        for (std::size_t i = 0; i < n; ++i) CHECK(to[i] == T(4));

        S* const narrow = memory.last<S>(n);
        simd::store_as_n(narrow, V(T(2.5)), n);
        for (std::size_t i = 0; i < n; ++i) CHECK(to_float(narrow[i]) == to_float(batches::narrow<S>(2.5)));

        std::uint8_t* const bytes = memory.last<std::uint8_t>(n);
        for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::uint8_t>(i % 3 * 0x80);
        auto const m = simd::load_mask_n<V>(bytes, n), f = simd::first_n<V>(n);
        for (std::size_t i = 0; i < V::size; ++i) {
            CHECK((to_bits(m) >> i & 1u) == (i < n && i % 3 != 0 && (i % 3 * 0x80 & 0xff) != 0));
            CHECK((to_bits(f) >> i & 1u) == (i < n));
        }
        CHECK(count(f) == int(n));
        CHECK(simd::count_nonzero(bytes, static_cast<std::int64_t>(n)) == count(m));
    }
    // whole registers end at the page as well
    S* const p = memory.last<S>(V::size);
    for (std::size_t i = 0; i < V::size; ++i) p[i] = batches::narrow<S>(double(i));
    T out[V::size];
    simd::store(out, simd::load<V>(p));
    for (std::size_t i = 0; i < V::size; ++i) CHECK(out[i] == T(i));
    std::uint8_t* const bytes = memory.last<std::uint8_t>(V::size);
    for (std::size_t i = 0; i < V::size; ++i) bytes[i] = static_cast<std::uint8_t>(i % 2 * 0x80);
    for (std::size_t i = 0; i < V::size; ++i) CHECK((to_bits(simd::load_mask<V>(bytes)) >> i & 1u) == i % 2);
}
template <class A>
void check_partials(guarded const& memory) {
    if constexpr (simd::is_supported<A>) {
        if (!simd::check_unit<A>().ok()) return;  // not on this CPU
        INFO(A::name());
        check_partial<float, simd::vec<float, A>>(memory);
        check_partial<double, simd::vec<double, A>>(memory);
        check_partial<bf16, simd::vec<float, A>>(memory);
        check_partial<f16, simd::vec<float, A>>(memory);
        check_partial<f16, simd::vec<double, A>>(memory);
        check_partial<float, simd::vec<double, A>>(memory);
    }
}

}  // namespace

TEST_CASE("partial loads, stores and masks never touch memory past n", "[simd][unit]") {
    guarded const memory;
    check_partials<simd::scalar>(memory);
    check_partials<simd::sse2>(memory);
    check_partials<simd::avx2>(memory);
    check_partials<simd::avx512>(memory);
}
#endif
