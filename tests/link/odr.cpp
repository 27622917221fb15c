// SPDX-License-Identifier: Apache-2.0
int unit_BASELINE(int);
int unit_x86_64_v3(int);
int unit_x86_64_v4(int);

int main() {
    bool good = unit_BASELINE(2) == 4;
#if defined(TRM_TEST_HAS_x86_64_v3)
    good = good && unit_x86_64_v3(2) == 4;
#endif
#if defined(TRM_TEST_HAS_x86_64_v4)
    good = good && unit_x86_64_v4(2) == 4;
#endif
    return good ? 0 : 1;
}
