// SPDX-License-Identifier: Apache-2.0
// Every parameter of every policy: its default and the values that validate() accepts. A new policy needs its rows here.
#include "catch.hpp"

#include <trm/policy/catalogue.hpp>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <set>
#include <sstream>
#include <string>
#include <vector>

using namespace trm;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity(), not_a_number = std::numeric_limits<double>::quiet_NaN();

/// kind, policy, field, default (or "required"), intervals of accepted numbers where all others have their defaults and required
/// ones are 1. Enumerations have a default only. Bands and bounds of weights are the same everywhere and are tested below.
constexpr char const* table = R"(
mask      away            zero             as_negative
mask      away_likely     least_positive   0          [0,inf]
mask      away_likely     least_negative   0          [0,inf]
mask      away_likely     zero             as_negative
mask      signed          sign             negative
mask      quantile        q                required   [0,1]
mask      top_mean        m                required   [1,inf)
mask      budget          limit            required   [-inf,inf]
mask      top_share       share            required   [0,1]
mask      clip_cov        lower            1          [-inf,5]
mask      clip_cov        upper            5          [1,inf]
mask      clip_cov        fraction         0.0002     [0,1]
mask      clip_cov        eps_low          0.2        [0,inf]
mask      clip_cov        eps_high         0.2        [0,inf]
mask      clip_cov        seed             0          [0,inf)
mask      length_neutral  threshold        required   [0,inf)
mask      length_neutral  horizon          required   [1,inf)
mask      length_neutral  eps              inf        [0,inf]
mask      length_neutral  delta            inf        [0,inf]
mask      segment         length           0          [0,inf)
mask      away_budget     limit            required   [-inf,inf]
mask      running_budget  delta            0.15       [0,inf]
mask      running_budget  w_min            0.8        [0,1]
mask      running_budget  drift_min        0.02       [0,inf)
mask      running_budget  q                0.9        [0,1]
mask      running_budget  k                1          [0,inf)
mask      running_budget  horizon          0          [0,inf)
weight    product         ratios           all
weight    geometric       ratios           all
weight    normalised_token      when       after_bound
weight    normalised_token      sees       all
weight    normalised_product    when       after_bound
weight    normalised_product    sees       all
weight    normalised_product    ratios     all
weight    normalised_product    rows       measured
weight    normalised_geometric  when       after_bound
weight    normalised_geometric  sees       all
weight    normalised_geometric  ratios     all
weight    normalised_geometric  rows       measured
weight    constant        factor           required   (-inf,inf)
factor    suffix          half_life        32         (0,inf]
factor    suffix          lower            1          [0,1.2]
factor    suffix          upper            1.2        [1,inf]
factor    suffix          most_ratio       inf        (0,inf]
factor    suffix          safe_ratio       4          (0,inf]
factor    suffix          safe_lower       0.8        [0,1]
factor    segment         length           0          [0,inf)
factor    surprise        share            0.1        [0,1]
factor    surprise        positive         1.1        (-inf,inf)
factor    surprise        negative         1          (-inf,inf)
surrogate ppo_clip        eps_low          0.2        [0,inf]
surrogate ppo_clip        eps_high         0.2        (-1,inf]
surrogate ppo_clip        dual_clip        0          [0,0] (1,inf]
surrogate cispo           lower            0          [0,5]
surrogate cispo           upper            5          [0,inf]
surrogate gspo            eps_low          0.0003     [0,inf]
surrogate gspo            eps_high         0.0004     (-1,inf]
surrogate gspo            dual_clip        0          [0,0] (1,inf]
surrogate gspo            ratios           kept
surrogate gspo_token      eps_low          0.0003     [0,inf]
surrogate gspo_token      eps_high         0.0004     (-1,inf]
surrogate gspo_token      dual_clip        0          [0,0] (1,inf]
surrogate gspo_token      ratios           kept
surrogate gmpo            eps_low          0.4        [0,inf]
surrogate gmpo            eps_high         0.4        [0,inf]
surrogate sapo            tau_positive     1          (0,80]
surrogate sapo            tau_negative     1.05       (0,80]
surrogate sapo_sequence   tau_positive     1          (0,80]
surrogate sapo_sequence   tau_negative     1.05       (0,80]
surrogate sapo_sequence   ratios           kept
surrogate dro             beta             required   [0,inf)
surrogate kl_cov          coefficient      0.1        (-inf,inf)
surrogate kl_cov          fraction         0.0002     [0,1]
surrogate vespo           k_positive       2          [0,inf)
surrogate vespo           lambda_positive  3          [0.0001,inf)
surrogate vespo           k_negative       3          [0,inf)
surrogate vespo           lambda_negative  2          [0.0001,inf)
surrogate vespo_folded    k_positive       2          [0,inf)
surrogate vespo_folded    lambda_positive  3          [0.0001,inf)
surrogate vespo_folded    k_negative       3          [0,inf)
surrogate vespo_folded    lambda_negative  2          [0.0001,inf)
surrogate topr            positive_lower   1          [0,1]
surrogate topr            positive_upper   1          [1,inf]
surrogate topr            negative_lower   0          [0,1]
surrogate topr            negative_upper   1          [0,inf]
surrogate topr_token      positive_lower   1          [0,1]
surrogate topr_token      positive_upper   1          [1,inf]
surrogate topr_token      negative_lower   0          [0,1]
surrogate topr_token      negative_upper   1          [0,inf]
surrogate topr_geometric  positive_lower   1          [0,1]
surrogate topr_geometric  positive_upper   1          [1,inf]
surrogate topr_geometric  negative_lower   0          [0,1]
surrogate topr_geometric  negative_upper   1          [0,inf]
surrogate spo             eps              0.2        [0.000001,inf)
surrogate drpo            delta            0.2        [0.000001,inf)
surrogate up_grpo         eps_low          0.2        [0,inf]
surrogate up_grpo         dual_clip        3          (1,inf]
surrogate delight         eta              1          [0.000001,inf)
surrogate cispo_sequence  lower            0          [0,5]
surrogate cispo_sequence  upper            5          [0,inf]
surrogate cispo_sequence  ratios           kept
penalty   kl                beta           required   (-inf,inf)
penalty   kl                sees           all
penalty   squared_log_ratio coefficient    required   (-inf,inf)
penalty   squared_log_ratio sees           all
penalty   reference_kl      beta           required   (-inf,inf)
penalty   reference_kl      sees           all
penalty   reference_kl      input_clamp    20         (0,inf]
penalty   reference_kl      output_clamp   inf        (0,inf]
)";

