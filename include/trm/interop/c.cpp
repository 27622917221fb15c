// SPDX-License-Identifier: Apache-2.0
// The C interface (trm/interop/c.h) as one source, to be compiled into a program with the program's own flags:
//
//     c++ -std=c++20 -O3 -march=native -I<trm>/include -c <trm>/include/trm/interop/c.cpp
//
// Macro TRM_C_JSON: see c/create.cpp.
#include <trm/interop/c/certificate.cpp>
#include <trm/interop/c/create.cpp>
#include <trm/interop/c/logits.cpp>
#include <trm/interop/c/run.cpp>
#include <trm/interop/c/run_f32.cpp>
#include <trm/interop/c/run_f64.cpp>
#include <trm/interop/c/slice.cpp>
