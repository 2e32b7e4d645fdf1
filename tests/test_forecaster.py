"""The forecaster takes series as arrays and as tables, and forecasts come back in the same form."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from throughtime.errors import DataError
from throughtime.estimators import Forecaster, load

QUICK: dict[str, Any] = {"hidden": 4, "epochs": 1}
WAVE = np.sin(np.arange(90) / 2)


def months(count: int, start: str = "2001-01") -> list[Any]:
    return (np.datetime64(start) + np.arange(count)).astype("M8[D]").astype(object).tolist()


SALES = pl.DataFrame({
    "unique_id": [7] * 60 + [12] * 60,
    "ds": months(60) * 2,
    "y": np.sin(np.arange(120) / 2) * np.repeat([1, 10], 60),
    "promo": np.arange(120) % 2,
})  # fmt: skip


def test_forecasts_of_arrays() -> None:
    model = Forecaster(horizon=3, season=12, hidden=8, epochs=5).fit([WAVE, 10 + WAVE[:60]])
    said = model.predict()
    assert said["series"].tolist() == [0, 0, 0, 1, 1, 1]
    assert said["time"].tolist() == [90, 91, 92, 60, 61, 62]
    assert abs(said["forecast"][:3] - np.sin(np.arange(90, 93) / 2)).max() < 0.5
    further = model.predict(WAVE[:80])
    assert further["time"].tolist() == [80, 81, 82]
    assert -1 < model.score([WAVE]) < 0
    again = Forecaster(horizon=3, season=12, hidden=8, epochs=5).fit(WAVE.tolist()).predict()
    assert again["series"].tolist() == [0, 0, 0]


def test_forecasts_of_tables_come_back_as_tables(tmp_path: Path) -> None:
    model = Forecaster(future=["promo"], horizon=4, **QUICK).fit(SALES)
    ahead = pl.DataFrame({"unique_id": [7] * 4 + [12] * 4, "ds": months(4, "2006-01") * 2, "promo": [1] * 8})
    said = model.predict(future=ahead)
    assert isinstance(said, pl.DataFrame)
    assert said.columns == ["unique_id", "ds", "forecast", "lower", "upper"]
    assert said["unique_id"].to_list() == [7] * 4 + [12] * 4
    assert said["ds"].to_list() == months(4, "2006-01") * 2
    assert said.schema["ds"] == SALES.schema["ds"]
    with pytest.raises(DataError, match=r"promo are known 0 steps ahead, 4 are forecast; give them with future=\.\.\."):
        model.predict()
    assert pickle.loads(pickle.dumps(model)).predict(future=ahead).equals(said)
    model.save(tmp_path / "run")
    loaded: Any = load(tmp_path / "run")
    assert loaded.predict(SALES, future=ahead).equals(said)
    assert loaded.score(SALES) == model.score(SALES)
    with pytest.raises(DataError, match=r"does not hold the series it was fitted on; .* predict\(X\)"):
        loaded.predict(future=ahead)
    for X, message in (
        (SALES.drop("promo"), "there is no column 'promo'"),
        (SALES.with_columns(ds=pl.Series(list(range(60)) * 2)), "every step, but the model was fitted on one every month"),
        (WAVE, "there is no column"),
    ):
        with pytest.raises(DataError, match=message):
            loaded.predict(X)
    with pytest.raises(DataError, match="future is a list"):
        model.predict(future=[1, 2])


def test_forecasts_of_pandas_tables() -> None:
    pandas = pytest.importorskip("pandas")
    for unit in ("s", "ns"):
        columns = {
            "unique_id": np.repeat(["a", "b"], 60),
            "ds": pandas.DatetimeIndex(np.array(months(60) * 2, f"M8[{unit}]")),
            "y": SALES["y"].to_numpy(),
        }
        said = Forecaster(horizon=4, **QUICK).fit(pandas.DataFrame(columns)).predict()
        assert isinstance(said, pandas.DataFrame)
        assert said["unique_id"].tolist() == ["a"] * 4 + ["b"] * 4
        assert said["ds"].iloc[0] == pandas.Timestamp("2006-01-01")
    nameless = pandas.DataFrame({**columns, "unique_id": [None, *columns["unique_id"][1:]]})
    with pytest.raises(DataError, match="column 'unique_id': blank"):
        Forecaster(**QUICK).fit(nameless)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("sales.csv", "X is a str; expected a DataFrame"),
        (3, "X is a int"),
        ([], "X holds no series"),
        ([["a", "b"]], r"X\[0\] is no array of numbers"),
        (np.zeros((2, 3, 4)), r"X\[0\] has the shape \(3, 4\)"),
        ([1.0, 2.0], "has 2 values, expected 10 at least"),
        ([*WAVE[:20], np.nan, *WAVE[:20]], "the number is missing; missing='interpolate' fills it in"),
    ],
)
def test_bad_series_are_named(X: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Forecaster(**QUICK).fit(X)


def test_a_filled_gap_is_told() -> None:
    model = Forecaster(missing="interpolate", horizon=3, **QUICK).fit([*WAVE[:20], np.nan, *WAVE[:20]])
    (warning,) = model.warnings_
    assert warning.startswith("1 missing value was interpolated")
    with pytest.raises(DataError, match="expected more than 16 to score a forecast"):
        Forecaster(horizon=15, **QUICK).fit(WAVE).score(WAVE[:12])
