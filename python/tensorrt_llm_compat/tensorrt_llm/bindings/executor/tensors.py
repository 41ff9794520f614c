"""Tensors: torch's where the program uses torch, NumPy's elsewhere. Both share their memory."""

import sys
from typing import Any, Optional

import numpy as np


def to_tensor(array: Optional[np.ndarray]) -> Any:
    """A tensor over the same memory, if torch has been imported; otherwise the array."""
    torch = sys.modules.get("torch")
    return array if torch is None or array is None else torch.from_numpy(array)
