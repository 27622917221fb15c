# SPDX-License-Identifier: Apache-2.0
import array
import json
import pickle
import sys
import threading
import time

import ml_dtypes
import numpy as np
import pytest

import trm
from conftest import TRM, numpy_loss

DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]


def test_quickstart():
    loss = trm.Loss("mask: seq_max_k2 <= 0.05 && ratio in [0.5, 2]; surrogate: importance_ratio; aggregate: token_mean")
    result = loss(logp=np.array([-0.9, -1.2, -0.3, -2.0, -0.5, -0.7], np.float32),
                  rollout_logp=np.array([-1.0, -1.1, -0.3, -1.2, -9.9, -0.7], np.float32),
                  loss_mask=[1, 1, 1, 1, 0, 1], advantages=[1.0, -0.5], cu_seqlens=[0, 3, 6])
    assert f"{result.loss:.4f}" == "-0.6020"
    assert np.round(result.grad, 4).tolist() == pytest.approx([-0.2210, -0.1810, -0.2, 0, 0, 0])
    assert result.keep.tolist() == [True] * 3 + [False] * 3
    assert result.reasons.tolist() == [0, 0, 0, 3, 0, 1]
    assert result.weights.tolist() == [1, 1, 1, 0, 0, 0]
    assert (result.diagnostics.kept_tokens, result.diagnostics.tokens) == (3, 5)
    assert f"{result.diagnostics.kl_k3:.4f} {result.diagnostics.ess:.2f}" == "0.0519 0.94"


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(batch, dtype):
    rounded = {name: batch[name].astype(dtype).astype(np.float64) for name in ("logp", "rollout_logp")}
    want, want_grad, keep = numpy_loss(rounded["logp"], rounded["rollout_logp"], batch["advantages"], batch["loss_mask"])
    got = trm.Loss(TRM)(batch["logp"].astype(dtype), batch["rollout_logp"].astype(dtype), batch["advantages"],
                        batch["loss_mask"])
    real = np.float64 if dtype is np.float64 else np.float32
    assert got.grad.dtype == got.weights.dtype == real and got.keep.dtype == bool and got.reasons.dtype == np.uint16
    assert got.grad.shape == batch["logp"].shape
    tolerance = 1e-14 if real is np.float64 else 2e-6
    assert got.loss == pytest.approx(want, abs=tolerance)
    np.testing.assert_allclose(got.grad, want_grad, atol=tolerance)
    assert (got.keep == keep).all() and 0 < keep.sum() < batch["loss_mask"].sum()


def test_mixed_dtypes_are_widened(batch):
    loss, mask = trm.Loss(TRM), batch["loss_mask"]
    half, single = batch["logp"].astype(np.float16), batch["rollout_logp"].astype(np.float32)
    mixed = loss(half, single, batch["advantages"], mask)
    assert mixed.loss == loss(half.astype(np.float32), single, batch["advantages"], mask).loss
    assert loss(half, batch["rollout_logp"], batch["advantages"], mask).grad.dtype == np.float64


def test_layouts_have_the_same_bits(batch):
    loss, mask = trm.Loss(TRM), batch["loss_mask"]
    padded = loss(**batch)
    lengths = np.array([5, 7, 7, 7, 0])
    inside = np.arange(7) < lengths[:, None]
    tokens = {name: stream[inside] for name, stream in batch.items()}
    cu = np.concatenate([[0], np.cumsum(lengths)])
    for dtype in (np.int32, np.int64, np.uint16):
        packed = loss(**tokens, cu_seqlens=cu.astype(dtype))
        assert packed.loss == padded.loss and (packed.grad == padded.grad[inside]).all()
    runs = np.array([0, 5, 8, 12, 19, 26])  # sequence 1 in two runs
    segments = loss(**tokens, cu_seqlens=runs, sequence_of=[0, 1, 1, 2, 3], sequences=5)
    assert segments.loss == padded.loss and (segments.grad == padded.grad[inside]).all()


