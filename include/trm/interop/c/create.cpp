// SPDX-License-Identifier: Apache-2.0
// Losses from text, JSON and names.
#include <trm/interop/c/loss.hpp>
#include <trm/interop/c/support.hpp>
#include <trm/loss/presets/by_name.hpp>
#include <trm/loss/spec.hpp>

#include <array>

// Define TRM_C_JSON as 0 to do without nlohmann/json, 1 to insist on it.
#if !defined(TRM_C_JSON)
#if __has_include(<nlohmann/json.hpp>)
#define TRM_C_JSON 1
#else
#define TRM_C_JSON 0
#endif
#endif
#if TRM_C_JSON
#include <trm/interop/json.hpp>
#endif

TRM_NAMESPACE_BEGIN
namespace c_api {
namespace {

/// What `parse` finds in the caller's text as a loss; null after a report.
template <class F>
[[nodiscard]] trm_loss* create(char const* text, trm_error* error, F const& parse) noexcept {
    trm_loss* loss = nullptr;
    if (!check_struct(error).ok()) return nullptr;
    status const s = without_exceptions([&]() -> status {
        if (text == nullptr) {
            report(bad_argument("text is a null pointer"), error);
            return {};
        }
        text_place place;
        spec_result const r = parse(text, place);
        if (r.ok()) {
            loss = new trm_loss(r.spec, print_spec(r.spec));
            report({}, error);
            return {};
        }
        place.message = r.message.empty() ? nullptr : r.message.c_str();
        place.suggestion = r.suggestion.c_str();
        report(r.status, error, place);
        return {};
    });
    if (!s.ok()) report(s, error);
    return loss;
}
/// What is wrong with a text, at a byte of it.
void place_in(char const* text, std::size_t position, text_place& place) noexcept {
    place.position = static_cast<std::int64_t>(position);
    place.line = 1;
    place.column = 1;
    for (std::size_t i = 0; i < position && text[i] != '\0'; ++i) {
        place.line += text[i] == '\n';
        place.column = text[i] == '\n' ? 1 : place.column + 1;
    }
}

#if TRM_C_JSON
/// nlohmann's words about malformed JSON, without its exceptions; and a limit to what is stored afterwards, whose destruction
/// recurses and whose ordered objects are searched from the front.
struct json_problem : nlohmann::json_sax<nlohmann::json> {
    static constexpr std::size_t deepest = 32, most_members = 64;
    std::size_t position = 0;
    bool has_position = false;
    std::string message;
    std::array<std::size_t, deepest> members{};  ///< of the objects around
    std::size_t depth = 0;
    bool null() override { return true; }
    bool boolean(bool) override { return true; }
    bool number_integer(number_integer_t) override { return true; }
    bool number_unsigned(number_unsigned_t) override { return true; }
    bool number_float(number_float_t, string_t const&) override { return true; }
    bool string(string_t&) override { return true; }
    bool binary(binary_t&) override { return true; }
    bool start_object(std::size_t) override { return enter(); }
    bool key(string_t&) override {
        return ++members[depth - 1] <= most_members || refuse("an object has more than 64 members");
    }
    bool end_object() override { return leave(); }
    bool start_array(std::size_t) override { return enter(); }
    bool end_array() override { return leave(); }
    bool enter() {
        if (depth == deepest) return refuse("nested deeper than 32 levels");
        members[depth++] = 0;
        return true;
    }
    bool leave() {
        --depth;
        return true;
    }
    bool refuse(char const* why) {
        message = why;
        return false;
    }
    bool parse_error(std::size_t at, std::string const&, nlohmann::detail::exception const& e) override {
        has_position = true;
        position = at > 0 ? at - 1 : 0;
        message = e.what();
        if (auto const end = message.find("] "); end != std::string::npos) message.erase(0, end + 2);
        return false;
    }
};
[[nodiscard]] spec_result parse_json(char const* text, text_place& place) {
    json_problem problem;
    if (nlohmann::json::sax_parse(text, &problem))
        return spec_from_json(nlohmann::ordered_json::parse(text, nullptr, false));
    spec_result r;
    r.status = {errc::bad_spec, -1, -1, "JSON"};
    r.message = problem.message;
    if (problem.has_position) place_in(text, problem.position, place);
    return r;
}
#else
[[nodiscard]] spec_result parse_json(char const*, text_place&) {
    spec_result r;
    r.status = {errc::unsupported, -1, -1, "JSON: this library was built without nlohmann/json"};
    return r;
}
#endif

}  // namespace
}  // namespace c_api
TRM_NAMESPACE_END

using namespace trm::c_api;

trm_loss* trm_loss_from_text(char const* text, trm_error* error) {
    return create(text, error, [](char const* t, text_place& place) {
        trm::spec_result r = trm::parse_spec(t);
        if (!r.ok() && !r.message.empty()) {
            place.position = static_cast<std::int64_t>(r.position);
            place.line = static_cast<std::int64_t>(r.line);
            place.column = static_cast<std::int64_t>(r.column);
        }
        return r;
    });
}
trm_loss* trm_loss_from_json(char const* json, trm_error* error) {
    return create(json, error, [](char const* t, text_place& place) { return parse_json(t, place); });
}
trm_loss* trm_loss_from_preset(char const* name, trm_error* error) {
    return create(name, error, [](char const* t, text_place& place) {
        trm::spec_result r = trm::presets::find(t);
        if (!r.ok()) place_in(t, r.position, place);
        return r;
    });
}
void trm_loss_free(trm_loss* loss) { delete loss; }
char const* trm_loss_text(trm_loss const* loss) { return loss == nullptr ? nullptr : loss->text.c_str(); }
int trm_preset_count(void) { return static_cast<int>(trm::presets::list().size()); }
char const* trm_preset_name(int i) {
    return i < 0 || i >= trm_preset_count() ? nullptr : trm::presets::list()[static_cast<std::size_t>(i)].name;
}
