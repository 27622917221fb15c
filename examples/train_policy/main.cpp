// SPDX-License-Identifier: Apache-2.0

// Trains a small policy by reinforcement learning with rollouts of another engine: train_policy --help
#include "methods.hpp"
#include "study.hpp"
#include "study_plots.hpp"
#include "trainer.hpp"

#include <CLI/CLI.hpp>

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <thread>

namespace {

char const* const description =
    "Reinforcement learning of a small recurrent policy on a task with a verifiable reward. A rollout engine samples "
    "with\n"
    "other arithmetic and weights that are some updates old; the trainer corrects for the difference with a loss of "
    "trm.";

std::string method_list() {
    std::string out = "Methods (or any loss in trm's text):\n";
    for (named_method const& m : methods()) {
        std::string name = m.name;
        name.resize(12, ' ');
        out += "  " + name + m.text + "\n";
    }
    return out;
}

void add_run(CLI::App& app, run_settings& s) {
    app.add_option("--task", s.task, "branch or addition")->capture_default_str();
    app.add_option("--horizon", s.horizon, "tokens of a response, 16 to 1024")->capture_default_str();
    app.add_option("--method", s.method, "name or text of the loss")->capture_default_str();
    app.add_option("--advantage", s.advantage, "grpo or rloo")->capture_default_str();
    app.add_option("--rollout", s.rollout, "precision of the rollout engine: f32, bf16, int8")->capture_default_str();
    app.add_option("--staleness", s.staleness, "updates by which the engine's weights are older")
        ->capture_default_str();
    app.add_option("--noise", s.noise, "deviation of a random error of the engine's logits, nats")
        ->capture_default_str();
    app.add_option("--hidden", s.hidden, "units")->capture_default_str();
    app.add_option("--experts", s.experts, "experts, of which a router chooses one; 0: none")->capture_default_str();
    app.add_option("--prompts", s.prompts, "prompts of an update")->capture_default_str();
    app.add_option("--responses", s.responses, "responses to a prompt")->capture_default_str();
    app.add_option("--warm-start", s.warm_start, "updates of imitation before")->capture_default_str();
    app.add_option("--slips", s.slips, "share of random tokens in what is imitated")->capture_default_str();
    app.add_option("--updates", s.updates, "updates")->capture_default_str();
    app.add_option("--optimiser", s.optimiser, "adam or sgd")->capture_default_str();
    app.add_option("--learning-rate", s.learning_rate, "step size")->capture_default_str();
    app.add_option("--max-gradient", s.max_gradient, "norm to which the gradient is cut; 0: never")
        ->capture_default_str();
    app.add_option("--seed", s.seed, "seed of everything that is random")->capture_default_str();
}

int train(run_settings const& s, int threads, std::string const& csv) {
    parallel_for const parallel{threads};
    trainer t(s);
    std::ofstream file;
    if (!csv.empty()) {
        file.open(csv);
        file << step_row::header() << '\n';
    }
    std::printf("%6s %8s %8s %8s %9s %9s %8s %8s %8s\n", "update", "reward", "kept", "entropy", "max KL", "mean KL",
                "seq ESS", "|grad|", "bound");
    std::printf("%6d %8.3f  (current policy, fresh responses)\n", 0, t.evaluate(256, parallel));
    for (int i = 1; i <= s.updates; ++i) {
        step_row const r = t.step(parallel);
        if (file.is_open()) file << r.csv() << '\n';
        if (i % std::max(1, s.updates / 10) != 0) continue;
        std::printf("%6d %8.3f %8.3f %8.3f %9.2g %9.2g %8.3f %8.3g %8.2g\n", i, r.reward, r.kept_sequences, r.entropy,
                    r.max_kl, r.mean_kl, r.ess_sequence, r.gradient_norm, r.certificate);
    }
    std::printf("%6d %8.3f  (current policy, fresh responses)\n", s.updates, t.evaluate(256, parallel));
    if (file.is_open() && !file.flush()) {
        std::cerr << "train_policy: cannot write " << csv << '\n';
        return 1;
    }
    return 0;
}

/// What --study wants beside its preset.
struct study_command {
    std::string preset;
    std::vector<std::string> tasks, engines, optimisers, methods;
    std::vector<int> horizons, staleness;
    std::vector<double> rates, noises;
    int seeds = 0, first_seed = 0;
    bool truth = false, plots = true;
    study_options options;
};

void add_study(CLI::App& app, study_command& c) {
    char const* const group = "Study";
    std::string names;
    for (std::string const& n : study_names()) names += (names.empty() ? "" : ", ") + n;
    app.add_option("--study", c.preset,
                   "compare methods over seeds: " + names + ", or custom: the grid of the options below")
        ->group(group)
        ->expected(0, 1)
        ->default_str("quick");
    app.add_option("--out", c.options.directory, "directory of the study; started again, it goes on where it was")
        ->capture_default_str()
        ->group(group);
    app.add_option("--tasks", c.tasks, "tasks")->group(group);
    app.add_option("--horizons", c.horizons, "horizons")->group(group);
    app.add_option("--engines", c.engines, "engines: f32, bf16, int8, with -moe for experts")->group(group);
    app.add_option("--stalenesses", c.staleness, "ages of the engine's weights")->group(group);
    app.add_option("--optimisers", c.optimisers, "optimisers")->group(group);
    app.add_option("--learning-rates", c.rates, "step sizes")->group(group);
    app.add_option("--noises", c.noises, "deviations of the random error of the engine's logits, nats")->group(group);
    app.add_option("--methods", c.methods, "methods, by name or text")->group(group);
    app.add_option("--seeds", c.seeds, "seeds of every combination")->group(group);
    app.add_option("--first-seed", c.first_seed, "first of the seeds")->group(group);
    app.add_flag(
           "--truth", c.truth,
           "compare every method's gradient with the true one, and bounds with the error, over all responses of 4 "
           "tokens (or --horizon 2 or 3); also takes --engines, --stalenesses, --methods and --seeds")
        ->group(group);
    app.add_flag("!--no-plots", c.plots, "tables only")->group(group);
    app.add_option("--abort-after", c.options.abort_after, "for tests: die after so many runs")->group("");
}

std::vector<run_settings> runs_of(study_command const& c, run_settings const& rest) {
    if (c.preset != "custom") return study_preset(c.preset);
    grid g;
    g.rest = rest;
    g.noises = {rest.noise};
    auto const take = [](auto const& given, auto& to) {
        if (!given.empty()) to = given;
    };
    take(c.tasks, g.tasks);
    take(c.horizons, g.horizons);
    take(c.engines, g.engines);
    take(c.staleness, g.staleness);
    take(c.optimisers, g.optimisers);
    take(c.rates, g.learning_rates);
    take(c.noises, g.noises);
    take(c.methods, g.methods);
    if (c.seeds > 0) g.seeds = c.seeds;
    g.first_seed = c.first_seed;
    return runs_of(g);
}

int study(study_command c, run_settings const& rest, int threads) {
    std::vector<run_settings> const runs = runs_of(c, rest);
    c.options.threads = threads;
    c.options.progress = isatty(STDERR_FILENO) != 0;
    run_study(runs, c.options);
    auto const results = read_study(runs, c.options.directory);
    auto const cells = cells_of(results);
    std::cout << summarise(cells, c.options.directory) << '\n' << std::flush;
    write_pairs(cells, c.options.directory);
    if (c.plots) std::cout << draw_study(cells, c.options.directory) << '\n';
    return std::cout ? 0 : 1;
}

int truth(study_command const& c, run_settings rest, int threads, bool has_horizon) {
    truth_options o;
    if (!has_horizon) rest.horizon = 4;
    rest.hidden = 8;
    rest.warm_start = 20;
    rest.updates = 40;
    rest.learning_rate = 0.02;
    rest.method = "ratio";
    o.run = rest;
    o.threads = threads;
    o.methods = c.methods;
    if (o.methods.empty())
        for (named_method const& m : methods()) o.methods.push_back(m.name);
    if (!c.engines.empty()) o.engines = c.engines;
    if (!c.staleness.empty()) o.staleness = c.staleness;
    if (c.seeds > 0) o.seeds = c.seeds;
    truth_table const t = compare_with_truth(o);
    std::cout << report(t, c.options.directory) << std::flush;
    if (c.plots) std::cout << draw_truth(t, c.options.directory + "/plots") << '\n';
    return std::cout ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{description};
    app.footer(method_list());
    run_settings s;
    int threads = static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1U, 256U));
    std::string csv;
    study_command c;
    add_run(app, s);
    add_study(app, c);
    app.add_option("--threads", threads, "threads; the numbers do not depend on it")
        ->capture_default_str()
        ->check(CLI::Range(1, 256));
    app.add_option("--csv", csv, "file for one row an update")->type_name("FILE");
    CLI11_PARSE(app, argc, argv);
    try {
        if (c.truth) return truth(c, s, threads, app.count("--horizon") > 0);
        return app.count("--study") > 0 ? study(c, s, threads) : train(s, threads, csv);
    } catch (std::exception const& e) {
        std::cerr << "train_policy: " << e.what() << '\n';
        return 1;
    }
}
