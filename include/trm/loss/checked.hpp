// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/calls.hpp>

#if TRM_EXCEPTIONS

#include <stdexcept>
#include <string>

TRM_NAMESPACE_BEGIN

/// A status as one sentence, for people.
[[nodiscard]] inline std::string to_string(status const& s) {
    std::string text = "trm: ";
    if (s.what != nullptr && s.what[0] != '\0') text += std::string(s.what) + ": ";
    text += message(s.code);
    if (s.expected >= 0)
        text += ", " + std::to_string(s.expected) + " expected, " + std::to_string(s.actual) + " given";
    if (s.sequence >= 0) text += " (sequence " + std::to_string(s.sequence);
    if (s.sequence >= 0 && s.token >= 0) text += ", token " + std::to_string(s.token);
    if (s.sequence >= 0) text += ")";
    if (s.sequence < 0 && s.token >= 0) text += " (row " + std::to_string(s.token) + ")";
    return text;
}

/// Thrown by `checked`. Derives from std::invalid_argument, because every cause but memory is misuse.
class error : public std::invalid_argument {
public:
    explicit error(status s) : std::invalid_argument(to_string(s)), status_(s) {}
    [[nodiscard]] status const& why() const noexcept { return status_; }

private:
    status status_;
};

inline void throw_if(status const& s) {
    if (!s.ok()) throw error(s);
}

/// The calls that throw: `checked(loss)(batch, grad)` returns only good results. Holds a copy of the loss.
template <class Loss>
class checked {
public:
    explicit checked(Loss loss) : loss_(loss) {}
    template <class... Args>
    result operator()(Args&&... args) const {
        result r = loss_(std::forward<Args>(args)...);
        throw_if(r.status);
        return r;
    }
    template <class... Args>
    void needed_rows(Args&&... args) const {
        throw_if(loss_.needed_rows(std::forward<Args>(args)...));
    }
    template <class... Args>
    void weigh(Args&&... args) const {
        throw_if(loss_.weigh(std::forward<Args>(args)...));
    }
    template <class... Args>
    void select(Args&&... args) const {
        throw_if(loss_.select(std::forward<Args>(args)...));
    }
    template <class... Args>
    void measure(Args&&... args) const {
        throw_if(loss_.measure(std::forward<Args>(args)...));
    }
    template <class Batch>
    [[nodiscard]] counts count(Batch const& batch, sequence_totals const& totals) const {
        counts n;
        throw_if(loss_.count(batch, totals, n));
        return n;
    }
    template <class Batch>
    [[nodiscard]] counts count(Batch const& batch, selection_view const& chosen, sequence_totals const& totals) const {
        counts n;
        throw_if(loss_.count(batch, chosen, totals, n));
        return n;
    }
    template <class... Args>
    result apply(Args&&... args) const {
        result r = loss_.apply(std::forward<Args>(args)...);
        throw_if(r.status);
        return r;
    }

private:
    Loss loss_;
};

TRM_NAMESPACE_END

#endif
