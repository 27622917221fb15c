# SPDX-License-Identifier: Apache-2.0
"""What the kernels aim for: a gate that a quiet machine must pass, and what is known to be reachable."""

import statistics


class rows:
    """Medians of a build's counters by row name."""

    def __init__(self, build, extra=None):
        self.width = build["width"]
        self.all = {**build["rows"], **(extra or {})}

    def __call__(self, name, counter):
        values = self.all.get(name, {}).get(counter)
        return statistics.median(values) if values else None

    def ratio(self, above, below, counter):
        a, b = self(above, counter), self(below, counter)
        return a / b if a and b else None

    def first(self, names, counter):
        """The counter of the first row that exists."""
        return next((v for v in (self(n, counter) for n in names) if v is not None), None)


def token(kind, size, rejected=10, threads=1, shape="ragged"):
    return f"token/{kind}/{shape}/2^{size}/r{rejected}/{threads}T"


def percent(x):
    return None if x is None else 100 * x


def by_width(wide, avx2, narrow=None):
    """A threshold that depends on how many floats a register holds."""
    return lambda width: {16: wide, 8: avx2}.get(width, narrow)


def worst_drop(r, kind):
    """Largest time at 80% rejected over time at 0%, over all sizes measured."""
    found = [r.ratio(token(kind, s, 80), token(kind, s, 0), "ns/token") for s in (14, 18, 22, 25)]
    return max((x for x in found if x is not None), default=None)


def small_batches(r, kind):
    """Largest time with an executor over time without, for batches of up to 2^16 tokens."""
    found = [r(f"threads/{kind}/{state}/2^{s}", "of_serial")
             for state, sizes in (("busy", (8, 10, 12, 14, 16)), ("idle", (12, 14, 16))) for s in sizes]
    return max((x for x in found if x is not None), default=None)


def peer(name):
    """How many times longer a peer takes than trm, one thread, in peers_torch.py's process."""
    return lambda r: r(f"peer/{name}/1T", "trm_speedup")


