// SPDX-License-Identifier: Apache-2.0
#pragma once

// Every surrogate.
#include <trm/policy/surrogate.hpp>
#include <trm/policy/surrogate_clip.hpp>
#include <trm/policy/surrogate_covariance.hpp>
#include <trm/policy/surrogate_gated.hpp>
#include <trm/policy/surrogate_quadratic.hpp>
#include <trm/policy/surrogate_sequence.hpp>
#include <trm/policy/surrogate_sequence_soft.hpp>
#include <trm/policy/surrogate_soft.hpp>
#include <trm/policy/surrogate_tapered.hpp>
#include <trm/policy/surrogate_trajectory.hpp>
