# SPDX-License-Identifier: Apache-2.0
"""What a call from Python costs beside the C call that it ends in, and beside the same loss in eager and compiled PyTorch and
in jitted JAX, on the same arrays, one thread, in turn.

    python speed.py [--tokens 1048576] [--rounds 30]

torch and jax are left out where they are not installed. trm runs on the vector unit that it was built for.
"""

import argparse
import ctypes
import os
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np

import trm

SPEC = "mask: seq_max_k3 <= 0.125 && seq_mean_k3 <= 0.01; surrogate: ppo_clip"


class Stream(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("stride", ctypes.c_int64)]


class CBatch(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("dtype", ctypes.c_int32), ("layout", ctypes.c_int32)] + [
        (name, ctypes.c_int64) for name in ("tokens", "sequences", "runs")] + [
        ("cu_seqlens", ctypes.c_void_p), ("cu_dtype", ctypes.c_int32), ("partial", ctypes.c_int32),
        ("sequence_of", ctypes.c_void_p), ("max_tokens", ctypes.c_int64), ("row_stride", ctypes.c_int64)] + [
        (name, Stream) for name in ("logp", "rollout_logp", "proximal_logp", "ref_logp", "advantages", "given",
                                    "token_weights", "loss_mask")] + [
        (name, ctypes.c_void_p) for name in ("sequence_advantages", "group_of", "rejected", "marks")]


class COutputs(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t)] + [(name, Stream) for name in ("grad", "keep", "reasons", "weights")] + [
        ("loss_scale", ctypes.c_double), ("accumulate", ctypes.c_int32), ("reserved", ctypes.c_int32)]


def c_call(logp, rollout, advantages, grad):
    """The call of the C interface, with everything made beforehand."""
    library = ctypes.CDLL(os.path.join(os.path.dirname(trm.__file__), "libtrm_c.so"))
    for function in (library.trm_loss_from_text, library.trm_scratch_new):
        function.restype = ctypes.c_void_p
    loss = ctypes.c_void_p(library.trm_loss_from_text(SPEC.encode(), None))
    scratch, value = ctypes.c_void_p(library.trm_scratch_new()), ctypes.c_double()
    batch = CBatch(size=ctypes.sizeof(CBatch), dtype=1, layout=2, tokens=logp.size, sequences=logp.shape[0],
                   max_tokens=logp.shape[1], logp=Stream(logp.ctypes.data, 0), rollout_logp=Stream(rollout.ctypes.data, 0),
                   advantages=Stream(advantages.ctypes.data, 0))
    out = COutputs(size=ctypes.sizeof(COutputs), grad=Stream(grad.ctypes.data, 0), loss_scale=1.0)

    def call():
        code = library.trm_loss_call(loss, ctypes.byref(batch), ctypes.byref(out), None, scratch, ctypes.byref(value), None, None)
        assert code == 0
        return value.value

    return call


def torch_rows(arrays, call):
    import torch

    import trm.torch

    torch.set_num_threads(1)
    logp, rollout, advantages = (torch.from_numpy(x) for x in arrays)

    def step(x):
        log_ratio = torch.clamp(x - rollout, -20.0, 20.0)
        ratio = torch.exp(log_ratio)
        k3 = (ratio - 1 - log_ratio).detach()
        keep = ((k3.amax(-1) <= 0.125) & (k3.mean(-1) <= 0.01)).unsqueeze(-1)
        losses = torch.maximum(-advantages * ratio, -advantages * torch.clamp(ratio, 0.8, 1.2))
        return (losses * keep).sum() / x.numel()

    def backward(function):
        def run():
            x = logp.detach().requires_grad_()
            loss = function(x)
            loss.backward()
            return loss.item()
        return run

    compiled = torch.compile(step)
    ours = backward(lambda x: trm.torch.masked_loss(SPEC, x, rollout, advantages).loss)
    return {f"trm.torch, {torch.__version__}, forward + backward": ours, "eager PyTorch": backward(step),
            "torch.compile": backward(compiled)}


def jax_rows(arrays, call):
    import jax
    import jax.numpy as jnp

    import trm.jax

    logp, rollout, advantages = (jnp.asarray(x) for x in arrays)

    def plain(x):
        log_ratio = jnp.clip(x - rollout, -20.0, 20.0)
        ratio = jnp.exp(log_ratio)
        k3 = jax.lax.stop_gradient(ratio - 1 - log_ratio)
        keep = ((k3.max(-1) <= 0.125) & (k3.mean(-1) <= 0.01))[:, None]
        losses = jnp.maximum(-advantages * ratio, -advantages * jnp.clip(ratio, 0.8, 1.2))
        return (losses * keep).sum() / x.size

    def both(function):
        compiled = jax.jit(jax.value_and_grad(function))
        return lambda: float(jax.block_until_ready(compiled(logp))[0])

    ours = both(lambda x: trm.jax.masked_loss(SPEC, x, rollout, advantages).loss)
    return {f"trm.jax, {jax.__version__}, value_and_grad under jit": ours, "jitted JAX": both(plain)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1 << 20, help="a multiple of 1024")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    random, shape = np.random.default_rng(7), (options.tokens // 1024, 1024)
    rollout = (-0.05 - 3 * random.random(shape)).astype(np.float32)
    logp = (rollout + 0.05 * random.standard_normal(shape)).astype(np.float32)
    logp[::10, 512] += 1.0  # a tenth of the sequences leave the trust region
    arrays = logp, rollout, random.uniform(-1, 1, shape).astype(np.float32)
    grad, loss = np.empty_like(logp), trm.Loss(SPEC)
    only = dict(keep=False, reasons=False, weights=False, diagnostics=False)
    call = c_call(*arrays, grad)
    rows = {"C interface, gradient": call,
            "trm.Loss, gradient into an array": lambda: loss(*arrays, grad=grad, **only).loss,
            "trm.Loss, gradient": lambda: loss(*arrays, **only).loss,
            "trm.Loss, all results": lambda: loss(*arrays).loss}
    for make in (torch_rows, jax_rows):
        try:
            rows.update(make(arrays, call))
        except ImportError as reason:
            print(f"left out: {reason}")
    want = call()
    for name, run in rows.items():
        run()
        if abs(run() - want) > 1e-5:
            raise SystemExit(f"{name}: {run()} and not {want}")
    times = {name: [] for name in rows}
    for _ in range(options.rounds):
        for name, run in rows.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    base = statistics.median(times["C interface, gradient"])
    print(f"{options.tokens} tokens, medians of {options.rounds}")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{name:55s} {1e6 * median:10.1f} us {median / base:8.2f} x")


if __name__ == "__main__":
    main()
