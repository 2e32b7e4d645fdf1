"""Run by every Python that starts with this folder on its path: the native module is the one that THROUGHTIME_NATIVE names."""

from __future__ import annotations

import importlib.util
import os
import sys

_spec = importlib.util.spec_from_file_location("throughtime._native", os.environ["THROUGHTIME_NATIVE"])
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules["throughtime._native"] = _module
_spec.loader.exec_module(_module)
