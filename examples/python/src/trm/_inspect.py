# SPDX-License-Identifier: Apache-2.0
"""What each trust region would do to a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ._arrays import Array
from ._loss import Batch, Loss


class Row(NamedTuple):
    """One loss on the batch; kl to ess_sequence are of the tokens that it keeps."""

    name: str
    tokens: float  #: kept share
    sequences: float  #: kept share
    kl: float | None  #: mean exact KL, where it was given
    k3: float
    chi2: float
    ess: float
    ess_sequence: float
    loss: float
    gradient_norm: float


class Inspection(list[Row]):
    """The rows; prints as a table."""

    def __str__(self) -> str:
        lines = [f"{'loss':37s} {'tokens':>7s} {'seqs':>7s} {'kl':>9s} {'k3':>9s} {'chi2':>8s} {'ESS':>6s} {'seqESS':>6s} "
                 f"{'loss':>10s} {'|grad|':>9s}"]
        for r in self:
            kl = "" if r.kl is None else f"{r.kl:.3g}"
            lines.append(f"{r.name:37s} {100 * r.tokens:6.1f}% {100 * r.sequences:6.1f}% {kl:>9s} {r.k3:9.3g} {r.chi2:8.3g} "
                         f"{r.ess:6.3f} {r.ess_sequence:6.3f} {r.loss:+10.6f} {r.gradient_norm:9.3g}")
        return "\n".join(lines)


MASKS = {
    "no mask": "mask: none",
    "PPO clip 0.2": "mask: none; surrogate: ppo_clip",
    "TIS: weight min(ratio, 2)": "mask: none; surrogate: policy_gradient; weight: token(truncate_above=2)",
    "IcePop: ratio in [0.5, 5], else 0": "mask: none; surrogate: policy_gradient; weight: token(zero_outside=[0.5, 5])",
    "token ratio in [0.5, 2]": "mask: ratio in [0.5, 2]",
    "geometric ratio in [0.99, 1.01]": "mask: geometric_ratio in [0.99, 1.01]",
    "TRM: max k2 <= 0.05": "mask: seq_max_k2 <= 0.05",
    "TRM: max exact KL <= 0.05": "mask: seq_max_given <= 0.05",
    "TRM: mean k3 <= 0.01": "mask: seq_mean_k3 <= 0.01",
    "TRM: max k2 <= 0.05, mean k3 <= 0.001": "mask: seq_max_k2 <= 0.05 && seq_mean_k3 <= 0.001",
}
UNMASKED = Loss("mask: none; surrogate: importance_ratio; aggregate: token_mean")


def inspect(logp: Array, rollout_logp: Array, advantages: Array, loss_mask: Array = None, *, kl: Array = None,
            losses: Mapping[str, Loss | str] | None = None, **streams: Array) -> Inspection:
    """What each loss keeps, how far that is off-policy, and loss and gradient: the table of presets that the program
    inspect_rollouts prints. Arrays as in `Batch`; kl: exact KL(mu || pi) per token. losses: by name, instead of MASKS."""
    streams.setdefault("given", kl)
    chosen = dict(MASKS) if losses is None else dict(losses)
    if losses is None and kl is None:
        del chosen["TRM: max exact KL <= 0.05"]
    batch = Batch(logp, rollout_logp, advantages, loss_mask, **streams)
    rows = Inspection()
    for name, spec in chosen.items():
        loss = spec if isinstance(spec, Loss) else Loss(spec)
        result = loss(batch, reasons=False, weights=False)
        keep, grad = np.asarray(result.keep), np.asarray(result.grad, np.float64)
        kept = UNMASKED(logp, rollout_logp, advantages, keep, grad=False, keep=False, reasons=False, weights=False,
                        **streams).diagnostics
        exact = None
        if kl is not None:
            at = np.asarray(kl, np.float64)[keep]
            exact = float(at[np.isfinite(at)].sum() / kept.tokens) if kept.tokens else 0.0
        d = result.diagnostics
        rows.append(Row(name, d.kept_fraction, d.kept_sequence_fraction, exact, kept.kl_k3, kept.chi2_token, kept.ess,
                        kept.ess_sequence, result.loss, float(np.sqrt((grad * grad).sum()))))
    return rows