struct interval {
    double low = 0, high = 0;
    bool with_low = false, with_high = false;
    [[nodiscard]] bool contains(double v) const {
        return !is_nan(v) && (v > low || (with_low && v == low)) && (v < high || (with_high && v == high));
    }
};
struct row {
    std::string kind, policy, field, value;
    std::vector<interval> accepted;
};
double number(std::string const& text) { return std::strtod(text.c_str(), nullptr); }

std::vector<row> rows() {
    std::vector<row> all;
    std::istringstream lines(table);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        row r;
        if (!(words >> r.kind >> r.policy >> r.field >> r.value)) continue;
        for (std::string i; words >> i;) {
            auto const comma = i.find(',');
            r.accepted.push_back(
                {number(i.substr(1, comma - 1)), number(i.substr(comma + 1)), i.front() == '[', i.back() == ']'});
        }
        all.push_back(r);
    }
    return all;
}
bool accepts(row const& r, double v) {
    for (interval const& i : r.accepted)
        if (i.contains(v)) return true;
    return false;
}

/// The next double, or next to 0 the smallest that is not subnormal: -ffast-math takes those for 0.
double next_to(double v, double towards) {
    double const next = std::nextafter(v, towards), least = std::numeric_limits<double>::min();
    return next != v && std::fabs(next) < least ? std::copysign(v == 0 ? least : 0.0, next) : next;
}

/// Where a policy that accepts too much or too little shows it: the ends of the intervals and what is next to them.
std::vector<double> probes(row const& r) {
    std::vector<double> v{not_a_number, inf, -inf, -1, -0.0, 0, 0.5, 1, 2, 1e6, std::numeric_limits<double>::max()};
    for (interval const& i : r.accepted)
        for (double const end : {i.low, i.high}) v.insert(v.end(), {end, next_to(end, -inf), next_to(end, inf)});
    return v;
}

