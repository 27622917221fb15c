// SPDX-License-Identifier: Apache-2.0
// expect: trm/interop/openmp.hpp needs OpenMP: compile with -fopenmp, or link OpenMP::OpenMP_CXX in CMake
#include <trm/interop/openmp.hpp>

trm::openmp_executor two_threads() { return {2}; }
