// SPDX-License-Identifier: Apache-2.0
// Gives a fuzz target the files named on the command line, or those of directories: seeds and inputs that once failed.
#include "fuzz.hpp"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

int main(int argc, char** argv) {
    int inputs = 0;
    auto const replay = [&](std::filesystem::path const& path) {
        std::ifstream in(path, std::ios::binary);
        std::vector<char> const text{std::istreambuf_iterator<char>(in), {}};
        std::printf("%s, %zu bytes\n", path.c_str(), text.size());
        std::fflush(stdout);
        LLVMFuzzerTestOneInput(reinterpret_cast<std::uint8_t const*>(text.data()), text.size());
        ++inputs;
    };
    for (int i = 1; i < argc; ++i) {
        if (!std::filesystem::is_directory(argv[i])) replay(argv[i]);
        else
            for (auto const& entry : std::filesystem::directory_iterator(argv[i])) replay(entry.path());
    }
    return inputs > 0 ? 0 : 1;
}
