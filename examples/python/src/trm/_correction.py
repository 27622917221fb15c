# SPDX-License-Identifier: Apache-2.0
"""verl's rollout correction."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _trm
from ._arrays import Array, like


def _threshold(value: str | float | None, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise TypeError(f"trm: {name} must be a number or a string, not {type(value).__name__}")
    return value.strip() if isinstance(value, str) else repr(float(value))


def rollout_correction(old_log_prob: Array, rollout_log_prob: Array, response_mask: Array, rollout_is: str | None = None,
                       rollout_is_threshold: str | float | None = 2.0, rollout_is_batch_normalize: bool = False,
                       rollout_rs: str | None = None,
                       rollout_rs_threshold: str | float | None = None) -> tuple[Any, Any, dict[str, float]]:
    """Importance weights, rejection mask and metrics with the signature, option strings and metric names of verl's
    compute_rollout_correction_and_rejection_mask.

    old_log_prob, rollout_log_prob, response_mask: [B, T]. rollout_is: "token", "sequence" or None; its threshold is a
    number (truncates above) or "lower_upper" (0 outside). rollout_rs: options such as "seq_mean_k1,token_k2", with one
    threshold for all or one each, k1's being "lower_upper" on rollout / old.

    Returns (weights [B, T] or None, response_mask with rejected tokens 0 [B, T], metrics). Weights are an array where
    verl wraps them in a DataProto. As in verl, weights look at the mask before rejection. What differs: a slot outside
    response_mask may hold anything; k3 is of clamped log-ratios and never infinite; the effective sample size of weights
    that are all 0 is 0. float64 input is computed in float64, all else in float32 and metrics in float64.
    """
    if rollout_rs and rollout_rs_threshold is None:
        raise ValueError("trm: rollout_rs needs rollout_rs_threshold")
    level = rollout_is if rollout_is is not None and rollout_is_threshold is not None else ""
    weights, keep, metrics = _trm.rollout_correction(
        old_log_prob, rollout_log_prob, response_mask, level,
        _threshold(rollout_is_threshold, "rollout_is_threshold"), rollout_is_batch_normalize, rollout_rs or "",
        _threshold(rollout_rs_threshold, "rollout_rs_threshold"))
    kept = like(response_mask, keep)
    mask = response_mask if kept is not keep else np.asarray(response_mask)
    return like(old_log_prob, weights), mask * kept, metrics
