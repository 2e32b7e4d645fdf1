"""Estimators: recurrent models as scikit-learn takes them, over the same code as ``throughtime fit``."""

from throughtime.estimators.base import Estimator as Estimator
from throughtime.estimators.forecaster import Forecaster as Forecaster
from throughtime.estimators.labelled import (
    SequenceClassifier as SequenceClassifier,
    SequenceRegressor as SequenceRegressor,
    SequenceTagger as SequenceTagger,
)
from throughtime.estimators.language import LanguageModel as LanguageModel
from throughtime.estimators.saved import load as load