def test_contiguous_arrays_are_not_copied(batch):
    batch = {name: np.ascontiguousarray(stream) for name, stream in batch.items()}
    view = trm.Batch(**batch)
    loss = trm.Loss(TRM + "; penalty: squared_log_ratio(0.1)")
    for name, change in {"logp": 0.01, "rollout_logp": 0.02, "advantages": 0.1}.items():
        before = loss(view).loss
        batch[name] += change  # what a view sees
        assert loss(view).loss != before
    batch["loss_mask"][0, 1] = False
    assert loss(view).loss == loss(**batch).loss and loss(view).diagnostics.tokens == batch["loss_mask"].sum()


def test_strided_arrays(batch):
    loss = trm.Loss(TRM)
    want = loss(**batch)
    wide = {name: np.repeat(np.repeat(stream, 2, 0), 3, 1)[::2, ::3] for name, stream in batch.items()}
    columns = {name: np.asfortranarray(stream) for name, stream in batch.items()}
    backwards = {name: stream[::-1].copy()[::-1] for name, stream in batch.items()}
    for strided in (wide, columns, backwards):
        got = loss(**strided)
        assert got.loss == want.loss and (got.grad == want.grad).all()


class OnlyDLPack:
    def __init__(self, held):
        self.held = held

    def __dlpack__(self, **options):
        return self.held.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.held.__dlpack_device__()


def test_protocols(batch):
    loss, mask = trm.Loss(TRM), batch["loss_mask"]
    want = loss(**batch).loss
    assert loss(*(OnlyDLPack(batch[name]) for name in ("logp", "rollout_logp", "advantages")), mask).loss == want
    views = {name: memoryview(np.ascontiguousarray(stream)) for name, stream in batch.items()}
    assert loss(**views).loss == want
    flat = {name: array.array("d", batch[name].ravel()) for name in ("logp", "rollout_logp", "advantages")}
    assert loss(**flat, loss_mask=mask.ravel(), cu_seqlens=[0, 7, 14, 21, 28, 35]).loss == want
    assert loss(**{name: stream.tolist() for name, stream in batch.items()}).loss == want
    read_only = {name: stream.copy() for name, stream in batch.items()}
    for stream in read_only.values():
        stream.flags.writeable = False
    assert loss(**read_only).loss == want
    for dtype in (np.uint8, np.int64, np.float32, np.float64, np.float16, ml_dtypes.bfloat16):
        assert loss(**{**batch, "loss_mask": mask.astype(dtype)}).loss == want


def test_advantages_per_sequence(batch):
    loss, per_sequence = trm.Loss(TRM), np.array([1.0, -0.5, 2.0, 0.3, 4.0])
    del batch["advantages"]
    want = loss(**batch, advantages=np.repeat(per_sequence[:, None], 7, 1))
    for given in ({"advantages": per_sequence}, {"advantages": per_sequence[:, None]}, {"sequence_advantages": per_sequence}):
        assert loss(**batch, **given).loss == want.loss
    one_token_each = dict(logp=[-1.0, -2.0], rollout_logp=[-1.1, -2.0], advantages=[1.0, 2.0])
    assert loss(**one_token_each, cu_seqlens=[0, 1, 2]).loss == loss(**one_token_each, cu_seqlens=[0, 2, 2],
                                                                      sequence_of=[0, 1], sequences=2).loss
    with pytest.raises(ValueError, match="per token or per sequence here: both are 2; give the latter as sequence_adv"):
        loss(**one_token_each, cu_seqlens=[0, 2, 2])