template <class P>
P with_required() {
    P p{};
    each_field<P>([&](char const*, auto where, bool required = false) {
        if constexpr (std::is_arithmetic_v<std::remove_cvref_t<decltype(field_of(where, p))>>)
            if (required) field_of(where, p) = 1;
    });
    return p;
}

void check_band(auto p, auto where) {
    band& which = field_of(where, p);
    CHECK((which.lower == -inf && which.upper == inf));
    auto const ok = [&](band b) {
        which = b;
        return p.validate().ok();
    };
    CHECK((ok({-inf, inf}) && ok({0.5, 0.5}) && ok({-2, -1})));
    CHECK(!ok({0.5, std::nextafter(0.5, 0)}));
    CHECK((!ok({not_a_number, 1}) && !ok({0, not_a_number})));
}
void check_bound(auto p, auto where) {
    auto const bounds = [&](weight_bound b) {
        field_of(where, p) = b;
        return p.validate().ok();
    };
    weight_bound const none = field_of(where, p);
    CHECK((none.lower == -1 && none.upper == inf && none.below == 0 && none.above == 0));
    CHECK((bounds({0.5, 0.5, 1, 2}) && bounds({-1, inf, 0, 0})));
    CHECK(!bounds({0.5, std::nextafter(0.5, 0), 0, 0}));
    CHECK((!bounds({not_a_number, 1, 0, 0}) && !bounds({0, not_a_number, 0, 0}) && !bounds({0, 1, not_a_number, 0}) &&
           !bounds({0, 1, 0, not_a_number})));
}

template <class P, class T>
void check_default(row const& r, T value, bool required) {
    CHECK(required == (r.value == "required"));
    if (required) return;
    if constexpr (std::is_enum_v<T> || std::is_same_v<T, bool>) {
        std::string word;
        for (auto const& w : enum_words<T>)
            if (w.value == value) word = w.word;
        CHECK(word == r.value);
    } else {
        CHECK(static_cast<double>(value) == number(r.value));
    }
}
template <class P>
void check_numbers(row const& r, auto where) {
    P p = with_required<P>();
    using T = std::remove_cvref_t<decltype(field_of(where, p))>;
    if constexpr (std::is_integral_v<T>) {
        for (int const v : {-1, 0, 1, 2, 1000}) {
            if (v < 0 && std::is_unsigned_v<T>) continue;
            field_of(where, p) = static_cast<T>(v);
            INFO(v);
            CHECK(p.validate().ok() == accepts(r, v));
        }
    } else {
        for (double const v : probes(r)) {
            if (TRM_FAST_MATH && is_nan(v))
                continue;  // x >= 0 may hold for NaN there: compilers take no number for NaN
            field_of(where, p) = v;
            INFO(v);
            CHECK(p.validate().ok() == accepts(r, v));
        }
    }
}

template <class P>
void check_policy(std::string const& kind, std::vector<row> const& all, std::set<std::string>& met) {
    P const p = with_required<P>();
    INFO(kind << ' ' << P::name);
    CHECK(p.validate().ok());
    if constexpr (requires { p.keep.lower; }) check_band(p, [](auto& q) -> auto& { return q.keep; });
    if constexpr (requires { p.positive.lower; }) check_band(p, [](auto& q) -> auto& { return q.positive; });
    each_field<P>([&](char const* field, auto where, bool required = false) {
        INFO(field);
        using T = std::remove_cvref_t<decltype(field_of(where, p))>;
        if constexpr (std::is_same_v<T, band>) return check_band(p, where);
        else if constexpr (std::is_same_v<T, weight_bound>) return check_bound(p, where);
        else if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
            for (row const& r : all) {
                if (r.kind != kind || r.policy != P::name || r.field != field) continue;
                met.insert(r.kind + r.policy + r.field);
                check_default<P>(r, field_of(where, p), required);
                if constexpr (!std::is_enum_v<T> && !std::is_same_v<T, bool>) check_numbers<P>(r, where);
                return;
            }
            FAIL("no row: add one to the table");
        }
    });
}

}  // namespace

