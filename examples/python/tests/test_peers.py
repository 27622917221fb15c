# SPDX-License-Identifier: Apache-2.0
"""trm beside the functions of verl and TRL themselves, on the same tensors."""
import collections
import types

import pytest
import torch

import peers
import trm
import trm.torch

helper = peers.load("verl.trainer.ppo.rollout_corr_helper")
helper.DataProto = types.SimpleNamespace(from_dict=lambda tensors: tensors)  # verl's container needs tensordict
core_algos = peers.load("verl.trainer.ppo.core_algos")
grpo = peers.load("trl.trainer.grpo_trainer")


@pytest.fixture
def step():
    """Three policies, padded, without an empty row; float64."""
    torch.manual_seed(11)
    rollout = -0.1 - 2.5 * torch.rand(12, 9, dtype=torch.float64)
    proximal = rollout + 0.12 * torch.randn(12, 9, dtype=torch.float64)
    current = proximal + 0.15 * torch.randn(12, 9, dtype=torch.float64)
    mask = (torch.arange(9) < torch.randint(3, 10, (12, 1))).double()
    mask[3, 1] = 0
    return types.SimpleNamespace(rollout=rollout, proximal=proximal, current=current, mask=mask,
                                 advantages=torch.randn(12, dtype=torch.float64))


RS = [(None, None), ("token_k1", 1.2), ("seq_mean_k1", "0.97_1.05"), ("seq_sum_k3", "0.05"), ("seq_max_k2,token_k3", "0.02,0.01"),
      ("seq_mean_k2,seq_mean_k3", 0.008), ("token_k2,seq_max_k3,seq_sum_k1", "0.03,0.04,0.7_1.4")]
IS = [(None, 2.0, False), ("token", 1.05, False), ("sequence", "0.8_1.3", False), ("token", "0.9_1.2", True), ("sequence", 1.1, True)]


@pytest.mark.parametrize("rs", RS)
@pytest.mark.parametrize("weights", IS)
def test_verl_rollout_correction(step, rs, weights):
    arguments = (step.proximal, step.rollout, step.mask, *weights, *rs)
    theirs, their_mask, their_metrics = helper.compute_rollout_correction_and_rejection_mask(*arguments)
    ours, mask, metrics = trm.rollout_correction(*arguments)
    assert torch.equal(mask, their_mask)
    assert (ours is None) == (theirs is None)
    if ours is not None:
        torch.testing.assert_close(ours, theirs["rollout_is_weights"], rtol=2e-8, atol=0)
    assert metrics.keys() == their_metrics.keys()
    for name, want in their_metrics.items():  # verl averages flags in float32, and row means divide by n + 1e-8
        assert metrics[name] == pytest.approx(want, rel=2e-7, abs=3e-8), name


