// SPDX-License-Identifier: Apache-2.0
// Every loss that a page writes as `mask: ...` is one, and README.md's table of masks says what each keeps.
#include "catch.hpp"
#include "rollouts.hpp"
#include "spec_loss.hpp"

#include <trm/loss/any_loss_extern.hpp>

#include <cstdio>
#include <filesystem>
#include <iterator>
#include <regex>

namespace {

namespace fs = std::filesystem;

std::string text_of(fs::path const& file) {
    std::ifstream in(file);
    REQUIRE(in.good());
    return std::string{std::istreambuf_iterator<char>(in), {}};
}

/// Share of the loss_mask tokens that a loss keeps, in percent, as the table writes it.
std::string kept(spec_loss const& loss, rollouts::batch const& rollouts) {
    trm::batch_view<double> const batch{.logp = rollouts.logp,
                                        .rollout_logp = rollouts.rollout_logp,
                                        .sequence_advantages = rollouts.advantages,
                                        .given = rollouts.kl,
                                        .loss_mask = rollouts.loss_mask,
                                        .layout = trm::packed{rollouts.offsets}};
    std::vector<double> grad(rollouts.logp.size());
    trm::result const r = loss(batch, trm::outputs<double>{.grad = grad});
    char text[16];
    std::snprintf(text, sizeof text, "%.0f", 100 * r.diagnostics.kept_tokens / r.diagnostics.tokens);
    return text;
}

}  // namespace

TEST_CASE("losses on the pages can be read", "[readme][spec]") {
    std::regex const quoted{"`((?:mask|weight|surrogate|penalty|aggregate): [^`]*)`"};
    int found = 0;
    for (fs::path const folder : {"", "bench", "cmake", "examples", "include"}) {
        auto const end = fs::recursive_directory_iterator{};
        for (auto at = fs::recursive_directory_iterator{fs::path{TRM_TEST_ROOT} / folder}; at != end; ++at) {
            if (folder.empty() && at->is_directory()) at.disable_recursion_pending();
            if (at->is_directory() && at->path().filename() == "trainers")
                at.disable_recursion_pending();  // trainer_pages_test
            if (at->path().extension() != ".md") continue;
            std::string const page = text_of(at->path());
            for (std::sregex_iterator it{page.begin(), page.end(), quoted}, none; it != none; ++it, ++found) {
                INFO(at->path() << ": " << it->str(1));
                CHECK(trm::parse_spec(it->str(1)).message == "");
            }
        }
    }
    CHECK(found >= 8);
}

TEST_CASE("the table of masks in README.md", "[readme][spec]") {
    std::vector<rollouts::batch> const ages{rollouts::read(TRM_EXAMPLES_DATA_DIR "/rollouts.jsonl", 0),
                                            rollouts::read(TRM_EXAMPLES_DATA_DIR "/rollouts.jsonl", 2),
                                            rollouts::read(TRM_EXAMPLES_DATA_DIR "/rollouts.jsonl", 4)};
    std::string const page = text_of(fs::path{TRM_TEST_ROOT} / "README.md");
    std::regex const row{"\n\\| [^|]* \\| `([^`]*)`[^|]* \\| ([0-9]+, [0-9]+, [0-9]+) \\|"};
    int rows = 0;
    for (std::sregex_iterator it{page.begin(), page.end(), row}, none; it != none; ++it, ++rows) {
        spec_loss const loss{trm::parse_spec(it->str(1))};
        INFO(it->str(1));
        CHECK(kept(loss, ages[0]) + ", " + kept(loss, ages[1]) + ", " + kept(loss, ages[2]) == it->str(2));
    }
    CHECK(rows >= 8);
}
