# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

import trm
import trm.torch
from conftest import TRM, numpy_loss

SPECS = [TRM, "mask: seq_mean_k3 <= 0.05; surrogate: ppo_clip; penalty: squared_log_ratio(0.1)"]


@pytest.fixture
def tensors(batch):
    return {name: torch.from_numpy(stream) for name, stream in batch.items()}


def test_loss_and_gradient(batch, tensors):
    want, want_grad, keep = numpy_loss(**batch)
    logp = tensors.pop("logp").requires_grad_()
    out = trm.torch.masked_loss(TRM, logp, **tensors, keep=True, diagnostics=True)
    (3 * out.loss).backward()
    assert out.loss.item() == pytest.approx(want, rel=1e-14) and out.loss.requires_grad and not out.grad.requires_grad
    torch.testing.assert_close(logp.grad, torch.from_numpy(3 * want_grad))
    assert (out.keep.numpy() == keep).all()
    named = trm.torch.named_diagnostics(out.diagnostics)
    assert named == trm.Loss(TRM)(**batch).diagnostics.as_dict()
    plain = trm.torch.masked_loss(trm.Loss(TRM), logp, **tensors)
    assert plain.keep is plain.diagnostics is None and plain.loss == out.loss


@pytest.mark.parametrize("spec", SPECS)
def test_gradcheck(tensors, spec):
    logp = tensors.pop("logp").requires_grad_()
    assert torch.autograd.gradcheck(lambda x: trm.torch.masked_loss(spec, x, **tensors).loss, (logp,), atol=1e-8, rtol=1e-6)


def test_opcheck(tensors):
    logp = tensors["logp"].clone().requires_grad_()
    cu = torch.tensor([0, 10, 35])
    for padded, offsets in ((True, None), (False, cu)):
        shaped = {name: t if padded else t.reshape(-1) for name, t in tensors.items()}
        x = (logp if padded else logp.reshape(-1)).detach().requires_grad_()
        for keep in (False, True):
            torch.library.opcheck(torch.ops.trm.masked_loss.default,
                                  (x, shaped["rollout_logp"], shaped["advantages"], shaped["loss_mask"], offsets, None, None,
                                   None, None, None, TRM, 1.0, keep, keep))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_compile_without_graph_break(tensors, dtype):
    rest = {name: tensors[name] for name in ("advantages", "loss_mask")}

    def step(logp, rollout_logp):
        out = trm.torch.masked_loss(TRM, 1.0 * logp, rollout_logp, **rest, keep=True)
        return out.loss + 2 * out.loss, out.keep

    logp, rollout = tensors["logp"].to(dtype), tensors["rollout_logp"].to(dtype)
    results = []
    for function in (step, torch.compile(step, fullgraph=True)):
        x = logp.clone().requires_grad_()
        loss, keep = function(x, rollout)
        loss.backward()
        results.append((loss.detach(), keep, x.grad))
    for eager, compiled in zip(*results):
        assert eager.dtype == compiled.dtype and torch.equal(eager, compiled)
    assert results[0][2].dtype == dtype and results[0][2].abs().sum() > 0


def test_packed_and_converted_arguments(batch, tensors):
    want = trm.Loss(TRM)(**batch)
    flat = {name: tensor.reshape(-1) for name, tensor in tensors.items()}
    cu = torch.arange(0, 36, 7)
    for offsets in (cu, cu.to(torch.int32), cu.to(torch.int16)):
        out = trm.torch.masked_loss(TRM, **flat, cu_seqlens=offsets)
        assert out.loss.item() == want.loss and np.array_equal(out.grad.numpy(), want.grad.ravel())
    tensors["loss_mask"] = tensors["loss_mask"].long()
    tensors["logp"] = tensors["logp"].t().contiguous().t()  # not contiguous
    assert trm.torch.masked_loss(TRM, **tensors).loss.item() == want.loss
    tensors["advantages"] = torch.arange(5.0)[:, None]
    batch["advantages"] = np.arange(5.0)
    assert trm.torch.masked_loss(TRM, **tensors).loss.item() == trm.Loss(TRM)(**batch).loss


def test_mistakes_are_sentences(tensors):
    for spec, wrong, sentence in [
        ("mask: seq_max_k7 <= 1", {}, 'unknown criterion "seq_max_k7", did you mean "seq_max_k1"?'),
        (TRM, {"advantages": None}, "the loss reads a stream that the batch does not have"),
        (TRM, {"rollout_logp": tensors["logp"][:, :3]}, "trm: rollout_logp must have the shape of logp"),
        (TRM, {"logp": tensors["logp"].reshape(1, 5, 7)}, "trm: logp must have one or two dimensions"),
        (TRM, {"cu_seqlens": torch.tensor([0, 35])}, "trm: with cu_seqlens, logp must have one dimension"),
    ]:
        with pytest.raises(RuntimeError) as caught:
            trm.torch.masked_loss(spec, **{**tensors, **wrong})
        assert sentence in str(caught.value)
    with pytest.raises(RuntimeError, match="must be contiguous"):
        torch.ops.trm.masked_loss(tensors["logp"].t(), *[None] * 9, TRM, 1.0, False, False)


def test_other_devices_are_refused(tensors):
    with torch._subclasses.FakeTensorMode():
        elsewhere = torch.empty(5, 7, device="cuda")  # without a GPU: nothing is allocated
        with pytest.raises(ValueError, match=r"trm computes on the CPU, and logp is on cuda:0: move it with logp.cpu\(\)"):
            trm.torch.masked_loss(TRM, elsewhere)


def test_no_second_derivatives(tensors):
    logp = tensors.pop("logp").requires_grad_()
    (first,) = torch.autograd.grad(trm.torch.masked_loss(TRM, logp, **tensors).loss, logp, create_graph=True)
    assert not first.requires_grad


def test_tensors_in_the_plain_call(batch, tensors):
    want, got = trm.Loss(TRM)(**batch), trm.Loss(TRM)(**tensors)
    assert got.loss == want.loss
    for ours, theirs in zip(got[1:5], want[1:5]):
        assert isinstance(ours, torch.Tensor) and np.array_equal(ours.numpy(), theirs)
    single = trm.Loss(TRM)(tensors["logp"].bfloat16(), tensors["rollout_logp"].bfloat16(), tensors["advantages"].bfloat16())
    assert single.grad.dtype == torch.float32
    with pytest.raises(ValueError, match="logp requires grad: detach\\(\\) it, or call trm.torch"):
        trm.Loss(TRM)(**{**tensors, "logp": tensors["logp"].requires_grad_()})
    mask = torch.ones(5, 7, dtype=torch.int64)
    weights, kept, _ = trm.rollout_correction(torch.from_numpy(batch["logp"]), tensors["rollout_logp"], mask,
                                              "token", 2.0, rollout_rs="token_k2", rollout_rs_threshold=0.1)
    assert weights.dtype == torch.float64 and kept.dtype == torch.int64 and kept.sum() == 34
