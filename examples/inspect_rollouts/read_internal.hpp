// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "builder.hpp"
#include "mapping.hpp"
#include "read.hpp"

/// What both ways of reading share.
mapping mapping_of(input const& file);
void add_warnings(rollout_builder const& from, read_result& to);
