# SPDX-License-Identifier: Apache-2.0
"""The phases of a loss over the ranks of torch.distributed, on CPU tensors (gloo). Every rank must call every function, also
one without tokens."""

from __future__ import annotations

import torch
import torch.distributed as dist

from ._loss import Batch, Loss, Result
from ._trm import Counts, Totals


def all_reduce_totals(totals: Totals, group: dist.ProcessGroup | None = None) -> None:
    """Where ranks share sequences (context or sequence parallel; each numbers the sequences alike): sums add, maxima
    are maxima. In place."""
    dist.all_reduce(torch.from_numpy(totals.sums), dist.ReduceOp.SUM, group)
    dist.all_reduce(torch.from_numpy(totals.maxima), dist.ReduceOp.MAX, group)


def all_reduce_counts(counts: Counts, group: dist.ProcessGroup | None = None, *, prompts: bool = False) -> Counts:
    """The counts of all ranks. prompts: also the tokens of each prompt, which prompt_mean divides by."""
    numbers = torch.tensor(counts.numbers, dtype=torch.float64)
    dist.all_reduce(numbers, dist.ReduceOp.SUM, group)
    merged = Counts()
    merged.add(numbers.tolist())
    if prompts:
        parts: list = [None] * dist.get_world_size(group)
        dist.all_gather_object(parts, counts.prompts, group)
        for part in parts:
            merged.add([0.0] * 6, part)
    return merged


def masked_loss(loss: Loss, batch: Batch, group: dist.ProcessGroup | None = None, *, shared_sequences: bool = False,
                prompts: bool = False, **outputs) -> Result:
    """This rank's part of the loss over all ranks: gradients are final, and losses add. outputs as in Loss.apply."""
    totals = loss.measure(batch)
    if shared_sequences:
        all_reduce_totals(totals, group)
    counts = all_reduce_counts(loss.count(batch, totals), group, prompts=prompts)
    return loss.apply(batch, totals, counts, **outputs)
