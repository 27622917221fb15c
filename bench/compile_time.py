#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""CPU seconds and code size of translation units that use trm, against one that only includes xsimd and Eigen/Core.

    bench/compile_time.py --compiler g++ --flags "-O2 -march=native"

The goal: all of trm and one loss for at most 1.5 times the seconds, `any_loss` for 3. The least of several runs counts; they take turns."""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")

LOSS = """
double loss(std::span<float const> logp, std::span<float const> mu, std::span<float const> advantages,
            std::span<std::int64_t const> cu, std::span<float> grad) {
    trm::batch_view<float> const batch{
        .logp = logp, .rollout_logp = mu, .advantages = advantages, .layout = trm::packed{cu}};
    trm::masked_loss const one{trm::sequence_mask{trm::k2{}, trm::stat::max, trm::at_most(0.05)}, trm::ppo_clip{},
                               trm::token_mean{}};
    return one(batch, grad).loss;
}
"""
ANY = LOSS.replace("trm::masked_loss const one{trm::sequence_mask{trm::k2{}, trm::stat::max, trm::at_most(0.05)}, trm::ppo_clip{},\n"
                   "                               trm::token_mean{}};", "trm::any_loss const one{trm::loss_spec{}};")
LOGITS = """
double forward(trm::logits_view<float> const& logits, std::span<std::int32_t const> ids, std::span<float> logp) {
    return trm::log_prob(logits, ids, trm::log_prob_out<float>{.logp = logp}).ok();
}
"""
# The first is what the others are compared with.
UNITS = [
    ("xsimd and Eigen/Core, included", "#include <xsimd/xsimd.hpp>\n#include <Eigen/Core>\n"),
    ("trm.hpp, included", "#include <trm/trm.hpp>\n"),
    ("trm.hpp, one loss", "#include <trm/trm.hpp>\n" + LOSS),
    ("loss/masked_loss.hpp, included", "#include <trm/loss/masked_loss.hpp>\n"),
    ("loss/masked_loss.hpp, one loss", "#include <trm/loss/masked_loss.hpp>\n" + LOSS),
    ("loss/any_loss.hpp, one loss", "#include <trm/loss/any_loss.hpp>\n" + ANY),
    ("loss/any_loss_extern.hpp, one loss", "#include <trm/loss/any_loss_extern.hpp>\n" + ANY),
    ("logits/log_prob.hpp, one forward", "#include <trm/logits/log_prob.hpp>\n" + LOGITS),
]


def cpu_seconds(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def text_bytes(path):
    """Machine code and constants, without what a linker would drop."""
    out = subprocess.run(["size", path], capture_output=True, text=True, check=True).stdout
    return int(out.splitlines()[1].split()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", default="c++")
    parser.add_argument("--flags", default="-O2")
    parser.add_argument("--include", action="append", default=["/usr/include/eigen3"], help="where xsimd and Eigen are")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    includes = [flag for d in [os.path.join(ROOT, "include")] + arguments.include for flag in ("-isystem", d)]
    command = [arguments.compiler, "-std=c++20"] + arguments.flags.split() + includes
    rows = [{"what": what, "seconds": float("inf")} for what, _ in UNITS]
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(arguments.runs):
            for i, (_, text) in enumerate(UNITS):
                source, target = (os.path.join(directory, f"{i}{suffix}") for suffix in (".cpp", ".o"))
                with open(source, "w") as f:
                    f.write(text)
                rows[i]["seconds"] = min(rows[i]["seconds"], cpu_seconds(command + ["-c", source, "-o", target]))
                rows[i]["object_kib"] = text_bytes(target) / 1024
    for row in rows:
        row["ratio"] = row["seconds"] / rows[0]["seconds"]
    if arguments.json:
        json.dump({"flags": arguments.flags, "rows": rows}, sys.stdout)
        return
    for row in rows:
        print(f"{row['seconds']:6.2f} s  {row['ratio']:5.2f}x  {row['object_kib']:7.1f} KiB  {row['what']}")


if __name__ == "__main__":
    main()
