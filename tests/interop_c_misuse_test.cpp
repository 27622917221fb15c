// SPDX-License-Identifier: Apache-2.0
// What the C interface refuses, with which code, sentence and place.
#include "catch.hpp"
#include "interop_c.hpp"

#include <trm/interop/c/operands.hpp>
#include <trm/interop/c/support.hpp>
#include <trm/loss/checked.hpp>

#include <cstddef>

namespace {

struct small {
    batches::ragged<float> b = batches::make<float>({{3, 2, 4}, false, 0.1, 0}, 1);
    c::loss loss = c::from_text("mask: seq_max_k2 <= 0.3");
    trm_batch batch = c::batch_of(b);
    trm_outputs out = trm_outputs_init();
    std::vector<float> grad = std::vector<float>(b.tokens(), -7.0f);
    double value = -77;
    trm_diagnostics diagnostics = trm_diagnostics_init();
    trm_error error = trm_error_init();

    small() { out.grad.data = grad.data(); }
    int call() { return trm_loss_call(loss.get(), &batch, &out, nullptr, nullptr, &value, &diagnostics, &error); }
    /// Refused with this code, and nothing was written.
    bool refuses(int code) {
        bool const same = call() == code && error.code == code && error.message[0] != '\0';
        for (float g : grad)
            if (g != -7.0f) return false;
        return same && value == -77 && diagnostics.tokens == 0;
    }
};

}  // namespace

TEST_CASE("C: batches that are refused") {
    CHECK(small().call() == TRM_OK);
    auto const with = [](auto change, int code) {
        small s;
        change(s);
        bool const refused = s.refuses(code);
        INFO(s.error.message << " code " << s.error.code);
        CHECK(refused);
        return std::string(s.error.message);
    };
    with([](small& s) { s.loss.reset(); }, TRM_BAD_ARGUMENT);
    with([](small& s) { s.batch.size = 0; }, TRM_BAD_ARGUMENT);
    with([](small& s) { s.batch.size = sizeof(trm_batch) - 1; }, TRM_BAD_ARGUMENT);
    with([](small& s) { s.batch.size = static_cast<std::size_t>(-1); }, TRM_BAD_ARGUMENT);
    with([](small& s) { s.out.size = 8; }, TRM_BAD_ARGUMENT);
    with([](small& s) { s.batch.dtype = 0; }, TRM_BAD_ARGUMENT);
    with([](small& s) { s.batch.dtype = 5; }, TRM_BAD_ARGUMENT);
    with([](small& s) { s.batch.layout = 0; }, TRM_BAD_ARGUMENT);
    with([](small& s) { s.batch.cu_dtype = 3; }, TRM_BAD_ARGUMENT);
    with([](small& s) { s.batch.cu_seqlens = nullptr; }, TRM_BAD_ARGUMENT);
    with([](small& s) { s.batch.logp.data = nullptr; }, TRM_MISSING_STREAM);
    with([](small& s) { s.batch.advantages.data = nullptr; }, TRM_MISSING_STREAM);
    with([](small& s) { s.batch.logp.stride = -1; }, TRM_BAD_ARGUMENT);
    with([](small& s) { s.batch.logp.stride = INT64_MAX; }, TRM_BAD_LAYOUT);
    with([](small& s) { s.out.grad.stride = -2; }, TRM_BAD_ARGUMENT);
    with([](small& s) { s.batch.tokens = -1; }, TRM_BAD_LAYOUT);
    with([](small& s) { s.batch.tokens = INT64_MAX; }, TRM_BAD_LAYOUT);
    with([](small& s) { s.batch.sequences = INT64_MAX; }, TRM_BAD_LAYOUT);
    with([](small& s) { s.batch.sequences = -1; }, TRM_BAD_LAYOUT);
    with([](small& s) { s.batch.logp.data = static_cast<char const*>(s.batch.logp.data) + 1; }, TRM_BAD_ARGUMENT);
    with([](small& s) { s.out.grad.data = reinterpret_cast<char*>(s.grad.data()) + 2; }, TRM_BAD_ARGUMENT);
    with([](small& s) { s.out.loss_scale = batches::nan; }, TRM_BAD_THRESHOLD);
    with([](small& s) { s.batch.tokens = 8; }, TRM_SIZE_MISMATCH);
    with([](small& s) { s.b.cu[1] = 7; }, TRM_DECREASING_OFFSETS);
    with(
        [](small& s) {
            s.batch.layout = TRM_SEGMENTS;
            s.batch.runs = 3;
        },
        TRM_BAD_ARGUMENT);  // no sequence_of
    with(
        [](small& s) {
            s.batch.layout = TRM_SEGMENTS;
            s.batch.runs = -1;
        },
        TRM_BAD_LAYOUT);
    with(
        [](small& s) {
            s.batch.layout = TRM_PADDED;
            s.batch.max_tokens = 3;
            s.batch.row_stride = INT64_MAX;
        },
        TRM_BAD_LAYOUT);
    auto const text = with(
        [](small& s) {
            s.loss = c::from_text("strict: true");
            s.b.logp[4] = std::numeric_limits<float>::quiet_NaN();
        },
        TRM_NONFINITE_INPUT);
    CHECK(text == "trm: logp: not finite inside loss_mask (sequence 1, token 1)");

    small s;  // the structs that are written
    s.diagnostics.size = 8;
    CHECK(s.call() == TRM_BAD_ARGUMENT);
    s = small();
    s.error.size = 3;
    CHECK(s.call() == TRM_BAD_ARGUMENT);
    CHECK(s.error.code == 0);
    CHECK(s.grad[0] == -7.0f);
    CHECK(trm_loss_call(s.loss.get(), nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr) ==
          TRM_BAD_ARGUMENT);
}