def test_outputs_in_place(batch):
    loss = trm.Loss(TRM)
    want = loss(**batch)
    grad, keep, reasons = np.full((5, 7), np.nan), np.zeros((5, 7), bool), np.zeros((5, 7), np.uint16)
    got = loss(**batch, grad=grad, keep=keep, reasons=reasons, weights=False, diagnostics=False)
    assert got.grad is grad and got.keep is keep and got.reasons is reasons and got.weights is got.diagnostics is None
    assert (grad == want.grad).all() and (keep == want.keep).all() and (reasons == want.reasons).all()
    loss(**batch, grad=grad, accumulate=True, loss_scale=2.0)
    np.testing.assert_allclose(grad, 3 * want.grad, rtol=1e-15)
    logp = batch["logp"].copy()
    assert loss(**{**batch, "logp": logp}, grad=logp).grad is logp and (logp == want.grad).all()


def test_masked_slots_may_hold_anything(batch):
    loss = trm.Loss(TRM)
    want = loss(**batch)
    for bad in (np.nan, np.inf, -np.inf, 1e300):
        broken = {name: np.where(batch["loss_mask"], stream, bad) for name, stream in batch.items() if name != "loss_mask"}
        got = loss(**broken, loss_mask=batch["loss_mask"])
        assert got.loss == want.loss and (got.grad == want.grad).all()


def test_gradient_is_that_of_the_loss(batch):
    for spec in (TRM, "mask: seq_mean_k3 <= 0.1; surrogate: ppo_clip; penalty: squared_log_ratio(0.1); aggregate: seq_mean_token_mean"):
        loss, step = trm.Loss(spec), 1e-6
        grad = loss(**batch).grad
        for at in np.ndindex(5, 7):
            ends = []
            for direction in (step, -step):
                moved = batch["logp"].copy()
                moved[at] += direction
                ends.append(loss(**{**batch, "logp": moved}).loss)
            assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(grad[at], abs=1e-8)


