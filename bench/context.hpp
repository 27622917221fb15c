// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/dispatch.hpp>

#include <benchmark/benchmark.h>

#include <cstdio>
#include <string>

namespace bench {

/// Floats per register of the best unit that this CPU has and trm has kernels for.
inline int width_of_cpu() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        return 16;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 8;
#endif
    return trm::simd::width();
}

/// Which vector unit the numbers are for, and a warning if it is narrower than the CPU's.
inline void add_vector_context() {
    int const compiled = trm::simd::width(), cpu = width_of_cpu();
    benchmark::AddCustomContext("floats per register", std::to_string(compiled));
    benchmark::AddCustomContext("vector unit", trm::simd::default_arch::name());
    benchmark::AddCustomContext("floats per register of this CPU", std::to_string(cpu));
    if (compiled < cpu)
        std::fprintf(
            stderr,
            "***WARNING*** %d floats per register; this CPU has %d. Numbers are of the flags or of TRM_CPU, not of "
            "the CPU.\n",
            compiled, cpu);
}

}  // namespace bench