TEST_CASE("C: structs of another version") {
    struct later_batch {
        trm_batch known;
        std::int64_t unknown = 0;
    };
    struct later_error {
        trm_error known;
        std::int64_t unknown = -1;
    };
    small s;
    later_batch batch{s.batch};
    batch.known.size = sizeof batch;
    later_error error{trm_error_init()};
    error.known.size = sizeof error;
    auto const call = [&] {
        return trm_loss_call(s.loss.get(), &batch.known, nullptr, nullptr, nullptr, nullptr, nullptr, &error.known);
    };
    CHECK(call() == TRM_OK);
    CHECK(error.unknown == 0);
    CHECK(error.known.size == sizeof error);
    batch.unknown = 1;
    CHECK(call() == TRM_UNSUPPORTED);
}

TEST_CASE("C: phases, slices and handles refuse nothing and nonsense") {
    small s;
    c::totals const totals(trm_totals_new()), others(trm_totals_new());
    c::counts const counts(trm_counts_new());
    trm_error* const e = &s.error;
    CHECK(trm_loss_measure(s.loss.get(), &s.batch, nullptr, nullptr, nullptr, e) == TRM_BAD_ARGUMENT);
    CHECK(trm_loss_count(s.loss.get(), &s.batch, nullptr, totals.get(), counts.get(), e) == TRM_SIZE_MISMATCH);
    CHECK(trm_loss_measure(s.loss.get(), &s.batch, nullptr, nullptr, totals.get(), e) == TRM_OK);
    CHECK(trm_totals_merge(totals.get(), others.get(), e) == TRM_SIZE_MISMATCH);
    CHECK(trm_totals_merge(totals.get(), nullptr, e) == TRM_BAD_ARGUMENT);
    CHECK(trm_loss_count(s.loss.get(), &s.batch, nullptr, totals.get(), nullptr, e) == TRM_BAD_ARGUMENT);
    CHECK(trm_loss_apply(s.loss.get(), &s.batch, totals.get(), nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                         e) == TRM_BAD_ARGUMENT);
    CHECK(trm_loss_select(nullptr, &s.batch, nullptr, nullptr, nullptr, nullptr, e) == TRM_BAD_ARGUMENT);
    c::loss const budget = c::from_text("mask: budget(k2, limit=0.02)");
    CHECK(trm_loss_select(budget.get(), &s.batch, nullptr, nullptr, nullptr, nullptr, e) == TRM_BAD_ARGUMENT);
    CHECK(trm_counts_merge(counts.get(), nullptr, e) == TRM_BAD_ARGUMENT);
    CHECK(trm_counts_get(counts.get(), nullptr, e) == TRM_BAD_ARGUMENT);
    CHECK(trm_counts_add(counts.get(), nullptr, nullptr, 0, e) == TRM_BAD_ARGUMENT);
    double const values[TRM_COUNTS] = {};
    CHECK(trm_counts_add(counts.get(), values, nullptr, 1, e) == TRM_BAD_ARGUMENT);
    CHECK(trm_counts_add(counts.get(), values, nullptr, -1, e) == TRM_BAD_LAYOUT);
    CHECK(trm_diagnostics_merge(&s.diagnostics, nullptr, e) == TRM_BAD_ARGUMENT);

    std::int64_t offsets[4];
    trm_batch part;
    trm_outputs out;
    auto const slice = [&](int ith, int nth) { return trm_slice(&s.batch, &s.out, ith, nth, offsets, &part, &out, e); };
    CHECK(slice(0, 2) == TRM_OK);
    CHECK(part.sequences == 2);  // runs that begin before token 4
    CHECK(part.tokens == 5);
    CHECK(slice(1, 2) == TRM_OK);
    CHECK(part.sequences == 1);
    CHECK(out.grad.data == s.grad.data() + 5);
    CHECK(part.logp.data == s.b.logp.data() + 5);
    s.batch.logp.stride = 2;
    s.batch.sequence_advantages = s.b.sequence_advantages.data();
    CHECK(slice(1, 2) == TRM_OK);
    CHECK(part.logp.data == static_cast<void const*>(s.b.logp.data() + 5 + 5));
    CHECK(part.sequence_advantages == s.b.sequence_advantages.data() + 2);
    CHECK(part.group_of == s.b.groups.data() + 2);
    s.batch.logp.stride = 0;
    CHECK(slice(2, 2) == TRM_BAD_ARGUMENT);
    CHECK(slice(-1, 2) == TRM_BAD_ARGUMENT);
    CHECK(slice(0, 0) == TRM_BAD_ARGUMENT);
    CHECK(trm_slice(&s.batch, &s.out, 0, 2, nullptr, &part, &out, e) == TRM_BAD_ARGUMENT);
    CHECK(trm_slice(&s.batch, &s.out, 0, 2, offsets, &part, nullptr, e) == TRM_BAD_ARGUMENT);
    CHECK(trm_slice(&s.batch, nullptr, 0, 2, offsets, nullptr, nullptr, e) == TRM_BAD_ARGUMENT);
    s.batch.tokens = 8;
    CHECK(slice(0, 2) == TRM_SIZE_MISMATCH);
    s.batch.tokens = 9;
    s.b.cu[1] = 7;
    CHECK(slice(0, 2) == TRM_DECREASING_OFFSETS);
    s.batch.layout = TRM_PADDED;
    s.batch.max_tokens = 4;
    CHECK(slice(0, 2) == TRM_SIZE_MISMATCH);
    s.batch.partial = 1;  // allows more tokens than the rows have, not fewer
    CHECK(slice(0, 2) == TRM_SIZE_MISMATCH);
    s.batch.tokens = 13;
    CHECK(slice(0, 2) == TRM_OK);
    s.batch.partial = 0;
    CHECK(slice(0, 2) == TRM_SIZE_MISMATCH);

    trm_loss_free(nullptr);
    trm_scratch_free(nullptr);
    trm_totals_free(nullptr);
    trm_counts_free(nullptr);
    trm_evidence_free(nullptr);
    trm_string_free(nullptr);
    CHECK(trm_loss_text(nullptr) == nullptr);
    CHECK(trm_scratch_bytes(nullptr) == 0);
    CHECK(trm_totals_sums(nullptr, nullptr) == nullptr);
    CHECK(trm_counts_prompts(nullptr, nullptr, 0) == 0);
    CHECK(trm_version() == TRM_VERSION);
}

