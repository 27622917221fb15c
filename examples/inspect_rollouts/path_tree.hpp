// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mapping.hpp"

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// A field's path, or one of the paths of a label.
struct slot {
    std::size_t field;
    std::size_t part;
    bool shared;   ///< outside of mapping::each: holds for every sequence of the object
    bool repeats;  ///< has a [] of its own: one value after another
};

/// The paths of a mapping as a tree, walked from the root along names and positions.
class path_tree {
public:
    static constexpr int nowhere = -1, root = 0;
    std::vector<slot> slots;

    explicit path_tree(mapping const& m) : nodes(1) {
        if (!m.each.empty()) at(add(m.each)).each = true;
        for (std::size_t f = 0; f < fields::count; ++f)
            for (std::size_t part = 0; part < m.paths[f].size(); ++part) {
                field_path const& p = m.paths[f][part];
                bool const inside = starts_with(p, m.each);
                bool repeats = false;
                for (std::size_t k = inside ? m.each.size() : 0; k < p.size(); ++k)
                    repeats = repeats || p[k].is == path_step::kind::every;
                slots.push_back({f, part, !inside, repeats});
                at(add(p)).slots.push_back(slots.size() - 1);
            }
    }
    [[nodiscard]] int name(int node, std::string_view key) const {
        if (node != nowhere)
            for (auto const& [step, child] : at(node).children)
                if (step.is == path_step::kind::name && step.name == key) return child;
        return nowhere;
    }
    [[nodiscard]] int element(int node, std::size_t index) const {
        if (node != nowhere)
            for (auto const& [step, child] : at(node).children)
                if (step.is == path_step::kind::every || (step.is == path_step::kind::index && step.index == index))
                    return child;
        return nowhere;
    }
    /// Which slots end here, as indices into `slots`.
    [[nodiscard]] std::vector<std::size_t> const& ends(int node) const {
        static std::vector<std::size_t> const none;
        return node == nowhere ? none : at(node).slots;
    }
    [[nodiscard]] bool goes_on(int node) const { return node != nowhere && !at(node).children.empty(); }
    [[nodiscard]] bool is_each(int node) const { return node != nowhere && at(node).each; }

private:
    struct branch {
        std::vector<std::pair<path_step, int>> children;
        std::vector<std::size_t> slots;
        bool each = false;
    };
    std::vector<branch> nodes;

    [[nodiscard]] branch& at(int n) { return nodes[static_cast<std::size_t>(n)]; }
    [[nodiscard]] branch const& at(int n) const { return nodes[static_cast<std::size_t>(n)]; }
    int add(field_path const& p) {
        int here = root;
        for (path_step const& step : p) {
            int next = nowhere;
            for (auto const& [known, child] : at(here).children)
                if (known == step) next = child;
            if (next == nowhere) {
                next = static_cast<int>(nodes.size());
                nodes.emplace_back();
                at(here).children.emplace_back(step, next);
            }
            here = next;
        }
        return here;
    }
};
