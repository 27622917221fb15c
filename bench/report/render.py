# SPDX-License-Identifier: Apache-2.0
"""REPORT.md and plots from the numbers of run.py."""

import os
import re
import statistics
import subprocess

from targets import TARGETS, rows, token, verdict

SIZES = {14: "256 KiB (L2)", 18: "4 MiB (L3)", 22: "64 MiB", 25: "512 MiB"}


def show(value, unit=""):
    return "-" if value is None else (f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else
                                      f"{value:.1f}") + (" " + unit if unit == "%" else unit)


def table(head, lines):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] +
                     ["| " + " | ".join(line) + " |" for line in lines]) + "\n"


def spread(values):
    """Half the range of the rounds, in percent of their median."""
    m = statistics.median(values)
    return f"{50 * (max(values) - min(values)) / m:.0f} %" if m else "-"


def cells_of(line):
    return [c.strip() for c in line.strip().strip("|").split("|")]


def earlier_targets(report):
    """{target: its figure in the first build's column} of an earlier REPORT.md; targets that it does not have yet from its rows."""
    if not report:
        return {}
    section = lambda title: report.partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines_of = lambda title: [cells_of(x) for x in section(title).splitlines() if x.startswith("|")]
    named, values = {}, {}
    head, *lines = lines_of("Targets") or [[]]
    first = 3 + sum(1 for h in head[3:4] if h == BEFORE)
    for cells in lines[1:]:
        figure = cells[first].split() if len(cells) > first else []
        if figure and figure[0] != "-":
            named[cells[0]] = figure[0] + (" %" if "%" in figure[1:2] else "")
    for cells in lines_of("Token pipeline")[2:]:
        kind, shape, size, rejected, threads, ns = cells[:6]
        values[f"token/{kind}/{shape}/{size}/r{rejected.split()[0]}/{threads}"] = {"ns/token": [float(ns)]}
    for cells in lines_of("Compile time")[2:]:
        values[f"compile/{cells[0]}"] = {"ratio": [float(cells[2])]}
    old = rows({"width": 0, "rows": values})
    found = {text: value_of(old) for text, _, value_of, *_ in TARGETS if text not in named}
    named.update({text: show(v, unit) for text, unit, *_ in TARGETS for v in [found.get(text)] if v is not None})
    return named


BEFORE = "report before"


def targets_table(builds, everything, earlier):
    lines = []
    for text, unit, value_of, gate, good, sense in TARGETS:
        cells = []
        for r in everything:
            at = lambda threshold: threshold(r.width) if callable(threshold) else threshold
            value = value_of(r)
            word = verdict(value, at(gate), at(good), sense)
            cells.append(show(value, unit) + (f" {word}" if word else ""))
        if all(c == "-" for c in cells):
            continue
        wide = lambda threshold: threshold(everything[0].width) if callable(threshold) else threshold
        sign = ">=" if sense > 0 else "<="
        lines.append([text, f"{sign} {show(wide(gate), unit)}", f"{sign} {show(wide(good), unit)}"] +
                     ([earlier.get(text, "-")] if earlier else []) + cells)
    return table(["", "gate", "very good"] + ([BEFORE] if earlier else []) + [b["label"] for b in builds], lines)


def token_table(r):
    lines = []
    names = sorted((n for n in r.all if n.startswith("token/")), key=lambda n: (n.split("/")[1:3], int(
        n.split("/")[3][2:]), int(n.split("/")[4][1:]), n))
    for name in names:
        _, kind, shape, size, rejected, threads = name.split("/")
        values = r.all[name]["ns/token"]
        lines.append([kind, shape, size, rejected[1:] + " %", threads, f"{statistics.median(values):.3f}", spread(values),
                      show(r(name, "cycles/token")), show(r(name, "GB/s"))] +
                     [show(100 * r(name, k)) for k in ("of_regular", "of_streamed", "of_in_place")])
    return table(["loss", "lengths", "tokens", "rejected", "", "ns/token", "+-", "cycles/token", "GB/s", "% regular",
                  "% non-temporal", "% in place"], lines)


