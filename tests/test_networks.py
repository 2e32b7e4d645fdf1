"""Networks and what goes into them: pooling, words never seen, words against a loop, and that padding changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from throughtime.data.records import Sequences
from throughtime.errors import DataError, RunError, SettingsError
from throughtime.settings import ModelSettings, Settings
from throughtime.tasks.dropout import Dropout
from throughtime.tasks.inputs import (
    EncodedInputs,
    NumericInputs,
    TokenInputs,
    WordInputs,
    inputs_for,
    read_vectors,
    restore_inputs,
)
from throughtime.tasks.networks import Numbers, SequenceNetwork, StepNetwork, Tokens, WordIds, Words, pooled, recurrent_part

MODEL = ModelSettings(cell="gru", hidden=5, layers=1, bidirectional=True, dropout=0.0, init="orthogonal")
SENTENCES = ["the cat sat", "the dog", "", "a cat and a dog and a cat", "the the the the"]


def texts(inputs: list[str]) -> Sequences:
    return Sequences("text", inputs)


# --- pooling


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=8), st.integers(0, 3))
def test_pooling_against_a_loop(lengths: list[int], seed: int) -> None:
    hidden = torch.randn(
        max([*lengths, 1]), len(lengths), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    for column, length in enumerate(lengths):
        hidden[length:, column] = 0
    mean, largest = pooled(hidden, torch.tensor(lengths))
    for column, length in enumerate(lengths):
        steps = hidden[:length, column]
        expected = (steps.mean(0), steps.amax(0)) if length else (torch.zeros(3).double(),) * 2
        torch.testing.assert_close(mean[column], expected[0])
        torch.testing.assert_close(largest[column], expected[1])


def test_pooling_of_negative_values_is_not_the_zero_of_padding() -> None:
    hidden = torch.tensor([[[-2.0], [-1.0]], [[-3.0], [0.0]]])
    assert pooled(hidden, torch.tensor([2, 1]))[1].tolist() == [[-2.0], [-1.0]]


def test_pooling_has_finite_gradients_for_no_steps() -> None:
    hidden = torch.zeros(2, 3, 4, requires_grad=True)
    mean, largest = pooled(hidden, torch.tensor([0, 2, 1]))
    (mean.sum() + largest.sum()).backward()
    assert torch.isfinite(hidden.grad).all()


# --- words


def naive_embedding(module: Words, inputs: WordInputs, word: str) -> torch.Tensor:
    """The vector of one word, from its parts."""
    number, pieces, _ = inputs.features.lookup([word])
    return module.words.weight[int(number[0])] + module.pieces.weight[torch.from_numpy(pieces.astype(np.int64))].mean(0)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(0, len(SENTENCES) - 1), min_size=1, max_size=7))
def test_batches_of_words_against_a_loop(rows: list[int]) -> None:
    inputs = WordInputs.fit(texts([*SENTENCES, *SENTENCES]), Settings())
    module = inputs.module(Settings()).eval()
    part = texts([*SENTENCES[:4], "never seen!"])
    embedded = module(inputs.encode(part).batch(np.array(rows)))
    steps = [part.inputs[row].replace("!", " !").split() for row in rows]
    assert embedded.shape[:2] == (max([len(words) for words in steps] + [1]), len(rows))
    for column, words in enumerate(steps):
        for step, word in enumerate(words):
            torch.testing.assert_close(embedded[step, column], naive_embedding(module, inputs, word))


def test_words_of_one_spelling_share_a_vector_and_unknown_ones_differ() -> None:
    inputs = WordInputs.fit(texts(["the cat"] * 3), Settings())
    module = inputs.module(Settings()).eval()
    part = texts(["the zebra the walrus THE"])
    the, zebra, again, walrus, upper = module(inputs.encode(part).batch(np.array([0])))[:, 0]
    assert torch.equal(the, again)
    assert not torch.equal(zebra, walrus), "by their letters"
    assert not torch.equal(the, upper), "by their shape"
    assert inputs.features.lookup(["zebra", "THE"])[0].tolist() == [0, inputs.features.lookup(["the"])[0][0]]


def test_some_words_are_unknown_in_training_only() -> None:
    module = Words(4, 8, 6, unknown=0.5)
    ids = WordIds(*(torch.tensor(x) for x in ([[0], [1], [2]], [1, 2, 3], [0, 1, 2], [0, 1, 2])))
    module.eval()
    assert torch.equal(module(ids), module(ids))
    module.train()
    torch.manual_seed(0)
    seen = {tuple((module(ids) == module.eval()(ids)).all(dim=2)[:, 0].tolist()) for _ in range(30) if module.train()}
    assert len(seen) > 2, "now these, now those"


@pytest.mark.parametrize("kind", ["words", "tokens", "numbers"])
@pytest.mark.parametrize("network", [SequenceNetwork, StepNetwork])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_padding_does_not_matter(kind: str, network: type, cell: str) -> None:
    """What stands past the end of a sequence, and beside whom it stands, changes nothing of what is said of it."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((length, 3)).astype(np.float32) for length in (4, 1, 0, 6, 3)]
    inputs: WordInputs | TokenInputs | NumericInputs
    encoded: EncodedInputs
    if kind == "numbers":
        part = Sequences("numeric", arrays, features=("a", "b", "c"))
        inputs = NumericInputs.fit(part, Settings())
    else:
        part = texts(SENTENCES)
        inputs = (WordInputs if kind == "words" else TokenInputs).fit(part, Settings())
    torch.manual_seed(0)
    settings = Settings(model=ModelSettings(cell=cell, hidden=5, layers=2, bidirectional=True, dropout=0.0, init="torch"))
    model = network(settings.model, inputs.module(settings), 2).eval()
    encoded = inputs.encode(part)

    def said(rows: list[int]) -> torch.Tensor:
        order = np.array(rows)
        answer = model(encoded.batch(order), torch.from_numpy(encoded.lengths[order]))
        return answer[0] if network is StepNetwork else answer

    together = said([0, 1, 2, 3, 4])
    for row, length in enumerate(encoded.lengths):
        alone = said([row])
        if network is StepNetwork:
            torch.testing.assert_close(together[:length, row], alone[:length, 0], rtol=1e-5, atol=1e-6)
        else:
            torch.testing.assert_close(together[row], alone[0], rtol=1e-5, atol=1e-6)
    if kind == "numbers":
        x = encoded.batch(np.arange(5))
        for column, length in enumerate(encoded.lengths):
            x[length:, column] = 99.0
        answer = model(x, torch.from_numpy(encoded.lengths))
        answer = answer[0] if network is StepNetwork else answer
        inside = torch.arange(len(x))[:, None] < torch.from_numpy(encoded.lengths)[None]
        kept = inside if network is StepNetwork else slice(None)
        torch.testing.assert_close(answer[kept], together[kept])


