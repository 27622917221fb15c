# SPDX-License-Identifier: Apache-2.0
"""JAX on the CPU: masked_loss as a custom call of XLA with a custom_vjp.

jit: one call in the compiled program, parsed once. grad: with respect to logp only; the other arguments have no cotangent.
vmap: one loss per example, one call after another (vmap_method "sequential"). Reverse mode only, and no second derivatives.
"""

from __future__ import annotations

import ctypes
import functools
import glob
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp

from . import _trm
from ._arrays import Array
from ._loss import Loss

_libraries = glob.glob(os.path.join(os.path.dirname(__file__), "_jax.*"))
if not _libraries:
    raise ImportError("trm.jax was not built, because jaxlib was not installed when trm was; run: "
                      "pip install --force-reinstall --no-deps <trm>/examples/python")
_library = ctypes.CDLL(_libraries[0])
jax.ffi.register_ffi_target("trm_masked_loss", jax.ffi.pycapsule(_library.trm_masked_loss), platform="cpu")

_DIAGNOSTICS = _trm.diagnostic_names()
_STREAMS = ("logp", "cu_seqlens", "rollout_logp", "advantages", "loss_mask", "proximal_logp", "ref_logp", "given",
            "token_weights", "group_of")


class Output(NamedTuple):
    loss: jax.Array  #: scalar, differentiable in logp
    grad: jax.Array  #: d loss / d logp, the shape of logp, without gradient
    keep: jax.Array  #: bool, the shape of logp: the token's surrogate reaches the loss
    diagnostics: jax.Array  #: see named_diagnostics; float64 if JAX has it enabled


def _call(spec: str, loss_scale: float, streams: dict[str, jax.Array]) -> Output:
    logp = streams["logp"]
    real = jnp.float64 if logp.dtype == jnp.float64 else jnp.float32
    wide = jnp.float64 if jax.config.jax_enable_x64 else jnp.float32
    results = (jax.ShapeDtypeStruct((), real), jax.ShapeDtypeStruct(logp.shape, real),
               jax.ShapeDtypeStruct(logp.shape, jnp.bool_), jax.ShapeDtypeStruct((len(_DIAGNOSTICS),), wide))
    call = jax.ffi.ffi_call("trm_masked_loss", results, vmap_method="sequential")
    return Output(*call(*streams.values(), spec=spec, inputs=" ".join(streams), results="loss grad keep diagnostics",
                        loss_scale=float(loss_scale)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _loss(spec: str, loss_scale: float, logp: jax.Array, rest: dict[str, jax.Array]) -> Output:
    return _call(spec, loss_scale, {"logp": logp, **rest})


def _forward(spec, loss_scale, logp, rest):
    output = _call(spec, loss_scale, {"logp": logp, **rest})
    return output, (output.grad, jnp.zeros((0,), logp.dtype))


def _backward(spec, loss_scale, saved, cotangent):
    grad, typed = saved
    return (grad * cotangent.loss).astype(typed.dtype), None


_loss.defvjp(_forward, _backward)


def masked_loss(spec: str | Loss, logp: Array, rollout_logp: Array = None, advantages: Array = None, loss_mask: Array = None,
                *, cu_seqlens: Array = None, proximal_logp: Array = None, ref_logp: Array = None, given: Array = None,
                token_weights: Array = None, group_of: Array = None, loss_scale: float = 1.0) -> Output:
    """The loss of `spec` on padded (logp [B, T]) or packed (logp [N], cu_seqlens [B + 1]) tokens.

    Arguments as in trm.Batch. logp float32, bfloat16, float16, or float64 where JAX has it enabled; the other
    log-probabilities are converted to its dtype, advantages ([B], [B, 1] or per token), given and token_weights to float32
    (float64 for float64 logp). spec and loss_scale are static. Mistakes are a JAX runtime error with trm's sentence.
    """
    logp = jnp.asarray(logp)
    real = jnp.float64 if logp.dtype == jnp.float64 else jnp.float32
    given_streams = (cu_seqlens, rollout_logp, advantages, loss_mask, proximal_logp, ref_logp, given, token_weights, group_of)
    wanted = {"advantages": real, "given": real, "token_weights": real, "loss_mask": jnp.bool_, "cu_seqlens": jnp.int32,
              "group_of": jnp.int32}
    rest = {name: jnp.asarray(stream).astype(wanted.get(name, logp.dtype))
            for name, stream in zip(_STREAMS[1:], given_streams) if stream is not None}
    output = _loss(spec.spec if isinstance(spec, Loss) else spec, loss_scale, logp, rest)
    return Output(output.loss, *map(jax.lax.stop_gradient, output[1:]))


def named_diagnostics(diagnostics: jax.Array) -> dict[str, float]:
    """Output.diagnostics by name, without the numbers per criterion: what Diagnostics.as_dict gives."""
    return {name: float(value) for name, value in zip(_DIAGNOSTICS, diagnostics) if name}
