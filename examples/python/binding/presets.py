# SPDX-License-Identifier: Apache-2.0
"""presets.py OUTPUT HEADER...: the presets of trm/loss/presets/ with their numeric parameters, as a Python module."""

import re
import sys

FUNCTION = re.compile(r"((?:^///[^\n]*\n)*)^\[\[nodiscard\]\] inline auto (\w+)\(([^)]*)\) noexcept", re.M)
NUMBER = re.compile(r"double (\w+)(?: = ([-+.\de]+))?$")


def presets(text):
    """Yields name, {parameter: default or None}, the comment above."""
    for comment, name, parameters in FUNCTION.findall(text):
        numbers = {}
        for parameter in filter(None, (p.strip() for p in parameters.split(","))):
            found = NUMBER.match(parameter)
            if not found:  # aggregations and structs have defaults and no name in the text form
                break
            numbers[found[1]] = None if found[2] is None else float(found[2])
        lines = [line[3:].strip() for line in comment.splitlines()]
        yield name, numbers, " ".join(lines)


def main():
    rows = {}
    for path in sys.argv[2:]:
        with open(path, encoding="ascii") as header:
            rows.update((name, (numbers, doc)) for name, numbers, doc in presets(header.read()))
    with open(sys.argv[1], "w", encoding="ascii") as out:
        out.write("# Written by the build from trm/loss/presets/.\n")
        out.write("PRESETS: dict[str, tuple[dict[str, float | None], str]] = {\n")
        for name, row in rows.items():
            out.write(f"    {name!r}: {row!r},\n")
        out.write("}\n")


if __name__ == "__main__":
    main()
