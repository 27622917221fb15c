# SPDX-License-Identifier: Apache-2.0
"""Trust-region-masked policy-gradient losses on the CPU: masks, loss, gradient, diagnostics.

>>> loss = trm.Loss("mask: seq_max_k2 <= 0.05; surrogate: ppo_clip")
>>> result = loss(logp=logp, rollout_logp=rollout_logp, advantages=advantages, loss_mask=mask)
>>> result.loss, result.grad, result.diagnostics.kl_k3

Arrays may be of NumPy, PyTorch, JAX, or of anything else in the CPU's memory that speaks DLPack or the buffer protocol;
float32, float64, bfloat16 (also ml_dtypes') and float16. What is contiguous and of one type is not copied. Mistakes are
ValueError. The gradient in PyTorch's autograd is trm.torch, in JAX trm.jax.
"""

from ._advantages import Advantages, advantages
from ._arrays import Array
from ._certificate import certificate
from ._inspect import Inspection, inspect
from ._logits import LogProb, exact_divergence, log_prob, logits_gradient
from ._loss import Batch, Loss, Preset, Result, presets
from ._correction import rollout_correction
from ._rollouts import Rollouts, load_rollouts
from ._trm import Counts, Diagnostics, Totals
from ._trm import version as _version

__version__ = _version()

__all__ = ["Advantages", "Array", "Batch", "Counts", "Diagnostics", "Inspection", "LogProb", "Loss", "Preset", "Result", "Rollouts",
           "Totals", "__version__", "advantages", "certificate", "exact_divergence", "inspect", "load_rollouts", "log_prob",
           "logits_gradient", "presets", "rollout_correction"]
