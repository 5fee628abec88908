"""Where Triton's kernels are tested: on a GPU if there is one, else in Triton's interpreter.

tests/conftest.py asks for the interpreter. Without Triton
whoever imports this is skipped.
"""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
