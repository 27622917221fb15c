// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/executor.hpp>

#ifndef _OPENMP
#error "trm/interop/openmp.hpp needs OpenMP: compile with -fopenmp, or link OpenMP::OpenMP_CXX in CMake"
#endif

TRM_NAMESPACE_BEGIN

/// Spreads a loss over OpenMP threads: `loss(batch, out, trm::openmp_executor{})`. Blocks of sequences go to whichever
/// thread is free, because their lengths differ; the bits of the result are those of the serial call. `threads` 0 is
/// OpenMP's own choice (OMP_NUM_THREADS). Calls over fewer than `grain` tokens or logits stay on the caller's thread, so
/// that small batches are not slower than without the executor (bench/README.md has the measurement).
struct openmp_executor {
    int threads = 0;
    std::int64_t grain = default_grain;

    template <class F>
    void operator()(std::int64_t n, F&& f) const {
        if (threads > 0) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
            for (std::int64_t i = 0; i < n; ++i) f(i);
        } else {
#pragma omp parallel for schedule(dynamic)
            for (std::int64_t i = 0; i < n; ++i) f(i);
        }
    }
};

TRM_NAMESPACE_END
