#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which small faults in the library do the tests notice?

  tests/mutation/mutate.py --layers policy,pipeline,logits,bounds --sample 60

plants one fault at a time (see mutants.py) in a copy of a header, compiles the tests that include it with clang++-14 -O0,
those first that notice most in a second, and stops at the first that fails. A fault that does not compile is dropped. --sample n takes n faults a layer
at random; --sample 0 takes all. Survivors are judged by survivors.txt: one line per fault that changes nothing a user can see,
with the reason. Exit code 1 if fewer than --at-least of the others were noticed.
"""

import argparse
import collections
import concurrent.futures
import json
import math
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from mutants import mutants_of

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CXX = os.environ.get("TRM_MUTATION_CXX", "clang++-14")
# Which lines a test executes, with the tools of the same version of LLVM; without them every test that includes a header is run.
PROFDATA, COV = (shutil.which(CXX.replace("clang++", tool)) for tool in ("llvm-profdata", "llvm-cov"))
COUNTS = ["-fprofile-instr-generate", "-fcoverage-mapping"] if PROFDATA and COV and PROFDATA != COV else []
# One vector unit, and functions that are not inlined: a tenth of the time to compile. Indices past the end are noticed.
FLAGS = "-std=c++20 -O0 -w -DTRM_DISPATCH=0 -D_GLIBCXX_ASSERTIONS -DTRM_TEST_CMAKE_VERSION=\"0\" -isystem /usr/include/eigen3".split()
# Address space of a test, in bytes: a fault may make a loop that allocates endless.
MEMORY = 8 << 30
# Seen by tests/compile alone.
COMPILE_TIME = {"bounds_in_order.hpp"}
# Tests by layer that could notice; a+b is one program. They are tried in this order until it is known which ones notice most in a second.
TESTS = {
    "bounds": "bounds_paper+bounds_edges+bounds_between bounds_blocks+bounds_certificate bounds_threshold bounds_estimates bounds_mask "
    "bounds_coverage bounds_block_coverage",
    "logits": "logits_divergence+logits_log_prob logits_gradient logits_topk+logits_support+logits_chain logits_long logits_calls "
    "logits_linear+logits_linear_support+logits_centering",
    "policy": "policy_fields policy_accuracy loss_gradient loss_promises loss_normalised loss_surrogates loss_select loss_selections loss_edges "
    "loss_masks loss_penalties loss_methods loss_misuse catalogue loss_stop_gradient loss_beyond_clamp presets "
    "parity_verl_loss parity_verl_correction loss_invariance spec every_policy recent_methods published_values peer_bugs token_weights any_loss_f64",
    "pipeline": "loss_gradient loss_promises loss_edges loss_misuse loss_normalised loss_in_place loss_surrogates loss_select "
    "loss_selections loss_masks executors diagnostics_range loss_quantiles loss_memory loss_invariance loss_penalties "
    "needed_rows token_weights recent_methods loss_short loss_fast_math any_loss_f64",
}


def flags(overlay):
    """Compiler flags; headers in the folders of `overlay` come before the library's."""
    data = [f'-DTRM_TEST_GOLDEN_DIR="{ROOT}/tests/golden"',
            f'-DTRM_EXAMPLES_DATA_DIR="{ROOT}/examples/data"', f'-DTRM_TEST_SPEC_README="{ROOT}/include/trm/loss/README.md"']
    return FLAGS + data + [f"-I{folder}" for folder in [*overlay, ROOT / "include", ROOT / "tests"]]


def includes(file, wanted):
    """Does a test include one of these headers, itself or through a header of tests?"""
    for line in file.read_text().splitlines():
        if line.startswith("#include") and any(header in line for header in wanted):
            return True
        if line.startswith('#include "') and (header := ROOT / "tests" / line.split('"')[1]).exists() and includes(header, wanted):
            return True
    return False


