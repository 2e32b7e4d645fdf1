"""How the tests run: threads that wait without spinning, and the names that the examples in docstrings use."""

from __future__ import annotations

import os

# Two workers of pytest share two cores: OpenMP threads that spin while they wait would keep each other from running.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from typing import Any

import pytest
import torch

import throughtime as tt


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace.update(tt=tt, torch=torch)