def test_nothing_but_empty_texts() -> None:
    for kind in (WordInputs, TokenInputs):
        inputs = kind.fit(texts(SENTENCES), Settings())
        encoded = inputs.encode(texts(["", ""]))
        answer = SequenceNetwork(MODEL, inputs.module(Settings()), 2)(
            encoded.batch(np.arange(2)), torch.from_numpy(encoded.lengths)
        )
        assert torch.isfinite(answer).all()


# --- recurrent part


def test_settings_reach_the_recurrent_part() -> None:
    part = recurrent_part(
        ModelSettings(cell="rnn", hidden=7, layers=2, bidirectional=True, nonlinearity="relu", dropout=0.3, init="torch"), 4
    )
    assert (part.input_size, part.hidden_size, part.num_layers, part.bidirectional, part.dropout) == (4, 7, 2, True, 0.3)
    assert part.nonlinearity == "relu"
    one = recurrent_part(ModelSettings(cell="lstm", hidden=7, layers=1, bidirectional=False, dropout=0.3, init="orthogonal"), 4)
    assert one.dropout == 0, "it would be between layers"
    for block in one.weight_hh_l0.detach().chunk(4):
        torch.testing.assert_close(block @ block.T, torch.eye(7), rtol=0, atol=1e-5)
    assert (one.bias_ih_l0 + one.bias_hh_l0)[7:14].tolist() == [1.0] * 7, "the forget gate is open at first"


@pytest.mark.parametrize(("init", "cell"), [("nothing", "gru"), ("chrono", "gru"), ("forget_bias", "rnn")])
def test_initialisations_that_do_not_fit_are_named(init: str, cell: str) -> None:
    with pytest.raises(SettingsError, match=rf"--init.*({init}).*"):
        recurrent_part(ModelSettings(cell=cell, hidden=7, layers=1, bidirectional=False, dropout=0.0, init=init), 4)


def test_widths_of_inputs() -> None:
    assert (Tokens(9, 4).width, Numbers(3).width, Words(5, 6, 8).width) == (4, 3, 8)
    assert SequenceNetwork(MODEL, Numbers(3), 4).head.in_features == 30
    assert StepNetwork(MODEL, Numbers(3), 4).head.in_features == 10


# --- inputs in files


