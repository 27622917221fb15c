// SPDX-License-Identifier: Apache-2.0
// A log of rollouts, plain or gzip, under any mapping: rollouts or a sentence that names the file.
#include "fuzz.hpp"
#include "mapping.hpp"
#include "read.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <string>

namespace {

/// A file in memory that has a path.
class memory_file {
public:
    explicit memory_file(std::string_view text) : fd_(memfd_create("log", 0)) {
        TRM_FUZZ_REQUIRE(fd_ >= 0 && write(fd_, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    }
    ~memory_file() { close(fd_); }
    memory_file(memory_file const&) = delete;
    memory_file& operator=(memory_file const&) = delete;
    [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

private:
    int fd_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    fuzz::bytes in(data, size);
    auto const& names = named_mappings();
    std::string const name(names[static_cast<std::size_t>(in.below(static_cast<int>(names.size())))].name);
    read_options options;
    options.strict = in.flag();
    memory_file const file(in.rest());
    try {
        read_result const r = read_rollouts({file.path(), name, ""}, options);
        TRM_FUZZ_REQUIRE(r.all.sampled() > 0);
        read_result const joined = read_joined({file.path(), name, ""}, {file.path(), name, ""}, options);
        TRM_FUZZ_REQUIRE(joined.all.sampled() > 0);
    } catch (input_error const& e) {
        TRM_FUZZ_REQUIRE(std::string(e.what()).find("/proc/self/fd/") != std::string::npos);
    }
    return 0;
}
