# SPDX-License-Identifier: Apache-2.0
"""From logged rollouts to a corrected loss.

    python tutorial.py [rollouts.jsonl]
"""

import pathlib
import sys

import numpy as np

import trm

path = sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[1] / "data" / "rollouts.jsonl"

# 1. What a trainer has: log-probabilities of the sampled tokens under the current policy and under the engine that sampled
#    them, advantages, and which tokens the policy produced. Responses lie one after another; cu_seqlens has the offsets.
r = trm.load_rollouts(path)
print(f"{len(r.cu_seqlens) - 1} responses, {len(r.logp)} tokens\n")

# 2. How far are the two policies apart, and what would each trust region keep?
print(trm.inspect(r.logp, r.rollout_logp, r.advantages, r.loss_mask, cu_seqlens=r.cu_seqlens, kl=r.kl), "\n")

# 3. A corrected loss: drop responses in which a token moved too far, clip the rest as PPO does.
loss = trm.Loss("mask: seq_max_k2 <= 0.05; surrogate: ppo_clip(eps_low=0.2, eps_high=0.28); aggregate: token_mean")
batch = trm.Batch(r.logp, r.rollout_logp, r.advantages, r.loss_mask, cu_seqlens=r.cu_seqlens)
result = loss(batch)
d = result.diagnostics
print(f"corrected loss {result.loss:+.6f}, kept {d.kept_tokens:.0f} of {d.tokens:.0f} tokens, "
      f"kl of what is kept {d.kl_k3_kept:.6f}, |grad| {np.linalg.norm(result.grad):.5f}")

# 4. The same with a preset of a trainer, and without a mask.
for name, other in {"decoupled_geo_rs": trm.Loss.preset("decoupled_geo_rs", lower=0.99, upper=1.01),
                    "no mask": trm.Loss("mask: none; surrogate: ppo_clip")}.items():
    print(f"{name}: loss {other(batch, keep=False, reasons=False, weights=False).loss:+.6f}")

# 5. A step down the gradient in log-probabilities, which is what autograd would carry on from: result.grad is d loss / d logp.
step = loss(r.logp - 0.1 * result.grad / np.abs(result.grad).max(), r.rollout_logp, r.advantages, r.loss_mask,
            cu_seqlens=r.cu_seqlens)
print(f"after a step: {step.loss:+.6f}")

# 6. Which criterion rejected what: bit i of reasons is criterion i.
rejected = np.add.reduceat((result.reasons & 1).astype(int), r.cu_seqlens[:-1]) > 0
print(f"criterion 0 rejects {rejected.sum()} responses")

# 7. May the surrogate be trusted at all? Only the youngest responses; practice.md explains the numbers.
if r.rewards is not None and r.updates_behind is not None:
    now = trm.load_rollouts(path, updates_behind=0)
    certificate = trm.certificate(now.logp, now.rollout_logp, now.loss_mask, cu_seqlens=now.cu_seqlens, rewards=now.rewards,
                                  groups=now.groups, kl=now.kl, tv=now.tv)
    for rung in certificate["ladder"][:3]:
        print(f"|J(pi) - J(mu) - L| {rung['name']}: {rung['value']:.4g} ({rung['kind']})")
