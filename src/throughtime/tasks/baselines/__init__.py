"""Simple models that a recurrent one has to beat: a module for each task, and in each ``suited``, those that suit the data.

All are deterministic, run in one process, and take seconds: where there is very much data they fit on a part, and their
description says so. One that cannot be fitted to the data at hand says why by a ``ValueError``, so that the fit can go on
without it.
"""

from throughtime.tasks.baselines._common import Baseline as Baseline, Order as Order
