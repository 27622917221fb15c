// SPDX-License-Identifier: Apache-2.0
// The pages of include/trm/policy/trainers: every text on them is a spec, every preset is found, no cell of a table is blank. And
// presets by name.
#include "catch.hpp"
#include "random_spec.hpp"
#include "trainer_keys.hpp"

#include <trm/loss/any_loss_extern.hpp>
#include <trm/loss/presets/by_name.hpp>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <vector>

using namespace trm;

namespace {

char const* const pages[] = {"README",  "verl",  "trl",      "openrlhf",  "skyrl", "areal",
                             "nemo_rl", "slime", "prime_rl", "stable_rl", "roll",  "liger"};

/// Is a key, as a whole word, in the first cell of a row? Command lines write - for _.
bool has_row(std::string page, std::string const& key) {
    std::replace(page.begin(), page.end(), '-', '_');
    auto const in_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; };
    for (std::size_t row = page.find("\n| "); row != std::string::npos; row = page.find("\n| ", row + 1)) {
        std::string cell = page.substr(row + 3, page.find(" | ", row + 3) - row - 3);
        for (auto dashes = cell.find("__"); dashes != std::string::npos; dashes = cell.find("__"))
            cell[dashes] = cell[dashes + 1] = ' ';
        for (auto at = cell.find(key); at != std::string::npos; at = cell.find(key, at + 1)) {
            std::size_t const end = at + key.size();
            if ((at == 0 || !in_word(cell[at - 1])) && (end == cell.size() || !in_word(cell[end]))) return true;
        }
    }
    return false;
}

std::string read(std::string const& page) {
    std::ifstream file(TRM_TEST_TRAINER_PAGES "/" + page + ".md");
    return {std::istreambuf_iterator<char>(file), {}};
}
/// What stands between backticks.
std::vector<std::string> spans(std::string const& page) {
    std::vector<std::string> all;
    for (std::size_t at = page.find('`'); at != std::string::npos; at = page.find('`', at)) {
        std::size_t const end = page.find('`', at + 1);
        REQUIRE(end != std::string::npos);
        all.push_back(page.substr(at + 1, end - at - 1));
        at = end + 1;
    }
    return all;
}
bool is_text(std::string const& span) {
    std::set<std::string> keys{"mask",      "weight",    "surrogate",       "penalty",
                               "aggregate", "divide_by", "log_ratio_clamp", "mean_epsilon"};
    log_ratio_clamps::fields([&](char const* key, auto) { keys.insert(key); });
    mean_epsilons::fields([&](char const* key, auto) { keys.insert(key); });
    auto const colon = span.find(": ");
    return colon != std::string::npos && keys.count(span.substr(0, colon)) > 0;
}
std::string with_numbers(std::string text) {
    for (std::string const word : {"ROWS", "TOKENS", "LENGTH"})
        for (auto at = text.find(word); at != std::string::npos; at = text.find(word))
            text.replace(at, word.size(), "128");
    return text;
}

}  // namespace

TEST_CASE("every text on the trainers' pages is a spec that says the same when it is printed", "[spec]") {
    std::size_t texts = 0, found = 0;
    for (std::string const page : pages) {
        std::string const content = read(page);
        INFO(page);
        REQUIRE(content.size() > 500);
        std::size_t here = 0;
        for (std::string const& span : spans(content)) {
            INFO(span);
            if (span.rfind("preset ", 0) == 0) {
                spec_result const r = presets::find(span.substr(7));
                INFO(r.message);
                CHECK(r.ok());
                ++found;
            } else if (is_text(span)) {
                spec_result const r = parse_spec(with_numbers(span));
                INFO(r.message);
                REQUIRE(r.ok());
                CHECK(specs::same(parse_spec(print_spec(r.spec)).spec, r.spec));
                ++here;
            }
        }
        CHECK((here >= 8 || page == "README"));
        texts += here;
    }
    CHECK(texts > 200);
    CHECK(found > 30);
}

