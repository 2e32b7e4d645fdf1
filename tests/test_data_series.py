"""Tables of time series become panels: every shape and every way of writing time; what is broken is named."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from throughtime.data.frequency import at, infer, positions
from throughtime.data.records import Frequency, Panel
from throughtime.data.series import future_rows, looks_like_series, read_series
from throughtime.data.tables import read_table
from throughtime.data.times import calendar_times, form_of, times_of, written
from throughtime.errors import DataError
from throughtime.settings import Settings

REAL = Path(__file__).parents[2] / "shared" / "data"
HERE = Path("sales.csv")


def hourly(n: int, start: str = "2024-01-01T00:00") -> list[str]:
    return [str(time).replace("T", " ") for time in np.datetime64(start, "s") + np.arange(n) * np.timedelta64(3600, "s")]


def read(columns: Any, **settings: Any) -> Any:
    return read_series(pl.DataFrame(columns), HERE, Settings.of(settings))


def panel(columns: Any, **settings: Any) -> Panel:
    content = read(columns, **settings).content
    assert isinstance(content, Panel)
    return content


def refused(columns: Any, **settings: Any) -> str:
    with pytest.raises(DataError) as error:
        read(columns, **settings)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith("sales.csv")
    return message


@pytest.mark.parametrize(
    ("name", "settings", "series", "steps", "frequency", "season", "first"),
    [
        ("forecast/Airline.csv", {}, ["Passengers"], 144, "every month", 12, "1949-01-01"),
        ("forecast/co2.csv", {"missing": "interpolate"}, ["co2"], 2284, "every week", 52, "1958-03-29"),
        ("forecast/elec_vic_halfhourly.csv", {}, ["y"], 3600, "every hour", 24, "2012-01-01"),
        ("forecast/elnino.csv", {}, ["value"], 732, "every month", 12, "1950-01-01"),
        ("forecast/macrodata.csv", {}, None, 203, "every quarter", 4, "1959-01-01"),
        ("etth/ETTh1.csv", {"target": "OT", "past": "HUFL,HULL"}, ["OT"], 17420, "every hour", 24, "2016-07-01"),
        ("nab/nyc_taxi.csv", {}, ["value"], 10320, "every 30 minutes", 48, "2014-07-01"),
    ],
)
def test_real_files(
    name: str, settings: dict[str, Any], series: list[str] | None, steps: int, frequency: str, season: int, first: str
) -> None:
    path = REAL / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    frame = pl.read_csv(path, infer_schema_length=None)
    assert looks_like_series(frame)
    dataset = read_series(frame, path, Settings.of(settings))
    content = dataset.content
    assert isinstance(content, Panel)
    assert [one.id for one in content.series] == (series or frame.columns[2:])
    assert {len(one) for one in content.series} == {steps}
    assert (str(content.frequency), content.frequency.season) == (frequency, season)
    assert content.series[0].times[0] == np.datetime64(first)
    assert np.isfinite(content.series[0].values).all() is np.bool_("missing" not in settings)
    again = read_series(frame, path, Settings.of({**settings, **dataset.resolved}))
    assert again.resolved == {}
    assert np.array_equal(again.content.series[0].values, content.series[0].values, equal_nan=True)


def test_real_file_with_doubles_is_refused() -> None:
    path = REAL / "nab" / "machine_temperature_system_failure.csv"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    with pytest.raises(DataError, match=r"rows 10,139 and 10,151 have the same time 2014-01-07 02:00:00, 12 such pairs"):
        read_series(pl.read_csv(path), path, Settings())


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["2024-01-31", "2024-02-01"], ["2024-01-31", "2024-02-01"]),
        (["2024-1-5", "2024-12-31"], ["2024-01-05", "2024-12-31"]),
        (["1949-01", "1949-12"], ["1949-01-01", "1949-12-01"]),
        (["1959Q1", "1959Q4"], ["1959-01-01", "1959-10-01"]),
        (["1959-Q2", "1959 q3"], ["1959-04-01", "1959-07-01"]),
        (["20240229"], ["2024-02-29"]),
        ([20240131, 20240201], ["2024-01-31", "2024-02-01"]),
        ([194901, 194912], ["1949-01-01", "1949-12-01"]),
        ([1950, 1951], ["1950-01-01", "1951-01-01"]),
        ([1950.0, 1951.0], ["1950-01-01", "1951-01-01"]),
        (["2024-01-01T10:00:00Z"], ["2024-01-01T10:00"]),
        (["2024-01-01 10:00:00+02:00", "2024-01-01 00:30:00-0130"], ["2024-01-01T08:00", "2024-01-01T02:00"]),
        (["2024-01-01T10:00:07.000"], ["2024-01-01T10:00:07"]),
        (["03/04/2020", "13/04/2020"], ["2020-04-03", "2020-04-13"]),
        (["03/04/2020", "03/14/2020 17:30"], ["2020-03-04", "2020-03-14T17:30"]),
        (["03.04.2020"], ["2020-04-03"]),
        ([datetime(2024, 1, 1, 3)], ["2024-01-01T03:00"]),
        ([0, 5, 10], [0, 5, 10]),
    ],
)
def test_times(cells: list[Any], expected: list[Any]) -> None:
    times = times_of(pl.Series("ds", cells), HERE)
    assert times.tolist() == np.array(expected, dtype="M8[s]" if isinstance(expected[0], str) else np.int64).tolist()


def test_time_zones_are_taken_off() -> None:
    column = pl.Series("ds", [datetime(2024, 1, 1, 12)]).dt.replace_time_zone("Europe/Vienna")
    assert times_of(column, HERE)[0] == np.datetime64("2024-01-01T11:00")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["2024-01-31", None], "row 3, column 'ds': the time is blank"),
        (["2024-01-31", "  "], "row 3, column 'ds': the time is blank"),
        (["2024-01-31", "soon"], "row 3, column 'ds': 'soon' is no time"),
        (["2023-02-28", "2023-02-29"], "'2023-02-29' is no day of the calendar"),
        (["2024-01-01 24:10"], "is no time of day"),
        (["2024-01-31", "03/04/2020"], "row 3, column 'ds': '03/04/2020' is no time"),
        (["03/04/2020", "04/04/2020"], "may have the day or the month first"),
        (["13/04/2020", "04/13/2020"], "has the day first"),
        (["03/04/20"], "is no time"),
        (["2024-01-01 00:00:00.5"], "finer than a second"),
        ([datetime(2024, 1, 1, 0, 0, 0, 5)], "finer than a second"),
        ([1959.25], "is no whole number"),
        (["x"], "is no time"),
        ([20240131] * 10 + [20240231], "'20240231' is no date"),
    ],
)
def test_bad_times(cells: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        times_of(pl.Series("ds", cells), HERE)


@pytest.mark.parametrize(
    ("times", "frequency", "season"),
    [
        (["2024-01-01T00:00:00", "2024-01-01T00:00:01"], "every second", 60),
        (["2024-01-01T00:00", "2024-01-01T00:05"], "every 5 minutes", 288),
        (["2024-01-01T00:00", "2024-01-01T00:07"], "every 7 minutes", 1),
        (["2024-01-01T00:00", "2024-01-01T06:00"], "every 6 hours", 4),
        (["2024-01-01", "2024-01-02"], "every day", 7),
        (["2024-01-01", "2024-01-08", "2024-01-15"], "every week", 52),
        (["2024-02-01", "2024-02-29", "2024-03-28"], "every 4 weeks", 13),
        (["2023-01-30", "2023-02-28", "2023-03-30"], "every month", 12),
        (["2023-03-31", "2023-06-30", "2023-09-30"], "every quarter", 4),
        (["2020-02-29", "2021-02-28", "2022-02-28"], "every year", 1),
        (["1950-01-01", "1960-01-01"], "every 10 years", 1),
        (["2024-01-01", "2024-03-01"], "every 2 months", 6),
    ],
)
def test_frequency(times: list[str], frequency: str, season: int) -> None:
    array = np.array(times, "M8[s]")
    found = infer(array)
    assert (str(found), found.season) == (frequency, season)
    steps, on_grid = positions(array, array, found)
    assert on_grid.all()
    assert at(steps, array, found).tolist() == array.tolist()


def test_future_times_keep_the_end_of_the_month() -> None:
    times = np.array(["2023-10-31", "2023-11-30", "2023-12-31"], "M8[s]")
    assert at(np.arange(3, 6), times, infer(times)).astype("M8[D]").astype(str).tolist() == [
        "2024-01-31",
        "2024-02-29",
        "2024-03-31",
    ]


def test_long_with_several_series_of_different_lengths() -> None:
    frame = {
        "unique_id": ["b"] * 12 + ["a"] * 30,
        "ds": hourly(12) + hourly(30),
        "y": np.arange(42.0),
        "warm": np.ones(42),
        "region": ["north"] * 12 + ["south"] * 30,
        "size": [3] * 12 + [4] * 30,
    }
    dataset = read(frame, past="warm", static="region,size")
    content = dataset.content
    assert [one.id for one in content.series] == ["b", "a"]
    assert [len(one) for one in content.series] == [12, 30]
    assert content.static == ("region=north", "region=south", "size")
    assert content.series[1].static.tolist() == [0, 1, 4]
    assert content.series[0].past.shape == (12, 1)
    assert "2 series of 12 to 30 steps" in dataset.sentence
    assert dataset.resolved == {"task": "forecast", "season": 24, "time": "ds", "id": "unique_id", "target": "y"}


def test_names_of_columns_may_be_anything() -> None:
    content = panel({"shop": ["u"] * 10 + ["v"] * 10, "wann": hourly(10) * 2, "Umsatz": np.arange(20.0)})
    assert [one.id for one in content.series] == ["u", "v"]
    assert content.target_name == "Umsatz"


def test_unsorted_rows_are_sorted_with_a_warning() -> None:
    order = np.random.default_rng(0).permutation(24)
    dataset = read({"ds": np.array(hourly(24))[order], "y": np.arange(24.0)[order]})
    assert dataset.content.series[0].values.tolist() == list(range(24))
    assert any("they were sorted" in line for line in dataset.warnings)


def test_doubles_name_both_rows() -> None:
    message = refused({"ds": hourly(20) + hourly(1), "y": np.arange(21.0)})
    assert "rows 2 and 22 have the same time 2024-01-01" in message
    assert "--id" in message


def test_gaps_and_blanks() -> None:
    times = hourly(24)
    del times[5:8], times[10]
    values: list[float | None] = [float(step) for step in range(20)]
    message = refused({"ds": times, "y": values})
    assert "the step after 2024-01-01 04:00:00 is missing" in message
    assert "4 steps are missing in 2 gaps" in message
    assert "--missing" in message
    values[2] = None
    for policy in ("interpolate", "mask"):
        dataset = read({"ds": times, "y": values}, missing=policy)
        found = dataset.content.series[0].values
        assert len(found) == 24
        assert np.flatnonzero(np.isnan(found)).tolist() == [2, 5, 6, 7, 13], "what is not known is not made up"
        assert found[4:9:4].tolist() == [4, 5]
        assert dataset.warnings[0].startswith("4 missing steps in 2 gaps were ")
        assert dataset.warnings[1].startswith("1 missing value was ")
        assert ("none is scored" in dataset.warnings[1]) is (policy == "interpolate")


def test_missing_covariates_are_filled_by_what_was_known() -> None:
    rain: list[float | None] = [None, *np.arange(1.0, 20)]
    sale = list(rain)
    rain[5:8] = sale[5:8] = [None] * 3
    frame = {"ds": hourly(20), "y": np.arange(20.0), "rain": rain, "sale": sale}
    with pytest.raises(DataError, match="row 2, column 'rain': the number is missing, and so are 7 more"):
        read(frame, past="rain", future="sale")
    for policy in ("interpolate", "mask"):
        dataset = read(frame, past="rain", future="sale", missing=policy)
        one = dataset.content.series[0]
        assert one.past[1:, 0].tolist() == [1, 2, 3, 4, 4, 4, 4, *range(8, 20)], "nothing of what comes after"
        assert np.isnan(one.past[0, 0])
        assert one.future[:, 0].tolist() == [1, *range(1, 20)], "known in advance: on the line"
        assert "8 missing values of covariates filled in: --past as the one before" in dataset.warnings[0]


def test_series_that_go_on_may_be_short() -> None:
    frame = {"ds": hourly(2), "y": [1.0, 2.0]}
    assert "series 'y' has 2 values, expected 10 at least" in refused(frame)
    known = infer(times_of(pl.Series(hourly(30)), HERE))
    for role in ("part", "new"):
        for count in (1, 2):
            few = pl.DataFrame(frame).head(count)
            found = read_series(few, HERE, Settings(), role=role, frequency=known).content
            assert isinstance(found, Panel)
            assert (len(found.series[0]), str(found.frequency)) == (count, "every hour")
    gap = pl.DataFrame({"ds": [hourly(3)[0], hourly(3)[2]], "y": [1.0, 2.0]})
    with pytest.raises(DataError, match="step after 2024-01-01 is missing, where the steps go on every hour"):
        read_series(gap, HERE, Settings(), role="part", frequency=known)
    days = pl.DataFrame({"ds": [f"2024-01-{day:02}" for day in range(1, 13)], "y": np.arange(12.0)})
    with pytest.raises(DataError, match="has a step every day, but the series that the model is fitted on every hour"):
        read_series(days, HERE, Settings(), role="new", frequency=known)


@pytest.mark.parametrize(
    ("columns", "form", "last"),
    [
        ({"ds": [2007, 2008]}, "year", 2008),
        ({"ds": ["2007", "2008"]}, "year", 2008),
        ({"ds": ["1949-01", "1949-02"]}, "month", "1949-02"),
        ({"ds": [194901, 194902]}, "month", "1949-02"),
        ({"ds": ["1959Q1", "1959Q2"]}, "quarter", "1959Q2"),
        ({"year": [1959.0, 1959.0], "quarter": [1.0, 2.0]}, "quarter", "1959Q2"),
        ({"year": [1959, 1959], "month": [1, 2]}, "month", "1959-02"),
        ({"ds": ["2024-01-31", "2024-02-29"]}, "day", date(2024, 2, 29)),
        ({"ds": ["31.01.2024", "29.02.2024"]}, "day", date(2024, 2, 29)),
        ({"ds": [20240131, 20240229]}, "day", date(2024, 2, 29)),
        ({"ds": [date(2024, 1, 31), date(2024, 2, 29)]}, "day", date(2024, 2, 29)),
        ({"ds": ["2024-01-31 23:00", "2024-02-01 00:00"]}, "second", datetime(2024, 2, 1)),
        ({"ds": [datetime(2024, 1, 31), datetime(2024, 2, 1)]}, "second", datetime(2024, 2, 1)),
        ({"ds": [0, 5]}, "step", 5),
        ({"step": [2007, 2008]}, "step", 2008),
    ],
)
def test_times_come_back_as_they_were_written(columns: dict[str, Any], form: str, last: Any) -> None:
    series = [pl.Series(name, cells) for name, cells in columns.items()]
    times = calendar_times(*series, HERE) if len(series) > 1 else times_of(*series, HERE)
    assert form_of(series) == form
    found = written(times, form)
    assert (found[-1], type(found[-1])) == (last, type(last))
    assert len({type(time) for time in found}) == 1


@pytest.mark.parametrize(("cell", "what"), [(None, "missing"), ("NaN", "missing"), ("n/a", "missing"), ("inf", "infinite")])
def test_missing_values_are_named(cell: str | None, what: str) -> None:
    values: list[str | None] = [str(step) for step in range(20)]
    values[7] = cell
    message = refused({"ds": hourly(20), "y": values})
    assert f"row 9, column 'y': the number is {what}" in message
    assert "--missing" in message
    assert np.isnan(panel({"ds": hourly(20), "y": values}, missing="mask").series[0].values[7])


def test_cells_that_are_no_numbers_are_always_errors() -> None:
    values = [str(step) for step in range(20)]
    values[7] = "3,5"
    for policy in ("error", "interpolate", "mask"):
        assert "row 9, column 'y': '3,5' is not a number" in refused({"ds": hourly(20), "y": values}, missing=policy)


def test_wide_series_of_different_lengths_are_trimmed() -> None:
    early = [None] * 5 + [1.0] * 25
    late = [1.0] * 20 + [None] * 10
    dataset = read({"date": hourly(30), "a": early, "b": late, "weekday": ["Mon"] * 30})
    assert [len(one) for one in dataset.content.series] == [25, 20]
    assert dataset.content.series[0].times[0] == np.datetime64("2024-01-01T05:00")
    assert len(dataset.warnings) == 2
    assert "not used: weekday" in dataset.sentence


def test_irregular_steps_are_named() -> None:
    times = hourly(20)
    times[10] = "2024-01-01 10:20:00"
    message = refused({"ds": times, "y": np.arange(20.0)}, missing="interpolate")
    assert "2024-01-01 09:00:00 is followed by 2024-01-01 10:20:00" in message
    assert "1 of 20 times" in message


def test_a_mistyped_century_does_not_fill_the_memory() -> None:
    times = hourly(20)
    times[-1] = "2924-01-01 00:00:00"
    assert "the widest gap is from 2024-01-01 18:00:00" in refused({"ds": times, "y": np.arange(20.0)}, missing="interpolate")


def test_weekdays_only_has_a_hint() -> None:
    days = [day for day in np.arange(np.datetime64("2024-01-01"), np.datetime64("2024-02-01")) if np.is_busday(day)]
    assert "weekends are left out" in refused({"ds": [str(day) for day in days], "y": np.arange(float(len(days)))})


def test_series_of_different_frequency_are_refused() -> None:
    days = [str(day) for day in np.arange(np.datetime64("2024-01-01"), np.datetime64("2024-01-21"))]
    message = refused({"unique_id": ["a"] * 20 + ["b"] * 20, "ds": days + hourly(20), "y": np.arange(40.0)})
    assert "'b' has a step every hour, but 'a' every day" in message


def test_future_covariates_reach_beyond_the_last_value() -> None:
    values = [*np.arange(20.0), None, None, None]
    frame = {"ds": hourly(23), "y": values, "temp": np.arange(23.0), "load": [1.0] * 20 + [None] * 3}
    one = panel(frame, future="temp", past="load").series[0]
    assert len(one) == 20
    assert one.times.shape == (23,)
    assert one.future.shape == (23, 1)
    assert one.past.shape == (20, 1)
    frame["temp"] = [*np.arange(21.0), None, 22.0]
    assert "row 23, column 'temp': the number is missing" in refused(frame, future="temp", past="load")
    assert panel(frame, future="temp", past="load", missing="interpolate").series[0].future[21, 0] == 21


def test_future_rows() -> None:
    settings = Settings.of({"future": "temp"})
    frame = pl.DataFrame({"ds": hourly(20), "y": np.arange(20.0), "temp": np.arange(20.0)})
    dataset = read_series(frame, HERE, settings)
    settings = Settings.of(dataset.resolved, settings)
    known = dataset.content
    assert isinstance(known, Panel)
    later = pl.DataFrame({"ds": hourly(6, "2024-01-01T18:00"), "temp": np.arange(6.0)})
    more = future_rows(later, HERE, known, settings).series[0]
    assert more.times.shape == (24,)
    assert more.future[:, 0].tolist() == [*range(20), 2, 3, 4, 5]
    assert len(more) == 20
    for broken, message in [
        (later.filter(pl.col("ds") != "2024-01-01 21:00:00"), "no row for the step after 2024-01-01 20:00:00"),
        (later.with_columns(ds=pl.col("ds").str.replace(":00:00", ":30:00")), "is no step of the series"),
        (later.head(2), "no row is later than the last value"),
        (pl.concat([later, later.tail(1)]), "a second row for 2024-01-01 23:00:00"),
        (later.with_columns(temp=pl.Series([0, 1, 2, None, 4, 5])), "row 5, column 'temp': the number is missing"),
        (later.rename({"temp": "tmp"}), "did you mean 'tmp'"),
        (later.with_columns(ds=pl.int_range(len(later))), "holds plain steps"),
        (later.head(0), "there is no row"),
    ]:
        with pytest.raises(DataError, match=message):
            future_rows(broken, HERE, known, settings)


def test_future_rows_of_several_series() -> None:
    columns = {"unique_id": ["a"] * 20 + ["b"] * 20, "ds": hourly(20) * 2, "y": np.arange(40.0), "temp": np.arange(40.0)}
    settings = Settings.of({"future": "temp", "id": "unique_id", "time": "ds"})
    known = panel(columns, future="temp")
    later = pl.DataFrame(
        {
            "unique_id": ["b"] * 2 + ["a"] * 3,
            "ds": hourly(2, "2024-01-01T20") + hourly(3, "2024-01-01T20"),
            "temp": [1.0, 2, 3, 4, 5],
        }
    )
    assert [series.future[20:, 0].tolist() for series in future_rows(later, HERE, known, settings).series] == [
        [3, 4, 5],
        [1, 2],
    ]
    with pytest.raises(DataError, match="no row for the series 'b'"):
        future_rows(later.tail(3), HERE, known, settings)
    with pytest.raises(DataError, match="no series 'c'"):
        future_rows(later.with_columns(unique_id=pl.lit("c")), HERE, known, settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "Y"}, "did you mean 'y'"),
        ({"time": "dss"}, "no column 'dss' .--time.; did you mean 'ds'"),
        ({"future": "tmep"}, "no column 'tmep' .--future.; did you mean 'temp'"),
        ({"past": "y", "target": "y"}, "given two roles"),
        ({"split_column": "part"}, "row 4, column 'part': 'tets' is no part"),
        ({"static": "temp"}, "row 3, column 'temp': 1.0, but"),
        ({"past": "word"}, "'word': 'u' is not a number"),
    ],
)
def test_wrong_settings(settings: dict[str, str], message: str) -> None:
    columns = {
        "ds": hourly(20),
        "y": np.arange(20.0),
        "temp": np.arange(20.0),
        "part": ["train"] * 2 + ["tets"] * 18,
        "word": ["u"] * 20,
    }
    with pytest.raises(DataError, match=message):
        read(columns, **settings)


def test_parts_follow_the_grid() -> None:
    times = hourly(22)
    del times[9:11]
    parts = ["train"] * 9 + ["VAL"] * 5 + ["test"] * 6
    one = panel({"ds": times, "y": np.arange(20.0), "split": parts}, split_column="split", missing="mask").series[0]
    assert one.parts == ["train"] * 11 + ["valid"] * 5 + ["test"] * 6


def test_short_and_empty_tables() -> None:
    assert "has 9 values, expected 10" in refused({"ds": hourly(9), "y": np.arange(9.0)})
    assert "has 0 values" in refused({"ds": hourly(9), "y": [None] * 9}, target="y")
    assert "no row" in refused(pl.DataFrame({"ds": [], "y": []}))
    assert "no column holds times" in refused({"a": ["u", "v"], "y": [1, 2]})
    assert "no column of numbers" in refused({"ds": hourly(20), "a": ["u"] * 20})


def test_row_names_are_no_series() -> None:
    dataset = read({"": range(1, 21), "date": hourly(20), "sales": np.arange(20.0)})
    assert [one.id for one in dataset.content.series] == ["sales"]
    assert "only counts the rows" in dataset.warnings[0]


def test_plain_steps_and_season() -> None:
    dataset = read({"t": range(0, 100, 5), "y": np.arange(20.0)}, season=3)
    assert str(dataset.content.frequency) == "every 5 steps"
    assert dataset.content.frequency.season == 3
    assert dataset.content.series[0].times.dtype == np.int64
    assert "season" not in dataset.resolved


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"ds": [1, 2], "y": [1, 2]}, True),
        ({"id": [1, 1, 2, 2], "time": ["2024-01-01", "2024-01-02"] * 2, "x": [1.0] * 4, "label": ["a", "a", "b", "b"]}, False),
        ({"id": [1, 1, 2, 2], "time": ["2024-01-01", "2024-01-02"] * 2, "x": [1.0] * 4, "y": [0, 0, 1, 1]}, False),
        ({"id": [1, 1, 2, 2], "step": [0, 1] * 2, "x": [1.0] * 4, "y": [0, 0, 1, 1]}, False),
        ({"unique_id": [1, 1, 2, 2], "date": ["2024-01-01", "2024-01-02"] * 2, "sold": [1.0] * 4}, True),
        ({"text": ["so", "it"], "label": ["a", "b"]}, False),
        ({"step": [1, 2, 3], "value": [0.1, 0.2, 0.3]}, True),
        ({"a": [0.5, 0.2], "b": [0.1, 0.2]}, False),
    ],
)
def test_looks_like_series(columns: dict[str, Any], expected: bool) -> None:
    assert looks_like_series(pl.DataFrame(columns)) is expected


def dated(form: str, times: Iterable[Any]) -> dict[str, Any]:
    times = [form.format(time) if isinstance(time, int) else time for time in times]
    return {"ds": times, "y": list(range(len(times)))}


def test_times_with_and_without_an_offset_are_not_mixed() -> None:
    zoned = dated("2024-01-{:02}T00:00:00+02:00", range(1, 29))
    found = panel(zoned)
    assert found.form == "+02:00"
    assert written(found.series[0].times, found.form) == zoned["ds"]
    summer = dated("", [f"2024-03-{day}T00:00:00{'+01:00' if day < 20 else '+00:00'}" for day in range(10, 30)])
    assert form_of([pl.Series("ds", summer["ds"])]) == "+00:00"
    zoned["ds"][3] = "2024-01-04T00:00:00"
    assert "row 5, column 'ds': '2024-01-04T00:00:00' has no offset from UTC, where other rows have one" in refused(zoned)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Vienna"])
def test_times_with_a_zone_are_those_of_utc(zone: str) -> None:
    """Vienna's offset changes on 31 March: the times of a series have one form."""
    hours = pl.datetime_range(datetime(2024, 3, 30), datetime(2024, 4, 1), "1h", time_zone=zone, eager=True)
    found = panel({"ds": hours, "y": np.arange(len(hours)), "f": np.arange(len(hours))}, future="f")
    assert found.form == form_of([hours]) == "+00:00"
    utc = hours.dt.convert_time_zone("UTC").dt.to_string("%Y-%m-%dT%H:%M:%S+00:00").to_list()
    assert written(found.series[0].times, found.form) == utc
    later = hours.tail(1).dt.offset_by("1h")
    settings = Settings.of({"future": "f"})
    assert len(future_rows(pl.DataFrame({"ds": later, "f": [1.0]}), HERE, found, settings).series[0].times) == len(hours) + 1
    for naive in (later.dt.replace_time_zone(None), later.dt.to_string("%Y-%m-%d %H:%M:%S")):
        with pytest.raises(DataError, match="one has an offset from UTC, the other none"):
            future_rows(pl.DataFrame({"ds": naive, "f": [1.0]}), HERE, found, settings)
    naive = panel({"ds": hours.dt.convert_time_zone("UTC").dt.replace_time_zone(None), "y": np.arange(len(hours))})
    assert naive.form == "second"