def surrogate_table(r):
    names = dict.fromkeys(n.split("/")[1] for n in r.all if n.startswith("surrogate/"))
    value = lambda name, how, size: r(f"surrogate/{name}/{how}/2^{size}", "ns/token")
    lines = [[name] + [show(value(name, how, size)) for size in (14, 22) for how in ("static", "any")] +
             [show(100 * r(f"surrogate/{name}/static/2^22", "of_best"))] for name in names]
    return table(["surrogate", "L2", "L2, any_loss", "64 MiB", "64 MiB, any_loss", "64 MiB: % of best ceiling"], lines)


def threads_table(r):
    lines = []
    for size in (8, 10, 12, 14, 16, 17, 18, 20):
        cells = []
        for state in ("busy", "idle"):
            for kind in ("serial", "pool", "openmp"):
                ns = r(f"threads/{kind}/{state}/2^{size}", "ns/token")
                cells.append("-" if ns is None else f"{ns * 2 ** size * 1e-3:.1f}")
        lines.append([f"2^{size}"] + cells)
    return table(["tokens", "serial", "pool", "OpenMP", "serial, after idling", "pool", "OpenMP"], lines)


def long_table(r):
    names = sorted(n for n in r.all if n.startswith("long/") and "/one_call/" in n)
    lines = []
    for name in names:
        _, criteria, _, length, rejected = name.split("/")
        cells = [r(name.replace("one_call", how), "ns/token") for how in ("one_call", "measure_first")]
        lines.append([criteria, length, rejected[1:] + " %"] + [show(c) for c in cells])
    return table(["criteria", "tokens per sequence", "rejected", "one call, ns/token", "measured first, ns/token"], lines)


def logits_table(r):
    lines = []
    for name in (n for n in r.all if n.split("/")[0] in ("forward", "backward", "divergence", "linear")):
        c = r.all[name]
        speed = r(name, "GB/s") or r(name, "GFLOP/s")
        share = r(name, "of_ceiling")
        relative = next((f"{show(r(name, k))} x {text}" for k, text in
                         (("trm_speedup", "trm's time"), ("of_products", "its products"), ("of_all_rows", "all rows"))
                         if k in c), "")
        lines.append([name, show(speed) + (" GFLOP/s" if "GFLOP/s" in c else " GB/s") if speed else "-",
                      show(100 * share) + " %" if share else "", relative, spread(c["real_time"])])
    return table(["row", "", "of ceiling", "", "+-"], lines)


def peers_table(peer_rows):
    value = lambda c, key: statistics.median(c[key])
    lines = [[name.removeprefix("peer/"), f"{value(c, 'real_time'):.1f}", f"{value(c, 'trm_ms'):.2f}",
              show(value(c, "trm_speedup"), "x")] for name, c in peer_rows.items()]
    return table(["peer", "ms", "trm, ms", "ratio"], lines)


def compile_table(c):
    lines = [[x["what"], f"{x['seconds']:.2f}", f"{x['ratio']:.2f}", f"{x['object_kib']:.0f}"] for x in c["rows"]]
    return table(["translation unit", "CPU seconds", "of (Eigen/Core + xsimd)", "object KiB"], lines)


def plot(gnuplot, path, setup, series, style):
    """series: {title: [(x, y)]}, drawn by gnuplot into a PNG."""
    data, parts = [], []
    for i, (title, points) in enumerate(series.items()):
        data.append(f"$d{i} << EOD\n" + "\n".join(f'"{x}" {y}' for x, y in points) + "\nEOD")
        parts.append(f'$d{i} using 2:xtic(1) with {style} title "{title}"')
    script = "\n".join(["set terminal pngcairo size 1000,560 font ',11'", f"set output '{path}'", "set grid ytics",
                        "set key noenhanced", "set xtics noenhanced", setup] + data + ["plot " + ", ".join(parts)])
    subprocess.run([gnuplot], input=script, text=True, check=True)


