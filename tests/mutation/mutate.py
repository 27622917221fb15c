#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which small faults in the library do the tests notice?

  tests/mutation/mutate.py --layers policy,pipeline,logits,bounds --sample 60

plants one fault at a time (see mutants.py) in a copy of include/, compiles the tests that include the file with clang++-14 -O0,
cheapest first, and stops at the first that fails. A fault that does not compile is dropped. --sample n takes n faults a layer
at random; --sample 0 takes all. Survivors are judged by survivors.txt: one line per fault that changes nothing a user can see,
with the reason. Exit code 1 if fewer than --at-least of the others were noticed.
"""

import argparse
import concurrent.futures
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mutants import mutants_of

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CXX = os.environ.get("TRM_MUTATION_CXX", "clang++-14")
FLAGS = "-std=c++20 -O0 -w -DTRM_TEST_CMAKE_VERSION=\"0\" -isystem /usr/include/eigen3".split()
# Seen by tests/compile alone.
COMPILE_TIME = {"bounds_in_order.hpp"}
# Tests by layer that could notice. The order is found by measuring.
TESTS = {
    "bounds": "bounds_paper bounds_edges bounds_between bounds_threshold bounds_estimates bounds_blocks bounds_mask bounds_coverage "
    "bounds_block_coverage bounds_certificate",
    "logits": "logits_divergence logits_log_prob logits_gradient logits_topk logits_chain logits_long logits_calls logits_linear",
    "policy": "policy_accuracy loss_gradient loss_promises loss_normalised loss_surrogates loss_select loss_selections loss_edges "
    "loss_masks loss_penalties loss_methods loss_misuse catalogue loss_stop_gradient loss_beyond_clamp presets "
    "parity_verl_loss parity_verl_correction loss_invariance spec every_policy recent_methods published_values peer_bugs any_loss_f64",
    "pipeline": "loss_gradient loss_promises loss_edges loss_misuse loss_normalised loss_in_place loss_surrogates loss_select "
    "loss_selections loss_masks executors diagnostics_range loss_quantiles loss_memory loss_invariance loss_penalties "
    "needed_rows any_loss_f64",
}


def flags(include):
    data = [f'-DTRM_TEST_GOLDEN_DIR="{ROOT}/tests/golden"',
            f'-DTRM_EXAMPLES_DATA_DIR="{ROOT}/examples/data"', f'-DTRM_TEST_SPEC_README="{ROOT}/include/trm/loss/README.md"']
    return FLAGS + data + [f"-I{include}", f"-I{ROOT}/tests"]


def includes(file, wanted):
    """Does a test include one of these headers, itself or through a header of tests?"""
    for line in file.read_text().splitlines():
        if line.startswith("#include") and any(header in line for header in wanted):
            return True
        if line.startswith('#include "') and (header := ROOT / "tests" / line.split('"')[1]).exists() and includes(header, wanted):
            return True
    return False


def sources_of(test):
    """The test, and where any_loss is compiled if the test does not do it itself."""
    file = ROOT / "tests" / f"{test}_test.cpp"
    extern = includes(file, ["spec_loss.hpp", "any_loss_extern.hpp"])
    return [str(file)] + ([str(ROOT / "tests" / "spec_loss.cpp")] if extern else [])


def command(args, timeout):
    try:
        done = subprocess.run(args, capture_output=True, text=True, timeout=timeout, errors="replace")
        return done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        return "timeout", ""


class Suite:
    """Builds and runs tests against a copy of the library."""

    def __init__(self, work):
        self.work = work
        self.main = work / "main.o"
        (work / "main.cpp").write_text("#if __has_include(<catch2/catch_test_macros.hpp>)\n#include <catch2/catch_session.hpp>\n"
                                       "int main(int n, char** a) { return Catch::Session().run(n, a); }\n#else\n"
                                       "#define CATCH_CONFIG_MAIN\n#include <catch2/catch.hpp>\n#endif\n")
        if not self.main.exists():
            code, log = command([CXX, *FLAGS, "-c", "-o", str(self.main), str(work / "main.cpp")], 1800)
            if code:
                sys.exit(f"Catch2 does not compile: {log or code}")

    def outcome(self, test, include, place, limit=1800):
        """passed, failed (noticed), broken (does not compile)."""
        program = place / "test"
        code, log = command([CXX, *flags(include), "-o", str(program), *sources_of(test), str(self.main), "-lpthread"], 3600)
        if code:
            return "failed" if "static_assert" in log or "static assertion" in log else "broken"
        code, _ = command([str(program), "--abort"], limit)
        return "passed" if code == 0 else "failed"


def measured(suite, tests, cache):
    """Seconds that each test takes where nothing is wrong."""
    known = json.loads(cache.read_text()) if cache.exists() else {}
    for test in tests:
        if test not in known:
            begin = time.monotonic()
            result = suite.outcome(test, ROOT / "include", suite.work)
            known[test] = time.monotonic() - begin if result == "passed" else None
            print(f"  {test}: {result}, {time.monotonic() - begin:.0f} s", flush=True)
            cache.write_text(json.dumps(known))
    return known


def includers(tests, path):
    """The tests that include a header."""
    found = []
    for test in tests:
        _, log = command([CXX, *flags(ROOT / "include"), "-MM", *sources_of(test)], 1800)
        found += [test] if f"/trm/{path}" in log else []
    return found


def judge(suite, mutant, tests, seconds):
    with tempfile.TemporaryDirectory(dir=suite.work) as name:
        place = Path(name)
        shutil.copytree(ROOT / "include", place / "include")
        file = place / "include" / "trm" / mutant.path
        file.write_text(mutant.apply(file.read_text()))
        probe = place / "probe.cpp"
        probe.write_text(f"#include <trm/{mutant.path}>\n")
        code, _ = command([CXX, *flags(place / "include"), "-fsyntax-only", str(probe)], 1800)
        if code:
            return mutant, "broken", ""
        for test in tests:
            result = suite.outcome(test, place / "include", place, 60 + 20 * seconds[test])
            if result != "passed":
                return mutant, result, test
    return mutant, "survived", ""


def interval(k, n):
    """Wilson's interval of 95 %."""
    if n == 0:
        return 0.0, 1.0
    z, p = 1.959964, k / n
    mid, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (mid - half) / (1 + z * z / n), (mid + half) / (1 + z * z / n)


