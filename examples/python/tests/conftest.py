# SPDX-License-Identifier: Apache-2.0
import pathlib

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
TRM = "mask: seq_max_k2 <= 0.05 && ratio in [0.8, 1.25]; surrogate: importance_ratio"


@pytest.fixture
def root():
    return ROOT


@pytest.fixture
def batch():
    """Padded [5, 7] in float64; the last row is empty, others end early or have holes."""
    random = np.random.default_rng(7)
    rollout = -0.05 - 3 * random.random((5, 7))
    logp = rollout + 0.08 * random.standard_normal((5, 7))
    logp[1, 3] += 0.6
    mask = np.ones((5, 7), bool)
    mask[0, 5:] = mask[2, 2] = mask[4] = False
    return {"logp": logp, "rollout_logp": rollout, "advantages": random.standard_normal((5, 7)), "loss_mask": mask}


def numpy_loss(logp, rollout_logp, advantages, loss_mask):
    """The loss TRM and its gradient by hand, in float64."""
    x = np.where(loss_mask, logp - rollout_logp, 0.0)
    ratio = np.exp(x)
    sequences = (x * x / 2).max(-1, keepdims=True) <= 0.05
    keep = loss_mask & sequences & (ratio >= 0.8) & (ratio <= 1.25)
    terms = np.where(keep, -ratio * advantages, 0.0) / max(loss_mask.sum(), 1)
    return terms.sum(), terms, keep