def sources_of(group, work):
    """One source of all tests of a group a+b+c, and where any_loss is compiled if they do not do it themselves."""
    files = [ROOT / "tests" / f"{test}_test.cpp" for test in group.split("+")]
    if group == "loss_fast_math":
        return [str(files[0]), str(ROOT / "tests" / "loss_fast_math_kernel.cpp")]
    extern = [str(ROOT / "tests" / "spec_loss.cpp")] if any(includes(f, ["spec_loss.hpp", "any_loss_extern.hpp"]) for f in files) else []
    if len(files) == 1:
        return [str(files[0])] + extern
    source, text = work / f"{group.replace('+', '-')[:80]}.cpp", ""
    # Every header first, so that inside the namespaces that keep the tests apart there is none left to include.
    for file in files:
        text += "".join(line + "\n" for line in file.read_text().splitlines() if line.startswith("#include"))
    for file in files:
        text += f'namespace {file.stem} {{\n#include "{file}"\n}}\n'
    if not source.exists() or source.read_text() != text:
        source.write_text(text)
    return [str(source)] + extern


def command(args, timeout, folder=None, memory=None):
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    try:
        done = subprocess.run(args, capture_output=True, text=True, timeout=timeout, errors="replace", cwd=folder,
                              preexec_fn=limit if memory else None)
        return done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        return "timeout", ""


