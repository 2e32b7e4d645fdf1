"""Forecasting as an estimator: fitted on time series, says how they go on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from throughtime.data.records import Panel
from throughtime.data.series import future_rows, read_series
from throughtime.data.split_panel import PanelPart
from throughtime.errors import DataError
from throughtime.estimators.base import Estimator, in_python
from throughtime.store import RunDirectory
from throughtime.tasks.forecast import Forecast
from throughtime.tasks.metrics import forecasting
from throughtime.train.fitted import source_of

_X, _FUTURE = Path("X"), Path("future")
"""What errors call the tables."""


@dataclass(kw_only=True, eq=False, repr=False)
class Forecaster(Estimator):
    """The next values of time series, with intervals that are meant to hold nine values of ten.

    Series are a DataFrame (pandas, polars, or any that narwhals knows), long (``unique_id``, ``ds``, ``y``) or wide; or a list
    of arrays ``[T]``; or one array ``[T]``. The arguments are those of :class:`Estimator`, and these:

    Args:
        horizon: steps to forecast; one season if not given.
        window: steps of the past that the model sees.
        season: steps in a season; from the frequency if not given.
        past: columns known only up to now.
        future: columns known in advance.
        static: columns that do not change within a series.
        id: column that tells series apart; guessed if not given, as the next two are.
        time: column with the time or the step.
        target: column to forecast.
        missing: what to do with gaps and NaN: ``error``, ``interpolate``, or ``mask``, which shows the model what is missing.

    Example:
        >>> import numpy as np
        >>> wave = np.sin(np.arange(120) / 2)
        >>> model = Forecaster(horizon=3, season=12, hidden=8, epochs=1).fit(wave)
        >>> sorted(model.predict()), model.predict()["time"]
        (['forecast', 'lower', 'series', 'time', 'upper'], array([120, 121, 122]))
    """

    task: ClassVar[str] = "forecast"
    horizon: int | None = None
    window: int | None = None
    season: int | None = None
    past: Sequence[str] = ()
    future: Sequence[str] = ()
    static: Sequence[str] = ()
    id: str | None = None
    time: str | None = None
    target: str | None = None
    missing: Literal["error", "interpolate", "mask"] = "error"

    @in_python
    def fit(self, X: Any, y: Any = None) -> Forecaster:
        """Fit a model, from the beginning; the last tenth of each series, and at least the horizon, is held out.

        Args:
            X: the series.
            y: not used; there because scikit-learn gives it.

        Returns:
            Itself.

        Raises:
            SettingsError: arguments of the constructor that cannot be.
            DataError: series that cannot be learned from, with row and column.
        """
        settings, frame = self.settings(), _frame(X, "X")
        settings = settings if _is_table(X) else settings.replace(**_OF_ARRAYS)
        dataset = read_series(frame, _X, settings)
        assert isinstance(dataset.content, Panel)
        resolved = {name: value for name, value in dataset.resolved.items() if name != "split_column"}
        settings = settings.replace(**resolved)
        self._train(dataset, settings)
        self._panel = dataset.content
        self._form = _form(X, self._task)
        return self

    @in_python
    def predict(self, X: Any = None, *, future: Any = None) -> Any:
        """The ``horizon`` values after the last one of every series.

        Args:
            X: the series up to now, of the same form as those it was fitted on; these themselves if not given. A loaded model
                reads them again from the files that ``throughtime fit`` was given; one that was fitted in Python and saved
                does not hold them.
            future: a DataFrame with time and id column and the columns known in advance, for the steps to forecast.

        Returns:
            ``series``, ``time``, ``forecast``, ``lower`` and ``upper``, a row for each series and step: a DataFrame of the kind
            that X is, with the names of its own columns (``unique_id``, ``ds``) for the first two where it has an id column; or
            a dict of arrays for series that are arrays, with ``series`` and ``time`` counted from 0.

        Raises:
            NotFittedError: before ``fit``.
            DataError: series of another frequency or with other covariates, or a future that is not known so far ahead; or
                none, and a model that does not know where its own are.
        """
        check_is_fitted(self)
        if X is not None:
            panel, form = self._read(X), _form(X, self._task)
        else:
            panel, form = self._own()
        if future is not None:
            panel = future_rows(_frame(future, "future"), _FUTURE, panel, self.fitted_.task.settings)
        table = self.fitted_.predict(panel)
        columns = {name: np.asarray(table[name]) for name in ("forecast", "lower", "upper")}
        if form.backend is None:
            return {"series": np.array(table["series"], dtype=np.int64), "time": np.array(table["time"]), **columns}
        own = [form.ids.get(name, name) for name in table["series"]]
        return nw.from_dict({form.series: own, form.time: table["time"], **columns}, backend=form.backend).to_native()

    def _own(self) -> tuple[Panel, _Form]:
        """The series it was fitted on, and their form."""
        if self._run is None:  # it was fitted here
            return self._panel, self._form
        if self._config["source"] is None:
            raise DataError("a loaded model does not hold the series it was fitted on; give those to go on from: predict(X)")
        panel = source_of(RunDirectory(self._run), self.fitted_).content
        assert isinstance(panel, Panel)
        return panel, _of_table(nw.Implementation.POLARS, {}, self._task)

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the MASE of forecasting the last ``horizon`` values of each series from those before them.

        MASE is the mean error over the one that repeating the last season has before these values: the higher the score, the
        better, and one above -1 beats that.

        Args:
            X: series, those it was fitted on or others.
            y: not used.

        Raises:
            NotFittedError: before ``fit``.
            DataError: as ``predict``, and series that are too short.

        Source: Hyndman and Koehler 2006, "Another look at measures of forecast accuracy".
        """
        return -self._mase(X)

    @in_python
    def _mase(self, X: Any) -> float:
        check_is_fitted(self)
        panel, task = self._read(X), self._task
        horizon, season = task.layout.horizon, task.settings.forecast.season or 1
        short = next((series for series in panel.series if len(series) <= horizon + season), None)
        if short is not None:
            raise DataError(
                f"X: series {short.id!r} has {len(short):,} values, expected more than {horizon + season:,} to score a "
                f"forecast of {horizon:,} steps beside the repeated season of {season:,}"
            )
        encoded = task.encode(PanelPart(panel, [len(series) - horizon for series in panel.series]))
        if not len(encoded.origins):
            raise DataError(f"X: the last {horizon:,} values of every series are missing, so there is nothing to score")
        with torch.inference_mode():
            found = task.forecasts(self.fitted_.network, encoded)
        known = [panel.series[number].values[:-horizon] for number in found.origins[:, 0]]
        errors = [float(np.nanmean(abs(values[season:] - values[:-season]))) for values in known]
        mase = forecasting(found.truth, found.value, errors).mase
        return float("nan") if mase is None else mase

    def __sklearn_tags__(self) -> Any:
        """One series as an array, or several; NaN unless ``missing`` is ``error``."""
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.allow_nan = self.missing != "error"
        return tags

    @property
    def _task(self) -> Forecast:
        task = self.fitted_.task
        assert isinstance(task, Forecast)
        return task

    def _read(self, X: Any) -> Panel:
        """Series to go on from."""
        task, frame = self._task, _frame(X, "X")
        panel = read_series(frame, _X, task.settings).content
        assert isinstance(panel, Panel)
        return panel


