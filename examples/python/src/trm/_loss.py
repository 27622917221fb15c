# SPDX-License-Identifier: Apache-2.0
"""Losses, their results and presets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from . import _trm
from ._arrays import Array, like
from ._presets import PRESETS
from ._trm import Counts, Diagnostics, Totals


class Result(NamedTuple):
    """What a loss gives. Arrays have the shape of logp: NumPy's, or tensors if logp is one."""

    loss: float
    grad: Any  #: d loss / d logp, float64 for float64 log-probabilities, else float32; 0 where rejected or masked out
    keep: Any  #: bool; True where the surrogate of the token reaches the loss
    reasons: Any  #: uint16; bit i: criterion i of the mask rejects; bit 15: not finite
    weights: Any  #: importance weight of each kept token, else 0; of the type of grad
    diagnostics: Diagnostics  #: None where diagnostics=False


class Batch:
    """The arrays of a step, viewed. For the phases of a loss and for several losses on one batch.

    Padded: logp [B, T]. Packed: logp [N] and cu_seqlens [B + 1], sequence i being tokens cu_seqlens[i] to
    cu_seqlens[i + 1]. Segments: also sequence_of [runs], the sequence that each run of cu_seqlens continues.

    logp           log-probabilities of the sampled tokens under the current policy, natural logarithms
    rollout_logp   under the policy that sampled them
    advantages     one per token (the shape of logp) or per sequence [B]
    loss_mask      0: the policy did not produce this token; bool, integer or float; None: all count
    proximal_logp  under the policy before this update step; ref_logp under the reference of a KL penalty
    given          a divergence per token that was computed elsewhere, for the criterion `given`
    token_weights  factor of each token's surrogate
    group_of       prompt of each sequence [B], from 0
    """

    def __init__(self, logp: Array, rollout_logp: Array = None, advantages: Array = None, loss_mask: Array = None, *,
                 cu_seqlens: Array = None, proximal_logp: Array = None, ref_logp: Array = None, given: Array = None,
                 token_weights: Array = None, sequence_advantages: Array = None, group_of: Array = None,
                 sequence_of: Array = None, sequences: int | None = None) -> None:
        self._example = logp
        self._batch = _trm.Batch(logp, rollout_logp, advantages, loss_mask, cu_seqlens, proximal_logp, ref_logp, given,
                                 token_weights, sequence_advantages, group_of, sequence_of, sequences)

    @property
    def tokens(self) -> int:
        """Elements of each per-token array."""
        return self._batch.tokens

    @property
    def sequences(self) -> int:
        return self._batch.sequences


