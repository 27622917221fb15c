# SPDX-License-Identifier: Apache-2.0
"""Small faults in C++ text: an operator, a constant, a comparison, a clamp. Each is one replacement in one line."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    path: str  # below include/trm
    line: int  # from 1
    column: int
    old: str
    new: str
    kind: str
    code: str  # the line as it was, without indentation

    def key(self):
        """What names the mutant in survivors.txt: no line number, so that it outlives edits elsewhere in the file."""
        return f"{self.path} | {self.code} | {self.column_in_code()} | {self.old} -> {self.new}"

    def column_in_code(self):
        return self.column

    def apply(self, text):
        lines = text.split("\n")
        row = lines[self.line - 1]
        at = len(row) - len(row.lstrip()) + self.column
        assert row[at : at + len(self.old)] == self.old
        lines[self.line - 1] = row[:at] + self.new + row[at + len(self.old) :]
        return "\n".join(lines)


# (kind, pattern with the replaced part as group 1, replacement or function of the match)
SWAPS = [
    ("comparison", r"(?<![<>=!\-])\s(<=|>=|==|!=|<|>)\s", {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}),
    ("operator", r"[\w)\]]\s(\+|-|\*|/)\s[\w(\-!]", {"+": "-", "-": "+", "*": "/", "/": "*"}),
    ("operator", r"[\w)\]]\s(\+=|-=|\*=|\|=|&=)\s", {"+=": "-=", "-=": "+=", "*=": "/=", "|=": "&=", "&=": "|="}),
    ("logic", r"[\w)\]]\s(&&|\|\||&|\|)\s[\w(!~]", {"&&": "||", "||": "&&", "&": "|", "|": "&"}),
    ("logic", r"[\s(](!)[\w(]", {"!": ""}),
    ("negation", r"(?:return|[=(,?:])\s?(-)[\w(]", {"-": ""}),
    ("clamp", r"\b(min|max)\)?\(", {"min": "max", "max": "min"}),
    ("clamp", r"\b(smaller|larger|lower|upper)\(", {"smaller": "larger", "larger": "smaller", "lower": "upper", "upper": "lower"}),
    ("constant", r"\b(true|false)\b", {"true": "false", "false": "true"}),
    ("constant", r"(?<![\w.:\"])(\d+)(?![\w.x'])", None),
    ("constant", r"(?<![\w.])(0x[0-9a-fA-F]\.?[0-9a-fA-F]*p[+-]?\d+f?|\d+\.\d*(?:[eE][+-]?\d+)?f?|\d+[eE][+-]?\d+f?)(?![\w.])", None),
]
# A call whose effect is removed: the name, and which argument is left.
CALLS = [("clamp", "clamp", 0), ("mask", "zero_unless", 1), ("clamp", "floor_exponent", 0), ("clamp", "abs", 0), ("clamp", "fabs", 0)]
SKIP = re.compile(r"^\s*(#|//|template\b|static_assert|using\b|concept\b|requires\b|TRM_|class\b|namespace\b|friend\b|case\b)|\[\[deprecated|operator|static constexpr char const\*|scratch\{|__attribute__|\bsizeof\b|std::tuple")


def blank(text):
    """The text with comments, strings and characters replaced by spaces of the same length."""
    pattern = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])'", re.S)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def changed_number(old):
    if re.fullmatch(r"\d+", old):
        return {"0": "1", "1": "2"}.get(old, str(int(old) + 1))
    if old.startswith("0x"):
        return f"1.0009765625f * {old}" if old.endswith("f") else f"1.0009765625 * {old}"
    suffix = "f" if old.endswith("f") else ""
    value = float(old.rstrip("f"))
    return (f"{1.0}{suffix}") if value == 0 else f"{value * 1.0625!r}{suffix}"


def arguments(row, begin):
    """Ends of the arguments of a call whose '(' is at begin - 1: list of (from, to), and where ')' is."""
    depth, start, parts = 1, begin, []
    for i in range(begin, len(row)):
        c = row[i]
        if c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
            if depth == 0:
                return parts + [(start, i)], i
        elif c == "," and depth == 1:
            parts.append((start, i))
            start = i + 1
    return None, None


def mutants_of(path, text):
    found = []
    for number, (row, code) in enumerate(zip(text.split("\n"), blank(text).split("\n")), 1):
        if SKIP.search(code) or not code.strip():
            continue
        indent = len(code) - len(code.lstrip())

        def add(kind, at, old, new):
            found.append(Mutant(path, number, at - indent, old, new, kind, row.strip()))

        status = code.find("errc::")  # the places of a status are -1 where unknown: nobody reads those
        for kind, pattern, swap in SWAPS:
            at = 0
            while m := re.compile(pattern).search(code, at):
                at = m.start(1) + 1
                if status >= 0 and m.start(1) > status and kind in ("constant", "negation"):
                    continue
                old = m.group(1)
                add(kind, m.start(1), old, changed_number(old) if swap is None else swap[old])
        for kind, name, keep in CALLS:
            for m in re.finditer(rf"(?:simd::|std::)?\b{name}\(", code):
                parts, end = arguments(code, m.end())
                if parts and len(parts) > keep:
                    a, b = parts[keep]
                    add(kind, m.start(), row[m.start() : end + 1], f"({row[a:b].strip()})")
    return found
