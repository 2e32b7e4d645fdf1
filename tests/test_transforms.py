"""Transforms: fitted on training data, the same numbers back, the same JSON back, and nothing else accepted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from throughtime.errors import DataError, NotServedError, RunError, SettingsError
from throughtime.transforms import (
    BytePairs,
    Characters,
    Labels,
    LogMel,
    Scaler,
    Vocabulary,
    WordFeatures,
    natural,
    shape,
    words,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SPEECH = Path(__file__).parents[2] / "shared" / "data" / "fsdd"
MADE: list[Any] = [
    Labels.fit(["a", "b10", "b9"]),
    Vocabulary.fit([["a", "b"], ["b"]]),
    Characters.fit(["hello\n", "π"]),
    BytePairs.fit(["the cat in the hat"] * 5, 262),
    WordFeatures.fit([["the", "cat"], ["the"]], buckets=64),
    Scaler.fit([np.array([[1.0, np.nan], [3.0, 2.0]])], ("a", "b"), mask=True),
    LogMel(8000, bands=20),
]


@pytest.mark.parametrize("made", MADE, ids=lambda made: type(made).__name__)
def test_json_gives_the_same_back(made: Any) -> None:
    text = json.dumps(made.to_json())
    again = type(made).from_json(json.loads(text))
    assert again == made
    assert json.dumps(again.to_json()) == text


@pytest.mark.parametrize("made", MADE, ids=lambda made: type(made).__name__)
def test_json_that_is_not_as_written_is_refused(made: Any) -> None:
    good = made.to_json()
    with pytest.raises(RunError, match=r"format_version is 2.*reads 1"):
        made.from_json({**good, "format_version": 2})
    with pytest.raises(RunError, match=r"kind 'other'"):
        made.from_json({**good, "kind": "other"})
    with pytest.raises(RunError, match="extra is missing or unknown"):
        made.from_json({**good, "extra": 1})
    with pytest.raises(RunError, match="found list, expected a JSON object"):
        made.from_json([])
    for name in good.keys() - {"kind", "format_version"}:
        with pytest.raises(RunError, match=f"{name} is missing"):
            made.from_json({key: value for key, value in good.items() if key != name})
        for wrong in (None, {"a": 1}, [None], -1, float("nan"), *([] if isinstance(good[name], bool) else [True])):
            with pytest.raises(RunError):
                made.from_json({**good, name: wrong})


def test_json_whose_parts_do_not_fit_is_refused() -> None:
    scaler = Scaler.fit([np.ones((2, 2))], ("a", "b")).to_json()
    with pytest.raises(RunError, match="differ in length"):
        Scaler.from_json({**scaler, "mean": [0.0]})
    with pytest.raises(RunError, match="not above 0"):
        Scaler.from_json({**scaler, "scale": [1, 0]})
    with pytest.raises(RunError, match="names is not a list of different texts"):
        Labels.from_json({**Labels.fit("ab").to_json(), "names": ["a", "a"]})
    with pytest.raises(RunError, match="tokenizer cannot be read"):
        BytePairs.from_json({"kind": "bpe", "format_version": 1, "tokenizer": "{}"})


def test_transforms_import_neither_torch_nor_the_libraries_of_training() -> None:
    code = (
        "import sys, throughtime.transforms as t; t.Labels.fit(['a']); t.WordFeatures.fit([['a']]);"
        "print([m for m in ('torch', 'tokenizers', 'scipy', 'sklearn', 'polars', 'kaldi_native_fbank') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# Labels


def test_labels_sort_as_people_do() -> None:
    assert natural(["10", "9", "1"]) == ["1", "9", "10"]
    assert natural(["1e3", "-5", "2.5"]) == ["-5", "2.5", "1e3"]
    assert natural(["class10", "class9", "Class9"]) == ["Class9", "class9", "class10"]
    assert natural(["01", "1", "001"]) == ["001", "01", "1"]
    assert natural(["nan", "2", "10"]) == ["2", "10", "nan"]
    assert natural(["9" * 5000 + "a", "1a"]) == ["1a", "9" * 5000 + "a"]


@settings(deadline=None)
@given(st.lists(TEXT))
def test_labels_round_trip(names: list[str]) -> None:
    labels = Labels.fit(names)
    ids = labels.encode(names)
    assert ids.dtype == np.int64
    assert labels.decode(ids) == names
    assert labels == Labels.fit(reversed(names))
    assert len(labels) == len(set(names))


def test_a_class_not_in_training_is_named_with_its_place() -> None:
    labels = Labels.fit(["happy", "sad"])
    with pytest.raises(DataError, match=r"^new.csv row 2: 'hapy' is no class .* did you mean 'happy'\? \(2 such in all\)$"):
        labels.encode(["sad", "hapy", "zzz"], lambda row: f"new.csv row {row + 1}")
    with pytest.raises(DataError, match=r"item 0: 'zzz' .* known are happy, sad"):
        labels.encode(["zzz"])


# Vocabularies


def test_vocabulary_keeps_the_frequent_and_breaks_ties_by_alphabet() -> None:
    sequences = [["c", "b", "a"], ["c", "b", "d"], ["c"]]
    assert Vocabulary.fit(sequences).tokens == ("c", "b", "a", "d")
    assert Vocabulary.fit(sequences, min_count=2).tokens == ("c", "b")
    assert Vocabulary.fit(sequences, size=2).tokens == ("c",)
    assert len(Vocabulary.fit(sequences, size=2)) == 2
    assert len(Vocabulary.fit(sequences, size=0)) == 1
    vocabulary = Vocabulary.fit(sequences)
    assert vocabulary.encode(["a", "x", "c"]).tolist() == [3, 0, 1]
    assert vocabulary.decode([3, 0, 1]) == ["a", "<unknown>", "c"]
    assert vocabulary.encode([]).shape == (0,)


@settings(deadline=None)
@given(st.lists(TEXT), TEXT)
def test_characters_round_trip(pieces: list[str], other: str) -> None:
    codec = Characters.fit(pieces)
    known = set("".join(pieces))
    text = "".join(pieces)
    assert codec.decode(codec.encode(text)) == text
    ids = codec.encode(other)
    assert ids.dtype == np.int32
    assert codec.decode(ids) == "".join(c if c in known else "\ufffd" for c in other)
    assert codec.size == len(known) + 2
    assert not (ids == codec.end).any()
    assert (ids < codec.size).all()


def test_characters_end_and_unknown() -> None:
    codec = Characters.fit(["ba", "c\ud800"])
    assert codec.characters == "abc\ud800"
    assert codec.decode([2, codec.end, 0, 3]) == "a\ufffdb"
    assert codec.decode(codec.encode("\ud800a")) == "\ud800a"
    assert codec.encode("").shape == (0,)
    assert codec.encode("\U0010ffff").tolist() == [0]
    assert Characters.fit([]).encode("abc").tolist() == [0, 0, 0]


PAIRS = BytePairs.fit(["to be or not to be, that is the question. "] * 20, 280)


@settings(deadline=None)
@given(TEXT)
def test_byte_pairs_round_trip(text: str) -> None:
    ids = PAIRS.encode(text)
    assert ids.dtype == np.int32
    assert PAIRS.decode(ids) == text
    assert PAIRS.decode([*ids, PAIRS.end]) == text
    assert (ids < PAIRS.end).all()
    assert PAIRS.end == PAIRS.size - 1


@pytest.mark.parametrize("text", ["<|endoftext|>", "<unk> <s>", "  two  spaces\r\n\t", "\x00", "é e\u0301", "👩‍👧"])
def test_byte_pairs_change_nothing(text: str) -> None:
    assert PAIRS.decode(PAIRS.encode(text)) == text


def test_byte_pairs_are_fitted_the_same_in_every_process() -> None:
    code = (
        "from throughtime.transforms import BytePairs; import random, zlib; random.seed(0);"
        "text = [' '.join(''.join(random.choices('abcde', k=5)) for _ in range(50)) for _ in range(40)];"
        "print(zlib.crc32(BytePairs.fit(text, 400).description.encode()))"
    )
    assert len({subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(3)}) == 1


def test_byte_pairs_sizes() -> None:
    assert PAIRS.size == 280
    assert len(PAIRS.encode("to be or not to be")) < 18
    assert BytePairs.fit(["aaab"], 257).size == 257
    assert BytePairs.fit(["ab"], 5000).size < 5000
    assert PAIRS.encode("").shape == (0,)
    with pytest.raises(SettingsError, match=r"bpe_size is 100, expected a whole number from 257 to 1,000,000"):
        BytePairs.fit(["ab"], 100)


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    mel = LogMel(8000)
    for name in ("tokenizers", "kaldi_native_fbank", "scipy.signal"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(NotServedError, match=r"pip install tokenizers"):
        BytePairs.fit(["ab"], 300)
    with pytest.raises(NotServedError, match=r"kaldi-native-fbank: pip install 'throughtime\[speech\]'"):
        LogMel(8000)
    with pytest.raises(NotServedError, match=r"scipy: pip install 'throughtime\[speech\]'"):
        mel(np.ones(100, np.float32), 16000)


# Words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I can't, won't.", ["I", "can't", ",", "won't", "."]),
        ("The dogs' 'quoted' word", ["The", "dogs", "'", "'", "quoted", "'", "word"]),
        ("It costs 1,000.50 or 3.5%!", ["It", "costs", "1,000.50", "or", "3.5", "%", "!"]),
        ("see www.a.org/b?c=d, (http://x.y/z).", ["see", "www.a.org/b?c=d", ",", "(", "http://x.y/z", ")", "."]),
        ("Wait... what?!", ["Wait", "...", "what", "?", "!"]),
        ("नमस्ते दुनिया।", ["नमस्ते", "दुनिया", "।"]),
        ("我爱你。", ["我", "爱", "你", "。"]),
        ("L’été à Noël e\u0301", ["L’été", "à", "Noël", "e\u0301"]),
        ("good😀😀bad", ["good", "😀😀", "bad"]),
        ("snake_case a-b", ["snake_case", "a", "-", "b"]),
        (" \n\t", []),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@settings(deadline=None)
@given(TEXT)
def test_words_leave_out_nothing_but_space(text: str) -> None:
    assert "".join(words(text)) == "".join(text.split())


def test_shapes() -> None:
    assert {w: shape(w) for w in ("hello", "A", "McDonald", "B2B", "...", "", "U.S.")} == {
        "hello": "xx",
        "A": "X",
        "McDonald": "XxXxx",
        "B2B": "XdX",
        "...": "..",
        "": "",
        "U.S.": "X.X.",
    }


def test_a_word_is_found_as_written_or_in_lower_case() -> None:
    features = WordFeatures.fit([["Bill", "bill", "run", "once"]] * 2 + [["rare"]])
    ids, _, _ = features.lookup(["Bill", "bill", "BILL", "Run", "rare", "new"])
    assert ids[0] != ids[1] == ids[2]
    assert features.vocabulary.decode(ids) == ["Bill", "bill", "bill", "run", "<unknown>", "<unknown>"]


@settings(deadline=None)
@given(st.lists(st.text(), unique=True), st.sampled_from([1, 7, 2**15]))
def test_features_belong_to_the_word_alone(chosen: list[str], buckets: int) -> None:
    features = WordFeatures.fit([], buckets=buckets)
    ids, flat, offsets = features.lookup(chosen)
    assert ids.shape == (len(chosen),)
    assert (ids.dtype, flat.dtype, offsets.dtype) == (np.int32, np.int32, np.int64)
    assert offsets[0] == 0
    assert offsets[-1] == len(flat)
    assert ((flat >= 0) & (flat < buckets)).all()
    for place, word in enumerate(chosen):
        _, alone, _ = features.lookup([word])
        assert flat[offsets[place] : offsets[place + 1]].tolist() == alone.tolist()
        n = len(word.lower()) + 2
        assert len(alone) == 1 + (1 if n == 2 else 2) + sum(max(n - length + 1, 0) for length in (3, 4, 5))


def test_features_are_shared_by_words_that_share_letters_and_do_not_crowd() -> None:
    features = WordFeatures.fit([])

    def of(word: str) -> set[int]:
        return set(features.lookup([word])[1].tolist())

    assert len(of("walking") & of("talking")) >= 12
    assert of("the") - of("The") == set(features.lookup(["the"])[1][:1].tolist())  # the shape alone
    syllables = [a + b + c for a in "bdfgklmn" for b in "aeiou" for c in "prstvwxz"]
    _, flat, _ = features.lookup([a + b for a in syllables[:100] for b in syllables[:40]])
    assert np.unique(flat).size > 0.8 * 2**15 * (1 - np.exp(-_different(syllables[:100], syllables[:40]) / 2**15))


def _different(first: list[str], second: list[str]) -> int:
    made = [f"<{a}{b}>" for a in first for b in second]
    return len({w[i : i + n] for w in made for n in (3, 4, 5) for i in range(len(w) - n + 1)})


def test_features_do_not_change_between_versions() -> None:
    assert WordFeatures.fit([]).lookup(["Ω"])[1].tolist() == [13899, 31089, 28041, 20032]


# Numbers


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.lists(st.integers(0, 6), min_size=1, max_size=6), st.floats(-1e6, 1e6), st.floats(1e-3, 1e6)
)
def test_scaler_agrees_with_numpy(seed: int, lengths: list[int], mean: float, deviation: float) -> None:
    random = np.random.default_rng(seed)
    sequences = [random.normal(mean, deviation, (T, 3)) for T in lengths]
    for sequence in sequences:
        sequence[random.random(sequence.shape) < 0.2] = np.nan
    scaler = Scaler.fit(sequences, ("a", "b", "c"), mask=True)
    joined = np.concatenate(sequences)
    for f in range(3):
        known = joined[~np.isnan(joined[:, f]), f]
        assert scaler.mean[f] == pytest.approx(known.mean() if known.size else 0.0, rel=1e-9, abs=1e-9 * deviation)
        assert scaler.scale[f] == pytest.approx(known.std() if known.size > 1 else 1.0, rel=1e-6)
    scaled = scaler.transform(joined)
    assert scaled.dtype == np.float32
    assert scaled.shape == (len(joined), scaler.channels)
    assert np.isfinite(scaled).all()
    back = scaler.inverse(scaled[:, :3])
    assert np.allclose(back[~np.isnan(joined)], joined[~np.isnan(joined)], rtol=1e-5, atol=1e-5 * (abs(mean) + deviation))


def test_scaler_of_constants_and_of_large_offsets() -> None:
    rows = np.array([[0.1, 1e9 + t % 2] for t in range(1000)])
    scaler = Scaler.fit([rows[:333], rows[333:]], ("still", "far"))
    assert scaler.scale == (1.0, pytest.approx(0.5))
    assert scaler.transform(rows)[:2].tolist() == [[pytest.approx(0.0), -1.0], [pytest.approx(0.0), 1.0]]


def test_scaler_masks_what_is_missing_or_refuses_it() -> None:
    scaler = Scaler.fit([np.array([[1.0, 5.0, np.nan], [3.0, np.nan, np.nan]])], ("a", "b", "c"), mask=True)
    assert scaler.transform([3.0, np.nan, np.nan]).tolist() == [1.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    scaler = Scaler.fit([np.array([[1.0, 5.0], [3.0, 7.0]])], ("a", "b"))
    with pytest.raises(DataError, match=r"^a, step 2: is nan, expected a number; --missing"):
        scaler.transform([[1.0, 1.0], [np.nan, 1.0]])
    with pytest.raises(DataError, match=r"^b, step 1: is -inf, expected a number$"):
        scaler.transform([[1.0, -np.inf]])
    with pytest.raises(DataError, match=r"b: has numbers that are infinite"):
        Scaler.fit([np.array([[1.0, np.inf]])], ("a", "b"))
    with pytest.raises(DataError, match=r"a: has numbers that are infinite or beyond"):
        Scaler.fit([np.array([[1e200], [-1e200]])], ("a",))


def test_scaler_of_a_target() -> None:
    prices = np.array([10.0, 20.0, 30.0])
    scaler = Scaler.fit([prices[:, None]], ("price",))
    assert scaler.inverse(scaler.transform(prices[:, None])).ravel() == pytest.approx(prices)


# Sound


def test_log_mel_frames() -> None:
    mel = LogMel(8000)
    noise = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    frames = mel(noise, 8000)
    assert (frames.shape, frames.dtype) == ((99, 40), np.float32)
    assert frames.tobytes() == LogMel(8000)(noise, 8000).tobytes()
    for samples, steps in ((1, 1), (199, 1), (200, 1), (201, 2), (280, 2), (281, 3)):
        assert len(mel(noise[:samples], 8000)) == steps
    assert mel(noise[:360], 8000).tolist() == frames[:3].tolist()  # a frame depends on its own samples only
    assert mel.resampled == 0
    with pytest.raises(DataError, match="no samples"):
        mel(noise[:0], 8000)


def test_log_mel_hears_the_pitch_at_any_rate() -> None:
    def loudest(rate: int, hertz: float) -> int:
        mel = LogMel(8000)
        frames = mel(np.sin(2 * np.pi * hertz * np.arange(rate) / rate).astype(np.float32) / 2, rate)
        assert mel.resampled == (rate != 8000)
        assert abs(len(frames) - 99) <= 1
        return int(frames.mean(0).argmax())

    assert loudest(8000, 200) < loudest(8000, 1000) < loudest(8000, 3000)
    for hertz in (200, 1000, 3000):
        assert {loudest(rate, hertz) for rate in (8000, 11025, 16000, 44100)} == {loudest(8000, hertz)}


def test_log_mel_takes_the_most_common_rate() -> None:
    assert LogMel.fit([16000, 8000, 8000]).rate == 8000
    assert LogMel.fit([16000, 8000]).rate == 16000


def test_log_mel_refuses_more_bands_than_there_are() -> None:
    with pytest.raises(SettingsError, match=r"128 mel bands in frames of 25 ms at 8,000 samples a second"):
        LogMel(8000, bands=128)


@pytest.mark.skipif(not SPEECH.exists(), reason="shared/data/fsdd is not here")
def test_log_mel_of_speech() -> None:
    soundfile = pytest.importorskip("soundfile")
    samples, rate = soundfile.read(SPEECH / "recordings" / "0_george_0.wav", dtype="float32")
    frames = LogMel(rate)(samples, rate)
    assert frames.shape == (1 + -(-(len(samples) - 200) // 80), 40)
    assert 0 < frames.mean() < 25
