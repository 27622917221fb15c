# SPDX-License-Identifier: Apache-2.0
"""rollout_correction against what verl computed (tests/golden)."""
import json

import numpy as np
import pytest

import trm

GOLDEN = json.loads((__import__("conftest").ROOT / "tests/golden/verl.json").read_text())
CASES = GOLDEN["rollout_correction"]
WORDS = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}


def numbers(value):
    return np.array([[WORDS.get(x, x) for x in row] for row in value], np.float64)


def arrays(name):
    found = GOLDEN["batches"][name]
    return numbers(found["old_logp"]), numbers(found["rollout_logp"]), numbers(found["response_mask"])


def check_metrics(ours, verl, row_means=1e-9):
    for name, want in verl.items():
        want, got = WORDS.get(want, want), ours["rollout_corr/" + name]
        rounded = float(np.float32(got)) == want  # verl averages some flags in float32
        assert rounded or got == pytest.approx(want, rel=row_means, abs=row_means), name


@pytest.mark.parametrize("case", [c for c in CASES if c["kind"] == "rejection"])
def test_rejection(case):
    old, rollout, mask = arrays(case["batch"])
    weights, kept, metrics = trm.rollout_correction(old, rollout, mask, rollout_rs=case["options"],
                                                    rollout_rs_threshold=case["thresholds"])
    assert weights is None and (kept == numbers(case["mask"])).all() and kept.dtype == mask.dtype
    check_metrics(metrics, case["metrics"])


@pytest.mark.parametrize("case", [c for c in CASES if c["kind"] == "is_weights"])
def test_weights(case):
    old, rollout, mask = arrays(case["batch"])
    weights, kept, metrics = trm.rollout_correction(old, rollout, mask, case["level"], case["threshold"], case["batch_normalize"])
    inside = mask != 0
    np.testing.assert_allclose(weights[inside], numbers(case["weights"])[inside], rtol=2e-8)
    assert (weights[~inside] == 0).all() and (kept == mask).all()
    check_metrics(metrics, case["metrics"])


@pytest.mark.parametrize("case", [c for c in CASES if c["kind"] == "offpolicy_metrics"])
def test_offpolicy_metrics(case):
    *_, metrics = trm.rollout_correction(*arrays(case["batch"]))
    check_metrics(metrics, case["metrics"], row_means=2e-8)  # verl's row means divide by n + 1e-8
    assert set(metrics) == {"rollout_corr/" + name for name in case["metrics"]}


def test_mistakes():
    old, rollout, mask = arrays("holes")
    for arguments, sentence in [
        (dict(rollout_is="geometric"), 'rollout_is must be "token", "sequence" or None'),
        (dict(rollout_is="token", rollout_is_threshold="2_1"), "rollout_is_threshold"),
        (dict(rollout_rs="seq_max_k1", rollout_rs_threshold="2"), "unknown option"),
        (dict(rollout_rs="token_k1"), "rollout_rs needs rollout_rs_threshold"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            trm.rollout_correction(old, rollout, mask, **arguments)
    with pytest.raises(ValueError, match="at least one valid token"):
        trm.rollout_correction(old, rollout, 0 * mask)
    with pytest.raises(TypeError, match="number or a string, not bool"):
        trm.rollout_correction(old, rollout, mask, rollout_is="token", rollout_is_threshold=True)