def test_one_loss_in_many_threads(batch):
    loss, want, got = trm.Loss(TRM), trm.Loss(TRM)(**batch).loss, []
    threads = [threading.Thread(target=lambda: got.extend(loss(**batch).loss for _ in range(200))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [want] * 800


def test_gil_is_released():
    """While one thread is inside a call, another one runs Python: were it not so, it could not count before the call ends."""
    logp = np.full((4096, 2048), -1.0, np.float32)
    loss, inside, counted = trm.Loss(TRM), threading.Event(), []

    def count():
        inside.wait()
        n = 0
        while inside.is_set():
            n += 1
            if n % 100 == 0:
                time.sleep(0)  # hands over if somebody waits
        counted.append(n)

    other = threading.Thread(target=count)
    other.start()
    view = trm.Batch(logp, logp, logp[:, 0].copy())
    sys.setswitchinterval(1000.0)  # the interpreter itself does not hand over
    try:
        inside.set()
        loss(view, reasons=False, weights=False)
        inside.clear()
    finally:
        sys.setswitchinterval(0.005)
    other.join()
    assert counted[0] > 100


def refused(sentence, call, *arguments, **keywords):
    with pytest.raises(ValueError) as caught:
        call(*arguments, **keywords)
    assert sentence in str(caught.value) and str(caught.value).startswith("trm: ")


def test_mistakes_are_sentences(batch):
    loss = trm.Loss(TRM)
    refused('line 1, column 7: unknown criterion "seq_max_k7", did you mean "seq_max_k1"?', trm.Loss, "mask: seq_max_k7 <= 0.05")
    refused("the loss reads a stream that the batch does not have", loss, batch["logp"], batch["rollout_logp"])
    refused("rollout_logp has the shape (5, 6), logp (5, 7)", loss, batch["logp"], batch["rollout_logp"][:, :6])
    refused("advantages has the shape (4,); give one number per token, (5, 7), or per sequence, (5,)", loss, batch["logp"],
            batch["rollout_logp"], np.ones(4))
    refused("cu_seqlens", loss, batch["logp"].ravel(), batch["rollout_logp"].ravel())
    flat = batch["logp"].ravel()
    refused("cu_seqlens must start at 0, never decrease", loss, flat, flat, flat, cu_seqlens=[0, 20, 10, 35])
    refused("cu_seqlens must have integers", loss, flat, flat, flat, cu_seqlens=[0.0, 35.0])
    refused("logp must have floating-point numbers", loss, np.ones((2, 2), int), batch["logp"])
    refused("has a type of elements that trm does not read", loss, np.ones((2, 2), complex))
    refused("rollout_logp is no array that speaks DLPack or the buffer protocol, but object", loss, batch["logp"], object())
    refused("grad must be True, False or a writable contiguous array of float64", loss, **batch, grad=np.zeros((5, 7), np.float32))
    refused("grad must have the shape (5, 7)", loss, **batch, grad=np.zeros((7, 5)))
    read_only = np.zeros((5, 7))
    read_only.flags.writeable = False
    refused("writable", loss, **batch, grad=read_only)
    refused("to accumulate, give the array", loss, **batch, accumulate=True)
    nan = batch["logp"].copy()
    nan[3, 4] = np.nan
    refused("not finite inside loss_mask (sequence 3, token 4)", trm.Loss(TRM + "; strict: true"), **{**batch, "logp": nan})
    with pytest.raises(TypeError):
        loss(**batch, wrong=1)


def test_text_json_and_pickle(batch):
    loss = trm.Loss(TRM)
    same = trm.Loss.from_json({"trm": 1, "mask": [{"name": "seq_max_k2", "at_most": 0.05},
                                                  {"name": "ratio", "at_least": 0.8, "at_most": 1.25}],
                               "surrogate": "importance_ratio"})
    assert loss == same == trm.Loss.from_json(json.dumps({"mask": [
        {"name": "seq_max_k2", "at_most": 0.05}, {"name": "ratio", "at_least": 0.8, "at_most": 1.25}]}))
    assert hash(loss) == hash(same) and loss != trm.Loss("mask: none")
    assert trm.Loss(loss.spec) == loss and eval(repr(loss)) == loss and pickle.loads(pickle.dumps(loss)) == loss
    refused("/mask: unknown criterion", trm.Loss.from_json, {"mask": {"name": "seq_max_k7", "at_most": 1}})
    refused("", trm.Loss.from_json, "{")


def test_presets(root, batch):
    assert trm.Loss.preset("trm_max", 0.05).spec == trm.presets["trm_max"](delta=0.05).spec
    assert "eps_high=0.28" in trm.Loss.preset("trl_dapo", eps_high=0.28).spec
    assert "truncate_above=3" in trm.Loss.preset("decoupled_geo_rs_seq_tis", is_=3.0).spec
    assert repr(trm.presets["trl_dapo"]) == "trm.presets['trl_dapo'](eps_low=0.2, eps_high=0.2)"
    assert trm.presets["trm_max"].__doc__.startswith("The same from sampled tokens")
    refused("delta has no default", trm.presets["trm_max"])
    refused("preset trl_dapo has no parameter 'epsilon'; it has eps_low, eps_high", trm.presets["trl_dapo"], epsilon=1)
    refused('unknown preset "trl_dap", did you mean "trl_dapo"?', trm.Loss.preset, "trl_dap")
    refused("does not take 3 parameters", trm.presets["trl_dapo"], 1, 2, 3)
    header = (root / "include/trm/loss/presets/by_name.hpp").read_text()
    for name, preset in trm.presets.items():
        assert f"TRM_PRESET({name}, " in header
        required = [parameter for parameter, default in preset.parameters.items() if default is None]
        assert isinstance(preset(**{parameter: 1.5 for parameter in required}), trm.Loss)
        defaults = {parameter: default for parameter, default in preset.parameters.items() if default is not None}
        assert preset(**defaults, **dict.fromkeys(required, 1.5)) == preset(**dict.fromkeys(required, 1.5))
        # the defaults in Python are those of the library
        plain = trm._trm.Loss.from_preset(f"{name}({', '.join(f'{parameter}=1.5' for parameter in required)})")
        assert plain.text == preset(**dict.fromkeys(required, 1.5)).spec
    assert "Without importance weights" in trm.presets["trl_luspo_uncorrected"].__doc__
    assert len(trm.presets) == header.count("\n    TRM_PRESET(") > 60


def test_phases_are_the_call(batch):
    """Two ranks with uneven shares of the sequences, one rank without tokens, two micro-batches."""
    for spec in (TRM, TRM + "; divide_by: kept", "mask: seq_mean_k3 <= 0.01; aggregate: prompt_mean; surrogate: ppo_clip"):
        loss, groups = trm.Loss(spec), np.array([0, 0, 1, 1, 2], np.int32)
        whole = loss(**batch, group_of=groups)
        parts = [slice(0, 1), slice(1, 4), slice(4, 5), slice(5, 5)]
        views = [trm.Batch(**{name: stream[part] for name, stream in batch.items()}, group_of=groups[part]) for part in parts]
        totals = [loss.measure(view) for view in views]
        merged = trm.Counts()
        for view, one in zip(views, totals):
            counts = loss.count(view, one)
            merged.add(counts.numbers, counts.prompts)
        results = [loss.apply(view, one, merged) for view, one in zip(views, totals)]
        assert sum(result.loss for result in results) == pytest.approx(whole.loss, rel=1e-13)
        np.testing.assert_allclose(np.concatenate([result.grad for result in results]), whole.grad, rtol=1e-13)
        diagnostics = results[0].diagnostics
        for result in results[1:]:
            diagnostics.merge(result.diagnostics)
        for name, value in whole.diagnostics.as_dict().items():
            assert diagnostics.as_dict()[name] == pytest.approx(value, rel=1e-12, abs=1e-15), name
    assert whole.diagnostics.rejected_sequences[0] > 0


def test_sequences_shared_between_ranks(batch):
    """Context parallel: each rank has some columns of every sequence."""
    loss = trm.Loss(TRM)
    whole = loss(**batch)
    views = [trm.Batch(**{name: stream[:, part] for name, stream in batch.items()}) for part in (slice(0, 3), slice(3, 7))]
    totals = [loss.measure(view) for view in views]
    sums, maxima = totals[0].sums + totals[1].sums, np.maximum(totals[0].maxima, totals[1].maxima)
    for one in totals:
        one.sums[:], one.maxima[:] = sums, maxima
    counts = loss.count(views[0], totals[0])
    counts.merge(loss.count(views[1], totals[1]))
    results = [loss.apply(view, one, counts) for view, one in zip(views, totals)]
    assert (np.concatenate([result.keep for result in results], 1) == whole.keep).all()
    np.testing.assert_allclose(np.concatenate([result.grad for result in results], 1), whole.grad, rtol=1e-13)


def test_selections_have_their_own_phase(batch):
    loss = trm.Loss("mask: budget(k2, limit=0.001); surrogate: ppo_clip")
    whole = loss(**batch)
    assert 0 < whole.keep.sum() < batch["loss_mask"].sum()
    view = trm.Batch(**batch)
    with pytest.raises(ValueError):
        loss.measure(view)
    loss.select(view)
    totals = loss.measure(view)
    result = loss.apply(view, totals, loss.count(view, totals))
    assert result.loss == whole.loss and (result.keep == whole.keep).all()


def test_empty_batches():
    loss = trm.Loss(TRM)
    for shape, cu in (((0, 5), None), ((3, 0), None), ((0,), [0]), ((0,), [0, 0, 0])):
        nothing = np.zeros(shape, np.float32)
        result = loss(nothing, nothing, nothing, cu_seqlens=cu)
        assert result.loss == 0 and result.grad.shape == shape and result.diagnostics.tokens == 0
