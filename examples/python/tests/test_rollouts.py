# SPDX-License-Identifier: Apache-2.0
"""inspect and certificate on the shipped rollouts: the numbers that READMEs show of the C++ programs."""
import numpy as np
import pytest

import trm


@pytest.fixture(scope="module")
def shipped():
    return trm.load_rollouts(__import__("conftest").ROOT / "examples/data/rollouts.jsonl")


def printed(page, first, last):
    lines = page.read_text().splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith(first))
    end = next(i for i, line in enumerate(lines[begin:], begin) if line.startswith(last))
    return lines[begin:end + 1]


def test_inspect_prints_what_the_program_prints(root, shipped):
    rows = trm.inspect(shipped.logp, shipped.rollout_logp, shipped.advantages, shipped.loss_mask, kl=shipped.kl,
                       cu_seqlens=shipped.cu_seqlens)
    want = printed(root / "examples/README.md", "no mask ", "TRM: max k2 <= 0.05, mean k3")
    assert str(rows).splitlines()[1:] == [line.rstrip() for line in want] and len(want) == 10


def test_inspect_of_own_losses(shipped):
    rows = trm.inspect(shipped.logp, shipped.rollout_logp, shipped.advantages, shipped.loss_mask,
                       cu_seqlens=shipped.cu_seqlens,
                       losses={"mine": trm.Loss("mask: none"), "all away": "mask: ratio <= 1e-30"})
    assert [row.name for row in rows] == ["mine", "all away"]
    assert rows[0].tokens == 1 and rows[0].kl is None and rows[1].tokens == rows[1].loss == rows[1].gradient_norm == 0


def test_certificate(root):
    r = trm.load_rollouts(root / "examples/data/rollouts.jsonl", updates_behind=0)
    certificate = trm.certificate(r.logp, r.rollout_logp, r.loss_mask, cu_seqlens=r.cu_seqlens, rewards=r.rewards,
                                  groups=r.groups, kl=r.kl, tv=r.tv)
    ladder = {rung["name"]: rung for rung in certificate["ladder"]}
    for line in printed(root / "include/trm/bounds/README.md", "direct, worst reward   estimated     0.06664", "classical"):
        name, value = line[:22].strip().removesuffix(" of 160"), float(line[23:].split()[1])
        assert f"{ladder[name]['value']:.4g}" == f"{value:.4g}", name
    assert (certificate["sequences"], certificate["groups"]) == (112, 14)
    assert [f"{end:.3g}" for end in ladder["direct, worst reward"]["interval"]] == ["0.0353", "0.115"]
    assert [f"{end:.3g}" for end in certificate["surrogate"]["interval"]] == ["-0.0644", "0.0122"]
    assert not certificate["certified"] and trm.certificate(trm.Batch(r.logp, r.rollout_logp, None, r.loss_mask,
                                                                      cu_seqlens=r.cu_seqlens), kl=r.kl, surrogate_gain=1e9)["certified"]


def test_load_rollouts(root, tmp_path, shipped):
    assert shipped.logp.shape == (40880,) and shipped.cu_seqlens.shape == (305,) and shipped.loss_mask.sum() == 39693
    with pytest.raises(ValueError, match="no such rollouts"):
        trm.load_rollouts(root / "examples/data/rollouts.jsonl", updates_behind=17)
    minimal = tmp_path / "minimal.jsonl"
    minimal.write_text('{"logp": [-1, -2], "rollout_logp": [-1, -2.5], "advantage": 1}\n\n')
    loaded = trm.load_rollouts(minimal)
    assert loaded.loss_mask is None and loaded.kl is None and (loaded.logp == np.array([-1, -2])).all()
    minimal.write_text('{"logp": [-1, -2]}\n')
    with pytest.raises(ValueError, match="must have logp, rollout_logp and advantage"):
        trm.load_rollouts(minimal)
