"""What the tests of the store put into it."""

from __future__ import annotations

from typing import Any

import numpy as np

WEIGHTS = {"network": {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "step": np.array(3.0, np.float32)}, "empty": {}}
RESULT: dict[str, Any] = {
    "task": "tag",
    "headline": "",
    "metric": {},
    "scored_on": "test",
    "scores": {},
    "training": {},
}
