"""Readers: from files and folders to sequences and time series."""

from throughtime.data.read import read as read, with_parts as with_parts
from throughtime.data.records import (
    Dataset as Dataset,
    Frequency as Frequency,
    Panel as Panel,
    Sequences as Sequences,
    Series as Series,
    TextSlices as TextSlices,
)