TEST_CASE("no cell of the trainers' tables is blank", "[unit]") {
    for (std::string const page : pages) {
        std::string const content = read(page);
        std::size_t rows = 0, columns = 0;
        for (std::size_t at = 0; at < content.size();) {
            std::size_t const end = std::min(content.find('\n', at), content.size());
            std::string const line = content.substr(at, end - at);
            at = end + 1;
            if (line.empty() || line[0] != '|') {
                columns = 0;
                continue;
            }
            INFO(page << ": " << line);
            CHECK(line.back() == '|');
            auto const bars = static_cast<std::size_t>(std::count(line.begin(), line.end(), '|'));
            if (columns == 0) columns = bars;
            CHECK(bars == columns);
            for (std::size_t bar = 0; bar + 1 < line.size();) {
                std::size_t const next = line.find('|', bar + 1);
                CHECK(line.find_first_not_of(' ', bar + 1) < next);
                bar = next;
            }
            ++rows;
        }
        INFO(page);
        CHECK(rows > 5);
    }
}

TEST_CASE("every key of a trainer's configuration has a row on its page", "[unit]") {
    std::size_t keys = 0;
    for (trainer const& t : trainers) {
        std::string const content = read(t.page);
        std::istringstream words(t.keys);
        for (std::string key; words >> key; ++keys) {
            std::replace(key.begin(), key.end(), '-', '_');
            INFO(t.page << ": " << key);
            CHECK(has_row(content, key));
        }
    }
    CHECK(keys > 270);
    CHECK_FALSE(has_row("\n| other_key, eps_clip | x |\n", "key"));
    CHECK(has_row("\n| --eps-clip | x |\n", "eps_clip"));
}

TEST_CASE("presets are found by name, their parameters by place or by name", "[presets]") {
    auto const same = [](std::string_view text, auto const& preset) {
        INFO(text);
        spec_result const r = presets::find(text);
        INFO(r.message);
        REQUIRE(r.ok());
        CHECK(specs::same(r.spec, to_spec(preset)));
    };
    same("trl_dapo", presets::trl_dapo());
    same("trl_dapo(0.1)", presets::trl_dapo(0.1));
    same("trl_dapo(eps_high=0.28)", presets::trl_dapo(0.2, 0.28));
    same("trl_dapo( 0.1 , eps_high = 0.28 )", presets::trl_dapo(0.1, 0.28));
    same("trl_dapo(eps_high=0.28, eps_low=0.1)", presets::trl_dapo(0.1, 0.28));
    same("trl_dapo_uncorrected()", presets::uncorrected(presets::trl_dapo()));
    same("nemo_icepop_without_kl", presets::without_penalties(presets::nemo_icepop()));
    same("nemo_tis(lower=0.1, upper=3)", presets::nemo_tis(3, 0.1));
    same("skyrl_pipeline(token_high=3)", presets::skyrl_pipeline({.token = {0.5, 3}}));
    same("skyrl_pipeline_seq_tis", presets::skyrl_pipeline_seq_tis());
    same("prime_rl", presets::prime_rl());
    same("decoupled_geo_rs_seq_tis(upper=1.01)", presets::decoupled_geo_rs_seq_tis(2, 0.999, 1.01));
    CHECK(presets::find("trl_dapo_uncorrected").spec.weight.policy.index() == 0);
    CHECK(presets::find("nemo_icepop").spec.penalties.size() == 1);
    CHECK(presets::find("nemo_icepop_without_kl").spec.penalties.empty());

    auto const refused = [](std::string_view text, std::size_t at, std::string_view message,
                            std::string_view instead = "") {
        spec_result const r = presets::find(text);
        INFO(text << ": " << r.message);
        CHECK(r.status.code == errc::bad_spec);
        CHECK(r.position == at);
        CHECK(r.message == message);
        CHECK(r.suggestion == instead);
    };
    refused("trl_depo", 0, "unknown preset \"trl_depo\"", "trl_dapo");
    refused("trl_dapo(eps_hihg=1)", 9, "preset trl_dapo: has no parameter \"eps_hihg\"", "eps_high");
    refused("trl_dapo(0.1, eps_low=0.2)", 22, "preset trl_dapo: eps_low is given twice");
    refused("trl_dapo(eps_low=0.2, 3)", 21, "preset trl_dapo: parameters without a name come first");
    refused("trl_dapo(1, 2, 3)", 8, "preset trl_dapo: does not take 3 parameters");
    refused("trl_dapo(1, x)", 12, "preset: expected a number");
    refused("trl_dapo(1", 10, "preset: expected \")\"");
    refused("trm_max", 7, "preset trm_max: does not take 0 parameters, delta has no default");
}

