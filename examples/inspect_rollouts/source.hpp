// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

/// The characters of a file, plain or gzip, `-` for standard input: an input stream as RapidJSON wants it, which also
/// knows its line and column. Holds one block of the file at a time. Throws input_error when the file cannot be read.
class source {
public:
    using Ch = char;

    /// `progress(bytes of the file that were read, bytes of the file)` is called once a block; the size is 0 if unknown.
    explicit source(std::string path, std::function<void(double, double)> progress = {});
    ~source();
    source(source const&) = delete;
    source& operator=(source const&) = delete;

    /// '\0' at the end. (A NUL in the file comes as '\1', which JSON does not allow either.)
    [[nodiscard]] Ch Peek() const { return *at; }
    Ch Take() {
        Ch const c = *at;
        if (c == '\n') {
            previous_line_begin = line_begin;
            line_begin = Tell() + 1;
            ++line_number;
        } else if (c != ' ' && c != '\t' && c != '\r') {
            last_visible = line_number;
        }
        if (c != '\0' && ++at == end) fill();
        return c;
    }
    [[nodiscard]] std::size_t Tell() const { return before + static_cast<std::size_t>(at - block.data()); }
    // Only for parsing in place, which is never asked for.
    Ch* PutBegin() { return nullptr; }
    void Put(Ch) {}
    std::size_t PutEnd(Ch*) { return 0; }

    [[nodiscard]] std::string const& name() const { return path; }
    [[nodiscard]] std::size_t line() const { return line_number; }
    /// The line of the last character taken that is not blank.
    [[nodiscard]] std::size_t last_visible_line() const { return last_visible; }
    /// Line and column, from 1, of a position that is on the current line or the one before it.
    struct place {
        std::size_t line, column;
    };
    [[nodiscard]] place of(std::size_t position) const {
        return position >= line_begin ? place{line_number, position - line_begin + 1}
                                      : place{line_number - 1, position - previous_line_begin + 1};
    }
    /// Up to `length` characters from a position to the end of its line, as far as the current block has them.
    [[nodiscard]] std::string excerpt(std::size_t position, std::size_t length) const;

    /// Where the word begins that a position is in or behind, as far as the current block has it.
    [[nodiscard]] std::size_t word_begin(std::size_t position) const;

    void skip_blanks() {
        while (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n') Take();
    }

private:
    std::string path;
    std::function<void(double, double)> report;
    struct file;
    std::unique_ptr<file> in;
    std::vector<char> block;  ///< a block of the file and a '\0'
    char const* at = nullptr;
    char const* end = nullptr;
    std::size_t before = 0;  ///< characters in earlier blocks
    std::size_t line_number = 1, last_visible = 1, line_begin = 0, previous_line_begin = 0;
    double total = 0;

    void fill();
    void refuse_other_formats() const;
};
