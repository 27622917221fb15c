// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/spec_bind.hpp>

#include <cmath>

/// \file
/// Nodes to criteria of a mask and back.

TRM_NAMESPACE_BEGIN
namespace detail {

/// `seq_max_k2`: a statistic (none: per token) of a divergence.
struct measured_name {
    std::string_view statistic;
    std::size_t divergence;  ///< in `catalogue::divergences`
};
[[nodiscard]] inline std::optional<measured_name> read_measured(std::string_view name) noexcept {
    measured_name m{};
    for (std::string_view s : names_in<catalogue::statistics>) {
        if (name.substr(0, 4) != "seq_" || name.substr(4, s.size()) != s || name.substr(4 + s.size(), 1) != "_")
            continue;
        m.statistic = s;
        name.remove_prefix(5 + s.size());
    }
    auto const index = detail::index_of_name<catalogue::divergences>(name);
    if (!index) return {};
    m.divergence = *index;
    return m;
}
template <class M>
[[nodiscard]] constexpr std::string_view statistic_of_criterion() noexcept {
    if constexpr (requires { &M::statistic; }) {
        return decltype(M::statistic)::name;
    } else {
        return {};
    }
}
template <class Criterion>
void unknown_criterion(spec_node const& n, spec_problem& problem) {
    std::vector<std::string> known = names_of<catalogue::divergences>();
    std::string list;
    for (std::string const& d : known) list += d + ", ";
    for (std::string name : names_of<alternatives_of<Criterion>>()) {
        if (std::find(known.begin(), known.end(), name) != known.end()) continue;
        list += name + ", ";
        known.push_back(std::move(name));
    }
    for (char const* name : {"geometric_ratio", "product_ratio", "veto", "none"}) known.emplace_back(name);
    list += "geometric_ratio, product_ratio, veto, seq_<sum|mean|max|min>_<divergence>";
    for (auto const& d : names_of<catalogue::divergences>())
        for (char const* s : {"seq_sum_", "seq_mean_", "seq_max_", "seq_min_"}) known.push_back(s + d);
    detail::unknown_word(problem, n.at, "criterion", n.text, known, list);
}
inline void need_band(spec_node const& n, spec_problem& problem) {
    if (!n.has_band) problem.set(n.at, n.text + " needs a band: <=, >= or in [a, b]");
}
inline void refuse_band(spec_node const& n, spec_problem& problem) {
    if (n.has_band) problem.set(n.band_at, n.text + " takes no band");
}
inline void refuse_arguments(spec_node const& n, spec_problem& problem) {
    if (!n.items.empty()) problem.set(n.items[0].at, n.text + " takes no arguments");
}
/// `divergence@ratio <band>` into a criterion that has both.
template <class M>
void read_test(spec_node const& n, std::size_t divergence, M& to, spec_problem& problem) {
    refuse_arguments(n, problem);
    need_band(n, problem);
    to.divergence = {};
    to.divergence.index = divergence;
    read_over(n, to.divergence.over, problem);
    band b;
    read_band(n, b, problem);
    if constexpr (requires { to.keep; }) {
        to.keep = b;
    } else {
        to.positive = to.negative = b;
    }
}

/// Bands on ratios as people say them, in the logarithms that the library works with.
template <class Criterion>
bool read_ratio_band(spec_node const& n, std::vector<Criterion>& mask, spec_problem& problem) {
    bool const geometric = n.text == "geometric_ratio", product = n.text == "product_ratio", any = n.text == "veto";
    if (!geometric && !product && !any) return false;
    any_divergence log_ratio(k1{});
    read_over(n, log_ratio.over, problem);
    band b;
    if (any) {
        refuse_band(n, problem);
        if (n.items.size() != 2) return problem.set(n.at, "veto takes a lower and an upper ratio"), true;
        for (spec_node const& a : n.items)
            if (!a.key.empty() && a.key != (&a == &n.items[0] ? "lower" : "upper"))
                detail::unknown_word(problem, a.at, "argument of veto", a.key, {"lower", "upper"});
        detail::read_value(n.items[0], b.lower, "veto", problem);
        detail::read_value(n.items[1], b.upper, "veto", problem);
    } else {
        refuse_arguments(n, problem);
        need_band(n, problem);
        read_band(n, b, problem);
        if (n.lower.empty()) b.lower = 0;
    }
    if (!(b.lower >= 0 && b.lower <= b.upper))
        problem.set(n.at, "the ratios of " + n.text + " must be 0 <= lower <= upper");
    if (problem.found) return true;
    band const x = within(-std::log(b.upper), -std::log(b.lower));
    if (geometric) mask.emplace_back(sequence_mask{log_ratio, stat::mean, x});
    if (product) mask.emplace_back(sequence_mask{log_ratio, stat::sum, x});
    if (any) {
        mask.emplace_back(sequence_mask{log_ratio, stat::max, at_most(x.upper)});
        mask.emplace_back(sequence_mask{log_ratio, stat::min, at_least(x.lower)});
    }
    return true;
}

template <class Criterion>
void read_criterion(spec_node const& n, std::vector<Criterion>& mask, spec_problem& problem) {
    if (n.is != spec_node::kind::word) return problem.set(n.at, "expected a criterion such as k2 <= 0.1");
    if (read_ratio_band(n, mask, problem)) return;
    auto const own = detail::read_measured(n.text);
    bool known = false;
    bool const done = any_type(alternatives_of<Criterion>{}, [&](auto type) {
        using M = typename decltype(type)::type;
        M m{};
        if constexpr (M::form == criterion_form::measured) {
            if (!own || own->statistic != statistic_of_criterion<M>()) return false;
            read_test(n, own->divergence, m, problem);
        } else {
            if (n.text != M::name) return false;
            known = true;
            if constexpr (M::form == criterion_form::around) {
                refuse_over(n, problem);
                refuse_band(n, problem);
                if (n.items.empty()) return false;
                spec_node const& inside = n.items[0];
                auto const test = detail::read_measured(inside.text);
                if (!test || test->statistic != statistic_of_criterion<M>()) return false;
                if (!inside.key.empty() && inside.key != "of") return false;
                read_test(inside, test->divergence, m, problem);
                read_fields(n, 1, m, problem);
            } else {
                refuse_over(n, problem);
                if constexpr (M::form == criterion_form::banded) {
                    need_band(n, problem);
                    read_band(n, m.keep, problem);
                } else {
                    refuse_band(n, problem);
                }
                read_fields(n, 0, m, problem);
            }
        }
        mask.emplace_back(m);
        return true;
    });
    if (done) return;
    if (!known) return unknown_criterion<Criterion>(n, problem);
    bool whole = false;
    any_type(alternatives_of<Criterion>{}, [&](auto type) {
        using M = typename decltype(type)::type;
        whole = whole || (n.text == M::name && !statistic_of_criterion<M>().empty());
        return false;
    });
    if (!n.items.empty() && n.items[0].is == spec_node::kind::word && !detail::read_measured(n.items[0].text))
        return unknown_criterion<Criterion>(n.items[0], problem);
    problem.set(n.items.empty() ? n.at : n.items[0].at,
                n.text + " takes a criterion of " +
                    (whole ? "a sequence, such as seq_max_k2 <= 0.1" : "a token, such as k2 <= 0.1"));
}

template <class M>
[[nodiscard]] spec_node test_node(M const& m) {
    spec_node t = value_node(m.divergence);
    t.bare = true;
    if (auto const s = statistic_of_criterion<M>(); !s.empty()) t.text = "seq_" + std::string(s) + "_" + t.text;
    if constexpr (requires { m.keep; }) {
        write_band(m.keep, t);
    } else {
        write_band(m.positive, t);
    }
    return t;
}
template <class Criterion>
[[nodiscard]] spec_node criterion_node(Criterion const& criterion) {
    return std::visit(
        [](auto const& m) {
            using M = std::remove_cvref_t<decltype(m)>;
            if constexpr (M::form == criterion_form::measured) {
                return test_node(m);
            } else {
                spec_node n = word_node(M::name);
                if constexpr (M::form == criterion_form::around) {
                    n.items.push_back(test_node(m));
                    n.items.back().key = "of";
                }
                if constexpr (M::form == criterion_form::banded) write_band(m.keep, n);
                write_fields(m, n);
                return n;
            }
        },
        criterion);
}

}  // namespace detail
TRM_NAMESPACE_END