_OF_ARRAYS = {"id": "unique_id", "time": "step", "target": "y"}
"""The columns of the table that arrays are laid out as."""


class _Form(NamedTuple):
    """What forecasts look like: as the series came.

    Attributes:
        backend: the library of their table, for narwhals; ``None`` for arrays.
        ids: the names of series as they stand in their column, by the names they have here.
        series: the name of that column.
        time: the name of the column with the time.
    """

    backend: Any
    ids: dict[str, Any]
    series: str = "series"
    time: str = "time"


def _form(X: Any, task: Forecast) -> _Form:
    """That of some series, in the columns of the fit."""
    if not _is_table(X):
        return _Form(None, {})
    frame, id = nw.from_native(X, eager_only=True), task.settings.data.id
    named = frame[id].unique().to_list() if id in frame.columns else []
    return _of_table(frame.implementation, {str(name): name for name in named}, task)


def _of_table(backend: Any, ids: dict[str, Any], task: Forecast) -> _Form:
    """With the names of the table's own columns, where each series has a name in one of them."""
    data = task.settings.data
    return _Form(backend, ids) if data.id is None else _Form(backend, ids, data.id, data.time or "time")


def _is_table(X: Any) -> bool:
    return hasattr(X, "columns")


def _frame(X: Any, name: str) -> pl.DataFrame:
    """Series as a table."""
    if not _is_table(X):
        if name == "future":
            raise DataError(f"future is a {type(X).__name__}; expected a DataFrame with the columns known in advance")
        return _laid_out(X)
    if isinstance(X, pl.DataFrame):
        return X
    try:
        frame = nw.from_native(X, eager_only=True)
    except TypeError:
        raise DataError(f"{name} is a {type(X).__name__}; expected a DataFrame of pandas or polars") from None
    return pl.DataFrame({str(column): _plain(frame[column]) for column in frame.columns}, strict=False)


def _plain(column: Any) -> Any:
    """Cells as polars takes them: pandas without pyarrow has no other way there."""
    if isinstance(column.dtype, nw.Datetime):
        return column.to_numpy().astype("M8[us]")
    if column.dtype.is_numeric():
        return column.to_numpy()
    return [None if blank else cell for cell, blank in zip(column.to_list(), column.is_null().to_list(), strict=True)]


def _laid_out(X: Any) -> pl.DataFrame:
    """One array or several below each other, with their number and step."""
    if isinstance(X, str | dict) or not isinstance(X, Iterable):
        raise DataError(f"X is a {type(X).__name__}; expected a DataFrame, an array [T], or a list of them")
    elements = list(X)
    series = [X] if elements and np.ndim(elements[0]) == 0 else elements
    arrays: list[NDArray[np.float64]] = []
    for number, values in enumerate(series):
        try:
            array = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError):
            raise DataError(f"X[{number}] is no array of numbers; expected [T]") from None
        if array.ndim != 1 or not len(array):
            raise DataError(f"X[{number}] has the shape {array.shape}; expected [T], with at least one step")
        arrays.append(array)
    if not arrays:
        raise DataError("X holds no series; expected one at least")
    lengths = [len(array) for array in arrays]
    return pl.DataFrame(
        {
            "unique_id": np.repeat(np.arange(len(arrays)), lengths),
            "step": np.concatenate([np.arange(length) for length in lengths]),
            "y": np.concatenate(arrays),
        }
    )