TEST_CASE("C: text, JSON and names that describe no loss") {
    trm_error e = trm_error_init();
    CHECK(trm_loss_from_text("surrogate: ppo_clip;\n mask: seq_max_k7 <= 1", &e) == nullptr);
    CHECK(e.code == TRM_BAD_SPEC);
    CHECK(e.position == 28);
    CHECK(e.line == 2);
    CHECK(e.column == 8);
    CHECK(std::string(e.suggestion) == "seq_max_k1");
    CHECK(std::string(e.message).starts_with("trm: line 2, column 8: unknown criterion \"seq_max_k7\""));
    CHECK(trm_loss_from_text(nullptr, &e) == nullptr);
    CHECK(e.code == TRM_BAD_ARGUMENT);
    CHECK(e.position == -1);
    CHECK(trm_loss_from_text(std::string(100000, 'x').c_str(), &e) == nullptr);
    CHECK(std::strlen(e.message) < sizeof e.message);

    c::loss const json(trm_loss_from_json(R"({"trm": 1, "surrogate": {"name": "ppo_clip", "eps_high": 0.28}})", &e));
    REQUIRE(json);
    CHECK(e.code == TRM_OK);
    CHECK(std::string(trm_loss_text(json.get())).find("eps_high=0.28") != std::string::npos);
    CHECK(trm_loss_from_json("{\n  \"trm\": 1,,", &e) == nullptr);
    CHECK(e.code == TRM_BAD_SPEC);
    CHECK(e.position == 13);
    CHECK(e.line == 2);
    CHECK(trm_loss_from_json("", &e) == nullptr);
    CHECK(trm_loss_from_json(R"({"surrogate": "ppo_slip"})", &e) == nullptr);
    CHECK(std::string(e.message).starts_with("trm: /surrogate: "));
    CHECK(std::string(e.suggestion) == "ppo_clip");

    for (int i = 0; i < trm_preset_count(); ++i) {
        std::string name = trm_preset_name(i);
        c::loss loss(trm_loss_from_preset(name.c_str(), &e));
        if (!loss) {  // has no defaults
            CHECK(e.code == TRM_BAD_SPEC);
            CHECK(std::string(e.message).find("does not take 0 parameters") != std::string::npos);
            name += "(0.5)";
            loss.reset(trm_loss_from_preset(name.c_str(), &e));
        }
        INFO(name << ": " << e.message);
        REQUIRE(loss);
        CHECK(c::from_text(trm_loss_text(loss.get())));
    }
    CHECK(trm_preset_count() > 40);
    CHECK(trm_preset_name(-1) == nullptr);
    CHECK(trm_preset_name(trm_preset_count()) == nullptr);
    c::loss const max(trm_loss_from_preset("trm_max(0.05)", &e));
    REQUIRE(max);
    CHECK(std::string(trm_loss_text(max.get())).find("seq_max_k2 <= 0.05") != std::string::npos);
    c::loss const prime(trm_loss_from_preset("prime_rl( 0.1, 3e-3 )", &e));
    REQUIRE(prime);
    for (char const* wrong : {"", "(", ")", "trm_max(", "trm_max(a)", "trm_max()", "trm_max(1,2,3,4,5)", "trl_depo",
                              "trl_sapo(1)", "trm_max(0.05", "trm_max(0.05,)", "trm_max(0.05 1)", "trm_max(,1)"})
        CHECK(trm_loss_from_preset(wrong, &e) == nullptr);
    CHECK(trm_loss_from_preset("trl_depo", &e) == nullptr);
    CHECK(std::string(e.suggestion) == "trl_dapo");
    CHECK(trm_loss_from_preset("trm_max(0.05, x)", &e) == nullptr);
    CHECK(e.position == 14);
}

