#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times what trainers run today, torch in eager mode (with --compile also torch.compile) and numpy, beside trm in one process
on the same arrays.

    bench/peers_torch.py --threads 1 --out peers.json

Needs torch (Debian: python3-torch; the current one from PyPI, which --compile wants) and a C++ compiler, or --trm with a built library (target trm_peers). Rows in Google
Benchmark's format: real_time is the peer's median; `trm_speedup` how many times longer it takes than trm, `trm_ms` trm's
own median, taken in turn. Results of both are compared before anything is timed.

Threads are set before torch starts: OMP_NUM_THREADS, OPENBLAS_NUM_THREADS (torch.set_num_threads alone does not limit
BLAS). The C allocator is tuned by default (no mmap, no trimming), which keeps page faults out of torch's temporaries and
is several times faster than what torch gets otherwise: --allocator default measures that. The token rows have no padding;
a padded batch multiplies their time by 1 / fill."""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CHILD = "TRM_PEERS_CHILD"


def build_library(directory):
    path = os.path.join(directory, "libtrm_peers.so")
    subprocess.run([os.environ.get("CXX", "c++"), "-std=c++20", "-O3", "-DNDEBUG", "-march=native", "-shared", "-fPIC", "-pthread",
                    "-I", os.path.join(HERE, "..", "include"), os.path.join(HERE, "peers_trm.cpp"), "-o", path], check=True)
    return path


def launch(arguments):
    """The measuring process, with threads and allocator set before anything is loaded."""
    with tempfile.TemporaryDirectory() as directory:
        library = arguments.trm or build_library(directory)
        threads = str(arguments.threads)
        env = dict(os.environ, OMP_NUM_THREADS=threads, OPENBLAS_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
        env[CHILD] = "1"
        if arguments.allocator == "tuned":
            env.update(MALLOC_MMAP_MAX_="0", MALLOC_TRIM_THRESHOLD_=str(1 << 40), MALLOC_TOP_PAD_=str(64 << 20))
        return subprocess.run([sys.executable, os.path.abspath(__file__), "--trm", os.path.abspath(library), "--threads", threads,
                               "--allocator", arguments.allocator, "--rounds", str(arguments.rounds)]
                              + (["--compile"] if arguments.compile else [])
                              + (["--out", arguments.out] if arguments.out else []), env=env).returncode


def measure(arguments):
    import numpy as np
    import torch
    import torch.nn.functional as F

    threads = arguments.threads
    torch.set_num_threads(threads)
    trm = ctypes.CDLL(arguments.trm)
    trm.peers_token_loss.restype = ctypes.c_double
    i64 = ctypes.c_int64
    rows_out = []

    def pointer(t):
        return ctypes.c_void_p(None if t is None else t.data_ptr())

    def seconds(f):
        start = time.perf_counter()
        f()
        return time.perf_counter() - start

    def row(name, peer, ours):
        peer(), ours()
        theirs, mine = [], []
        for _ in range(arguments.rounds):
            theirs.append(seconds(peer))
            mine.append(seconds(ours))
        a, b = statistics.median(theirs), statistics.median(mine)
        suffix = "" if arguments.allocator == "tuned" else "/default_malloc"
        name = f"peer/{name}/{threads}T{suffix}"
        rows_out.append({"name": name, "run_name": name, "run_type": "iteration", "iterations": arguments.rounds,
                         "threads": 1, "real_time": a * 1e3, "cpu_time": a * 1e3, "time_unit": "ms", "trm_ms": b * 1e3,
                         "trm_speedup": a / b})
        print(f"{name:62s} {a * 1e3:10.2f} ms   trm {b * 1e3:8.2f} ms   {a / b:6.1f} x", flush=True)

    def same(what, a, b, tolerance):
        worst = (a.double() - b.double()).abs().max().item()
        if not worst <= tolerance:
            raise SystemExit(f"{what}: trm and its peer differ by {worst}")

    def tokens(count, length):
        n = count * length
        torch.manual_seed(7)
        rollout = -0.05 - 3 * torch.rand(count, length)
        logp = rollout + 0.05 * torch.randn(count, length)
        logp[::10, length // 2] += 1.0  # a tenth of the sequences leave the trust region
        advantage = 2 * torch.rand(count, length) - 1
        grad = torch.zeros(count, length)

        def formula(x):
            log_ratio = torch.clamp(x - rollout, -20.0, 20.0)
            ratio = torch.exp(log_ratio)
            with torch.no_grad():
                k3 = ratio - 1 - log_ratio
                keep = ((k3.amax(-1) <= 0.125) & (k3.mean(-1) <= 0.01)).unsqueeze(-1).float()
            losses = torch.maximum(-advantage * ratio, -advantage * torch.clamp(ratio, 0.8, 1.2))
            return (losses * keep).sum() / n

        def verl(backward, function=formula):
            x = logp.detach().requires_grad_(backward)
            loss = function(x)
            if backward:
                loss.backward()
            return loss.detach(), x.grad

        def by_hand():
            lp, mu, a = logp.numpy(), rollout.numpy(), advantage.numpy()
            log_ratio = np.clip(lp - mu, -20.0, 20.0)
            ratio = np.exp(log_ratio)
            k3 = ratio - 1 - log_ratio
            keep = ((k3.max(-1) <= 0.125) & (k3.mean(-1) <= 0.01))[:, None]
            clipped = np.clip(ratio, 0.8, 1.2)
            loss = np.where(keep, np.maximum(-a * ratio, -a * clipped), 0.0).sum() / n
            inside = keep & (-a * ratio >= -a * clipped)
            return loss, np.where(inside, -a * ratio, 0.0) / n

        def ours():
            return trm.peers_token_loss(pointer(logp), pointer(rollout), pointer(advantage), i64(count), i64(length),
                                        pointer(grad), threads)

        want, want_grad = verl(True)
        got = ours()
        same("loss", torch.tensor(got), want, 1e-5)
        same("gradient", grad * n, want_grad * n, 1e-4)
        loss, g = by_hand()
        same("loss by hand", torch.tensor(got), torch.tensor(loss), 1e-5)
        same("gradient by hand", grad * n, torch.from_numpy(g) * n, 1e-4)
        shape = f"{count}x{length}"
        row(f"torch/token_loss/fwd+bwd/{shape}", lambda: verl(True), ours)
        row(f"torch/token_loss/fwd/{shape}", lambda: verl(False), ours)
        if arguments.compile:
            compiled = torch.compile(formula)
            same("compiled loss", verl(True, compiled)[0], want, 1e-5)
            row(f"torch.compile/token_loss/fwd+bwd/{shape}", lambda: verl(True, compiled), ours)
        if threads == 1:
            row(f"numpy/token_loss/fwd+manual_grad/{shape}", by_hand, ours)

    def logits(count, vocab, dtype):
        torch.manual_seed(8)
        x = (2 * torch.randn(count, vocab)).to(dtype)
        ids = torch.randint(vocab, (count,))
        up, up_h = torch.full((count,), -0.5), torch.full((count,), 0.01)
        logp, h, lse = torch.zeros(count), torch.zeros(count), torch.zeros(count, dtype=torch.float64)
        out = torch.zeros(count, vocab, dtype=dtype)
        kind = "f32" if dtype == torch.float32 else "bf16"
        forward, backward = getattr(trm, f"peers_log_prob_{kind}"), getattr(trm, f"peers_gradient_{kind}")

        def ours(entropy, gradient):
            if not forward(pointer(x), i64(count), i64(vocab), pointer(ids), pointer(logp), pointer(lse),
                           pointer(h if entropy else None), threads):
                raise SystemExit("log_prob failed")
            if gradient and not backward(pointer(x), i64(count), i64(vocab), pointer(ids), pointer(lse), pointer(up),
                                         pointer(up_h if entropy else None), pointer(h if entropy else None), pointer(out), threads):
                raise SystemExit("logits_gradient failed")

        def log_softmax(z):
            return F.log_softmax(z.float(), -1).gather(-1, ids[:, None])[:, 0], None

        def from_logsumexp(z):
            z = z.float()
            return z.gather(-1, ids[:, None])[:, 0] - torch.logsumexp(z, -1), None

        def verl(z):  # its log-probabilities go row by row, its entropy takes the logsumexp and the softmax again
            total = torch.stack([torch.logsumexp(one, -1) for one in z])
            p = torch.softmax(z, -1)
            return z.gather(-1, ids[:, None])[:, 0] - total, torch.logsumexp(z, -1) - (p * z).sum(-1)

        def with_entropy(z):  # the same without the loop, which would be compiled row by row
            total, p = torch.logsumexp(z, -1), torch.softmax(z, -1)
            return z.gather(-1, ids[:, None])[:, 0] - total, total - (p * z).sum(-1)

        def cross_entropy(z):
            return -F.cross_entropy(z.float(), ids, reduction="none"), None

        def run(f, gradient):
            z = x.detach().requires_grad_(gradient)
            with torch.set_grad_enabled(gradient):
                lp, entropy = f(z)
                if gradient:
                    (up @ lp + (0 if entropy is None else up_h @ entropy)).backward()
            return lp.detach(), entropy if entropy is None else entropy.detach(), z.grad

        x32 = x.detach().float().requires_grad_()
        lp, entropy = verl(x32)
        (up @ lp + up_h @ entropy).backward()
        g = x32.grad
        ours(True, True)
        same("log-prob", logp, lp.detach(), 2e-5)
        same("entropy", h, entropy.detach(), 5e-4)
        same("d logits", out, g, 1e-4 if kind == "f32" else 4e-3)
        del lp, entropy, g, x32
        tail = f"{kind}/N{count}/V{vocab}"
        for name, f, entropy in (("log_softmax+gather", log_softmax, False), ("gather-logsumexp", from_logsumexp, False),
                                 ("cross_entropy", cross_entropy, False), ("verl_logp+entropy", verl, True)):
            for gradient in (False, True):
                if kind == "bf16" and f is not log_softmax or f is from_logsumexp and gradient:
                    continue
                row(f"torch/{name}/{'fwd+bwd' if gradient else 'fwd'}/{tail}", lambda: run(f, gradient),
                    lambda: ours(entropy, gradient))
        for name, f, entropy in (("log_softmax+gather", log_softmax, False), ("verl_logp+entropy", with_entropy, True)):
            if arguments.compile and kind == "f32":
                compiled = torch.compile(f)
                row(f"torch.compile/{name}/fwd+bwd/{tail}", lambda: run(compiled, True), lambda: ours(entropy, True))
        if threads == 1 and kind == "f32":
            z, index = x.numpy(), ids.numpy()

            def by_numpy():
                top = z.max(-1, keepdims=True)
                return z[np.arange(count), index] - top[:, 0] - np.log(np.exp(z - top).sum(-1))

            row(f"numpy/logp/fwd/{tail}", by_numpy, lambda: ours(False, False))

    for count, length in ((128, 1024), (1024, 1024)):
        tokens(count, length)
    for count, vocab in ((1024, 32768), (256, 151936)):
        logits(count, vocab, torch.float32)
        logits(count, vocab, torch.bfloat16)

    document = {"context": {"torch": torch.__version__, "numpy": np.__version__, "threads": threads,
                            "allocator": arguments.allocator, "floats per register": str(trm.peers_simd_width())},
                "benchmarks": rows_out}
    if arguments.out:
        with open(arguments.out, "w") as f:
            json.dump(document, f, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, choices=(1, 2), help="threads of torch and of trm")
    parser.add_argument("--out", help="write the rows to this file")
    parser.add_argument("--trm", help="library of the target trm_peers; default: compiled for this machine with $CXX")
    parser.add_argument("--allocator", choices=("tuned", "default"), default="tuned")
    parser.add_argument("--compile", action="store_true", help="also time torch.compile")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if CHILD in os.environ:
        measure(arguments)
    else:
        sys.exit(launch(arguments))


if __name__ == "__main__":
    main()
