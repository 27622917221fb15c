# Which x86-64 levels this machine runs: TRM_CPU_RUNS_x86-64-v2, ...-v3, ...-v4 (cached).
# TRM_KERNEL_MARCHES: what kernel tests are built for; BASELINE is the compiler's default.
include(CheckCXXSourceRuns)

set(trm_marches BASELINE)
set(TRM_CPU_RUNS_BASELINE ON)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  list(APPEND trm_marches x86-64-v3 x86-64-v4)
  if(CMAKE_CROSSCOMPILING)
    set(TRM_CPU_RUNS_V2 OFF)
    set(TRM_CPU_RUNS_V3 OFF)
    set(TRM_CPU_RUNS_V4 OFF)
  else()
    check_cxx_source_runs("
      int main() { return __builtin_cpu_supports(\"sse4.2\") && __builtin_cpu_supports(\"popcnt\") ? 0 : 1; }"
      TRM_CPU_RUNS_V2)
    check_cxx_source_runs("
      int main() {
        return __builtin_cpu_supports(\"avx2\") && __builtin_cpu_supports(\"fma\") && __builtin_cpu_supports(\"bmi2\")
                   ? 0 : 1;
      }" TRM_CPU_RUNS_V3)
    check_cxx_source_runs("
      int main() {
        return __builtin_cpu_supports(\"avx2\") && __builtin_cpu_supports(\"fma\") && __builtin_cpu_supports(\"bmi2\") &&
                       __builtin_cpu_supports(\"avx512f\") && __builtin_cpu_supports(\"avx512cd\") &&
                       __builtin_cpu_supports(\"avx512bw\") && __builtin_cpu_supports(\"avx512dq\") &&
                       __builtin_cpu_supports(\"avx512vl\")
                   ? 0 : 1;
      }" TRM_CPU_RUNS_V4)
  endif()
  set(TRM_CPU_RUNS_x86-64-v2 ${TRM_CPU_RUNS_V2})
  set(TRM_CPU_RUNS_x86-64-v3 ${TRM_CPU_RUNS_V3})
  set(TRM_CPU_RUNS_x86-64-v4 ${TRM_CPU_RUNS_V4})
endif()
set(TRM_KERNEL_MARCHES "" CACHE STRING "-march values that kernel tests are built for; empty: ${trm_marches}")
if(NOT TRM_KERNEL_MARCHES)
  set(TRM_KERNEL_MARCHES ${trm_marches})
endif()
