# SPDX-License-Identifier: Apache-2.0
"""Rollouts in JSON lines, as examples/data has them."""

from __future__ import annotations

import json
import os
from typing import NamedTuple

import numpy as np


class Rollouts(NamedTuple):
    """Packed responses. Per token [N]: logp, rollout_logp, proximal_logp, loss_mask, kl, tv; per response [B]: advantages,
    rewards, groups, updates_behind; cu_seqlens [B + 1]. None where the file does not have a field."""

    cu_seqlens: np.ndarray
    logp: np.ndarray
    rollout_logp: np.ndarray
    advantages: np.ndarray
    loss_mask: np.ndarray | None
    proximal_logp: np.ndarray | None
    kl: np.ndarray | None
    tv: np.ndarray | None
    rewards: np.ndarray | None
    groups: np.ndarray | None
    updates_behind: np.ndarray | None


def load_rollouts(path: str | os.PathLike[str], *, updates_behind: int | None = None) -> Rollouts:
    """Reads a file with one JSON object per response: logp, rollout_logp (lists) and advantage (a number); optional
    loss_mask, proximal_logp, kl, tv, reward, group, updates_behind. With updates_behind only the responses of that age."""
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    if updates_behind is not None:
        rows = [row for row in rows if row["updates_behind"] == updates_behind]
    if not rows:
        raise ValueError(f"trm: {os.fspath(path)} has no such rollouts")

    def tokens(name: str, dtype: type = np.float64) -> np.ndarray | None:
        return np.concatenate([np.asarray(row[name], dtype) for row in rows]) if name in rows[0] else None

    def responses(name: str, dtype: type = np.float64) -> np.ndarray | None:
        return np.array([row[name] for row in rows], dtype) if name in rows[0] else None

    logp, rollout_logp, advantages = tokens("logp"), tokens("rollout_logp"), responses("advantage")
    if logp is None or rollout_logp is None or advantages is None:
        raise ValueError(f"trm: {os.fspath(path)} must have logp, rollout_logp and advantage")
    lengths = [len(row["logp"]) for row in rows]
    return Rollouts(np.concatenate([[0], np.cumsum(lengths)]), logp, rollout_logp, advantages, tokens("loss_mask", np.uint8),
                    tokens("proximal_logp"), tokens("kl"), tokens("tv"), responses("reward"), responses("group", np.int64),
                    responses("updates_behind", np.int64))
