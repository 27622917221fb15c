// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>

/// A named loss of the study. Losses other than those that mask are the same policy gradient under another correction, and
/// all average over every sampled token.
struct named_method {
    std::string name, text, title;
};

std::span<named_method const> methods();
