"""Named arrays in a safetensors file: data only, loading one executes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from throughtime.errors import RunError
from throughtime.store.files import cannot_read, write_bytes


def save_tensors(path: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays by name, the whole file or nothing.

    Raises:
        RunError: the file cannot be written.
    """
    # safetensors writes the memory as it lies, whatever the strides; np.ascontiguousarray would give a scalar an axis.
    write_bytes(path, safetensors.numpy.save({name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}))


def load_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file, by name.

    Raises:
        RunError: it is missing, cut off, or no safetensors file.
    """
    try:
        return safetensors.numpy.load_file(path)
    except FileNotFoundError as error:
        raise cannot_read(path, error) from None
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise RunError(f"{path} is damaged: {error}") from None
