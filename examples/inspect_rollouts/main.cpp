// SPDX-License-Identifier: Apache-2.0

// Reads logged rollouts and says what every trust region would do to them: inspect_rollouts --help
#include "plots.hpp"
#include "report.hpp"

#include <CLI/CLI.hpp>

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <iostream>

namespace {

/// A line on stderr that overwrites itself; only for people, and only when there is something to wait for.
struct progress_line {
    using clock = std::chrono::steady_clock;
    bool const wanted = isatty(STDERR_FILENO) != 0;
    clock::time_point next = clock::now() + std::chrono::seconds(1);
    bool shown = false;

    void operator()(double read, double total) {
        if (!wanted || clock::now() < next) return;
        next = clock::now() + std::chrono::milliseconds(200);
        shown = true;
        std::fprintf(stderr, "\rreading: %3.0f%% of %.0f MB", 100 * read / total, total / 1e6);
    }
    void clear() const {
        if (shown) std::fputs("\r\033[K", stderr);
    }
};

int run(std::string const& input, settings const& s, plot_settings const& plots) {
    progress_line progress;
    std::string out;
    rollouts all;
    try {
        all = read_rollouts(input, [&](double read, double total) { progress(read, total); });
        progress.clear();
        out = input + ": " + summary(all) + "\n" + presets(all, s) + "\n" + thresholds(all) + "\n";
        if (!all.kl.empty()) out += detectors(all, s) + "\n";
        out += certificates(all, s);
    } catch (std::exception const& e) {
        progress.clear();
        std::cerr << "inspect_rollouts: " << e.what() << '\n';
        return 1;
    }
    std::cout << out << std::flush;
    if (!std::cout) {
        std::cerr << "inspect_rollouts: cannot write to standard output\n";
        return 1;
    }
    if (plots.directory.empty()) return 0;
    plot_outcome const drawn = draw(all, s, plots);
    (drawn.ok ? std::cout : std::cerr) << drawn.message << '\n';
    return drawn.ok ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{
        "What every trust region would do to logged rollouts: kept tokens and sequences, divergences, effective\n"
        "sample size, loss and gradient, detectors against exact divergences, and a certificate of the\n"
        "surrogate's error. Input: one JSON object a line, fields as in examples/data/README.md."};
    settings s;
    plot_settings plots;
    std::string input;
    bool no_plots = false;
    app.add_option("rollouts,-i,--input", input, "JSON lines file")->required();
    app.add_option("--delta", s.delta, "threshold of the maximum criteria among the presets, nats")
        ->capture_default_str()
        ->check(CLI::NonNegativeNumber);
    app.add_option("--keep", s.keep, "keep rates at which detectors are compared")
        ->delimiter(',')
        ->capture_default_str()
        ->check(CLI::Range(0.0, 1.0));
    app.add_option("--reward-min", s.reward_min, "smallest reward that is possible")->capture_default_str();
    app.add_option("--reward-max", s.reward_max, "largest reward that is possible")->capture_default_str();
    app.add_option("--plots", plots.directory, "directory for the plots; made if need be")->capture_default_str();
    app.add_flag("--no-plots", no_plots, "tables only");
    app.add_option("--format", plots.format, "png or svg")->capture_default_str()->check(CLI::IsMember({"png", "svg"}));
    app.add_option("--gnuplot", plots.gnuplot, "the gnuplot program")->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    if (no_plots) plots.directory.clear();
    if (!(s.reward_min < s.reward_max)) {
        std::cerr << "inspect_rollouts: --reward-min must be less than --reward-max\n";
        return 1;
    }
    return run(input, s, plots);
}
