// SPDX-License-Identifier: Apache-2.0
#include "source.hpp"

#include "rollouts.hpp"

#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <string_view>

struct source::file {
    gzFile handle = nullptr;
    ~file() {
        if (handle != nullptr) gzclose(handle);
    }
};

source::source(std::string name, std::function<void(double, double)> progress)
    : path(std::move(name)), report(std::move(progress)), in(std::make_unique<file>()), block(1 << 17) {
    errno = 0;
    in->handle = path == "-" ? gzdopen(dup(STDIN_FILENO), "rb") : gzopen(path.c_str(), "rb");
    if (in->handle == nullptr) throw input_error(path + ": " + std::strerror(errno != 0 ? errno : ENOMEM));
    gzbuffer(in->handle, 1 << 17);
    struct stat status{};
    if (path != "-" && stat(path.c_str(), &status) == 0) total = static_cast<double>(status.st_size);
    at = end = block.data();
    fill();
    if (*at == '\0') throw input_error(path + ": the file is empty");
    refuse_other_formats();
    if (std::string_view(at, static_cast<std::size_t>(end - at)).starts_with("\xEF\xBB\xBF"))
        at += 3;  // a byte order mark
    line_begin = Tell();
}

source::~source() = default;

void source::fill() {
    before += static_cast<std::size_t>(end - block.data());
    int const n = gzread(in->handle, block.data(), static_cast<unsigned>(block.size() - 1));
    int code = Z_OK;
    char const* const why = gzerror(in->handle, &code);
    // A cut gzip file ends like a whole one, but for Z_BUF_ERROR.
    if (n < 0 || code == Z_BUF_ERROR) {
        std::string const text = code == Z_ERRNO       ? std::strerror(errno)
                                 : code == Z_BUF_ERROR ? "the gzip file is cut short"
                                                       : std::string("gzip: ") + why;
        throw input_error(path + ": " + text);
    }
    std::replace(block.begin(), block.begin() + n, '\0', '\1');
    block[static_cast<std::size_t>(n)] = '\0';
    at = block.data();
    end = at + n;
    if (report) report(static_cast<double>(gzoffset(in->handle)), total);
}

std::string source::excerpt(std::size_t position, std::size_t length) const {
    std::size_t const held = static_cast<std::size_t>(end - block.data());
    if (position < before || position - before >= held) return {};
    std::string_view const rest(block.data() + (position - before), held - (position - before));
    return std::string(rest.substr(0, std::min(length, rest.find_first_of("\r\n"))));
}

std::size_t source::word_begin(std::size_t position) const {
    auto const in_word = [&](std::size_t p) {
        return std::isalpha(static_cast<unsigned char>(block[p - before])) != 0;
    };
    while (position > before && position <= Tell() && in_word(position - 1)) --position;
    return position;
}

void source::refuse_other_formats() const {
    struct format {
        std::string_view magic;
        char const* advice;
    };
    static constexpr std::array<format, 5> formats{{
        {"PK\3", "a zip archive, as torch.save and numpy.savez write them"},
        {"\x80", "a Python pickle"},
        {"PAR1", "a Parquet file"},
        {"\x28\xB5\x2F\xFD", "compressed with zstd, not gzip"},
        {"ARROW1", "an Arrow file"},
    }};
    std::string_view const head(block.data(), static_cast<std::size_t>(end - block.data()));
    for (format const& f : formats) {
        if (head.starts_with(f.magic))
            throw input_error(path + ": this is " + f.advice +
                              "; expected JSON, one object a line, plain or gzip (--mappings shows how to write it)");
    }
}
