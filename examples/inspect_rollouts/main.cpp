// SPDX-License-Identifier: Apache-2.0

// Reads logged rollouts and says what every trust region would do to them: inspect_rollouts --help
#include "plots.hpp"
#include "report.hpp"
#include "text.hpp"

#include <CLI/CLI.hpp>

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <iostream>

namespace {

/// A line on stderr that overwrites itself: only for people, and only where there is something to wait for.
class progress_line {
public:
    void reading(double read, double total) {
        wanted = isatty(STDERR_FILENO) != 0 && total >= 5e6;
        if (auto const now = clock::now(); now >= next) {
            next = now + std::chrono::milliseconds(100);
            stage(text("reading: %3.0f%% of %.0f MB", 100 * read / total, total / 1e6));
        }
    }
    void stage(std::string const& name) const {
        if (wanted) std::fprintf(stderr, "\r\033[K%s", name.c_str());
    }
    void clear() const { stage({}); }

private:
    using clock = std::chrono::steady_clock;
    clock::time_point next{};
    bool wanted = false;
};

std::string tables(rollouts const& all, settings const& s, progress_line const& progress) {
    std::string out = summary(all) + "\n" + presets(all, s) + "\n";
    progress.stage("thresholds");
    out += thresholds(all) + "\n";
    progress.stage("detectors");
    if (!all.kl.empty()) out += detectors(all, s) + "\n";
    progress.stage("certificates");
    return out + certificates(all, s);
}

int run(std::string const& input, settings const& s, plot_settings const& plots) {
    progress_line progress;
    std::string out;
    rollouts all;
    try {
        all = read_rollouts(input, [&](double read, double total) { progress.reading(read, total); });
        progress.stage("presets");
        out = input + ": " + tables(all, s, progress);
        progress.clear();
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
    plot_outcome const drawn = draw(all, s, plots, [&](std::string const& what) { progress.stage("plots: " + what); });
    progress.clear();
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
