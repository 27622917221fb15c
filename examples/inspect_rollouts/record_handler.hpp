// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "path_tree.hpp"
#include "record.hpp"
#include "source.hpp"

#include <rapidjson/reader.h>

#include <string>
#include <string_view>
#include <vector>

/// Receives one object from the parser: keeps the values that the mapping names, skips everything else whatever it holds,
/// and stops with a sentence at the first value of a wrong kind.
class record_handler {
public:
    std::vector<record> sequences;
    std::set<std::string> names;  ///< what the object has: the path of every value and list, first elements only
    std::string error;
    std::size_t error_line = 0;
    /// An object inside of an object that begins its line: an earlier line may have been cut short. 0: none.
    std::size_t suspect_line = 0;

    record_handler(mapping const& m, source const& input, bool is_in_array)
        : tree(m), use_each(!m.each.empty()), in(input), in_array(is_in_array) {}

    /// Forgets the object before.
    void begin();
    /// After the object: gives every sequence what they share.
    void finish();
    /// The path to where the parser is, without its position in the innermost list.
    [[nodiscard]] std::string place() const;

    // What RapidJSON calls. Numbers come as text.
    using Ch = char;
    using SizeType = rapidjson::SizeType;
    bool Null() { return scalar({kind::null, "null", {}}); }
    bool Bool(bool b) { return scalar({kind::boolean, "true or false", b ? "1" : "0"}); }
    bool Int(int) { return false; }
    bool Uint(unsigned) { return false; }
    bool Int64(std::int64_t) { return false; }
    bool Uint64(std::uint64_t) { return false; }
    bool Double(double) { return false; }
    bool RawNumber(Ch const* s, SizeType n, bool) { return scalar({kind::number, "a number", {s, n}}); }
    bool String(Ch const* s, SizeType n, bool) { return scalar({kind::string, "a string", {s, n}}); }
    bool StartObject();
    bool Key(Ch const* s, SizeType n, bool);
    bool EndObject(SizeType) { return leave(); }
    bool StartArray();
    bool EndArray(SizeType);

private:
    enum class kind { null, boolean, number, string };
    struct value {
        kind is;
        char const* called;
        std::string_view text;
    };
    /// An object or array that the parser is in.
    struct frame {
        bool array;
        int node;  ///< of the tree
        int implied;  ///< of the node's slots: lists that the path does not mention, down to here
        std::size_t count;  ///< elements so far
        bool rows;  ///< of an array: its first element is a list that the path does not mention
        std::string key;
        int child;  ///< of the tree: what comes next
        int child_implied;
    };
    path_tree tree;
    bool use_each;
    source const& in;
    bool in_array;
    std::vector<frame> frames;
    std::size_t depth = 0;  ///< frames in use; the others are kept for their memory
    std::size_t later = 0;  ///< frames that are past the first element of an array
    record shared;
    std::size_t first_line = 0;  ///< of the object
    bool each_seen = false;  ///< the list of mapping::each

    bool fail(std::string sentence);
    bool wrong(slot const& s, char const* found);
    bool several(slot const& s);
    [[nodiscard]] std::string position(std::size_t used, bool with_index) const;
    [[nodiscard]] record::values& values_of(slot const& s);
    [[nodiscard]] frame& top() { return frames[depth - 1]; }
    void next_element();
    void enter(bool array, int node, int implied);
    bool leave();
    void note_name(bool is_list);
    bool scalar(value const& v);
    bool keep(slot const& s, value const& v, int implied);
    bool keep_number(slot const& s, value const& v, record::values& to);
    bool begin_value(slot const& s, record::values& to, int implied);
};