TEST_CASE("the list of presets: names once, defaults that are those of the functions, losses that are valid",
          "[presets]") {
    std::set<std::string> names;
    for (presets::named const& p : presets::list()) {
        INFO(p.name);
        CHECK(names.insert(p.name).second);
        std::string named, placed;
        for (presets::parameter const& a : p.parameters()) {
            double const value = a.is_required() ? 0.5 : a.value;
            named += (named.empty() ? "" : ", ") + std::string(a.name) + "=" + detail::spec_number(value);
            placed += (placed.empty() ? "" : ", ") + detail::spec_number(value);
        }
        spec_result const by_name = presets::find(std::string(p.name) + "(" + named + ")"),
                          by_place = presets::find(std::string(p.name) + "(" + placed + ")");
        INFO(by_name.message << by_place.message);
        REQUIRE(by_name.ok());
        REQUIRE(by_place.ok());
        CHECK(specs::same(by_name.spec, by_place.spec));
        CHECK(specs::same(parse_spec(print_spec(by_name.spec)).spec, by_name.spec));
        if (auto const defaults = presets::find(p.name); defaults.ok()) CHECK(specs::same(defaults.spec, by_name.spec));
    }
    CHECK(names.size() > 60);
#define TRM_SAME_DEFAULTS(name) CHECK(specs::same(presets::find(#name).spec, to_spec(presets::name())))
    TRM_SAME_DEFAULTS(kpop);
    TRM_SAME_DEFAULTS(dppo_tv_score);
    TRM_SAME_DEFAULTS(dppo_kl_score);
    TRM_SAME_DEFAULTS(skyrl_dppo);
    TRM_SAME_DEFAULTS(decoupled_token_is);
    TRM_SAME_DEFAULTS(decoupled_seq_is);
    TRM_SAME_DEFAULTS(decoupled_token_icepop);
    TRM_SAME_DEFAULTS(decoupled_seq_is_rs);
    TRM_SAME_DEFAULTS(decoupled_geo_rs);
    TRM_SAME_DEFAULTS(decoupled_geo_rs_token_tis);
    TRM_SAME_DEFAULTS(decoupled_k3_rs);
    TRM_SAME_DEFAULTS(decoupled_k3_rs_seq_tis);
    TRM_SAME_DEFAULTS(bypass_ppo_clip_geo_rs);
    TRM_SAME_DEFAULTS(bypass_pg_is);
    TRM_SAME_DEFAULTS(bypass_pg_token_icepop);
    TRM_SAME_DEFAULTS(prime_rl_ipo);
    TRM_SAME_DEFAULTS(prime_rl_icepop);
    TRM_SAME_DEFAULTS(prime_rl_dppo_2026_08);
    TRM_SAME_DEFAULTS(prime_rl_ref_kl);
    TRM_SAME_DEFAULTS(slime_mis);
    TRM_SAME_DEFAULTS(openrlhf_tis);
    TRM_SAME_DEFAULTS(openrlhf_icepop);
    TRM_SAME_DEFAULTS(openrlhf_seq_mask_tis);
    TRM_SAME_DEFAULTS(skyrl_pipeline);
    TRM_SAME_DEFAULTS(areal_decoupled);
    TRM_SAME_DEFAULTS(areal_sequence_clamp);
    TRM_SAME_DEFAULTS(nemo_seq_mask_tis);
    TRM_SAME_DEFAULTS(trl_grpo);
    TRM_SAME_DEFAULTS(trl_cispo);
    TRM_SAME_DEFAULTS(trl_sapo);
    TRM_SAME_DEFAULTS(trl_vespo);
    TRM_SAME_DEFAULTS(trl_luspo);
    TRM_SAME_DEFAULTS(trl_top_entropy);
#undef TRM_SAME_DEFAULTS
}
