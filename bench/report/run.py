#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs every benchmark, compares the results with the targets and writes REPORT.md and plots.

    bench/report/run.py --build build/bench --also build/bench-avx2 --also build/bench-clang

The first build runs everything, the others what the targets need. A round runs each program once, so that slow changes of
the machine reach all of them; numbers are medians over rounds, each of which is a median of samples that alternate with
their ceilings. Needs Python 3 only; gnuplot draws the plots, torch adds peers, where they are installed."""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

import render

HERE = os.path.dirname(os.path.abspath(__file__))

# program, rounds (of other builds: at most 2), filter of the first build, filter of the others ('': not run)
PLAN = [
    ("token_bench", 3, ".", r"token/(ppo_quiet|eigen|eigen_naive|scalar|any_loss_quiet|ppo_quiet_mask)/ragged/2\^(14|25)/r10"
                            r"|token/(ppo|trm_max)_quiet/ragged/2\^25/r(0|80)/1T"),
    ("logits_bench", 2, r"V151936", r"(forward/[^/]*|backward/in_place|backward/copy_nt|divergence/kl)/f32/V151936/1T"),
    ("calls_bench", 3, ".", ""),
    ("surrogate_bench", 2, ".", ""),
    ("linear_bench", 1, r"linear/(logp\+entropy/f32/N1024.*/1T|forward\+backward/kept25/f32/N1024.*)", ""),
]
QUICK = [("token_bench", 2, r"token/(ppo_quiet|eigen|eigen_naive|scalar)/ragged/2\^14/r10/1T", "")]


def say(text):
    print(text, file=sys.stderr, flush=True)


def run_program(path, pattern, seconds):
    """Rows {name: counters} and context of one run of a Google Benchmark program."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        env = dict(os.environ, OMP_WAIT_POLICY="active")
        if seconds:
            env["TRM_BENCH_ROW_SECONDS"] = str(seconds)
        command = [path, f"--benchmark_filter={pattern}", f"--benchmark_out={out.name}", "--benchmark_out_format=json"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
        document = json.load(open(out.name))
    rows = {}
    for b in document["benchmarks"]:
        name = re.sub(r"/(iterations:\d+|manual_time|real_time)", "", b["name"])
        if b.get("error_occurred"):
            raise SystemExit(f"{name}: {b['error_message']}")
        rows[name] = {k: v for k, v in b.items() if isinstance(v, (int, float))}
    return rows, document["context"]


def measure(builds, plan, seconds):
    """[(label, context, {row: {counter: [value of each round]}})] for each build."""
    turns = []
    for turn in range(max(rounds for _, rounds, _, _ in plan)):
        for program, rounds, first, others in plan:
            for i, build in enumerate(builds):
                pattern, times = (first, rounds) if i == 0 else (others, min(rounds, 3))
                if pattern and turn < times:
                    turns.append((turn, program, os.path.join(build, "bin", program), pattern, i))
    for _, _, path, _, _ in turns:  # before the first row is measured
        if not os.path.exists(path):
            raise SystemExit(f"{path} is missing: build it, or the target report")
    results = [(label_of(b), {}, {}) for b in builds]
    for turn, program, path, pattern, i in turns:
        start = time.time()
        rows, context = run_program(path, pattern, seconds)
        if not rows:
            raise SystemExit(f"{program} has no row for {pattern}")
        say(f"round {turn + 1}: {program} of {results[i][0]}: {len(rows)} rows, {time.time() - start:.0f} s")
        results[i][1].update(context)
        for name, counters in rows.items():
            for key, value in counters.items():
                results[i][2].setdefault(name, {}).setdefault(key, []).append(value)
    return results


def label_of(build):
    """Compiler and -march of a build directory."""
    cache = open(os.path.join(build, "CMakeCache.txt")).read()
    value = lambda key: (re.search(rf"^{key}:[A-Z]+=(.*)$", cache, re.M) or [None, ""])[1]
    version = subprocess.run([value("CMAKE_CXX_COMPILER"), "--version"], capture_output=True, text=True).stdout
    name = "clang++" if "clang" in version else "g++"
    number = re.search(r"(\d+\.\d+)\.\d+", version)
    march = value("TRM_MARCH")
    return f"{name} {number[1] if number else ''} {'-march=' + march if march else 'default flags'}"


def shown(path):
    return os.path.relpath(path, os.path.join(HERE, "..", ".."))


def machine():
    """What one needs to know of the machine, and no name of it."""
    text = open("/proc/cpuinfo").read()
    model = re.search(r"model name\s*: (.*)", text)
    flags = set((re.search(r"flags\s*: (.*)", text) or [None, ""])[1].split())
    units = [f for f in ("avx2", "avx512f", "avx512_bf16") if f in flags]
    caches = []
    base = "/sys/devices/system/cpu/cpu0/cache"
    for index in sorted(os.listdir(base)) if os.path.isdir(base) else []:
        read = lambda what: open(os.path.join(base, index, what)).read().strip()
        if index.startswith("index") and read("type") != "Instruction":
            caches.append(f"L{read('level')} {read('size')}")
    return f"{model[1] if model else 'unknown CPU'}, {os.cpu_count()} cores, {', '.join(units)}; {', '.join(caches)}"


def peers(build, pythons):
    """Rows of peers_torch.py from each Python that has torch, and the version of the first. Rows of others say theirs."""
    script = os.path.join(HERE, "..", "peers_torch.py")
    library = os.path.join(build, "bench", "libtrm_peers.so")
    rows, versions = {}, []
    for python in pythons:
        if subprocess.run([python, "-c", "import torch, numpy"], capture_output=True).returncode:
            continue
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            start = time.time()
            command = [python, script, "--threads", "1", "--rounds", "3", "--out", out.name]
            command += ["--trm", library] if os.path.exists(library) else []
            if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
                say(f"peers_torch.py failed with {python}: its rows are left out")
                continue
            document = json.load(open(out.name))
        version = re.match(r"\d+\.\d+", document["context"]["torch"])[0]
        for b in document["benchmarks"]:
            name = b["name"]
            if versions:
                if not name.startswith("peer/torch"):
                    continue  # numpy once
                name = name.replace("peer/torch", f"peer/torch {version}", 1)
            rows[name] = {k: [v] for k, v in b.items() if isinstance(v, (int, float))}
        versions.append(version)
        say(f"peers, torch {version}: {len(document['benchmarks'])} rows, {time.time() - start:.0f} s")
    if not versions:
        say("no torch: its rows are left out")
    return rows, versions[0] if versions else ""


def compile_times(compiler):
    script = os.path.join(HERE, "..", "compile_time.py")
    out = subprocess.run([sys.executable, script, "--json", "--compiler", compiler], capture_output=True, text=True)
    if out.returncode:
        say("compile_time.py failed: " + out.stderr[-300:])
        return {}
    return json.loads(out.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/bench", help="build directory that runs everything")
    parser.add_argument("--also", action="append", default=[], help="build directory that runs what targets need")
    parser.add_argument("--out", default=os.path.join(HERE, ".."), help="directory of REPORT.md and plots/")
    parser.add_argument("--before", default=os.path.join(HERE, "..", "REPORT.md"),
                        help="an earlier report, whose figures stand beside the targets (default: the one that is replaced)")
    parser.add_argument("--rounds", type=int, default=3, help="at most so many rounds of each program (default 3)")
    parser.add_argument("--python", action="append", help="a Python with torch, may be given several times; the targets are of the "
                        "first (default: this one and /usr/bin/python3)")
    parser.add_argument("--quick", action="store_true", help="a few rows of a few milliseconds: does the tool work?")
    parser.add_argument("--keep", help="write all numbers to this file")
    parser.add_argument("--render", help="write the report of numbers that --keep wrote")
    arguments = parser.parse_args()
    start = time.time()
    before = open(arguments.before).read() if os.path.exists(arguments.before) else ""
    if arguments.render:
        results = json.load(open(arguments.render))
    else:
        load = os.getloadavg()[0]
        also = [b for b in arguments.also if os.path.exists(os.path.join(b, "bin", "logits_bench"))]
        for b in set(arguments.also) - set(also):
            say(f"{b} is not built: its column is left out")
        builds = [arguments.build] + ([] if arguments.quick else also)
        plan = QUICK if arguments.quick else [(p, min(n, arguments.rounds), *f) for p, n, *f in PLAN]
        measured = measure(builds, plan, 0.005 if arguments.quick else None)
        pythons = arguments.python or dict.fromkeys([sys.executable, "/usr/bin/python3"])
        peer_rows, torch = ({}, "") if arguments.quick else peers(arguments.build, pythons)
        results = {
            "machine": machine(),
            "load": load,
            "builds": [{"label": label, "width": int(c.get("floats per register", 0)), "rows": rows}
                       for label, c, rows in measured],
            "peers": peer_rows,
            "torch": torch,
            "compile": {} if arguments.quick else compile_times("c++"),
            "command": "bench/report/run.py " + " ".join(
                [f"--build {shown(arguments.build)}"] + [f"--also {shown(b)}" for b in also]),
            "seconds": time.time() - start,
            "before": before,
        }
    if arguments.keep:
        json.dump(results, open(arguments.keep, "w"))
    os.makedirs(arguments.out, exist_ok=True)
    render.write(results, arguments.out, gnuplot=shutil.which("gnuplot"))
    say(f"{os.path.join(arguments.out, 'REPORT.md')} after {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
