// SPDX-License-Identifier: Apache-2.0
#include "parallel.hpp"
#include "study.hpp"
#include "trainer.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <sstream>
#include <stdexcept>

namespace fs = std::filesystem;

namespace {

std::string content(fs::path const& path) {
    std::ifstream in(path, std::ios::binary);
    std::ostringstream out;
    out << in.rdbuf();
    return out.str();
}

/// The file appears whole or not at all.
void write(fs::path const& path, std::string const& text) {
    fs::path const part = path.string() + ".part";
    std::ofstream out(part, std::ios::binary);
    out << text;
    out.close();
    if (!out) throw std::runtime_error("cannot write " + part.string());
    fs::rename(part, path);
}

std::string number(double x) {
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, "%.6g", x);
    return buffer;
}

/// All rows of a run. `value`, the mean reward of fresh responses of the current policy, is measured at some twenty updates;
/// the last row has nothing else.
std::string rows_of(run_settings const& s) {
    trainer t(s);
    std::string out = "value," + step_row::header() + "\n";
    int const every = std::max(1, s.updates / 20);
    for (int i = 0; i < s.updates; ++i) {
        std::string const value = i % every == 0 ? number(t.evaluate(64)) : std::string();
        out += value + "," + t.step().csv() + "\n";
    }
    std::string const header = step_row::header();
    auto const rest = static_cast<std::size_t>(std::count(header.begin(), header.end(), ','));
    return out + number(t.evaluate(256)) + "," + std::to_string(s.updates) + std::string(rest, ',') + "\n";
}

class progress_bar {
public:
    progress_bar(bool wanted, std::size_t total, std::size_t done) : wanted_(wanted), total_(total), done_(done) {
        show();
    }
    ~progress_bar() {
        if (wanted_) std::fprintf(stderr, "\r\033[K");
    }
    void finished_one() {
        ++done_;
        ++new_;
        show();
    }

private:
    using clock = std::chrono::steady_clock;
    void show() const {
        if (!wanted_) return;
        constexpr std::size_t width = 40;
        std::size_t const full = width * done_ / std::max<std::size_t>(1, total_);
        double const seconds = std::chrono::duration<double>(clock::now() - start_).count();
        std::string const bar = std::string(full, '#') + std::string(width - full, '.');
        std::fprintf(stderr, "\r\033[K[%s] %zu of %zu runs", bar.c_str(), done_, total_);
        if (new_ > 0)
            std::fprintf(stderr, ", %.0f s left",
                         seconds / static_cast<double>(new_) * static_cast<double>(total_ - done_));
    }
    bool wanted_;
    std::size_t total_, done_, new_ = 0;
    clock::time_point start_ = clock::now();
};

void prepare(std::vector<run_settings> const& runs, fs::path const& directory) {
    std::string manifest = "[\n";
    std::set<std::string> names;
    for (run_settings const& s : runs) {
        manifest += (names.empty() ? "" : ",\n") + to_json(s);
        if (!names.insert(run_name(s)).second) throw std::invalid_argument("a run is there twice: " + run_name(s));
    }
    manifest += "\n]\n";
    fs::create_directories(directory / "runs");
    fs::path const path = directory / "study.json";
    if (!fs::exists(path)) {
        write(path, manifest);
    } else if (content(path) != manifest) {
        throw std::invalid_argument(directory.string() + " holds another study; choose another directory with --out");
    }
}

void collect(std::vector<run_settings> const& runs, fs::path const& directory) {
    std::ostringstream all;
    all << "task,horizon,engine,staleness,optimiser,learning_rate,method,seed,value," << step_row::header() << '\n';
    for (run_settings const& s : runs) {
        std::istringstream rows(content(directory / "runs" / (run_name(s) + ".csv")));
        std::string line;
        std::getline(rows, line);
        while (std::getline(rows, line))
            all << s.task << ',' << s.horizon << ',' << engine_of(s) << ',' << s.staleness << ',' << s.optimiser << ','
                << s.learning_rate << ",\"" << s.method << "\"," << s.seed << ',' << line << '\n';
    }
    write(directory / "steps.csv", all.str());
}

}  // namespace

void run_study(std::vector<run_settings> const& runs, study_options const& options) {
    fs::path const directory = options.directory;
    prepare(runs, directory);
    std::vector<run_settings const*> left;
    for (run_settings const& s : runs)
        if (!fs::exists(directory / "runs" / (run_name(s) + ".csv"))) left.push_back(&s);
    std::mutex guard;
    int finished = 0;
    {
        progress_bar bar(options.progress, runs.size(), runs.size() - left.size());
        parallel_for{options.threads}(static_cast<std::int64_t>(left.size()), [&](std::int64_t i) {
            run_settings const& s = *left[static_cast<std::size_t>(i)];
            std::string const rows = rows_of(s);
            std::lock_guard const lock(guard);
            fs::path const path = directory / "runs" / (run_name(s) + ".csv");
            if (finished == options.abort_after) {
                std::ofstream(path.string() + ".part") << rows.substr(0, rows.size() / 2) << std::flush;
                std::_Exit(70);
            }
            write(path, rows);
            ++finished;
            bar.finished_one();
        });
    }
    collect(runs, directory);
}