def peer_ratios(r, peer_rows, torch):
    """{peer: {task: time of the peer over time of trm}}, in words."""
    found = {}
    for kind, peer in (("scalar", "scalar loop"), ("eigen_naive", "Eigen, naive"), ("eigen", "Eigen, careful")):
        for size in (14, 25):
            ratio = r.ratio(token(kind, size), token("ppo_quiet", size), "ns/token")
            if ratio:
                found.setdefault(peer, {})[f"token loss and gradient, {SIZES[size]}"] = ratio
    for name, c in {**r.all, **peer_rows}.items():
        if "trm_speedup" not in c or not (name in peer_rows or "V151936/1T" in name):
            continue
        if re.search(r"bf16|N256|128x1024", name):
            continue
        parts = name.removeprefix("peer/").removesuffix("/1T").split("/")
        if name in peer_rows:
            peer, task, passes = parts[:3]
            peer = f"torch {torch}" if peer == "torch" else peer
            passes = {"fwd": "forward", "fwd+bwd": "forward and backward", "fwd+manual_grad": "forward and backward"}[passes]
            task = {"token_loss": "token loss, 2^20 tokens", "logp": "log-probabilities",
                    "log_softmax+gather": "log_softmax and gather", "gather-logsumexp": "gather less logsumexp",
                    "verl_logp+entropy": "log-probabilities and entropy"}.get(task, task)
            task = f"{task}: {passes}"
        else:
            peer, extra = (parts[1].split("+") + [""])[:2]
            peer = {"scalar": "scalar loop", "eigen": "Eigen, naive"}[peer]
            task = "log-probabilities and entropy: forward" if extra else "log-probabilities: forward"
        found.setdefault(peer, {})[task] = statistics.median(c["trm_speedup"])
    return found


def peers_plot(gnuplot, path, found):
    """Horizontal bars, a group for each task."""
    tasks = sorted({t for of in found.values() for t in of}, key=lambda t: ("token" not in t, t), reverse=True)
    data, parts, tics, at = [], [], [], 0.0
    bars = {peer: [] for peer in found}
    for task in tasks:
        peers = [p for p in found if task in found[p]]
        tics.append(f'"{task}" {at + (len(peers) - 1) / 2}')
        for peer in reversed(peers):
            bars[peer].append(f"{found[peer][task]} {at} {at - 0.45} {at + 0.45}")
            at += 1
        at += 0.8
    for i, (peer, lines) in enumerate(bars.items()):
        data.append(f"$d{i} << EOD\n" + "\n".join(lines) + "\nEOD")
        parts.append(f'$d{i} using 1:2:(1):1:3:4 with boxxyerror title "{peer}"')
    parts += [f"$d{i} using 1:2:(sprintf(' %.1f', $1)) with labels left font ',9' notitle" for i in range(len(bars))]
    script = "\n".join([f"set terminal pngcairo noenhanced size 1100,{100 + int(at * 20)} font ',11'", f"set output '{path}'",
                        "set title 'Time of peers over time of trm, one thread'", "set style fill solid 0.7", "set logscale x",
                        "set xrange [1:200]", f"set yrange [-1:{at}]", "set grid xtics", f"set ytics ({', '.join(tics)}) scale 0",
                        "set key outside right center vertical"] + data + ["plot " + ", ".join(parts)])
    subprocess.run([gnuplot], input=script, text=True, check=True)


