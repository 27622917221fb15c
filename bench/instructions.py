#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Instructions per token and per sequence, counted by valgrind, which no other work on the machine disturbs.

    bench/instructions.py --flags "-O3 -march=x86-64-v3"

Valgrind 3.19 knows no AVX-512. Counted is the whole call, in sequences of 16384 and of 16 tokens; the kernel is what
`simd::on_unit` enters.

    bench/instructions.py --compiler aarch64-linux-gnu-g++ --flags "-O2 -static -idirafter /usr/include" --emulator qemu-aarch64

counts what the emulator steps through, for a CPU that is not at hand: two calls less one, without the split."""

import argparse
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")

PROGRAM = """
#include <trm/loss/any_loss.hpp>
#include <trm/loss/masked_loss.hpp>
#include <trm/loss/to_spec.hpp>
#include <cstdlib>
#include <cstring>
#include <vector>

static std::vector<float> logp, rollout, advantage, grad;
static std::vector<std::uint8_t> mask;
static std::vector<std::int64_t> cu;
static int calls;

template <class Loss>
__attribute__((noinline)) void counted(Loss const& loss, trm::batch_view<float> const& batch) {
    for (int i = 0; i < calls; ++i)
        if (!loss(batch, grad).status.ok()) std::abort();
}

int main(int, char** argv) {
    std::size_t const tokens = 1 << 15;
    std::int64_t const length = std::atoll(argv[2]);
    calls = std::atoi(argv[3]);
    for (std::int64_t at = 0; at <= std::int64_t(tokens); at += length) cu.push_back(at);
    std::uint64_t state = 7;
    auto const next = [&] { return float((state = state * 6364136223846793005u + 1442695040888963407u) >> 40) * 0x1p-24f; };
    for (std::size_t t = 0; t < tokens; ++t) {
        rollout.push_back(-0.05f - 3 * next());
        logp.push_back(rollout[t] + 0.05f * (next() + next() + next() - 1.5f));
        advantage.push_back(2 * next() - 1);
        mask.push_back(next() * 16 >= 1);
    }
    grad.resize(tokens);
    trm::batch_view<float> batch{
        .logp = logp, .rollout_logp = rollout, .advantages = advantage, .layout = trm::packed{cu}};
    trm::sequence_mask const max{trm::k2{}, trm::stat::max, trm::at_most(0.125)};
    trm::sequence_mask const mean{trm::k3{}, trm::stat::mean, trm::at_most(0.5)};
    trm::masked_loss ppo{max && mean, trm::ppo_clip{}, trm::token_mean{}};
    char const* const which = argv[1];
    ppo.options.diagnose = std::strcmp(which, "diagnostics") == 0;
    if (std::strcmp(which, "scattered") == 0) batch.loss_mask = mask;
    if (std::strcmp(which, "max") == 0) {
        trm::masked_loss ratio{max, trm::importance_ratio{}, trm::token_mean{}};
        ratio.options.diagnose = false;
        counted(ratio, batch);
    } else if (std::strcmp(which, "any") == 0) {
        trm::any_loss loss{trm::to_spec(ppo)};
        loss.diagnose = false;
        counted(loss, batch);
    } else {
        counted(ppo, batch);
    }
}
"""
ROWS = [
    ("max", "maximum of k2, ratio times advantage"),
    ("ppo", "maximum of k2 and mean of k3, PPO clip"),
    ("diagnostics", "the same with diagnostics"),
    ("scattered", "the same without, one token in 16 masked at random"),
    ("any", "the same without, composed at run time"),
]


def instructions(directory, program, which, length, where):
    out = os.path.join(directory, "callgrind.out")
    subprocess.run(["valgrind", "--tool=callgrind", f"--toggle-collect={where}", f"--callgrind-out-file={out}", program, which,
                    str(length), "1"], check=True, capture_output=True)
    with open(out) as f:
        return int(re.search(r"^totals: (\d+)", f.read(), re.M).group(1))


def stepped(emulator, program, which, length):
    """Instructions of one call: qemu reports every block that it executes, and each is one instruction long."""
    counts = []
    for calls in ("1", "2"):
        with subprocess.Popen([emulator, "-singlestep", "-d", "exec,nochain", program, which, str(length), calls],
                              stderr=subprocess.PIPE) as run:
            counts.append(sum(line.startswith(b"Trace") for line in run.stderr))
        if run.returncode != 0:
            sys.exit(f"{emulator} failed")
    return counts[1] - counts[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", default="c++")
    parser.add_argument("--flags", default="-O3 -march=x86-64-v3")
    parser.add_argument("--only", action="append", choices=[which for which, _ in ROWS], help="a loss (may be given repeatedly)")
    parser.add_argument("--emulator", help="qemu's user mode for the CPU that is compiled for (qemu 7 or 8)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        source, program = os.path.join(directory, "one.cpp"), os.path.join(directory, "one")
        with open(source, "w") as f:
            f.write(PROGRAM)
        subprocess.run([arguments.compiler, "-std=c++20"] + arguments.flags.split() +
                       ["-isystem", os.path.join(ROOT, "include"), source, "-o", program], check=True)
        print(f"{arguments.compiler} {arguments.flags}\n")
        outside = "" if arguments.emulator else " | of it outside the kernel"
        print(f"| loss | per token, long sequences{outside} | per sequence of 16 tokens{outside} |")
        print("|---|---|---|" if arguments.emulator else "|---|---|---|---|---|")
        for which, text in ROWS:
            if arguments.only and which not in arguments.only:
                continue
            cells = []
            for length, unit in ((16384, 1 << 15), (16, 1 << 11)):
                if arguments.emulator:
                    whole = stepped(arguments.emulator, program, which, length)
                else:
                    whole = instructions(directory, program, which, length, "*counted*")
                cells.append(f"{whole / unit:.2f}" if length > 16 else f"{whole / unit:.0f}")
                if not arguments.emulator:
                    inside = instructions(directory, program, which, length, "*detail::enter<*")
                    cells.append(f"{100 * (1 - inside / whole):.1f} %")
            print(f"| {text} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    sys.exit(main())
