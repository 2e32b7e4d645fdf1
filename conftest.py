"""Names that the examples in docstrings use."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import throughtime as tt


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace.update(tt=tt, torch=torch)
