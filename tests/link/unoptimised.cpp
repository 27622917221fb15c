// SPDX-License-Identifier: Apache-2.0
// Compiled without optimisation, in one program with a unit that is optimised: either's kernels may be used for both.
#include "one_loss.hpp"

#include <cmath>
#include <cstdio>

double second();

int main() {
    double const here = one_loss(), there = second();
    bool good = std::fabs(here - there) < 1e-6;
    std::printf("without optimisation %.9g, with %.9g\n", here, there);
#if TRM_DISPATCH
    static_assert(trm::simd::width<float, trm::simd::avx2>() == trm::simd::width<float, trm::simd::sse2>());
    if (trm::simd::check_unit<trm::simd::avx2>().ok()) {
        double const by_name = one_loss<trm::simd::avx2>();
        std::printf("on a unit by name %.9g\n", by_name);
        good = good && std::fabs(by_name - there) < 1e-6;
    }
#endif
    return good ? 0 : 1;
}
