// SPDX-License-Identifier: Apache-2.0
#include "settings.hpp"

#include "learner.hpp"

#include <stdexcept>

void set_engine(run_settings& s, std::string const& engine) {
    s.rollout = engine.substr(0, engine.find('-'));
    s.experts = engine.ends_with("-moe") ? 4 : 0;
}

void validate(run_settings const& s) {
    auto const need = [](bool good, char const* what) {
        if (!good) throw std::invalid_argument(what);
    };
    (void)make_task(s.task, s.horizon);
    (void)precision_of(s.rollout);
    (void)loss_from(text_of(s.method));
    need(s.advantage == "grpo" || s.advantage == "rloo", "advantage must be grpo or rloo");
    need(s.optimiser == "adam" || s.optimiser == "sgd", "optimiser must be adam or sgd");
    need(s.staleness >= 0 && s.staleness <= 4096, "staleness must be in [0, 4096]");
    need(s.hidden >= 2 && s.hidden <= 1024, "hidden must be in [2, 1024]");
    need(s.experts >= 0 && s.experts <= 64, "experts must be in [0, 64]");
    need(s.prompts >= 1 && s.prompts <= 65536, "prompts must be in [1, 65536]");
    need(s.responses >= 2 && s.responses <= 65536, "responses must be in [2, 65536]");
    need(s.warm_start >= 0, "warm start must not be negative");
    need(s.slips >= 0 && s.slips <= 1, "slips must be in [0, 1]");
    need(s.updates >= 0, "updates must not be negative");
    need(s.noise >= 0 && s.noise <= 100, "noise must be in [0, 100]");
    need(s.learning_rate > 0 && s.learning_rate <= 100, "learning rate must be in (0, 100]");
    need(s.max_gradient >= 0, "largest gradient norm must not be negative");
}
