// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../larger.hpp"
#include "../loss_batch.hpp"
#include "functions.hpp"

#include <mpfr.h>

#include <cstdio>
#include <string>

/// How good the references are: double and long double against MPFR with 200 bits.
namespace accuracy {

/// Largest |reference(x) - function(x)| in ulps of T over random x of the domain.
template <class T>
double reference_error(function<T> const& f, int (*exact)(mpfr_t, mpfr_srcptr, mpfr_rnd_t), bool k3) {
    mpfr_t x, y, d;
    mpfr_inits2(200, x, y, d, static_cast<mpfr_ptr>(nullptr));
    batches::random r(9);
    double worst = 0;
    for (int i = 0; i < 200000; ++i) {
        T const range = std::fmin(f.highest, T(700)), low = std::fmax(f.lowest, T(-700));
        T v = static_cast<T>(low + (range - low) * T(r.uniform()));
        if (i % 2 == 0) v = static_cast<T>((v < 0 ? -1 : 1) * std::exp(-40 * r.uniform()));
        if (!(v >= f.lowest && v <= f.highest) || v == 0) continue;
        mpfr_set_d(x, static_cast<double>(v), MPFR_RNDN);
        exact(y, x, MPFR_RNDN);
        if (k3) mpfr_sub(y, y, x, MPFR_RNDN);
        wide<T> const want = f.reference(static_cast<wide<T>>(v));
        mpfr_set_ld(d, static_cast<long double>(want), MPFR_RNDN);
        mpfr_sub(d, d, y, MPFR_RNDN);
        worst = larger(worst, std::fabs(mpfr_get_d(d, MPFR_RNDN)) / static_cast<double>(ulp_of<T>(want)));
    }
    mpfr_clears(x, y, d, static_cast<mpfr_ptr>(nullptr));
    return worst;
}
template <class T>
void compare_references_with_mpfr() {
    for (auto const& f : functions<T, trm::simd::scalar>()) {
        std::string const name = f.name;
        auto const exact = name.starts_with("expm1") || name.starts_with("k3") ? mpfr_expm1
                           : name == "log"                                     ? mpfr_log
                           : name == "log1p"                                   ? mpfr_log1p
                           : name == "exp2"                                    ? mpfr_exp2
                           : name.starts_with("exp")                           ? mpfr_exp
                                                                               : nullptr;
        if (exact != nullptr)
            std::printf("reference of %s (%s): within %.1e ulp of MPFR\n", f.name, sizeof(T) == 4 ? "f32" : "f64",
                        reference_error<T>(f, exact, name.starts_with("k3")));
    }
}
inline void compare_references_with_mpfr() {
    compare_references_with_mpfr<float>();
    compare_references_with_mpfr<double>();
    std::printf("\n");
}

}  // namespace accuracy