def spent():
    """Seconds of processor time of the programs that were run: how busy the machine is does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Suite:
    """Builds and runs tests against a copy of the library."""

    def __init__(self, work):
        self.work = work
        self.main = work / "main.o"
        # With the header of Catch2 compiled once.
        self.header = ["-include-pch", str(work / "catch.pch")]
        (work / "main.cpp").write_text("#if __has_include(<catch2/catch_test_macros.hpp>)\n#include <catch2/catch_session.hpp>\n"
                                       "int main(int n, char** a) { return Catch::Session().run(n, a); }\n#else\n"
                                       "#define CATCH_CONFIG_MAIN\n#include <catch2/catch.hpp>\n#endif\n")
        for args in (["-c", "-o", str(self.main), str(work / "main.cpp")],
                     ["-x", "c++-header", "-o", str(work / "catch.pch"), str(ROOT / "tests" / "catch.hpp")]):
            if args[0] == "-c" and self.main.exists():
                continue
            code, log = command([CXX, *flags([]), *args], 1800)
            if code:
                sys.exit(f"Catch2 does not compile: {log or code}")
        self.cache = work / "measured.json"
        self.known = json.loads(self.cache.read_text()) if self.cache.exists() else {}
        self.tried, self.noticed = {}, {}
        self.lock = threading.RLock()

    def outcome(self, test, overlay, place, limit=1800, counts=()):
        """passed, failed (noticed), broken (does not compile). counts: more flags of the compiler."""
        program = place / "test"
        objects = []
        for source in sources_of(test, self.work):
            objects.append(str(place / (Path(source).stem + ".o")))
            if Path(source).name == "spec_loss.cpp" and os.path.exists(objects[-1]):
                continue  # compiled for another test of this fault
            header = ["-ffast-math"] if source.endswith("fast_math_kernel.cpp") else self.header
            code, log = command([CXX, *header, *flags(overlay), *counts, "-c", "-o", objects[-1], source], 3600)
            if code:
                return "failed" if "static_assert" in log or "static assertion" in log else "broken"
        code, log = command([CXX, *counts, "-o", str(program), *objects, str(self.main), "-lpthread"], 3600)
        if code:
            return "broken"
        code, _ = command([str(program), "--abort"], limit, place, MEMORY)
        return "passed" if code == 0 else "failed"

    def reached(self, place):
        """Lines of the library by header that the program in `place` has executed."""
        raw, merged = [str(f) for f in place.glob("*.profraw")], str(place / "merged.profdata")
        code, log = command([PROFDATA, "merge", "-sparse", "-o", merged, *raw], 600)
        if code == 0:
            code, log = command([COV, "export", "-format=lcov", f"-instr-profile={merged}", str(place / "test")], 600)
        if code:
            sys.exit(f"which lines a test reaches: {log}")
        executed, header = {}, None
        for row in log.splitlines():
            if row.startswith("SF:"):
                m = re.search(r"/include/trm/(\S+\.hpp)$", row)
                header = m and m.group(1)
            elif header and row.startswith("DA:"):
                line, count = row[3:].split(",")[:2]
                if int(count):
                    executed.setdefault(header, []).append(int(line))
        return executed

    def measured(self, test):
        """What a test includes and executes of the library, and the seconds that it takes where nothing is wrong."""
        with self.lock:
            entry = self.known.get(test)
            if entry is None or entry["newest"] != max(os.stat(f).st_mtime for f in entry["files"] if os.path.exists(f)):
                _, log = command([CXX, *flags([]), "-MM", *sources_of(test, self.work)], 1800)
                files = sorted({f for f in log.replace("\\\n", " ").split() if f.startswith(str(ROOT)) and os.path.exists(f)})
                headers = sorted({m.group(1) for f in files if (m := re.search(r"/include/trm/(\S+\.hpp)$", f))})
                newest = max(os.stat(f).st_mtime for f in files)
                with tempfile.TemporaryDirectory(dir=self.work) as name:
                    begin = spent()
                    result = self.outcome(test, [], Path(name), counts=COUNTS)
                    seconds = spent() - begin
                    executed = self.reached(Path(name)) if COUNTS and result == "passed" else {}
                print(f"  {test}: {result}, {seconds:.0f} s", flush=True)
                if result != "passed":
                    sys.exit(f"{test}: {result} without a fault")
                entry = {"newest": newest, "files": files, "headers": headers, "seconds": seconds,
                         "executed": executed}
                self.known[test] = entry
                self.cache.write_text(json.dumps(self.known))
            return entry

    def count(self, path, test, noticed):
        """What is known of a test by the faults it was given: of the same header, and of all with a weight of a quarter."""
        with self.lock:
            for key, weight in ((test, 0.25), ((path, test), 1)):
                self.tried[key] = self.tried.get(key, 0) + weight
                self.noticed[key] = self.noticed.get(key, 0) + weight * noticed

    def could_notice(self, mutant, tests, dearest):
        """Tests that include the header and, where one executes the line of the fault, those that execute it; a test that does
        not runs as it would without the fault. In the order of the time that noticing a fault takes with them, as far as it is
        known."""
        found = tests
        if COUNTS:
            found = [t for t in tests if self.includes(t, mutant, dearest)]
            executing = [t for t in found if mutant.line in self.known[t]["executed"].get(mutant.path, [])]
            found = executing or found

        def cost(test):
            def both(counts):
                return counts.get(test, 0) + counts.get((mutant.path, test), 0)
            seconds = self.known[test]["seconds"] if test in self.known else 15
            return seconds * (both(self.tried) + 2) / (both(self.noticed) + 1)
        return sorted(found, key=cost)

    def includes(self, test, mutant, dearest):
        entry = self.measured(test)
        return mutant.path in entry["headers"] and entry["seconds"] <= dearest

    def judge(self, mutant, tests, dearest):
        with tempfile.TemporaryDirectory(dir=self.work) as name:
            place = Path(name)
            file = place / "include" / "trm" / mutant.path
            file.parent.mkdir(parents=True)
            file.write_text(mutant.apply((ROOT / "include" / "trm" / mutant.path).read_text()))
            tried = 0
            for test in self.could_notice(mutant, tests, dearest):
                if not self.includes(test, mutant, dearest):
                    continue
                tried += 1
                result = self.outcome(test, [place / "include"], place, 30 + 5 * self.known[test]["seconds"])
                if result == "broken":
                    return mutant, result, test
                self.count(mutant.path, test, result == "failed")
                if result == "failed":
                    return mutant, result, test
        return mutant, "survived", f"({tried} tests)"


def interval(k, n):
    """Wilson's interval of 95 %."""
    if n == 0:
        return 0.0, 1.0
    z, p = 1.959964, k / n
    mid, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (mid - half) / (1 + z * z / n), (mid + half) / (1 + z * z / n)