def test_what_is_known_in_advance_has_an_offset_if_the_series_has_one() -> None:
    settings = Settings.of({"future": "f"})
    known = {**dated("2024-01-{:02}T00:00:00+02:00", range(1, 21)), "f": list(range(20))}
    found = panel(known, future="f")
    later = pl.DataFrame({"ds": ["2024-01-21T00:00:00"], "f": [1.0]})
    with pytest.raises(DataError, match="one has an offset from UTC, the other none"):
        future_rows(later, HERE, found, settings)
    later = pl.DataFrame({"ds": ["2024-01-21T00:00:00+02:00"], "f": [np.inf]})
    with pytest.raises(DataError, match="row 2, column 'f': the number is infinite"):
        future_rows(later, HERE, found, settings)


@pytest.mark.parametrize(
    ("form", "times", "first", "written_as"),
    [
        ("Jan {}, 2020", range(1, 29), "2020-01-01", "day"),
        ("{}-Jan-2020", range(1, 29), "2020-01-01", "day"),
        ("{} January 2020 17:00", range(1, 29), "2020-01-01T17:00:00", "second"),
        ("Sept {}", range(1990, 2010), "1990-09-01", "month"),
    ],
)
def test_months_as_words(form: str, times: range, first: str, written_as: str, tmp_path: Path) -> None:
    columns = dated(form, times)
    found = panel(columns)
    assert found.series[0].times[0] == np.datetime64(first)
    assert found.form == written_as
    for header in ("ds,y", "When,Passengers"):
        path = tmp_path / "sales.csv"
        rows = "".join(f'"{time}",{value}\n' for time, value in zip(columns["ds"], columns["y"], strict=True))
        path.write_text(f"{header}\n{rows}")
        assert read_table(path, Settings()).task == "forecast"


