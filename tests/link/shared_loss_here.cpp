// SPDX-License-Identifier: Apache-2.0
#define TRM_ANY_LOSS_HERE
#include <trm/loss/any_loss_extern.hpp>
