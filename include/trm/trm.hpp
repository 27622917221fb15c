// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Everything of trm that needs nothing but xsimd. What needs more (Eigen, MPI, JSON) is in interop/ and logits/linear.

#include <trm/advantages.hpp>
#include <trm/bounds/bounds.hpp>
#include <trm/core/batch_view.hpp>
#include <trm/logits/centering.hpp>
#include <trm/logits/divergence.hpp>
#include <trm/logits/gradient.hpp>
#include <trm/logits/log_prob.hpp>
#include <trm/logits/support.hpp>
#include <trm/logits/topk.hpp>
#include <trm/loss/any_loss.hpp>
#include <trm/loss/checked.hpp>
#include <trm/loss/group_losses.hpp>
#include <trm/loss/masked_loss.hpp>
#include <trm/loss/quantiles.hpp>
#include <trm/loss/spec.hpp>
#include <trm/loss/token_weights.hpp>
#include <trm/policy/selection_batch.hpp>