TEST_CASE("C: named arrays of the wrong size say which sizes they may have") {
    using trm_operands::type;
    float logp[6]{};
    std::int32_t groups[6]{};
    std::int64_t const two_rows[]{2, 3}, three[]{3};
    trm_operands::call call;
    REQUIRE(call.input({"logp", logp, type::f32, two_rows}));
    CHECK_FALSE(call.input({"group_of", groups, type::i32, two_rows}));
    CHECK(call.problem == "trm: group_of must have one number per sequence");
    CHECK_FALSE(call.input({"advantages", logp, type::f32, three}));
    CHECK(call.problem == "trm: advantages must have the shape of logp or one number per sequence");
    CHECK(call.input({"advantages", logp, type::f32, two_rows}));
}

TEST_CASE("C: sentences are those of C++") {
    using trm::errc;
    for (trm::status const& s :
         {trm::status{errc::size_mismatch, -1, -1, "grad", 5, 4}, trm::status{errc::nonfinite_input, 3, 9, "logp"},
          trm::status{errc::bad_layout, -1, 4, "x"}, trm::status{errc::decreasing_offsets, 3, -1, ""}}) {
        char text[512];
        trm::c_api::print_status(s, text, sizeof text);
        CHECK(text == to_string(s));
        char cut[10];
        trm::c_api::print_status(s, cut, sizeof cut);
        CHECK(cut == to_string(s).substr(0, 9));
    }
}
