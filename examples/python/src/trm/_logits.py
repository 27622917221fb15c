# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities, exact divergences and the gradient in the logits."""

from __future__ import annotations

from typing import Any, NamedTuple

from . import _trm
from ._arrays import Array, like


class LogProb(NamedTuple):
    """Each [...], one number per row of logits."""

    logp: Any
    entropy: Any | None
    logsumexp: Any | None  #: float64: what logits_gradient takes


def log_prob(logits: Array, targets: Array, *, temperature: float = 1.0, vocab_mask: Array = None, row_mask: Array = None,
             entropy: bool = False, logsumexp: bool = False) -> LogProb:
    """Log-probability of targets [...] (integers) under softmax(logits / temperature), logits [..., V] in float32,
    float64, bfloat16 or float16; the result is float64 for float64 logits, else float32. vocab_mask [V] or [..., V]: 0
    means probability 0. row_mask [...]: rows with 0 are not read, their results are 0. entropy and logsumexp (float64) on
    request."""
    parts = _trm.log_prob(logits, targets, temperature, vocab_mask, row_mask, entropy, logsumexp)
    return LogProb(*(like(logits, part) for part in parts))


def exact_divergence(mu: Array, pi: Array, *, temperature_mu: float = 1.0, temperature_pi: float = 1.0,
                     vocab_mask: Array = None, row_mask: Array = None) -> tuple[Any, Any, Any]:
    """KL(mu || pi), KL(pi || mu) and total variation over the whole vocabulary, each [...], of logits [..., V]."""
    parts = _trm.exact_divergence(mu, pi, temperature_mu, temperature_pi, vocab_mask, row_mask)
    kl, reverse_kl, tv = (like(pi, part) for part in parts)
    return kl, reverse_kl, tv


def logits_gradient(logits: Array, targets: Array, logsumexp: Array, d_logp: Array, *, d_entropy: Array = None,
                    entropy: Array = None, temperature: float = 1.0, vocab_mask: Array = None,
                    row_mask: Array = None) -> Any:
    """d loss / d logits [..., V] from d_logp = d loss / d logp [...], such as Result.grad, and with d_entropy also from the
    entropy. logsumexp, and with d_entropy entropy, are those of log_prob. Rows without upstream gradient cost nothing but
    zeros."""
    return like(logits, _trm.logits_gradient(logits, targets, logsumexp, d_logp, d_entropy, entropy, temperature, vocab_mask,
                                             row_mask))
