"""What all results have in common: their single numbers, by name."""

from __future__ import annotations

import dataclasses


class Scored:
    """A dataclass of which some fields are single numbers."""

    def scores(self) -> dict[str, float]:
        """The single numbers by field name; those that are undefined for this data (``None``) are left out."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if isinstance(value, float)}
