"""Classification, tagging and regression in memory: targets, losses, scores against predictions, and batch invariance."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from throughtime.data.records import Sequences
from throughtime.errors import DataError, SettingsError
from throughtime.settings import Settings
from throughtime.tasks import Classify, Regress, Tag
from throughtime.tasks.labelled import Labelled, LabelledFeed, LabelledTask

RNG = np.random.default_rng(0)
LENGTHS = [4, 1, 6, 3, 2, 5, 7, 2, 3, 4]
ARRAYS = [RNG.standard_normal((length, 2)).astype(np.float32) for length in LENGTHS]
WORDS = [[f"w{RNG.integers(6)}" for _ in range(length)] for length in LENGTHS]


def small(**settings: Any) -> Settings:
    return Settings.of({"hidden": 6, "batch": 3, "dropout": 0.0, **settings})


def numeric(targets: Any, arrays: list[np.ndarray] = ARRAYS) -> Sequences:
    origins = [f"data.csv row {number + 2}" for number in range(len(arrays))]
    return Sequences("numeric", arrays, targets, origins, features=("a", "b"), target_name="y")


def worded(targets: Any) -> Sequences:
    return Sequences("words", WORDS, targets, [f"tags.tsv line {10 * n}" for n in range(len(WORDS))], target_name="tag")


def classes() -> Sequences:
    return numeric(["a", "b", "b", "c", "b", "b", "b", "a", "b", "c"])


def numbers() -> Sequences:
    return numeric(np.linspace(100, 200, len(ARRAYS)))


def step_numbers() -> Sequences:
    return numeric([1000 + 50 * array[:, 0].astype(np.float64) for array in ARRAYS])


def step_tags() -> Sequences:
    return numeric([["up" if x > 0 else "down" for x in array[:, 0]] for array in ARRAYS])


def word_tags() -> Sequences:
    return worded([["even" if int(word[1:]) % 2 == 0 else "odd" for word in sentence] for sentence in WORDS])


KINDS: dict[str, tuple[type[LabelledTask], Any]] = {
    "classify": (Classify, classes),
    "regress": (Regress, numbers),
    "regress steps": (Regress, step_numbers),
    "tag": (Tag, word_tags),
    "tag steps": (Tag, step_tags),
}


def prepared(kind: str, **settings: Any) -> tuple[LabelledTask, Sequences, torch.nn.Module]:
    make, data = KINDS[kind]
    part = data()
    task = make(small(**settings))
    task.prepare(part)
    torch.manual_seed(0)
    return task, part, task.network().eval()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@torch.inference_mode()
def test_a_sequence_is_predicted_alike_alone_and_in_any_batch(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task, part, network = prepared(kind)
    together = task.all_answers(network, task.encode(part))
    monkeypatch.setattr("throughtime.tasks.labelled._SCORED_STEPS", 1)
    np.testing.assert_allclose(task.all_answers(network, task.encode(part)), together, rtol=1e-5, atol=1e-6)
    some = [7, 2, 2, 0]
    table = task.predict(network, part.take(some))
    whole = task.predict(network, part)
    rows = {origin: [n for n, other in enumerate(whole["origin"]) if other == origin] for origin in whole["origin"]}
    expected = [place for row in some for place in rows[part.origin(row)]]
    for name in table:
        values = [whole[name][place] for place in expected]
        if isinstance(values[0], float):
            np.testing.assert_allclose(table[name], values, rtol=1e-5)
        else:
            assert table[name] == values


@torch.inference_mode()
def test_the_loss_of_batches_is_that_of_the_scores(kind: str) -> None:
    """The mean over the batches of an epoch, each by how much it holds, is the loss of the evaluation."""
    task, part, network = prepared(kind)
    encoded = task.encode(part)
    feed = task.feed(encoded)
    assert len(feed) == 4
    total, count = 0.0, 0
    for index in range(len(feed)):
        batch = feed.batch(0, index)
        weight = batch.steps if task.per_step else batch.sequences
        loss, state = task.loss(network, batch, None)
        assert state is None
        total, count = total + loss.item() * weight, count + weight
    assert total / count == pytest.approx(task.evaluate(network, encoded)["loss"], rel=1e-5)


@torch.inference_mode()
def test_scores_are_those_of_the_predictions(kind: str) -> None:
    task, part, network = prepared(kind)
    scores = task.score(network, part, task.encode(part))
    table = task.predict(network, part)
    targets = [value for row in part.targets for value in row] if task.per_step else list(part.targets)
    assert len(table["predicted"]) == len(targets)
    if isinstance(task, Regress):
        errors = np.array(table["predicted"]) - np.array(targets)
        assert scores["mae"] == pytest.approx(abs(errors).mean())
        assert scores["rmse"] == pytest.approx((errors**2).mean() ** 0.5)
    else:
        right = [said == true for said, true in zip(table["predicted"], targets, strict=True)]
        assert scores["accuracy"] == pytest.approx(np.mean(right))


def test_every_sequence_is_learnt_from_once_an_epoch(kind: str) -> None:
    task, part, _ = prepared(kind)
    feed = task.feed(task.encode(part))
    for epoch in (0, 1):
        batches = [feed.batch(epoch, index) for index in range(len(feed))]
        assert sum(batch.sequences for batch in batches) == len(part)
        assert sum(batch.steps for batch in batches) == sum(LENGTHS)
    first = task.feed(task.encode(part)).batch(1, 2)  # without the ones before it
    assert torch.equal(first.lengths, batches[2].lengths)
    assert torch.equal(first.targets.nan_to_num(-7), batches[2].targets.nan_to_num(-7))


@torch.inference_mode()
def test_what_was_fitted_comes_back(kind: str) -> None:
    task, part, network = prepared(kind)
    again = type(task)(task.settings)
    again.restore(task.transforms())
    copy = again.network()
    copy.load_state_dict(network.state_dict())
    copy.eval()
    assert again.transforms() == task.transforms()
    assert again.predict(copy, part) == task.predict(network, part)
    assert again.describe() == task.describe()
    assert again.score(copy, part, again.encode(part)) == task.score(network, part, task.encode(part))


@torch.inference_mode()
def test_predictions_do_not_look_at_targets(kind: str) -> None:
    task, part, network = prepared(kind)
    expected = task.predict(network, part)
    assert task.predict(network, dataclasses.replace(part, targets=None)) == expected
    assert task.predict(network, dataclasses.replace(part, targets=[None] * len(part))) == expected


def test_what_cannot_be_learnt_from_is_named(kind: str) -> None:
    make, data = KINDS[kind]
    with pytest.raises(DataError, match="no targets; name their column with --target"):
        make(small()).prepare(dataclasses.replace(data(), targets=None))
    with pytest.raises(DataError, match="training part is empty"):
        make(small()).prepare(data().take([]))


def test_settings_that_are_given_stay_and_the_others_are_decided(kind: str) -> None:
    task, _, _ = prepared(kind, optimizer="sgd", patience=3, layers=2)
    training, model = task.settings.training, task.settings.model
    assert (training.optimizer, training.patience, model.layers, model.hidden) == ("sgd", 3, 2, 6)
    open_ = {name for section in (training, model) for name, value in vars(section).items() if value is None}
    assert open_ <= {"bptt", "time_budget", "embeddings"}


def test_rprop_has_no_weight_decay() -> None:
    assert prepared("classify", optimizer="Rprop")[0].settings.training.weight_decay is None


# --- classification


def test_classes_that_are_rare_weigh_more() -> None:
    task, part, _ = prepared("classify", class_weight="balanced")
    assert isinstance(task, Classify)
    assert task.labels.names == ("a", "b", "c")
    assert task.weights == pytest.approx([10 / (3 * n) for n in (2, 6, 2)])
    logits, targets = torch.randn(10, 3), torch.from_numpy(task.encode_targets(part))
    weights = torch.tensor(task.weights)[targets]
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(task.criterion(logits, targets), (each * weights).sum() / weights.sum())
    assert sum(task.weights[t] for t in targets.tolist()) == pytest.approx(10), "on average they weigh 1"
    assert prepared("classify")[0].weights is None


@torch.inference_mode()
def test_probabilities() -> None:
    task, part, network = prepared("classify")
    assert isinstance(task, Classify)
    encoded = task.encode(part)
    shares = task.probabilities(network, encoded)
    np.testing.assert_allclose(shares.sum(1), 1)
    table = task.predict(network, part)
    for row in range(len(part)):
        assert table["predicted"][row] == max("abc", key=lambda name, row=row: table[f"p({name})"][row])
    true = np.array([table[f"p({name})"][row] for row, name in enumerate(part.targets)])
    assert task.evaluate(network, encoded)["loss"] == pytest.approx(-np.log(true).mean())


@torch.inference_mode()
def test_details_of_classes() -> None:
    task, part, network = prepared("classify")
    details = task.details(network, part, task.encode(part))
    predicted = task.predict(network, part)["predicted"]
    confusion = np.zeros((3, 3), int)
    for true, said in zip(part.targets, predicted, strict=True):
        confusion["abc".index(true), "abc".index(said)] += 1
    assert details["confusion"] == confusion.tolist()
    assert len(details["worst"]) == sum(t != p for t, p in zip(part.targets, predicted, strict=True))
    assert [row["probability"] for row in details["worst"]] == sorted(
        (row["probability"] for row in details["worst"]), reverse=True
    )
    assert all(row["truth"] != row["predicted"] for row in details["worst"])


def test_classes_of_other_data_are_named() -> None:
    task, _, _ = prepared("classify")
    with pytest.raises(DataError, match=r"data\.csv row 4: 'd' is no class of the training data"):
        task.encode(numeric(["a", "b", "d"], ARRAYS[:3]))


# --- tagging


@torch.inference_mode()
def test_unknown_words_are_scored_apart() -> None:
    task, part, network = prepared("tag")
    assert isinstance(task, Tag)
    new = Sequences("words", [["w0", "never"], ["seen", "w1"]], [["even", "odd"], ["odd", "odd"]])
    scores = task.score(network, new, task.encode(new))
    predicted = task.predict(network, new)
    assert predicted["word"] == ["w0", "never", "seen", "w1"]
    assert predicted["step"] == [1, 2, 1, 2]
    right = [said == true for said, true in zip(predicted["predicted"], ["even", "odd", "odd", "odd"], strict=True)]
    assert scores["accuracy_unknown"] == np.mean(right[1:3])
    assert scores["accuracy"] == np.mean(right)
    assert all(0.5 <= p <= 1 for p in predicted["probability"])
    assert task._known(part) == [[True] * len(words) for words in WORDS]


@torch.inference_mode()
def test_tags_of_numbers_have_no_unknown_words() -> None:
    task, part, network = prepared("tag steps")
    assert "accuracy_unknown" not in task.score(network, part, task.encode(part))
    assert "word" not in task.predict(network, part)
    details = task.details(network, part, task.encode(part))
    assert details["worst"][0]["words"][:2] == ["1", "2"]


def test_a_tag_of_other_data_is_named_with_its_step() -> None:
    task, _, _ = prepared("tag steps")
    with pytest.raises(DataError, match=r"data\.csv row 2, step 3: 'sideways' is no class"):
        task.encode(numeric([["up", "up", "sideways", "up"]], ARRAYS[:1]))


@torch.inference_mode()
def test_padding_costs_nothing() -> None:
    for kind in ("tag", "tag steps", "regress steps"):
        task, part, network = prepared(kind)
        feed = LabelledFeed(task.encode(part), 10, 0)
        batch = feed.batch(0, 0)
        outside = torch.arange(7)[:, None] >= batch.lengths[None]
        targets = batch.targets
        assert (targets.isnan() if targets.is_floating_point() else targets == -100)[outside].all()
        answer = task.answer(network, batch.inputs, batch.lengths)
        loss = task.criterion(answer, targets)
        assert torch.equal(loss, task.criterion(answer.masked_fill(outside[:, :, None], 1e6), targets))


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["tag steps", "regress steps"])
def test_a_batch_without_steps_costs_nothing(kind: str) -> None:
    task, part, network = prepared(kind)
    nothing = numeric([part.targets[0][:0]] * 2, [ARRAYS[0][:0]] * 2)
    encoded = task.encode(dataclasses.replace(nothing, targets=list(nothing.targets)))
    loss, _ = task.loss(network, task.feed(encoded).batch(0, 0), None)
    assert loss.item() == 0


# --- regression


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["regress", "regress steps"])
def test_numbers_are_in_the_units_of_the_data(kind: str) -> None:
    task, part, network = prepared(kind)
    assert isinstance(task, Regress)
    values = np.concatenate(part.targets) if task.per_step else part.targets
    for head in (network.head,):  # what says nothing says the mean
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    encoded = task.encode(part)
    assert task.predict(network, part)["predicted"] == pytest.approx([values.mean()] * len(values))
    scores = task.evaluate(network, encoded)
    assert scores["rmse"] == pytest.approx(values.std(), rel=1e-5)
    assert scores["loss"] == pytest.approx(1.0, rel=1e-5)
    assert scores["r2"] == pytest.approx(0, abs=1e-6)
    details = task.details(network, part, encoded)
    assert details["scatter"]["truth"] == pytest.approx(values, rel=1e-6)
    assert ("worst" in details) is not task.per_step


# --- weights of their own for every step


def alike(count: int, steps: int) -> Sequences:
    arrays = [np.random.default_rng(row).standard_normal((steps, 2)).astype(np.float32) for row in range(count)]
    return numeric(["a", "b"] * (count // 2), arrays)


def test_untied_weights_serve_one_length_only() -> None:
    task = Classify(small(untied=True))
    task.prepare(alike(6, 4))
    assert task.steps == 4
    assert task.settings.model.cell == "rnn"
    network = task.network()
    assert any("_t4" in name for name, _ in network.named_parameters())
    task.encode(alike(2, 4))
    with pytest.raises(DataError, match=r"data\.csv row 2 has 5 steps; --untied has weights for 4"):
        task.encode(alike(2, 5))
    again = Classify(task.settings)
    again.restore(task.transforms())
    with pytest.raises(DataError, match="has 3 steps"):
        again.predict(again.network(), alike(2, 3))
    with pytest.raises(DataError, match="one length; here they have 1 to 7"):
        Classify(small(untied=True)).prepare(classes())
    with pytest.raises(SettingsError, match="--untied is for --cell rnn, not gru"):
        Classify(small(untied=True, cell="gru")).prepare(alike(6, 4))


def test_encoded_sequences_know_their_lengths() -> None:
    task, part, _ = prepared("classify")
    encoded = task.encode(dataclasses.replace(part, targets=None))
    assert isinstance(encoded, Labelled)
    assert encoded.targets is None
    assert encoded.lengths.tolist() == LENGTHS
