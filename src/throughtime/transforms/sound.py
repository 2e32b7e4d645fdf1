"""Sound as log-mel features, by kaldi-native-fbank."""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from throughtime.errors import DataError, NotServedError, SettingsError
from throughtime.transforms._saved import COUNT, POSITIVE, checked, saved


@dataclass
class LogMel:
    """The logarithm of the energy in bands of the mel scale, frame by frame, as Kaldi computes it but without random dither.

    Args:
        rate: samples per second that clips are brought to.
        bands: mel bands, from 20 Hz to half the rate.
        frame_ms: the length of a frame.
        step_ms: from one frame to the next.

    Attributes:
        resampled: how many clips of another rate were brought to this one.

    Raises:
        SettingsError: more bands than a frame of this length can tell apart.
        NotServedError: kaldi-native-fbank is not installed.

    Example:
        >>> mel = LogMel(8000)
        >>> mel(np.zeros(4000, np.float32), 8000).shape
        (49, 40)

    Source: Davis and Mermelstein 1980; Kaldi, ``compute-fbank-feats``.
    """

    rate: int
    bands: int = 40
    frame_ms: float = 25.0
    step_ms: float = 10.0
    resampled: int = field(default=0, init=False, compare=False)

    def __post_init__(self) -> None:
        kaldi = _library("kaldi_native_fbank")
        self._options = kaldi.FbankOptions()
        self._options.frame_opts.samp_freq = self.rate
        self._options.frame_opts.frame_length_ms = self.frame_ms
        self._options.frame_opts.frame_shift_ms = self.step_ms
        self._options.frame_opts.dither = 0.0
        self._options.mel_opts.num_bins = self.bands
        try:
            kaldi.OnlineFbank(self._options)
        except Exception as error:  # the library raises no narrower one
            raise SettingsError(
                f"{self.bands} mel bands in frames of {self.frame_ms:g} ms at {self.rate:,} samples a second "
                f"cannot be computed ({error}); use fewer bands or sound of a higher rate"
            ) from None

    @classmethod
    def fit(cls, rates: Iterable[int]) -> LogMel:
        """At the most common rate of the training clips; of equally common ones, the highest.

        Args:
            rates: samples per second of each clip.
        """
        counts = Counter(rates)
        return cls(max(counts, key=lambda rate: (counts[rate], rate)))

    def __call__(self, samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
        """The features of one clip.

        Args:
            samples: float32 ``[n]`` in [-1, 1]; its end is filled up with silence to a whole frame.
            rate: samples per second; another one than ``self.rate`` is changed to it.

        Returns:
            float32 ``[T, bands]``, at least one frame.

        Raises:
            DataError: no samples.
            NotServedError: the rate differs, and SciPy is not installed.
        """
        if not len(samples):
            raise DataError("the sound has no samples; leave it out")
        if rate != self.rate:
            common = math.gcd(rate, self.rate)
            samples = _library("scipy.signal").resample_poly(samples, self.rate // common, rate // common)
            self.resampled += 1
        frame, step = (int(self.rate * 0.001 * ms) for ms in (self.frame_ms, self.step_ms))
        steps = 1 + math.ceil(max(len(samples) - frame, 0) / step)
        padded = np.zeros(frame + (steps - 1) * step, np.float32)
        padded[: len(samples)] = np.asarray(samples) * 32768.0  # Kaldi's numbers are those of 16 bits
        bank = _library("kaldi_native_fbank").OnlineFbank(self._options)
        bank.accept_waveform(self.rate, padded)
        bank.input_finished()
        return np.stack([bank.get_frame(t) for t in range(bank.num_frames_ready)])

    def to_json(self) -> dict[str, Any]:
        """All of it, for a file."""
        return saved("log_mel", rate=self.rate, bands=self.bands, frame_ms=self.frame_ms, step_ms=self.step_ms)

    @classmethod
    def from_json(cls, data: Any) -> LogMel:
        """What ``to_json`` wrote.

        Raises:
            RunError: damaged, or of another kind or version.
        """
        return cls(**checked(data, "log_mel", rate=COUNT, bands=COUNT, frame_ms=POSITIVE, step_ms=POSITIVE))


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise NotServedError(
            f"sound needs {name.partition('.')[0].replace('_', '-')}: pip install 'throughtime[speech]'"
        ) from None