class Loss:
    """A masked loss, from its text: Loss("mask: seq_max_k2 <= 0.05; surrogate: ppo_clip"). The grammar and all names are in
    trm/loss/README.md; a mistake is a ValueError that names the place and the nearest known word. Immutable, and may be
    called from several threads at once: calls release the GIL.
    """

    def __init__(self, spec: str) -> None:
        self._loss = _trm.Loss.from_text(spec)

    @classmethod
    def _of(cls, loss: _trm.Loss) -> Loss:
        made = cls.__new__(cls)
        made._loss = loss
        return made

    @classmethod
    def from_json(cls, document: str | Mapping[str, Any]) -> Loss:
        """From the JSON form, as text or as what json.load gives."""
        return cls._of(_trm.Loss.from_json(document if isinstance(document, str) else json.dumps(document)))

    @classmethod
    def preset(cls, name: str, *values: float, **parameters: float) -> Loss:
        """A loss of a paper or trainer by name: Loss.preset("trm_max", 0.05), Loss.preset("trl_dapo", eps_high=0.28).
        `trm.presets` has names, parameters and defaults. A parameter called `is` may be written `is_`."""
        return presets[name](*values, **parameters)

    @property
    def spec(self) -> str:
        """Canonical text, with every parameter spelled out."""
        return self._loss.text

    def __repr__(self) -> str:
        return f"trm.Loss({self.spec!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loss) and self.spec == other.spec

    def __hash__(self) -> int:
        return hash(self.spec)

    def __reduce__(self) -> tuple[type[Loss], tuple[str]]:
        return Loss, (self.spec,)

    def __call__(self, logp: Array, rollout_logp: Array = None, advantages: Array = None, loss_mask: Array = None, *,
                 grad: Array | bool = True, keep: Array | bool = True, reasons: Array | bool = True,
                 weights: Array | bool = True, diagnostics: bool = True, loss_scale: float = 1.0,
                 accumulate: bool = False, **streams: Array) -> Result:
        """Loss, gradient and what else is asked for. The arrays are those of `Batch`, which may be given instead of logp.

        grad, keep, reasons, weights: True makes a new array, False none, a writable contiguous array of the right type
        is written in place. loss_scale multiplies loss and gradient. accumulate adds to the array given as grad.
        """
        batch = logp if isinstance(logp, Batch) else Batch(logp, rollout_logp, advantages, loss_mask, **streams)
        return _result(batch, self._loss.call(batch._batch, grad, keep, reasons, weights, diagnostics, loss_scale,
                                              accumulate))

    def select(self, batch: Batch) -> None:
        """Phase 0, only for masks that compare tokens with each other (budget, quantile, prefix, group, ...) and
        surrogates that mark tokens; over the whole batch. A plain call does this itself."""
        self._loss.select(batch._batch)

    def measure(self, batch: Batch) -> Totals:
        """Phase 1: statistics of each sequence. Ranks that share sequences add sums and take maxima of maxima."""
        return self._loss.measure(batch._batch)

    def count(self, batch: Batch, totals: Totals) -> Counts:
        """Phase 2: what denominators are made of, which ranks and micro-batches add."""
        return self._loss.count(batch._batch, totals)

    def apply(self, batch: Batch, totals: Totals, counts: Counts, *, grad: Array | bool = True, keep: Array | bool = True,
              reasons: Array | bool = True, weights: Array | bool = True, diagnostics: bool = True,
              loss_scale: float = 1.0, accumulate: bool = False) -> Result:
        """Phase 3: this batch's part of loss, gradient and diagnostics. Losses of ranks add, gradients are final."""
        return _result(batch, self._loss.apply(batch._batch, totals, counts, grad, keep, reasons, weights, diagnostics,
                                               loss_scale, accumulate))


def _result(batch: Batch, parts: tuple[Any, ...]) -> Result:
    loss, grad, keep, reasons, weights, diagnostics = parts
    example = batch._example
    return Result(loss, like(example, grad), like(example, keep), like(example, reasons), like(example, weights), diagnostics)


class Preset:
    """A loss of a paper or trainer: call it with its parameters, by place or name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.parameters, self.__doc__ = PRESETS.get(name, ({}, ""))  #: defaults by name, None where there is none

    def __repr__(self) -> str:
        shown = (name if value is None else f"{name}={value:g}" for name, value in self.parameters.items())
        return f"trm.presets[{self.name!r}]({', '.join(shown)})"

    def __call__(self, *values: float, **parameters: float) -> Loss:
        named = {name.rstrip("_") if name not in self.parameters else name: value for name, value in parameters.items()}
        arguments = list(values)
        for name, default in list(self.parameters.items())[len(values):]:
            value = named.pop(name, default)
            if value is None:
                raise ValueError(f"trm: preset {self.name}: {name} has no default: give it")
            arguments.append(value)
        if named:
            raise ValueError(f"trm: preset {self.name} has no parameter {next(iter(named))!r}; it has "
                             f"{', '.join(self.parameters) or 'none'}")
        return Loss._of(_trm.Loss.from_preset(f"{self.name}({', '.join(repr(float(a)) for a in arguments)})"))


class _Presets(Mapping[str, Preset]):
    """The losses of papers and trainers by name. presets["trl_dapo"](eps_high=0.28) is a Loss."""

    def __init__(self) -> None:
        self._all = {name: Preset(name) for name in _trm.preset_names()}

    def __getitem__(self, name: str) -> Preset:
        if name not in self._all:
            _trm.Loss.from_preset(name)  # raises, with the nearest name
        return self._all[name]

    def __contains__(self, name: object) -> bool:
        return name in self._all

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.values()))


presets = _Presets()
