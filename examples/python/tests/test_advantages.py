# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

import trm

REWARDS, GROUPS = np.array([1.0, 0.0, 0.5, 2.0, 2.0, 3.0, 1.0]), np.array([4, 4, 4, 9, 9, -1, -1])


def by_group(f):
    out = np.zeros_like(REWARDS)
    for group in np.unique(GROUPS):
        out[GROUPS == group] = f(REWARDS[GROUPS == group])
    return out


@pytest.mark.parametrize("rule, want", [
    ("grpo", by_group(lambda r: (r - r.mean()) / (r.std(ddof=1) + 1e-6))),
    ("dr_grpo", by_group(lambda r: r - r.mean())),
    ("rloo", by_group(lambda r: (r - r.mean()) * len(r) / (len(r) - 1))),
    ("batch_scaled", by_group(lambda r: r - r.mean()) / (REWARDS.std(ddof=1) + 1e-4)),
])
def test_rules(rule, want):
    got = trm.advantages(REWARDS.astype(np.float32), GROUPS, rule)
    np.testing.assert_allclose(got.advantages, want, atol=1e-12)
    assert got.informative.tolist() == [True] * 3 + [False] * 2 + [True] * 2
    assert got[2:] == (7, 5, 3, 2, 0)


def test_rejected_responses():
    keep = np.array([[0, 1], [1, 1], [0, 0], [1, 0], [1, 1], [0, 0], [1, 1]], bool)
    want = trm.advantages(REWARDS, GROUPS, "dr_grpo", kept=keep.any(-1))
    np.testing.assert_allclose(want.advantages, [0.5, -0.5, 0, 0, 0, 0, 0])
    assert want.sequences == 5
    for other in (trm.advantages(REWARDS, GROUPS, "dr_grpo", kept=keep),
                  trm.advantages(REWARDS, GROUPS, "dr_grpo", kept=keep.ravel(), cu_seqlens=np.arange(0, 15, 2))):
        assert (other.advantages == want.advantages).all() and other[2:] == want[2:]
    lone = trm.advantages(REWARDS, GROUPS, "rloo", kept=keep, lone_reward=True)
    assert lone.advantages[-1] == 1.0


def test_opo_and_parameters():
    lengths = np.array([1.0, 2, 1, 5, 5, 3, 1])
    want = by_group(lambda r: r)
    for group in np.unique(GROUPS):
        at = GROUPS == group
        want[at] -= (lengths[at] * REWARDS[at]).sum() / lengths[at].sum()
    np.testing.assert_allclose(trm.advantages(REWARDS, GROUPS, "opo", lengths=lengths).advantages, want)
    biased = trm.advantages(REWARDS, GROUPS, epsilon=0, unbiased=False).advantages
    np.testing.assert_allclose(biased, by_group(lambda r: (r - r.mean()) / max(r.std(), 1e-30)))
    with pytest.raises(ValueError, match='unknown rule "grop"; known are grpo'):
        trm.advantages(REWARDS, GROUPS, "grop")
    with pytest.raises(ValueError, match="group_of: wrong number of elements, 7 expected, 2 given"):
        trm.advantages(REWARDS, GROUPS[:2])
    with pytest.raises(ValueError, match="lengths"):
        trm.advantages(REWARDS, GROUPS, "opo")
