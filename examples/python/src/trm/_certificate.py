# SPDX-License-Identifier: Apache-2.0
"""Certificates of the surrogate's error."""

from __future__ import annotations

import json
from typing import Any

from . import _trm
from ._arrays import Array
from ._loss import Batch


def certificate(logp: Array, rollout_logp: Array = None, loss_mask: Array = None, *, cu_seqlens: Array = None,
                rewards: Array = None, groups: Array = None, horizons: Array = None, weights: Array = None,
                kl: Array = None, tv: Array = None, reward_min: float = 0.0, reward_max: float = 1.0, level: float = 0.9,
                seed: int = 0, horizon: int = 0, resamples: int = 0, surrogate_gain: float | None = None) -> dict[str, Any]:
    """How far |J(pi) - J(mu) - L| may be on this batch, by which argument, and what that is worth: the object that
    trm/bounds/README.md explains, as a dict. Infinite and unknown numbers are None.

    logp, rollout_logp, loss_mask, kl, tv: [B, T], or [N] with cu_seqlens. kl = exact KL(mu || pi) and tv = exact total
    variation per token, as exact_divergence gives them. rewards, groups (prompt), horizons (most tokens a response may
    have), weights: [B]. reward_min, reward_max: the range of rewards. level: of the intervals; seed and resamples: of the
    bootstrap; horizon 0: the longest sequence. surrogate_gain: what to certify; None: estimated from rewards.
    """
    batch = logp if isinstance(logp, Batch) else Batch(logp, rollout_logp, None, loss_mask, cu_seqlens=cu_seqlens)
    evidence = _trm.Evidence()
    evidence.add(batch._batch, rewards, groups, horizons, weights, kl, tv)
    document: dict[str, Any] = json.loads(
        evidence.certificate(reward_min, reward_max, level, seed, horizon, resamples, surrogate_gain))
    return document