V = "V151936"
# text, unit, value(rows), gate, very good, sense: +1 larger is better. Thresholds: a number, a function of the register
# width, or None.
TARGETS = [
    ("Token kernel, 512 MiB, 1 thread: of regular-store ceiling", "%",
     lambda r: percent(r(token("ppo_quiet", 25), "of_regular")), 85, 100, 1),
    ("Token kernel, 512 MiB, 1 thread: of non-temporal ceiling", "%",
     lambda r: percent(r(token("ppo_quiet", 25), "of_streamed")), 60, 80, 1),
    ("Token kernel, 512 MiB, 2 threads: of non-temporal ceiling", "%",
     lambda r: percent(r(token("ppo_quiet", 25, threads=2), "of_streamed")), 75, 93, 1),
    ("Token kernel in L2, PPO clip: cycles/token", "",
     lambda r: r(token("ppo_quiet", 14), "cycles/token"), by_width(2.2, 3.3), by_width(1.3, 2.6), -1),
    ("Token kernel over scalar std::exp, L2", "x",
     lambda r: r.ratio(token("scalar", 14), token("ppo_quiet", 14), "ns/token"), by_width(12, 8), by_width(22, 13), 1),
    ("Token kernel over scalar std::exp, 512 MiB", "x",
     lambda r: r.ratio(token("scalar", 25), token("ppo_quiet", 25), "ns/token"), by_width(12, 8), by_width(18, 13), 1),
    ("Token kernel over naive Eigen per sequence, L2", "x",
     lambda r: r.ratio(token("eigen_naive", 14), token("ppo_quiet", 14), "ns/token"), 2.5, 3, 1),
    ("Token kernel over naive Eigen per sequence, 512 MiB", "x",
     lambda r: r.ratio(token("eigen_naive", 25), token("ppo_quiet", 25), "ns/token"), 2.5, 3, 1),
    ("80% rejected over 0%, max and mean criteria: worst size", "x", lambda r: worst_drop(r, "ppo_quiet"), 1.0, 1.0, -1),
    ("80% rejected over 0%, max criterion: worst size", "x", lambda r: worst_drop(r, "trm_max_quiet"), 1.0, 0.6, -1),
    ("loss_mask with runs of holes over none, L2", "x",
     lambda r: r.ratio(token("ppo_quiet_mask", 14), token("ppo_quiet", 14), "ns/token"), 1.2, 1.1, -1),
    ("loss_mask with runs of holes over none, 512 MiB", "x",
     lambda r: r.ratio(token("ppo_quiet_mask", 25), token("ppo_quiet", 25), "ns/token"), 1.2, 1.21, -1),
    ("loss_mask with scattered holes over none, L2", "x",
     lambda r: r.ratio(token("ppo_quiet_scattered_mask", 14), token("ppo_quiet", 14), "ns/token"), 1.2, 1.1, -1),
    ("80% rejected over none, 512 MiB, max criterion", "x",
     lambda r: r.ratio(token("trm_max_quiet", 25, 80), token("trm_max_quiet", 25, 0), "ns/token"), 0.9, 0.6, -1),
    ("Sequences of 16 tokens, L2: ns/token", "",
     lambda r: r(token("ppo_quiet", 14, shape="16"), "ns/token"), 1.0, 0.8, -1),
    ("any_loss over masked_loss, L2", "x",
     lambda r: r.ratio(token("any_loss_quiet", 14), token("ppo_quiet", 14), "ns/token"), 1.3, 1.1, -1),
    ("any_loss over masked_loss, 512 MiB", "x",
     lambda r: r.ratio(token("any_loss_quiet", 25), token("ppo_quiet", 25), "ns/token"), 1.05, 1.0, -1),
    ("OpenMP over serial, up to 2^16 tokens: worst", "x", lambda r: small_batches(r, "openmp"), 1.1, 1.03, -1),
    ("Logits f32 forward, 1 thread: of read ceiling", "%",
     lambda r: percent(r(f"forward/logp/f32/{V}/1T", "of_ceiling")), by_width(70, 60), by_width(94, 74), 1),
    ("Logits f32 forward, 2 threads: of read ceiling", "%",
     lambda r: percent(r(f"forward/logp/f32/{V}/2T", "of_ceiling")), 85, 100, 1),
    ("Logits f32 forward with entropy, 1 thread: of read ceiling", "%",
     lambda r: percent(r(f"forward/logp+entropy/f32/{V}/1T", "of_ceiling")), 65, 85, 1),
    ("Entropy beside log-probabilities", "x",
     lambda r: r.ratio(f"forward/logp/f32/{V}/1T", f"forward/logp+entropy/f32/{V}/1T", "of_ceiling"), 1.15, 1.06, -1),
    ("Logits f32 backward in place: of in-place ceiling", "%",
     lambda r: percent(r(f"backward/in_place/f32/{V}/1T", "of_ceiling")), 75, 96, 1),
    ("Logits f32 backward, non-temporal: of copy ceiling", "%",
     lambda r: percent(r(f"backward/copy_nt/f32/{V}/1T", "of_ceiling")), 85, 104, 1),
    ("Logits bf16 forward, 1 thread: of read ceiling", "%",
     lambda r: percent(r(f"forward/logp/bf16/{V}/1T", "of_ceiling")), 35, 50, 1),
    ("Logits bf16 forward, 2 threads: of read ceiling", "%",
     lambda r: percent(r(f"forward/logp/bf16/{V}/2T", "of_ceiling")), 60, 79, 1),
    ("Exact KL f32, 1 thread: of reading both", "%",
     lambda r: percent(r(f"divergence/kl/f32/{V}/1T", "of_ceiling")), 40, 55, 1),
    ("Exact KL f32, 2 threads: of reading both", "%",
     lambda r: percent(r(f"divergence/kl/f32/{V}/2T", "of_ceiling")), 60, 85, 1),
    ("KL and TV f32, 1 thread: of reading both", "%",
     lambda r: percent(r(f"divergence/kl+tv/f32/{V}/1T", "of_ceiling")), 28, 37, 1),
    ("KL and TV f32, 2 threads: of reading both", "%",
     lambda r: percent(r(f"divergence/kl+tv/f32/{V}/2T", "of_ceiling")), 45, 60, 1),
    ("Logits forward over naive Eigen", "x",
     lambda r: r.first([f"forward/eigen/f32/{V}/1T", f"forward/eigen/logp/f32/{V}/1T"], "trm_speedup"), 1.7, 2.5, 1),
    ("Logits forward over scalar", "x",
     lambda r: r.first([f"forward/scalar/f32/{V}/1T", f"forward/scalar/logp/f32/{V}/1T"], "trm_speedup"), 15, 27, 1),
    ("torch eager token loss, forward and backward, 2^20 tokens", "x",
     peer("torch/token_loss/fwd+bwd/1024x1024"), 15, 30, 1),
    ("numpy token loss and gradient by hand, 2^20 tokens", "x",
     peer("numpy/token_loss/fwd+manual_grad/1024x1024"), 8, 14, 1),
    ("torch log_softmax and gather, forward", "x", peer("torch/log_softmax+gather/fwd/f32/N1024/V32768"), 5, 8, 1),
    ("torch cross_entropy, forward and backward", "x", peer("torch/cross_entropy/fwd+bwd/f32/N1024/V32768"), 4, 5.5, 1),
    ("torch log-probabilities and entropy as verl has them, forward", "x",
     peer("torch/verl_logp+entropy/fwd/f32/N1024/V32768"), 15, 24, 1),
    ("the same, forward and backward", "x", peer("torch/verl_logp+entropy/fwd+bwd/f32/N1024/V32768"), 30, 47, 1),
    ("Fused LM head over its products alone", "x",
     lambda r: r("linear/logp+entropy/f32/N1024/H1024/V32768/1T", "of_products"), 1.05, 1.02, -1),
    ("Fused LM head, a quarter of the rows kept, 1 thread: time of all rows", "x",
     lambda r: r("linear/forward+backward/kept25/f32/N1024/H1024/V32768/1T", "of_all_rows"), 0.30, 0.25, -1),
    ("the same, 2 threads", "x",
     lambda r: r("linear/forward+backward/kept25/f32/N1024/H1024/V32768/2T", "of_all_rows"), 0.30, 0.25, -1),
    ("CPU seconds of trm.hpp and one loss, over xsimd and Eigen/Core, default flags", "x",
     lambda r: r("compile/trm.hpp, one loss", "ratio"), 1.5, 1.2, -1),
    ("the same, loss/masked_loss.hpp and one loss", "x",
     lambda r: r("compile/loss/masked_loss.hpp, one loss", "ratio"), 1.5, 1.2, -1),
    ("the same, one any_loss without parse_spec", "x",
     lambda r: r("compile/loss/any_loss.hpp, one loss", "ratio"), 3.0, 2.0, -1),
    ("the same, compiled in another file", "x",
     lambda r: r("compile/loss/any_loss_extern.hpp, one loss", "ratio"), 3.0, 2.0, -1),
]


def verdict(value, gate, very_good, sense):
    if value is None or gate is None:
        return ""
    if sense * value >= sense * very_good:
        return "very good"
    return "met" if sense * value >= sense * gate else "MISSED"
