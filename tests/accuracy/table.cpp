// SPDX-License-Identifier: Apache-2.0
// Prints the rows of README.md for the vector unit that it is compiled for: largest errors of every elementary function (all
// 2^32 floats, random doubles), of every divergence and of every slope.
//
//   table [--step n] [--points n] [--scalar 1]     every n-th float (1), random doubles (2^24) and a 64th as many tokens
//
// With -DTRM_ACCURACY_XSIMD the unit is xsimd's, on x86 too.
#include "functions.hpp"
#include "policies.hpp"
#include "rows.hpp"

#include <trm/simd/arch.hpp>
#ifdef TRM_ACCURACY_XSIMD
#include <trm/simd/backend_xsimd.hpp>
#endif

#if __has_include(<mpfr.h>) && __has_include(<gmp.h>)
#include "mpfr_check.hpp"
#endif

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

std::uint32_t step = 1;
bool scalar = false;
std::uint64_t points = std::uint64_t(1) << 24;

void print(char const* unit, char const* type, char const* name, accuracy::worst const& w) {
    std::printf("| %s | %s | %s | %llu | %.3g | %.2f | %.9g |\n", name, type, unit,
                static_cast<unsigned long long>(w.points), w.relative, w.ulp, w.at);
    std::fflush(stdout);
}

template <class A>
void rows(std::string const& whose, bool with_policies) {
    std::string const named = whose + A::name();
    char const* const unit = named.c_str();
    for (auto const& f : accuracy::functions<float, A>())
        print(unit, "f32", f.name, accuracy::measure_float(f, 0, step));
    batches::random r(1);
    for (auto const& f : accuracy::functions<double, A>())
        print(unit, "f64", f.name, accuracy::measure_double(f, points, r));
    if (!with_policies) return;
    std::printf(
        "\n| policy | type | unit | tokens | error / u of the value | error / u (1 + \\|x\\|) "
        "|\n|---|---|---|---|---|---|\n");
    accuracy::policy_rows<float, A>(points / 64, [&](char const* name, accuracy::policy_worst const& w) {
        std::printf("| %s | f32 | %s | %llu | %.3g | %.3g |\n", name, unit, static_cast<unsigned long long>(w.tokens),
                    w.relative, w.by_x);
    });
    accuracy::policy_rows<double, A>(points / 64, [&](char const* name, accuracy::policy_worst const& w) {
        std::printf("| %s | f64 | %s | %llu | %.3g | %.3g |\n", name, unit, static_cast<unsigned long long>(w.tokens),
                    w.relative, w.by_x);
    });
}

}  // namespace

int main(int argc, char** argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        std::string const option = argv[i];
        if (option == "--step") step = static_cast<std::uint32_t>(std::strtoul(argv[i + 1], nullptr, 10));
        else if (option == "--points") points = std::strtoull(argv[i + 1], nullptr, 10);
        else if (option == "--scalar") scalar = std::strtoul(argv[i + 1], nullptr, 10) != 0;
        else return std::fprintf(stderr, "unknown option %s\n", option.c_str()), 2;
    }
#if __has_include(<mpfr.h>) && __has_include(<gmp.h>)
    accuracy::compare_references_with_mpfr();
#endif
    std::printf("| function | type | unit | points | relative | ulp | at x = |\n|---|---|---|---|---|---|---|\n");
#ifdef TRM_ACCURACY_XSIMD
    rows<xsimd::default_arch>("xsimd ", true);
#else
    rows<trm::simd::compiled_arch>("", true);
#endif
    if (scalar) rows<trm::simd::scalar>("", false);
    std::printf("\nlogsumexp of rows of 32768 logits, relative to max(1, |logsumexp|): %.3g\n",
                accuracy::worst_logsumexp<trm::simd::default_arch>(200));
    return 0;
}
