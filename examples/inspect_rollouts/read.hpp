// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "rollouts.hpp"

#include <functional>
#include <string>
#include <vector>

/// A file and how it names what it holds.
struct input {
    std::string path;
    std::string mapping = "native";  ///< name of a mapping
    std::string fields;              ///< replacements, as in --fields
};

struct read_options {
    bool strict = false;  ///< what would be a warning is an error
    std::function<void(double, double)> progress;  ///< bytes that were read, bytes of the file; called now and then
};

struct read_result {
    rollouts all;
    std::vector<std::string> notes;     ///< for the report: what was joined
    std::vector<std::string> warnings;  ///< sentences about what is wrong with single values or sequences
};

/// Reads a file that has everything. Throws input_error.
read_result read_rollouts(input const& file, read_options const& options = {});

/// Reads `trainer`, and takes rollout_logp from the sequence of `rollout` that has the same id. Throws input_error.
read_result read_joined(input const& trainer, input const& rollout, read_options const& options = {});
