// SPDX-License-Identifier: Apache-2.0
#include "gnuplot.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace fs = std::filesystem;

namespace {

/// gnuplot's exit status, or -errno if it cannot be started. It reads `script` and writes the image to `image`.
int run_gnuplot(std::string program, fs::path const& script, fs::path const& image) {
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, image.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    std::string path = script.string();
    char* const arguments[] = {program.data(), path.data(), nullptr};
    pid_t child = 0;
    int const error = posix_spawnp(&child, program.c_str(), &files, nullptr, arguments, environ);
    posix_spawn_file_actions_destroy(&files);
    if (error != 0) return -error;
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return -errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

std::string preamble(figure const& f, std::string const& format) {
    int const width = f.panels == 1 ? 720 : 400 * f.panels, height = f.panels == 1 ? 420 : 370;
    std::string out = format == "svg"
                          ? text("set terminal svg size %d,%d font 'sans,12' background 'white'\n", width, height)
                          : text("set terminal pngcairo size %d,%d font 'sans,10'\n", width, height);
    out +=
        "set border 3 lc rgb '#444444'\nset tics nomirror out\nset grid lc rgb '#e4e4e4' lw 1\n"
        "set samples 2\n";
    out += text("set multiplot layout 1,%d margins %g,%g,0.29,0.90 spacing %g\nset key off\n", f.panels, 84.0 / width,
                1 - 24.0 / width, 84.0 / width);
    return out;
}

}  // namespace

plot_outcome render(std::vector<figure> const& figures, plot_settings const& where) {
    fs::path const directory = where.directory;
    std::vector<std::pair<fs::path, fs::path>> finished;
    std::error_code error;
    auto const remove_temporaries = [&] {
        for (auto const& [temporary, image] : finished) fs::remove(temporary, error);
    };
    fs::create_directories(directory, error);
    if (error) return {false, "inspect_rollouts: " + where.directory + ": " + error.message()};
    for (figure const& f : figures) {
        fs::path const script = directory / text(".%s.gp.tmp", f.name.c_str()),
                       temporary = directory / text(".%s.tmp", f.name.c_str());
        std::ofstream(script) << preamble(f, where.format) << f.body << f.legend_panel();
        finished.emplace_back(temporary, directory / (f.name + "." + where.format));
        int const status = run_gnuplot(where.gnuplot, script, temporary);
        fs::remove(script, error);
        bool const empty = !fs::exists(temporary) || fs::file_size(temporary) == 0;
        if (status == 0 && !empty) continue;
        remove_temporaries();
        if (status == -ENOENT || status == 127)
            return {true, "no plots: " + where.gnuplot +
                              " was not found (on Debian and Ubuntu: apt-get install gnuplot-nox)"};
        std::string const why = status < 0 ? std::strerror(-status) : text("exit status %d", status);
        return {false, "inspect_rollouts: " + where.gnuplot + " failed on " + f.name + ": " + why};
    }
    std::string names;
    for (auto const& [temporary, image] : finished) {
        fs::rename(temporary, image, error);
        if (error) {
            remove_temporaries();
            return {false, "inspect_rollouts: " + image.string() + ": " + error.message()};
        }
        names += text(" %s", image.filename().c_str());
    }
    return {true, "plots in " + where.directory + ":" + names};
}