def say(what, total):
    killed, n = total["killed"], total["killed"] + total["survived"]
    low, high = interval(killed, n)
    print(f"{what}: killed {killed} of {n} ({100 * killed / max(n, 1):.1f} %, 95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
          f", {total['justified']} more change nothing, {total['broken']} do not compile", flush=True)


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
    p.add_argument("--key", default="", help="only faults whose line in survivors.txt contains this")
    p.add_argument("--sample", type=int, default=60)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--jobs", type=int, default=1)
    p.add_argument("--dearest", type=float, default=120, help="leave out tests that take longer, in seconds")
    p.add_argument("--without", default="", help="leave out tests whose name contains this; the score is then too low, if anything")
    p.add_argument("--at-least", type=float, default=0.0)
    p.add_argument("--work", default=str(ROOT / "build" / "mutation"))
    p.add_argument("--log", default="", help="a file of verdicts, one a line; those in it are not judged again")
    p.add_argument("--count", action="store_true", help="only say how many faults there are")
    args = p.parse_args()
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    known = reasons()
    suite = None if args.count else Suite(work)
    judged = {}
    if args.log and Path(args.log).exists():
        judged = {(e["key"], e["line"]): e for e in map(json.loads, Path(args.log).read_text().splitlines())}
    for e in judged.values() if suite else []:
        if e["result"] == "killed":
            suite.count(e["key"].split(" | ")[0], e["test"], True)
    log = open(args.log, "a") if args.log else None
    sums, took, keys = collections.Counter(), {}, set()
    for layer in args.layers.split(","):
        headers = [h for h in sorted((ROOT / "include/trm" / layer).rglob("*.hpp")) if args.files in str(h) and h.name not in COMPILE_TIME]
        everything = [m for h in headers for m in mutants_of(str(h.relative_to(ROOT / "include/trm")), h.read_text()) if args.key in m.key()]
        keys |= {m.key() for m in everything}
        random.Random(f"{args.seed} {layer}").shuffle(everything)  # a larger sample begins with the smaller one
        chosen = everything[: args.sample or None]
        print(f"{layer}: {len(chosen)} of {len(everything)} faults in {len(headers)} files", flush=True)
        if args.count:
            continue
        total = collections.Counter()

        def verdict(m):
            if m.key() in known:
                return m, "survived", ""
            if (m.key(), m.line) in judged:
                e = judged[m.key(), m.line]
                return m, "survived" if e["result"] == "justified" else e["result"], e["test"]
            begin = time.time()
            tests = [t for t in TESTS[layer].split() if not args.without or args.without not in t]
            m, result, test = suite.judge(m, tests, args.dearest)
            took[m.key(), m.line] = f", {time.time() - begin:.0f} s"
            return m, {"failed": "killed"}.get(result, result), test

        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            for m, result, test in pool.map(verdict, chosen):
                name = "justified" if result == "survived" and m.key() in known else result
                total[name] += 1
                print(f"{name}: {m.path}:{m.line}: {m.old} -> {m.new} [{m.kind}] {test}{took.get((m.key(), m.line), '')}", flush=True)
                if log and (m.key(), m.line) not in judged:
                    print(json.dumps({"layer": layer, "result": name, "test": test, "key": m.key(), "line": m.line, "kind": m.kind}), file=log, flush=True)
        say(layer, total)
        sums += total
    for key in known:
        if not args.files and not args.key and key.split("/")[0] in args.layers.split(",") and key not in keys:
            print(f"survivors.txt: there is no such fault any more: {key}", flush=True)
    if args.count:
        return 0
    say("all", sums)
    n = sums["killed"] + sums["survived"]
    return 0 if n == 0 or sums["killed"] / n >= args.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