@pytest.mark.parametrize(
    ("kind", "part", "settings"),
    [
        (WordInputs, texts(SENTENCES), {}),
        (TokenInputs, texts(SENTENCES), {"tokens": "char"}),
        (TokenInputs, texts(SENTENCES), {"tokens": "bpe", "bpe_size": 270}),
        (NumericInputs, Sequences("numeric", [np.ones((3, 2), np.float32)], features=("a", "b")), {}),
    ],
)
def test_what_was_fitted_comes_back(kind: type, part: Sequences, settings: dict[str, object]) -> None:
    inputs = kind.fit(part, Settings.of(settings))
    assert inputs_for(part, Settings.of(settings)) is kind
    again = restore_inputs({"kind": inputs.kind, "fitted": inputs.to_json()})
    assert again.to_json() == inputs.to_json()
    assert again.describe() == inputs.describe()
    first, second = inputs.encode(part), again.encode(part)
    assert np.array_equal(first.ragged.values, second.ragged.values)
    with pytest.raises(RunError, match=r"'nothing'.*words or tokens"):
        restore_inputs({"kind": "nothing"})


def test_other_features_are_named() -> None:
    inputs = NumericInputs.fit(Sequences("numeric", [np.ones((3, 2))], features=("a", "b")), Settings())
    with pytest.raises(DataError, match=r"features are b, a.*fitted on a, b.*that order"):
        inputs.encode(Sequences("numeric", [np.ones((3, 2))], features=("b", "a")))


# --- word vectors that are given


def vectors_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "vectors.vec"
    path.write_text(text)
    return path


def test_word_vectors_are_where_training_starts(tmp_path: Path) -> None:
    path = vectors_file(tmp_path, "3 2\nthe 0.5 -1\ndog 2 3\nzebra 7 7\n")
    settings = Settings.of({"embeddings": str(path)})
    inputs = WordInputs.fit(texts([*SENTENCES, *SENTENCES]), settings)
    module = inputs.module(settings)
    the, dog, cat = (int(n) for n in inputs.features.lookup(["the", "dog", "cat"])[0])
    assert module.words.weight[the].tolist() == [0.5, -1.0]
    assert module.words.weight[dog].tolist() == [2.0, 3.0]
    assert module.width == 2
    assert module.words.weight[cat].detach().abs().sum() > 0
    path.unlink()
    again = WordInputs.from_json(inputs.to_json()).module(settings)
    assert again.words.weight.shape == module.words.weight.shape, "a fitted model does not need the file"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("the 1 2\ndog 1 2 3\n", "line 2: found 3 numbers, expected as many as before"),
        ("the 1 two\n", "line 1: found 'the 1 two', expected a word and its numbers"),
        ("dog\n", "line 1: found 'dog', expected a word and its numbers"),
        ("dog 1 nan\n", "line 1: found 'dog 1 nan', expected"),
        ("der 1 2\n", "none of the words of the training part"),
        ("", "none of the words"),
    ],
)
def test_word_vectors_that_do_not_fit(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says) as caught:
        read_vectors(vectors_file(tmp_path, text), {"the", "dog"})
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.999])
def test_dropout_leaves_out_the_share_it_was_told_and_keeps_the_mean(p: float, dtype: torch.dtype) -> None:
    x = (1 + torch.rand(499, 401, dtype=dtype)).T.requires_grad_()  # no multiple of four, and not contiguous
    torch.manual_seed(3)
    y = Dropout(p)(x)
    kept = y != 0
    count = x.numel()
    assert abs(int(kept.sum()) - count * (1 - p)) < 5 * (count * p * (1 - p)) ** 0.5 + count / 65536
    torch.testing.assert_close(y[kept], x[kept] * (65536 / round((1 - p) * 65536)))
    y.sum().backward()
    torch.testing.assert_close(x.grad, (y / x).detach())
    # No stripes: what is left out of neighbours, rows and columns has nothing in common.
    for step in (1, 2, 3, 4, 8, 499):
        one, other = kept.flatten()[:-step].double() - (1 - p), kept.flatten()[step:].double() - (1 - p)
        assert abs((one * other).mean().item()) < 5 * p * (1 - p) / count**0.5


def test_dropout_is_drawn_from_torchs_generator_and_only_in_training() -> None:
    module, x = Dropout(0.3), torch.ones(7, 5)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(module(x))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(module(x), module(x))
    with torch.device("meta"):  # somebody's default, where something new is made
        assert module(x).device.type == "cpu"
    assert Dropout(1.0)(x).count_nonzero() == 0
    assert module(torch.ones(0, 3)).shape == (0, 3)
    assert torch.func.vmap(module, randomness="different")(torch.ones(4, 9)).shape == (4, 9)
    assert module.eval()(x) is x
    assert Dropout(0.0)(x) is x
