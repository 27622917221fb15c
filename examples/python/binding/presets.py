# SPDX-License-Identifier: Apache-2.0
"""presets.py OUTPUT HEADER...: the presets of trm/loss/presets/ with their parameters, as a Python module.

Names, parameters and defaults are in the table of by_name.hpp, a preset a line:
    TRM_PRESET(nemo_tis_without_kl, without_penalties(presets::nemo_tis(a...)), 2, {"upper", required}, {"lower", 0.0})
The comments are those of the functions which it names, in the other headers.
"""

import re
import sys

ROW = re.compile(r'^ *TRM_PRESET\((\w+), ((?:\w+\()?)presets::(\w+)\(.*\)+, (\d+)((?:, \{"\w*", [^{}]+\})+)\)$', re.M)
PARAMETER = re.compile(r'\{"(\w*)", ([^{}]+)\}')
FUNCTION = re.compile(r"((?:^///[^\n]*\n)*)^\[\[nodiscard\]\] inline auto (\w+)\(", re.M)
VARIANTS = {"": "", "uncorrected(": "Without importance weights.", "without_penalties(": "Without penalties."}


def presets(table, comments):
    """Yields name, {parameter: default or None}, comment."""
    for name, variant, function, count, storage in ROW.findall(table):
        parameters = {parameter: None if default == "required" else float(default)
                      for parameter, default in PARAMETER.findall(storage) if parameter}
        if len(parameters) != int(count):
            raise ValueError(f"preset {name} has {count} parameters, read were {', '.join(parameters)}")
        yield name, parameters, " ".join(filter(None, (comments[function], VARIANTS[variant])))


def main():
    headers = []
    for path in sys.argv[2:]:
        with open(path, encoding="ascii") as header:
            headers.append(header.read())
    text = "\n".join(headers)
    comments = {name: " ".join(line[3:].strip() for line in comment.splitlines()) for comment, name in FUNCTION.findall(text)}
    rows = list(presets(text, comments))
    if len(rows) != len(re.findall(r"^ *TRM_PRESET\(", text, re.M)):
        raise ValueError("a line of the table of presets was not understood")
    with open(sys.argv[1], "w", encoding="ascii") as out:
        out.write("# Written by the build from trm/loss/presets/.\n")
        out.write("PRESETS: dict[str, tuple[dict[str, float | None], str]] = {\n")
        for name, parameters, comment in rows:
            out.write(f"    {name!r}: ({parameters!r}, {comment!r}),\n")
        out.write("}\n")


if __name__ == "__main__":
    main()
