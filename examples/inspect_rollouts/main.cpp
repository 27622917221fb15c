// SPDX-License-Identifier: Apache-2.0

// Reads logged rollouts and says what every trust region would do to them: inspect_rollouts --help
#include "../text.hpp"
#include "mapping.hpp"
#include "plots.hpp"
#include "read.hpp"
#include "report.hpp"
#include "sanity.hpp"

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
    out += certificates(all, s);
    if (s.calibrate) out += calibration(all, s);
    return out;
}

/// What the command line says.
struct command {
    input file;     ///< of the trainer, or with both policies
    input rollout;  ///< of the rollout engine; without a path if `file` has both policies
    bool strict = false;
    settings tables;
    plot_settings plots;
};

/// Notes and warnings before the tables.
std::string findings(read_result const& r) {
    std::string out;
    for (std::string const& note : r.notes) out += note + "\n";
    for (std::string const& warning : r.warnings) out += "warning: " + warning + "\n";
    for (std::string const& warning : sanity_warnings(r.all)) out += "warning: " + warning + "\n";
    return out.empty() ? out : out + "\n";
}

int run(command const& c) {
    progress_line progress;
    std::string out;
    read_result r;
    try {
        read_options const options{.strict = c.strict,
                                   .progress = [&](double read, double total) { progress.reading(read, total); }};
        r = c.rollout.path.empty() ? read_rollouts(c.file, options) : read_joined(c.file, c.rollout, options);
        progress.stage("presets");
        out = findings(r);
        out += c.file.path + ": " + tables(r.all, c.tables, progress);
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
    if (c.plots.directory.empty()) return 0;
    plot_outcome const drawn =
        draw(r.all, c.tables, c.plots, [&](std::string const& what) { progress.stage("plots: " + what); });
    progress.clear();
    (drawn.ok ? std::cout : std::cerr) << drawn.message << '\n';
    return drawn.ok ? 0 : 1;
}

char const* const description =
    "What every trust region would do to logged rollouts: kept tokens and sequences, divergences, effective\n"
    "sample size, loss and gradient, detectors against exact divergences, and a certificate of the\n"
    "surrogate's error.\n\n"
    "Input: JSON, plain or gzip: one object a line, or an array of objects; one sequence each. A sequence has, one\n"
    "value a token, the log-probability of the sampled tokens under the current policy (logp) and under the policy\n"
    "that sampled them (rollout_logp), optionally loss_mask, and an advantage, for the sequence or for each token;\n"
    "more fields: examples/data/README.md. NaN, Infinity, -Infinity and null may stand where loss_mask is 0; "
    "elsewhere\n"
    "they are counted and named.";

char const* const examples =
    "Examples:\n"
    "  inspect_rollouts examples/data/rollouts.jsonl\n"
    "  inspect_rollouts train_data_step3.jsonl --mapping nemo-rl\n"
    "  inspect_rollouts mine.jsonl.gz --fields logp=new.logprobs,rollout_logp=old.logprobs,advantage=adv\n"
    "  inspect_rollouts --trainer trainer.jsonl --rollout responses.jsonl --rollout-mapping vllm\n"
    "  inspect_rollouts --mappings";

/// Adds the options that say what the input is.
void add_input(CLI::App& app, command& c) {
    char const* const input_group = "Input";
    app.add_option("rollouts,-i,--input,--trainer", c.file.path,
                   "JSON of the trainer, with both policies; - for standard input")
        ->type_name("FILE");
    app.add_option("--mapping", c.file.mapping, "what the file calls its fields: a name from --mappings")
        ->capture_default_str()
        ->group(input_group);
    app.add_option("--fields", c.file.fields,
                   "the same one by one, or exceptions from --mapping: field=name,field=outer.inner,field=list[0],"
                   "field=list[].inner")
        ->group(input_group);
    app.add_option("--rollout", c.rollout.path,
                   "a second file, of the rollout engine, from which rollout_logp comes: joined by id")
        ->type_name("FILE")
        ->group(input_group);
    app.add_option("--rollout-mapping", c.rollout.mapping, "--mapping of the second file")
        ->capture_default_str()
        ->group(input_group);
    app.add_option("--rollout-fields", c.rollout.fields, "--fields of the second file")->group(input_group);
    app.add_flag("--strict", c.strict,
                 "values that are not finite, positive log-probabilities and sequences that do not "
                 "join are errors")
        ->group(input_group);
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{description};
    app.footer(examples);
    command c;
    c.rollout.mapping = "vllm";
    settings& s = c.tables;
    plot_settings& plots = c.plots;
    bool no_plots = false, mappings = false;
    add_input(app, c);
    app.add_flag("--mappings", mappings,
                 "print the fields and the known mappings, and how to log what a trainer does not")
        ->group("Input");
    app.add_option("--delta", s.delta, "threshold of the maximum criteria among the presets, nats")
        ->capture_default_str()
        ->check(CLI::NonNegativeNumber);
    app.add_option("--keep", s.keep, "keep rates at which detectors are compared")
        ->delimiter(',')
        ->capture_default_str()
        ->check(CLI::Range(0.0, 1.0));
    app.add_option("--reward-min", s.reward_min, "smallest reward that is possible")->capture_default_str();
    app.add_option("--reward-max", s.reward_max, "largest reward that is possible")->capture_default_str();
    app.add_option("--calibrate", s.calibrate,
                   "look for thresholds that keep the error on what is kept below this target")
        ->check(CLI::PositiveNumber);
    app.add_option("--plots", plots.directory, "directory for the plots; made if need be")->capture_default_str();
    app.add_flag("--no-plots", no_plots, "tables only");
    app.add_option("--format", plots.format, "png or svg")->capture_default_str()->check(CLI::IsMember({"png", "svg"}));
    app.add_option("--gnuplot", plots.gnuplot, "the gnuplot program")->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    if (mappings) {
        std::cout << describe_mappings();
        return 0;
    }
    if (c.file.path.empty()) {
        std::cerr << "inspect_rollouts: which file? (--help)\n";
        return 1;
    }
    if (no_plots) plots.directory.clear();
    if (!(s.reward_min < s.reward_max)) {
        std::cerr << "inspect_rollouts: --reward-min must be less than --reward-max\n";
        return 1;
    }
    return run(c);
}
