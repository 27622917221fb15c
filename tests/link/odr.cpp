// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdio>

double unit_BASELINE();
double unit_NO_DISPATCH();
double unit_x86_64_v3();
double unit_x86_64_v4();

namespace {
bool close(char const* name, double value, double expected) {
    bool const good = std::fabs(value - expected) <= 1e-6 && std::fabs(expected) > 1e-3;
    std::printf("%-10s %.9g%s\n", name, value, good ? "" : "  WRONG");
    return good;
}
}  // namespace

int main() {
    double const expected = unit_BASELINE();
    bool good = close("default", expected, expected);
    good = close("flags only", unit_NO_DISPATCH(), expected) && good;
#if defined(TRM_TEST_HAS_x86_64_v3)
    good = close("x86-64-v3", unit_x86_64_v3(), expected) && good;
#endif
#if defined(TRM_TEST_HAS_x86_64_v4)
    good = close("x86-64-v4", unit_x86_64_v4(), expected) && good;
#endif
    return good ? 0 : 1;
}
