// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/presets/papers.hpp>
#include <trm/loss/presets/trainers.hpp>
#include <trm/loss/presets/trl.hpp>
#include <trm/loss/presets/verl.hpp>
#include <trm/loss/presets_verl.hpp>

/// \file
/// Losses of papers and trainers by name, each pinned to an equation or a commit. A preset is an ordinary masked_loss: change
/// its members freely. Differences that remain are in policy/README.md. Where a trainer has three policies (current, proximal,
/// rollout), set proximal_logp: masks and weights then correct proximal over rollout, and the surrogate moves current over
/// proximal. Denominators are the trainer's; batch-wide counts of several ranks go into `aggregate.divide_by`.
