// SPDX-License-Identifier: Apache-2.0

// Where the parser is, and which paths lead there.
#include "record_handler.hpp"

#include "../text.hpp"

void record_handler::begin() {
    depth = later = 0;
    sequences.clear();
    names.clear();
    error.clear();
    suspect_line = 0;
    shared = {};
    first_line = in.line();
    each_seen = false;
    if (!use_each) sequences.emplace_back().line = first_line;
}

std::string record_handler::position(std::size_t used, bool with_index) const {
    std::string out;
    for (std::size_t d = 0; d < used; ++d) {
        frame const& f = frames[d];
        if (!f.array) {
            out += (out.empty() || f.key.empty() ? "" : ".") + f.key;
        } else if (with_index) {
            out += text("[%zu]", f.count - 1);
        } else {
            out += "[]";
        }
    }
    return out;
}

std::string record_handler::place() const {
    std::size_t const used = depth > 0 && frames[depth - 1].array ? depth - 1 : depth;
    std::string out;
    for (std::size_t d = 0; d < used; ++d)
        out += frames[d].array ? text("[%zu]", frames[d].count - 1) : (out.empty() ? "" : ".") + frames[d].key;
    return out;
}

bool record_handler::fail(std::string sentence) {
    if (error.empty()) {
        error = std::move(sentence);
        error_line = in.line();
    }
    return false;
}

/// An element of an array begins.

void record_handler::next_element() {
    if (depth == 0 || !top().array) return;
    frame& f = top();
    if (++f.count == 2) ++later;
    f.child = tree.element(f.node, f.count - 1);
    f.child_implied = 0;
    if (f.child == path_tree::nowhere && !tree.ends(f.node).empty()) f.child = f.node, f.child_implied = f.implied + 1;
    if (tree.is_each(f.child) && f.child_implied == 0) sequences.emplace_back().line = in.line();
}

void record_handler::enter(bool array, int node, int implied) {
    if (depth == frames.size()) frames.emplace_back();
    frame& f = frames[depth++];
    f.array = array;
    f.node = node;
    f.implied = implied;
    f.count = 0;
    f.rows = false;
    f.key.clear();
    f.child = path_tree::nowhere;
    f.child_implied = 0;
}

bool record_handler::leave() {
    if (top().array && top().count > 1) --later;
    --depth;
    return true;
}

/// Every value and list, but of arrays only what their first elements have.

void record_handler::note_name(bool is_list) {
    if (later > 0 || names.size() >= 100) return;
    bool const in_list = depth > 0 && top().array;
    if (is_list || !in_list) names.insert(position(depth, false));
    if (!is_list && in_list) names.insert(position(depth - 1, false));
}

bool record_handler::StartObject() {
    next_element();
    if (depth == 0) return enter(false, path_tree::root, 0), true;
    if (!in_array && suspect_line == 0 && in.of(in.Tell()).column == 1) suspect_line = in.line() - 1;
    int const node = top().child, implied = top().child_implied;
    if (!tree.ends(node).empty() && (implied > 0 || !tree.goes_on(node)))
        return wrong(tree.slots[tree.ends(node).front()], "an object");
    enter(false, node, 0);
    return true;
}

bool record_handler::Key(Ch const* s, SizeType n, bool) {
    frame& f = top();
    f.key.assign(s, n);
    f.child = tree.name(f.node, f.key);
    return true;
}

bool record_handler::StartArray() {
    next_element();
    if (depth == 0) return fail("expected an object, found an array");
    int const node = top().child, implied = top().child_implied;
    each_seen = each_seen || (implied == 0 && tree.is_each(tree.element(node, 0)));
    for (std::size_t const i : tree.ends(node)) {
        slot const& s = tree.slots[i];
        if (tree.goes_on(node) && implied == 0) continue;
        if (implied == 1 && top().count > 1)
            return fail(position(depth - 1, true) + " has several rows, expected one list (" +
                        std::string(fields::known[s.field].name) + ")");
        if (implied > 1) return wrong(s, "an array");
        top().rows = implied == 1;
        if (implied == 0 && !begin_value(s, values_of(s), 0)) return false;
        values_of(s).list = true;
    }
    enter(true, node, implied);
    return true;
}

bool record_handler::EndArray(SizeType n) {
    if (n == 0 && later == 0 && names.size() < 100) names.insert(position(depth - 1, false));
    return leave();
}

bool record_handler::scalar(value const& v) {
    next_element();
    if (depth == 0) return fail(std::string("expected an object, found ") + v.called);
    note_name(false);
    int const node = top().child, implied = top().child_implied;
    for (std::size_t const i : tree.ends(node))
        if (!keep(tree.slots[i], v, implied)) return false;
    return true;
}
