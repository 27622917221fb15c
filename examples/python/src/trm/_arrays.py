# SPDX-License-Identifier: Apache-2.0
"""What arrays are to this package."""

import sys
from typing import Any

# A NumPy array, CPU tensor or JAX array, anything else with DLPack or the buffer protocol, or a list of numbers.
Array = Any


def like(example: Array, made: Any) -> Any:
    """A NumPy array as what the caller works with: a tensor of the same memory if `example` is a tensor."""
    torch = sys.modules.get("torch")
    if made is not None and torch is not None and isinstance(example, torch.Tensor):
        return torch.from_numpy(made)
    return made
