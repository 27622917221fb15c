# SPDX-License-Identifier: Apache-2.0
"""A loss over two processes of torch.distributed (gloo), against the same loss in one.

    python two_ranks.py

Data parallel: each rank has some of the responses. Context parallel: each rank has a part of every response, and rank 1 has no
token of some. The gradient of a rank is final: nothing is averaged afterwards.
"""

import pathlib
import tempfile

import numpy as np
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

import trm
import trm.distributed

SPECS = ["mask: seq_max_k2 <= 0.05 && seq_mean_k3 <= 0.01; surrogate: ppo_clip; divide_by: kept",
         "mask: seq_mean_k3 <= 0.02; surrogate: importance_ratio; aggregate: prompt_mean"]


def rows(tokens, cu, advantages):
    """Packed responses as a padded batch [B, T]."""
    lengths = np.diff(cu)
    mask = np.arange(lengths.max()) < lengths[:, None]
    batch = {"loss_mask": mask.copy(), "advantages": advantages}
    for name, stream in tokens.items():
        batch[name] = np.zeros(mask.shape, stream.dtype)
        batch[name][mask] = stream
    batch["loss_mask"] &= batch.pop("response").astype(bool)
    return batch


def data_parallel(batch, groups, rank):
    part = slice(0, 100) if rank == 0 else slice(100, len(groups))
    return {name: stream[part] for name, stream in batch.items()} | {"group_of": groups[part]}, (part, slice(None))


def context_parallel(batch, groups, rank):
    part = slice(0, 120) if rank == 0 else slice(120, None)
    whole = {"advantages": batch["advantages"], "group_of": groups}
    return {name: np.ascontiguousarray(stream[:, part]) for name, stream in batch.items() if name != "advantages"} | whole, (
        slice(None), part)


def work(rank, file, world=2):
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)
    r = trm.load_rollouts(pathlib.Path(__file__).resolve().parents[1] / "data" / "rollouts.jsonl")
    batch = rows({"logp": r.logp, "rollout_logp": r.rollout_logp, "response": r.loss_mask}, r.cu_seqlens, r.advantages)
    groups = r.groups.astype(np.int32)
    for spec in SPECS:
        loss = trm.Loss(spec)
        whole = loss(**batch, group_of=groups)
        for share in (data_parallel, context_parallel):
            mine, where = share(batch, groups, rank)
            result = trm.distributed.masked_loss(loss, trm.Batch(**mine), shared_sequences=share is context_parallel,
                                                 prompts="prompt_mean" in spec)
            assert (result.keep == whole.keep[where]).all()
            np.testing.assert_allclose(result.grad, whole.grad[where], rtol=1e-12, atol=1e-18)
            parts = [None] * world
            dist.all_gather_object(parts, result.loss)
            np.testing.assert_allclose(sum(parts), whole.loss, rtol=1e-12)
            if rank == 0:
                print(f"{share.__name__}: {parts[0]:+.6f} {parts[1]:+.6f} = {whole.loss:+.6f}", flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        multiprocessing.spawn(work, (f"{directory}/meeting",), nprocs=2)
    print("two processes agree with one")
