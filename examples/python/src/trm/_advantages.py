# SPDX-License-Identifier: Apache-2.0
"""Advantages from rewards."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import _trm
from ._arrays import Array, like


class Advantages(NamedTuple):
    """One number per response [B]; counts leave out rejected responses."""

    advantages: Any  #: float64; 0 for rejected responses
    informative: Any  #: bool: an advantage of its group is not 0; only these have a policy gradient
    sequences: int
    informative_sequences: int
    groups: int
    informative_groups: int
    nonfinite: int  #: kept responses whose reward is not finite: treated as rejected


def advantages(rewards: Array, groups: Array, rule: str = "grpo", *, epsilon: float | None = None, unbiased: bool = True,
               lone_reward: bool = False, kept: Array = None, lengths: Array = None,
               cu_seqlens: Array = None) -> Advantages:
    """Advantages of responses [B] from their rewards [B] and prompts `groups` [B] (integers), in float64.

    rule: "grpo" (r - mean) / (deviation + epsilon); "dr_grpo" r - mean; "rloo" r - mean of the others; "leave_one_out" mean
    and deviation of the others; "batch_scaled" deviation over the batch; "opo" length-weighted mean, reads lengths [B].
    epsilon None: that of the rule in trm/advantages.hpp. unbiased: deviations divide by n - 1. lone_reward: the only response of
    a group gets its reward (verl) and not 0. kept: 0 for responses that a mask rejected, which enter no mean and no
    deviation; [B], or per token as Result.keep: [B, T], or [N] with cu_seqlens.
    """
    if kept is not None and cu_seqlens is not None:
        offsets, tokens = np.asarray(cu_seqlens), np.concatenate([[0], np.cumsum(np.asarray(kept) != 0)])
        kept = tokens[offsets[1:]] > tokens[offsets[:-1]]
    elif kept is not None and np.ndim(kept) == 2:
        kept = np.asarray(kept).any(-1)
    made, informative, *counts = _trm.advantages(rewards, groups, rule, epsilon, unbiased, lone_reward, kept, lengths)
    return Advantages(like(rewards, made), like(rewards, informative), *counts)