TEST_CASE("defaults and accepted values of every parameter of every policy", "[unit]") {
    auto const all = rows();
    std::set<std::string> met;
    auto const each = [&](std::string const& kind) {
        return [&, kind]<class P>(std::type_identity<P>) {
            check_policy<P>(kind, all, met);
            return false;
        };
    };
    any_type(catalogue::criteria<k2>{}, each("mask"));
    any_type(catalogue::weights{}, each("weight"));
    any_type(catalogue::weight_factors{}, each("factor"));
    any_type(catalogue::surrogates{}, each("surrogate"));
    any_type(catalogue::penalties<k3>{}, each("penalty"));
    for (row const& r : all) {
        INFO(r.kind << ' ' << r.policy << ' ' << r.field);
        CHECK(met.count(r.kind + r.policy + r.field) == 1);
    }
}

TEST_CASE("bounds of weights: what is outside becomes", "[unit]") {
    struct {
        weight_bound bound;
        double at_half, at_two, at_ten;
    } const cases[] = {{{}, 0.5, 2, 10},           {{1, 4}, 0, 2, 0},
                       {{1, 4, 3}, 3, 2, 0},       {truncate_above(4), 0.5, 2, 4},
                       {clamp_to(1, 4), 1, 2, 4},  {zero_outside(1, 4), 0, 2, 0},
                       {{0.5, 2, 7, 8}, 0.5, 2, 8}};
    for (auto const& c : cases) {
        CHECK(c.bound(0.5) == c.at_half);
        CHECK(c.bound(2) == c.at_two);
        CHECK(c.bound(10) == c.at_ten);
    }
}

TEST_CASE("clamps of log-ratios: what they accept, do and say of each other", "[unit]") {
    CHECK((clamp_range{}.lower == -20 && clamp_range{}.upper == 20 && no_clamp == clamp_range{-80, 80}));
    CHECK((clamp_range{3} == clamp_range{-3, 3}));
    double const more = std::nextafter(80, inf), least = std::numeric_limits<double>::min();
    for (clamp_range const c : {clamp_range{-80, 80}, clamp_range{-least, 1}, clamp_range{-1, least}}) CHECK(c.ok());
    for (clamp_range const c : {clamp_range{-more, 1}, clamp_range{-1, more}, clamp_range{0, 1}, clamp_range{-1, 0},
                                clamp_range{not_a_number, 1}, clamp_range{-1, not_a_number}, clamp_range{1, -1}})
        CHECK(!c.ok());
    clamp_range const c{-0.5, 2};
    CHECK((c(-0.5) == -0.5 && c(2) == 2 && c(-1) == -0.5 && c(3) == 2 && c(0.25) == 0.25));
    CHECK((c.contains(-0.5) && c.contains(2) && c.contains(0) && !c.contains(std::nextafter(-0.5, -1))));
    CHECK((!c.contains(std::nextafter(2, 3)) && !c.contains(not_a_number)));

    std::size_t stages = 0;
    log_ratio_clamps::fields([&](char const* name, auto stage) {
        INFO(name);
        ++stages;
        log_ratio_clamps all = 0.5;
        CHECK((all.ok() && all.same_for_tokens() && all.tightest() == 0.5 && all.widest() == 0.5));
        bool const of_sequences = std::string(name).find("sequence") != std::string::npos;
        all.*stage = {-0.5, 0.75};
        CHECK((all.widest() == 0.75 && all.tightest() == 0.5 && all.same_for_tokens() == of_sequences));
        all.*stage = {-0.75, 0.5};
        CHECK(all.widest() == 0.75);
        all.*stage = {-0.25, 0.5};
        CHECK((all.widest() == 0.5 && all.tightest() == (of_sequences ? 0.5 : 0.25)));
        all.*stage = {-0.5, 0.25};
        CHECK(all.tightest() == (of_sequences ? 0.5 : 0.25));
        all.*stage = {-1, 0};
        CHECK(!all.ok());
    });
    CHECK(stages == 6);
}