@pytest.mark.parametrize("preset, weights, rs", [
    ("disabled", (None, 2.0), (None, None)),
    ("decoupled_token_is", ("token", 2.0), (None, None)),
    ("decoupled_seq_is_rs", ("sequence", 2.0), ("seq_sum_k1", "0.5_2.0")),
    ("decoupled_k3_rs_token_tis", ("token", 2.0), ("seq_mean_k3", 0.01)),
])
def test_verl_loss_after_correction(step, preset, weights, rs):
    theirs, mask, _ = helper.compute_rollout_correction_and_rejection_mask(step.proximal, step.rollout, step.mask, *weights, False,
                                                                           *rs)
    config = types.SimpleNamespace(clip_ratio=0.2, clip_ratio_low=None, clip_ratio_high=None, get=lambda key, default: default,
                                   global_batch_info={"batch_num_tokens": step.mask.sum()})
    x, y = (step.current.clone().requires_grad_() for _ in range(2))
    want, _ = core_algos.compute_policy_loss_vanilla(step.proximal, x, step.advantages[:, None].expand_as(x), mask, config=config,
                                                     rollout_is_weights=None if theirs is None else theirs["rollout_is_weights"])
    got = trm.torch.masked_loss(trm.Loss.preset(preset), y, step.rollout, step.advantages, step.mask, proximal_logp=step.proximal)
    want.backward()
    got.loss.backward()
    torch.testing.assert_close(got.loss, want, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(y.grad, x.grad, rtol=1e-9, atol=1e-12)
    assert (mask.sum() < step.mask.sum()) == (rs[0] is not None) and x.grad.abs().sum() > 0


class Trainer:
    """As much of a GRPOTrainer as its loss touches: evaluation, one process, no model."""

    aux_loss_enabled = use_vllm = use_adaptive_entropy = _entropy_bonus_enabled = False
    top_entropy_quantile, beta, epsilon_low, epsilon_high, max_completion_length = 1.0, 0.0, 0.2, 0.2, 40
    off_policy_mask_threshold = None
    current_gradient_accumulation_steps = 1
    importance_sampling_level = "token"
    vllm_importance_sampling_correction = False
    model = types.SimpleNamespace(training=False)
    accelerator = types.SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x)
    args = types.SimpleNamespace(delta=None, use_bias_correction_kl=False, sapo_temperature_pos=1.0, sapo_temperature_neg=1.05,
                                 vespo_k_pos=2.0, vespo_lambda_pos=3.0, vespo_k_neg=3.0, vespo_lambda_neg=2.0)
    get_off_policy_mask = staticmethod(grpo.GRPOTrainer.get_off_policy_mask)
    get_gamma_weights = staticmethod(grpo.GRPOTrainer.get_gamma_weights)

    def __init__(self, logp, **options):
        self.logp = logp
        self._metrics = {"eval": collections.defaultdict(list)}
        vars(self).update(options)

    def _get_per_token_logps_and_entropies(self, *arguments, **keywords):
        return self.logp, torch.zeros_like(self.logp), None


@pytest.mark.parametrize("preset, options, parameters", [
    ("trl_grpo", {"loss_type": "grpo"}, {}),
    ("trl_dapo", {"loss_type": "dapo", "epsilon_high": 0.28}, {"eps_high": 0.28}),
    ("trl_dr_grpo", {"loss_type": "dr_grpo"}, {"max_completion_length": 40}),
    ("trl_cispo", {"loss_type": "cispo", "epsilon_high": 1.1}, {"epsilon_high": 1.1}),
    ("trl_sapo", {"loss_type": "sapo"}, {}),
    ("trl_vespo", {"loss_type": "vespo"}, {}),
    ("trl_luspo", {"loss_type": "luspo", "importance_sampling_level": "sequence"}, {}),
    ("trl_opsm", {"loss_type": "dapo", "off_policy_mask_threshold": 0.01}, {"delta": 0.01}),
])
def test_trl_losses(step, preset, options, parameters):
    x, y = (step.current.clone().requires_grad_() for _ in range(2))
    ids = torch.zeros(12, 9, dtype=torch.long)
    inputs = {"prompt_ids": ids, "prompt_mask": ids, "completion_ids": ids, "completion_mask": step.mask,
              "advantages": step.advantages, "old_per_token_logps": step.proximal, "num_items_in_batch": step.mask.sum()}
    torch.set_default_dtype(torch.float64)  # TRL makes tensors of its temperatures
    want = grpo.GRPOTrainer._compute_loss(Trainer(x, **options), None, inputs)
    torch.set_default_dtype(torch.float32)
    got = trm.torch.masked_loss(trm.Loss.preset(preset, **parameters), y, step.proximal, step.advantages, step.mask,
                                proximal_logp=step.proximal, keep=True)
    want.backward()
    got.loss.backward()
    torch.testing.assert_close(got.loss, want, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(y.grad, x.grad, rtol=1e-10, atol=1e-13)
    assert x.grad.abs().sum() > 0 and (preset != "trl_opsm" or not got.keep[step.mask.bool()].all())