def plots(gnuplot, directory, r, peer_rows, torch):
    os.makedirs(directory, exist_ok=True)
    made = []
    kinds = {"ppo_quiet": "PPO clip", "ppo": "with diagnostics", "trm_max_quiet": "max criterion",
             "ppo_quiet_bf16": "bf16", "any_loss_quiet": "any_loss", "eigen": "Eigen"}
    series = {}
    for kind, title in kinds.items():
        for threads in (1, 2):
            points = [(SIZES[s], 100 * share) for s in SIZES
                      for share in [r(token(kind, s, 0 if kind == "trm_max_quiet" else 10, threads), "of_best")] if share]
            if points and (threads == 1 or kind == "ppo_quiet"):
                series[f"{title}, {threads} thread{'s' if threads > 1 else ''}"] = points
    if any(len(points) > 1 for points in series.values()):
        plot(gnuplot, os.path.join(directory, "ceiling_by_size.png"),
             "set title 'Token kernel, percent of the best ceiling for its bytes'\nset yrange [0:*]\nset key outside right",
             series, "linespoints lw 2 pt 7")
        made.append(("ceiling_by_size.png", "Percent of the best ceiling by size"))
    found = peer_ratios(r, peer_rows, torch)
    if found:
        peers_plot(gnuplot, os.path.join(directory, "peers.png"), found)
        made.append(("peers.png", "Time of peers over time of trm"))
    return made


def write(results, out, gnuplot):
    builds = results["builds"]
    compiled = {f"compile/{x['what']}": {"ratio": [x["ratio"]]} for x in results["compile"].get("rows", [])}
    everything = [rows(b, {**results["peers"], **compiled} if i == 0 else None) for i, b in enumerate(builds)]
    r = everything[0]
    made = plots(gnuplot, os.path.join(out, "plots"), r, results["peers"], results["torch"]) if gnuplot else []
    missed = []
    for text, _, value_of, gate, good, sense in TARGETS:
        for b, one in zip(builds, everything):
            at = lambda threshold: threshold(one.width) if callable(threshold) else threshold
            if verdict(value_of(one), at(gate), at(good), sense) == "MISSED":
                missed.append(f"{text} ({b['label']})")
    parts = ["# Benchmark report", "",
             f"Written by `{results['command']}` in {results['seconds']:.0f} s; see [README.md](README.md).",
             f"Machine: {results['machine']}. Load at the start: {results['load']:.1f}.",
             *(["", "**The machine had other work: these are not its numbers.**", ""] if results["load"] > 0.7 else []),
             "Medians of interleaved rounds; +- is half their range. Ceilings are the fastest of several plain loops over the "
             "same bytes, measured between the samples of the kernel that they are compared with.", "",
             "## Targets", "",
             *(["The figures of the report before are those of its own machine.", ""] if results.get("before") else []),
             targets_table(builds, everything, earlier_targets(results.get("before")))]
    if missed:
        parts += ["Gates missed: " + "; ".join(missed) + ".", ""]
    for file, text in made:
        parts += [f"![{text}](plots/{file})", ""]
    sections = [("Token pipeline", "token/", lambda: token_table(r)),
                ("Surrogates, ns/token", "surrogate/", lambda: surrogate_table(r)),
                ("Small batches, microseconds per call", "threads/", lambda: threads_table(r)),
                ("Sequences longer than the cache", "long/", lambda: long_table(r)),
                ("Logits and LM head", "forward/", lambda: logits_table(r))]
    for title, prefix, section in sections:
        if any(n.startswith(prefix) for n in r.all):
            parts += [f"## {title}", "", section()]
    fresh, reused = (r(f"memory/{k}_gradient/2^24", "ns/token") for k in ("fresh", "reused"))
    if fresh and reused:
        parts += ["## Memory", "", f"A gradient buffer from malloc for every call (64 MiB): {fresh:.2f} ns/token; reused: "
                  f"{reused:.2f}. The difference is page faults.", ""]
    if results["peers"]:
        parts += ["## Peers", "", f"torch is {results['torch']} where no version is given.", "", peers_table(results["peers"])]
    if results["compile"]:
        parts += ["## Compile time", "", compile_table(results["compile"])]
    with open(os.path.join(out, "REPORT.md"), "w") as f:
        f.write("\n".join(parts))
