# SPDX-License-Identifier: Apache-2.0
"""Two processes of torch.distributed (gloo) give what one gives."""
import pathlib
import subprocess
import sys


def test_two_processes():
    example = pathlib.Path(__file__).resolve().parents[1] / "two_ranks.py"
    run = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "two processes agree with one"
