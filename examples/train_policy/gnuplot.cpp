// SPDX-License-Identifier: Apache-2.0
#include "gnuplot.hpp"

#include <spawn.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace fs = std::filesystem;

plot::plot(std::string name, int width, int height) : name_(std::move(name)) {
    body_ = "set terminal pngcairo noenhanced size " + std::to_string(width) + "," + std::to_string(height) +
            " font 'sans,10'\nset output '" + name_ +
            ".png'\nset border 3 lc rgb '#444444'\nset tics nomirror out\nset grid lc rgb '#e4e4e4' lw 1\n";
}

std::string plot::block(std::vector<std::string> const& rows) {
    std::string const name = "$d" + std::to_string(blocks_++);
    body_ += name + " << EOD\n";
    for (std::string const& r : rows) body_ += r + "\n";
    body_ += "EOD\n";
    return name;
}

std::string plot::block(std::vector<std::pair<double, double>> const& points) {
    std::vector<std::string> rows;
    for (auto const& [x, y] : points) {
        char buffer[64];
        std::snprintf(buffer, sizeof buffer, "%.6g %.6g", x, y);
        rows.emplace_back(buffer);
    }
    return block(rows);
}

bool plot::draw(std::string const& directory) const {
    fs::create_directories(directory);
    std::string const script = name_ + ".gp";
    std::ofstream out(fs::path(directory) / script);
    out << body_;
    out.close();
    if (!out) throw std::runtime_error("cannot write " + directory + "/" + script);
    // In a shell of its own, whose working directory is that of the script.
    std::string program = "sh", flag = "-c", command = "cd \"$0\" && exec gnuplot \"$1\"", where = directory,
                file = script;
    std::array<char*, 6> arguments{program.data(), flag.data(), command.data(), where.data(), file.data(), nullptr};
    pid_t child = 0;
    if (posix_spawnp(&child, "sh", nullptr, nullptr, arguments.data(), environ) != 0) return false;
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) throw std::runtime_error("gnuplot was lost");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127) return false;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) throw std::runtime_error("gnuplot failed on " + script);
    return true;
}

std::string colour(std::size_t i) {
    constexpr std::array<char const*, 8> palette{"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                                 "#E69F00", "#56B4E9", "#000000", "#999999"};
    return std::string("lc rgb '") + palette[i % palette.size()] + "'";
}

std::string quoted(std::string text) {
    for (std::size_t at = text.find('\''); at != std::string::npos; at = text.find('\'', at + 2)) text.insert(at, "'");
    return "'" + text + "'";
}
