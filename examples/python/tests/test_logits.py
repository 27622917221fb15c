# SPDX-License-Identifier: Apache-2.0
import ml_dtypes
import numpy as np
import pytest

import trm


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.fixture
def logits():
    return 2 * np.random.default_rng(3).standard_normal((2, 3, 50))


TARGETS = np.array([[1, 2, 49], [0, 7, 7]])


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-13), (np.float32, 3e-6), (np.float16, 3e-6),
                                              (ml_dtypes.bfloat16, 3e-6)])
def test_log_prob(logits, dtype, tolerance):
    given = logits.astype(dtype)
    z = given.astype(np.float64) / 0.7
    p = softmax(z)
    got = trm.log_prob(given, TARGETS, temperature=0.7, entropy=True, logsumexp=True)
    want = np.log(np.take_along_axis(p, TARGETS[..., None], -1)[..., 0])
    np.testing.assert_allclose(got.logp, want, atol=tolerance)
    np.testing.assert_allclose(got.entropy, -(p * np.log(p)).sum(-1), atol=tolerance)
    np.testing.assert_allclose(got.logsumexp, np.log(np.exp(z).sum(-1)), atol=tolerance)
    assert got.logp.dtype == (np.float64 if dtype is np.float64 else np.float32) and got.logsumexp.dtype == np.float64
    assert trm.log_prob(given, TARGETS).entropy is None


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-13), (np.float32, 1e-6), (np.float16, 1e-3),
                                              (ml_dtypes.bfloat16, 8e-3)])
def test_logits_gradient(logits, dtype, tolerance):
    given = logits.astype(dtype)
    p, up = softmax(given.astype(np.float64)), np.array([[1.0, -0.5, 0.0], [0.25, 2.0, -1.0]])
    at = trm.log_prob(given, TARGETS, entropy=True, logsumexp=True)
    got = trm.logits_gradient(given, TARGETS, at.logsumexp, up, d_entropy=0.1 * up, entropy=at.entropy)
    one_hot = np.eye(50)[TARGETS]
    h = -(p * np.log(p)).sum(-1, keepdims=True)
    want = up[..., None] * (one_hot - p) - 0.1 * up[..., None] * p * (np.log(p) + h)
    assert got.dtype == given.dtype and got.shape == given.shape
    np.testing.assert_allclose(got.astype(np.float64), want, atol=tolerance)


def test_exact_divergence(logits):
    other = logits + 0.1 * np.random.default_rng(4).standard_normal(logits.shape)
    p, q = softmax(logits), softmax(other)
    kl, reverse, tv = trm.exact_divergence(logits, other)
    np.testing.assert_allclose(kl, (p * np.log(p / q)).sum(-1), rtol=1e-10)
    np.testing.assert_allclose(reverse, (q * np.log(q / p)).sum(-1), rtol=1e-10)
    np.testing.assert_allclose(tv, np.abs(p - q).sum(-1) / 2, rtol=1e-12)


def test_masks(logits):
    allowed, rows = np.arange(50) < 45, np.array([[1, 1, 0], [1, 1, 1]])
    targets = TARGETS.copy()
    targets[0, 2] = 4
    got = trm.log_prob(logits, targets, vocab_mask=allowed, row_mask=rows).logp
    want = np.log(np.take_along_axis(softmax(logits[..., :45]), targets[..., None], -1)[..., 0])
    np.testing.assert_allclose(got, np.where(rows, want, 0), atol=1e-13)
    each = np.broadcast_to(allowed, logits.shape)
    np.testing.assert_allclose(trm.log_prob(logits, targets, vocab_mask=each, row_mask=rows).logp, got, atol=0)


def test_mistakes(logits):
    for sentence, call in [
        ("targets must have the shape of the logits without the vocabulary, (2, 3)", lambda: trm.log_prob(logits, [1, 2])),
        ("targets must have integers", lambda: trm.log_prob(logits, TARGETS + 0.5)),
        ("trm: ", lambda: trm.log_prob(logits, TARGETS + 100)),
        ("vocab_mask must have the shape", lambda: trm.log_prob(logits, TARGETS, vocab_mask=np.ones(49))),
        ("mu and pi must have the same shape", lambda: trm.exact_divergence(logits, logits[:1])),
    ]:
        with pytest.raises(ValueError) as caught:
            call()
        assert sentence in str(caught.value)
