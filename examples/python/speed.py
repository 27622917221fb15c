# SPDX-License-Identifier: Apache-2.0
"""What a call from Python costs beside the C call that it ends in, and beside the same loss in eager and compiled PyTorch and
in jitted JAX, on the same arrays, one thread, in turn. Then log-probabilities of logits and their gradient.

    python speed.py [--tokens 1048576] [--rows 256] [--vocab 32768] [--rounds 30]

torch and jax are left out where they are not installed. trm runs on the widest vector unit of the CPU (TRM_CPU in the environment
chooses another), or on the one that it was built for.
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

    def forward():
        return trm.torch.masked_loss(SPEC, logp, rollout, advantages).loss.item()

    ours = backward(lambda x: trm.torch.masked_loss(SPEC, x, rollout, advantages).loss)
    return {f"trm.torch ({torch.__version__}), the operator": forward, "trm.torch, forward + backward": ours,
            "eager PyTorch, forward + backward": backward(step), "torch.compile, forward + backward": backward(torch.compile(step))}


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
    return {f"trm.jax ({jax.__version__}), value_and_grad under jit": ours, "JAX, value_and_grad under jit": both(plain)}


def logits_rows(rows, vocab):
    """Sum of d * log-probability of the targets, and of d * entropy; its gradient in the logits."""
    random = np.random.default_rng(8)
    logits = (4 * random.standard_normal((rows, vocab))).astype(np.float32)
    targets, d = random.integers(0, vocab, rows), random.uniform(-1, 1, rows).astype(np.float32)

    def ours(entropy):
        logp, h, logsumexp = trm.log_prob(logits, targets, logsumexp=True, entropy=entropy)
        trm.logits_gradient(logits, targets, logsumexp, d, **(dict(d_entropy=d, entropy=h) if entropy else {}))
        return float(d @ (logp + h if entropy else logp))

    table = {"trm.log_prob, trm.logits_gradient": lambda: ours(False), "the same with entropy": lambda: ours(True)}
    try:
        import torch
    except ImportError:
        return table
    torch.set_num_threads(1)
    weights, ids = torch.from_numpy(d), torch.from_numpy(targets)[:, None]

    def theirs(x, entropy):
        every = torch.log_softmax(x, -1)
        logp = every.gather(-1, ids)[:, 0]
        return weights @ (logp - (every.exp() * every).sum(-1) if entropy else logp)

    def backward(function, entropy):
        def run():
            x = torch.from_numpy(logits).requires_grad_()
            value = function(x, entropy)
            value.backward()
            return value.item()
        return run

    for name, function in {"eager PyTorch": theirs, "torch.compile": torch.compile(theirs, dynamic=False)}.items():
        table[f"{name}, log_softmax and gather"] = backward(function, False)
        table[f"{name}, the same with entropy"] = backward(function, True)
    return table


def compare(title, rows, rounds, tolerance):
    """Runs all in turn and prints a table. All must give what the first gives, those with entropy what the first of them gives."""
    for name, run in rows.items():
        run()  # compiles
        want = next(other for key, other in rows.items() if ("entropy" in key) == ("entropy" in name))()
        if abs(run() - want) > tolerance * max(1.0, abs(want)):
            raise SystemExit(f"{name}: {run()} and not {want}")
    times = {name: [] for name in rows}
    for _ in range(rounds):
        for name, run in rows.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    base = min(next(iter(times.values())))
    print(f"{title}, one thread, {rounds} rounds\n{'':52s} {'median us':>10s} {'least us':>10s}  of the first row's least")
    for name, seconds in times.items():
        print(f"{name:52s} {1e6 * statistics.median(seconds):10.1f} {1e6 * min(seconds):10.1f} {min(seconds) / base:8.2f} x")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1 << 20, help="a multiple of 1024")
    parser.add_argument("--rows", type=int, default=256, help="of logits; 0: leave them out")
    parser.add_argument("--vocab", type=int, default=32768)
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
    compare(f"{options.tokens} tokens", rows, options.rounds, 1e-5)
    if options.rows == 0:
        return
    print()
    compare(f"{options.rows} x {options.vocab} logits", logits_rows(options.rows, options.vocab), max(options.rounds // 3, 3), 1e-4)


if __name__ == "__main__":
    main()
