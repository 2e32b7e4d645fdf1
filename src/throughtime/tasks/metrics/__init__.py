"""What a model is scored by: pure functions from truth and prediction to numbers.

Every result has a method ``scores()``: its single numbers by name, without those that are undefined for this data.
"""

from throughtime.tasks.metrics._classes import (
    Classification as Classification,
    ClassScore as ClassScore,
    Confused as Confused,
    Tagging as Tagging,
    classification as classification,
    tagging as tagging,
)
from throughtime.tasks.metrics._intervals import paired_interval as paired_interval
from throughtime.tasks.metrics._numbers import (
    Forecasting as Forecasting,
    Language as Language,
    Regression as Regression,
    forecasting as forecasting,
    language as language,
    regression as regression,
)
from throughtime.tasks.metrics._spans import spans as spans
