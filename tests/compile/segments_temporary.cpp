// SPDX-License-Identifier: Apache-2.0
// expect: this container is a temporary, gone before its view is read; give it a name
#include <trm/core/batch_view.hpp>

#include <array>
#include <vector>

trm::layout_view layout(std::vector<std::int64_t> const& cu_seqlens, std::array<std::int32_t, 2> const& sequence_of) {
#ifdef TRM_TEST_MISUSE
    return trm::segments{cu_seqlens, std::array<std::int32_t, 2>{0, 0}, 1};
#else
    return trm::segments{cu_seqlens, sequence_of, 1};
#endif
}
