// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

int main(int argc, char**) {
    __m256 const x = _mm256_set1_ps(static_cast<float>(argc));
    return _mm256_movemask_ps(_mm256_sub_ps(x, _mm256_add_ps(x, x))) == 0xff ? 0 : 1;  // all negative
}