def test_a_table_of_ds_and_y_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("ds,y\n" + "".join(f"the {day}th of Brumaire,{day}\n" for day in range(4, 20)))
    with pytest.raises(DataError, match="row 2, column 'ds': 'the 4th of Brumaire' is no time that is understood here"):
        read_table(path, Settings())


@pytest.mark.parametrize("missing", ["error", "mask"])
@pytest.mark.parametrize("many", [5, 20])
@pytest.mark.parametrize(
    ("unit", "step", "said"), [("M", 1, "every month"), ("h", 1, "every hour"), ("D", 2, "every 2 days"), ("", 1, "every step")]
)
def test_series_of_another_frequency_than_the_model(unit: Any, step: int, said: str, many: int, missing: str) -> None:
    times = np.arange(many) * step if not unit else (np.datetime64("2024-01", unit) + step * np.arange(many)).astype("M8[ms]")
    frame, settings = pl.DataFrame({"ds": times, "y": np.arange(many)}), Settings.of({"missing": missing})
    with pytest.raises(DataError, match=f"has a step {said}, but the series that the model is fitted on every day"):
        read_series(frame, HERE, settings, role="new", frequency=Frequency("D", 1, 7))


def test_a_few_values_with_a_gap_have_the_frequency_of_the_model() -> None:
    frame = pl.DataFrame({"ds": ["2024-01-01", "2024-01-02", "2024-01-05"], "y": [1, 2, 3]})
    found = read_series(frame, HERE, Settings.of({"missing": "mask"}), role="new", frequency=Frequency("D", 1, 7))
    assert np.isnan(found.content.series[0].values).tolist() == [False, False, True, True, False]