def reasons():
    known = {}
    for line in (HERE / "survivors.txt").read_text().splitlines() if (HERE / "survivors.txt").exists() else []:
        if line.strip() and not line.startswith("#"):
            key, _, why = line.rpartition(" : ")
            known[key.strip()] = why.strip()
    return known


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--layers", default="policy,pipeline,logits,bounds")
    p.add_argument("--files", default="", help="only headers whose path contains this")
    p.add_argument("--sample", type=int, default=60)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--jobs", type=int, default=1)
    p.add_argument("--dearest", type=float, default=120, help="leave out tests that take longer, in seconds")
    p.add_argument("--at-least", type=float, default=0.0)
    p.add_argument("--work", default=str(ROOT / "build" / "mutation"))
    p.add_argument("--log", default="")
    p.add_argument("--count", action="store_true", help="only say how many faults there are")
    args = p.parse_args()
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    choose, known = random.Random(args.seed), reasons()
    suite = None if args.count else Suite(work)
    log = open(args.log, "a") if args.log else None
    total = {"killed": 0, "survived": 0, "justified": 0}
    for layer in args.layers.split(","):
        headers = [h for h in sorted((ROOT / "include/trm" / layer).rglob("*.hpp")) if args.files in str(h) and h.name not in COMPILE_TIME]
        everything = [m for h in headers for m in mutants_of(str(h.relative_to(ROOT / "include/trm")), h.read_text())]
        chosen = everything if args.sample == 0 else choose.sample(everything, min(len(everything), args.sample))
        print(f"{layer}: {len(chosen)} of {len(everything)} faults in {len(headers)} files", flush=True)
        if args.count:
            continue
        seconds = measured(suite, TESTS[layer].split(), work / "seconds.json")
        usable = sorted((t for t in TESTS[layer].split() if seconds[t] and seconds[t] < args.dearest), key=seconds.get)
        of_file = {path: includers(usable, path) for path in {m.path for m in chosen}}
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            for m, result, test in pool.map(lambda m: judge(suite, m, of_file[m.path], seconds), chosen):
                if result == "survived" and m.key() in known:
                    result = "justified"
                name = {"failed": "killed"}.get(result, result)
                if name in total:
                    total[name] += 1
                print(f"{name}: {m.path}:{m.line}: {m.old} -> {m.new} [{m.kind}] {test}", flush=True)
                if log:
                    print(json.dumps({"layer": layer, "result": name, "test": test, "key": m.key(), "line": m.line, "kind": m.kind}), file=log, flush=True)
    if args.count:
        return 0
    n = total["killed"] + total["survived"]
    low, high = interval(total["killed"], n)
    print(f"killed {total['killed']} of {n} ({100 * total['killed'] / max(n, 1):.1f} %, 95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
          f", {total['justified']} more change nothing")
    return 0 if n == 0 or total["killed"] / n >= args.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
