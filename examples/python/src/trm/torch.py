# SPDX-License-Identifier: Apache-2.0
"""PyTorch: masked_loss with autograd, as the registered operator torch.ops.trm.masked_loss. Works under torch.compile without
a graph break. CPU tensors only. Second derivatives are not there: masks and weights are constants for the gradient.
"""

from __future__ import annotations

import glob
import os
from typing import NamedTuple

import torch

from . import _trm
from ._loss import Loss

_libraries = glob.glob(os.path.join(os.path.dirname(__file__), "_torch.*"))
if not _libraries:
    raise ImportError("trm.torch was not built, because PyTorch 2.10 or newer was not installed when trm was; run: "
                      "pip install --force-reinstall --no-deps <trm>/examples/python")
torch.ops.load_library(_libraries[0])

_DIAGNOSTICS = _trm.diagnostic_names()


class Output(NamedTuple):
    loss: torch.Tensor  #: scalar, differentiable in logp
    grad: torch.Tensor  #: d loss / d logp, the shape of logp, detached
    keep: torch.Tensor | None  #: bool, the shape of logp: the token's surrogate reaches the loss
    diagnostics: torch.Tensor | None  #: float64: see named_diagnostics


def _real(x: torch.Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


@torch.library.register_fake("trm::masked_loss")
def _(logp, rollout_logp, advantages, loss_mask, cu_seqlens, proximal_logp, ref_logp, given, token_weights, group_of, spec,
      loss_scale, keep, diagnostics):
    torch._check(logp.dim() in (1, 2), lambda: "trm: logp must have one or two dimensions")
    real = _real(logp)
    return (logp.new_empty((), dtype=real), logp.new_empty(logp.shape, dtype=real),
            logp.new_empty(logp.shape if keep else (0,), dtype=torch.bool),
            logp.new_empty((len(_DIAGNOSTICS),) if diagnostics else (0,), dtype=torch.float64))


def _setup_context(ctx, inputs, output):
    _, grad, keep, diagnostics = output
    ctx.dtype = inputs[0].dtype
    ctx.mark_non_differentiable(grad, keep, diagnostics)
    ctx.save_for_backward(grad)


def _backward(ctx, d_loss, *_):
    (grad,) = ctx.saved_tensors
    return ((grad * d_loss).to(ctx.dtype),) + (None,) * 13


torch.library.register_autograd("trm::masked_loss", _backward, setup_context=_setup_context)


def masked_loss(spec: str | Loss, logp: torch.Tensor, rollout_logp: torch.Tensor | None = None,
                advantages: torch.Tensor | None = None, loss_mask: torch.Tensor | None = None, *,
                cu_seqlens: torch.Tensor | None = None, proximal_logp: torch.Tensor | None = None,
                ref_logp: torch.Tensor | None = None, given: torch.Tensor | None = None,
                token_weights: torch.Tensor | None = None, group_of: torch.Tensor | None = None, loss_scale: float = 1.0,
                keep: bool = False, diagnostics: bool = False) -> Output:
    """The loss of `spec` on padded (logp [B, T]) or packed (logp [N], cu_seqlens [B + 1]) tokens.

    Arguments as in trm.Batch, all on the CPU. logp float32, float64, bfloat16 or float16; the other log-probabilities are
    converted to its dtype, advantages ([B], [B, 1] or per token), given and token_weights to float32 (float64 for float64
    logp). loss and grad have that dtype. Only logp has a gradient. Mistakes are RuntimeError with trm's sentence.
    """
    tensors = {"logp": logp, "rollout_logp": rollout_logp, "advantages": advantages, "loss_mask": loss_mask,
               "cu_seqlens": cu_seqlens, "proximal_logp": proximal_logp, "ref_logp": ref_logp, "given": given,
               "token_weights": token_weights, "group_of": group_of}
    for name, tensor in tensors.items():
        if tensor is not None and tensor.device.type not in ("cpu", "meta"):
            raise ValueError(f"trm computes on the CPU, and {name} is on {tensor.device}: move it with {name}.cpu()")
    if not logp.is_floating_point():
        raise ValueError("trm: logp must have a floating-point dtype")
    real, storage = _real(logp), logp.dtype
    wanted = {"logp": storage, "rollout_logp": storage, "proximal_logp": storage, "ref_logp": storage, "advantages": real,
              "given": real, "token_weights": real, "group_of": torch.int32}
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if name == "loss_mask" and tensor.dtype not in (torch.bool, torch.uint8):
            tensor = tensor != 0
        elif name == "cu_seqlens" and tensor.dtype not in (torch.int32, torch.int64):
            tensor = tensor.to(torch.int64)
        elif name in wanted:
            tensor = tensor.to(wanted[name])
        tensors[name] = tensor.contiguous()
    loss, grad, kept, numbers = torch.ops.trm.masked_loss(
        *tensors.values(), spec.spec if isinstance(spec, Loss) else spec, loss_scale, keep, diagnostics)
    return Output(loss, grad, kept if keep else None, numbers if diagnostics else None)


def named_diagnostics(diagnostics: torch.Tensor) -> dict[str, float]:
    """Output.diagnostics by name, without the numbers per criterion: what Diagnostics.as_dict gives."""
    return {name: value for name, value in zip(_DIAGNOSTICS, diagnostics.tolist()) if name}
