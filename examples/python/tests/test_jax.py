# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import trm
import trm.jax
from conftest import TRM, numpy_loss


@pytest.fixture
def single(batch):
    return {name: stream.astype(np.float32) if stream.dtype == np.float64 else stream for name, stream in batch.items()}


def jax_loss(logp, rollout_logp, advantages, loss_mask):
    """The loss TRM written in JAX."""
    x = jnp.where(loss_mask, logp - rollout_logp, 0.0)
    still = jax.lax.stop_gradient(x)
    keep = loss_mask & ((still * still / 2).max(-1, keepdims=True) <= 0.05)
    keep = keep & (jnp.exp(still) >= 0.8) & (jnp.exp(still) <= 1.25)
    return jnp.where(keep, -jnp.exp(x) * advantages, 0.0).sum() / loss_mask.sum()


def test_loss_and_gradient_under_jit(batch, single):
    want, want_grad, keep = numpy_loss(**batch)
    rest = {name: single[name] for name in ("rollout_logp", "advantages", "loss_mask")}

    def step(logp):
        out = trm.jax.masked_loss(TRM, logp, **rest)
        return 3 * out.loss, out

    for function in (step, jax.jit(step)):
        (loss, out), grad = jax.value_and_grad(function, has_aux=True)(jnp.asarray(single["logp"]))
        assert loss == pytest.approx(3 * want, abs=1e-6)
        np.testing.assert_allclose(grad, 3 * want_grad, atol=1e-6)
        np.testing.assert_allclose(out.grad, want_grad, atol=1e-6)
        assert (np.asarray(out.keep) == keep).all()
    plain = trm.Loss(TRM)(**single)
    assert out.loss == np.float32(plain.loss) and (np.asarray(out.grad) == plain.grad).all()
    for name, value in trm.jax.named_diagnostics(out.diagnostics).items():
        assert value == np.float32(getattr(plain.diagnostics, name)), name


def test_same_as_jitted_jax(single):
    ours = jax.jit(jax.value_and_grad(lambda x: trm.jax.masked_loss(TRM, x, single["rollout_logp"], single["advantages"],
                                                                    single["loss_mask"]).loss))
    theirs = jax.jit(jax.value_and_grad(lambda x: jax_loss(x, single["rollout_logp"], single["advantages"], single["loss_mask"])))
    (a, da), (b, db) = ours(single["logp"]), theirs(single["logp"])
    assert float(a) == pytest.approx(float(b), abs=1e-6)
    np.testing.assert_allclose(da, db, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision(single, dtype):
    logp, rollout = (jnp.asarray(single[name]).astype(dtype) for name in ("logp", "rollout_logp"))
    loss, grad = jax.value_and_grad(lambda x: trm.jax.masked_loss(TRM, x, rollout, single["advantages"], single["loss_mask"]).loss)(logp)
    want = trm.Loss(TRM)(np.asarray(logp), np.asarray(rollout), single["advantages"], single["loss_mask"])
    assert loss == np.float32(want.loss) and loss.dtype == jnp.float32 and grad.dtype == dtype
    assert (np.asarray(grad) == want.grad.astype(dtype)).all() and np.abs(want.grad).sum() > 0


def test_float64(batch):
    with jax.enable_x64(True):
        loss, grad = jax.jit(jax.value_and_grad(lambda x: trm.jax.masked_loss(TRM, x, batch["rollout_logp"], batch["advantages"],
                                                                              batch["loss_mask"]).loss))(batch["logp"])
        want = trm.Loss(TRM)(**batch)
        assert loss == want.loss and (np.asarray(grad) == want.grad).all() and grad.dtype == np.float64


def test_packed(single):
    want = trm.Loss(TRM)(**single)
    flat = {name: stream.ravel() for name, stream in single.items()}
    out = trm.jax.masked_loss(TRM, **flat, cu_seqlens=np.arange(0, 36, 7))
    assert out.loss == np.float32(want.loss) and (np.asarray(out.grad) == want.grad.ravel()).all()


def test_vmap_is_one_loss_per_example(single):
    shifts = jnp.array([0.0, 0.05, -0.1])

    def loss(shift, logp):
        return trm.jax.masked_loss(TRM, logp + shift, single["rollout_logp"], single["advantages"], single["loss_mask"]).loss

    both = jax.vmap(jax.value_and_grad(loss, argnums=1), in_axes=(0, None))(shifts, single["logp"])
    for i, shift in enumerate(shifts):
        one = jax.value_and_grad(loss, argnums=1)(shift, single["logp"])
        assert both[0][i] == one[0] and (both[1][i] == one[1]).all()
    assert len(set(map(float, both[0]))) == 3


def test_mistakes_are_sentences(single):
    for spec, wrong, sentence in [
        ("mask: seq_max_k7 <= 1", {}, 'unknown criterion "seq_max_k7", did you mean "seq_max_k1"?'),
        (TRM, {"advantages": None}, "the loss reads a stream that the batch does not have"),
        (TRM, {"rollout_logp": single["logp"][:, :3]}, "trm: rollout_logp must have the shape of logp"),
    ]:
        with pytest.raises(Exception) as caught:
            jax.block_until_ready(trm.jax.masked_loss(spec, **{**single, **wrong}))
        assert sentence in str(caught.value)


def test_jax_arrays_in_the_plain_call(single):
    arrays = {name: jnp.asarray(stream) for name, stream in single.items()}
    assert trm.Loss(TRM)(**arrays).loss == trm.Loss(TRM)(**single).loss
    half = {**arrays, "logp": arrays["logp"].astype(jnp.bfloat16), "rollout_logp": arrays["rollout_logp"].astype(jnp.bfloat16)}
    assert trm.Loss(TRM)(**half).grad.dtype == np.float32
