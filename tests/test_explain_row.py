"""A look at one row of a fitted model: the numbers against the model itself, and against autograd step by step."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from throughtime.cli import main
from throughtime.errors import DataError, SettingsError
from throughtime.train.fitted import Fitted
from throughtime.train.row import RowExplanation, explain_row

from fit_cases import CASES, Case


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory):
    """A fitted model and its data, by the name of the case; each fitted once."""
    made: dict[str, tuple[Fitted, object, Path]] = {}

    def of(name: str, **settings):
        key = f"{name}{settings}"
        if key not in made:
            case = next(case for case in CASES if case.name == name)
            folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
            source = case.write(folder)
            case.fit(source, folder / "run", baselines=False, **settings)
            fitted = Fitted.load(folder / "run")
            made[key] = fitted, fitted.read(source, with_target=True).content, folder
        return made[key]

    return of


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_kind_of_run_can_be_looked_at(case: Case, look):
    fitted, content, _ = look(case.name)
    before = {name: tensor.clone() for name, tensor in fitted.network.state_dict().items()}
    found = explain_row(fitted, content, 1)
    assert found.steps
    assert found.origin
    assert found.prediction
    assert np.isfinite([found.value, found.loss]).all()
    for step in found.steps:
        assert step.name
        assert step.output > 0
        assert np.isfinite([step.gradient, step.moved or 0.0]).all()
    assert max(step.gradient for step in found.steps) > 0
    assert any(step.moved for step in found.steps)
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["steps"][0]["name"] == found.steps[0].name
    for name, tensor in fitted.network.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert all(parameter.grad is None for parameter in fitted.network.parameters())


def names(found: RowExplanation) -> list[str]:
    return [step.name for step in found.steps]


def test_what_a_word_moved_is_what_leaving_it_out_of_the_text_changes(look):
    fitted, content, _ = look("classify_text")
    found = explain_row(fitted, content, 3)
    words = content.inputs[2].split()
    assert names(found) == words

    def probability(text: str) -> float:
        part = content.take(np.array([2]))
        part = type(part)(**{**vars(part), "inputs": [text], "targets": None})
        return fitted.predict(part)[f"p({found.prediction})"][0]

    assert found.value == pytest.approx(probability(" ".join(words)), abs=1e-6)
    for place, step in enumerate(found.steps):
        without = probability(" ".join(words[:place] + words[place + 1 :]))
        assert step.moved == pytest.approx(found.value - without, abs=1e-6)


def test_output_and_gradient_are_those_of_autograd_step_by_step(look):
    fitted, content, _ = look("classify_numbers", bidirectional=False, cell="gru")
    found = explain_row(fitted, content, 5)
    task, network = fitted.task, fitted.network
    encoded = task.encode(content.take(np.array([4])))
    x = encoded.inputs.batch(np.zeros(1, np.int64))
    states = []
    h = None
    for step in range(len(x)):
        _, h = network.rnn(network.inputs(x[step : step + 1]), h)
        h.retain_grad()
        states.append(h)
    hidden = torch.cat(states)
    pooled = torch.cat([hidden.mean(dim=0), hidden.amax(dim=0), hidden[-1]], dim=1)
    loss = torch.nn.functional.cross_entropy(network.head(pooled), torch.from_numpy(encoded.targets))
    loss.backward()
    network.zero_grad(set_to_none=True)
    assert found.loss == pytest.approx(loss.item(), rel=1e-5)
    for step, state in zip(found.steps, states, strict=True):
        assert step.output == pytest.approx(state.norm().item(), rel=1e-5)
        assert step.gradient == pytest.approx(state.grad.norm().item(), rel=1e-4)


def test_a_tag_is_looked_at_where_it_is_asked_for(look):
    fitted, content, _ = look("tag_words")
    length = len(content.inputs[0])
    for place in range(1, length + 1):
        found = explain_row(fitted, content, 1, place)
        assert found.steps[place - 1].moved is None
        assert f"at step {place}, {content.inputs[0][place - 1]}" in found.answer
        assert found.truth == content.targets[0][place - 1]
        assert sum(step.moved is None for step in found.steps) == 1
    least = explain_row(fitted, content, 1)
    assert least.value == pytest.approx(min(explain_row(fitted, content, 1, p).value for p in range(1, length + 1)))


def test_a_row_or_step_that_is_not_there_is_named(look):
    fitted, content, _ = look("classify_text")
    for row in (0, -1, len(content) + 1):
        with pytest.raises(SettingsError, match=f"row is {row}, expected 1 to {len(content)}"):
            explain_row(fitted, content, row)
    with pytest.raises(SettingsError, match="step is 2, but a model to classify gives one answer"):
        explain_row(fitted, content, 1, 2)
    fitted, content, _ = look("tag_words")
    with pytest.raises(SettingsError, match="step is 99, expected 1 to"):
        explain_row(fitted, content, 1, 99)


def test_a_row_without_steps_is_named(look):
    fitted, content, _ = look("classify_text")
    part = type(content)(**{**vars(content.take(np.array([0]))), "inputs": [""]})
    with pytest.raises(DataError, match="has no steps to look at"):
        explain_row(fitted, part, 1)


def test_a_long_row_is_looked_at_in_parts(look):
    fitted, content, _ = look("classify_text")
    part = type(content)(**{**vars(content.take(np.array([0]))), "inputs": ["film plot dull " * 150]})
    found = explain_row(fitted, part, 1)
    assert found.block == 3
    assert len(found.steps) == 150
    assert names(found)[0] == "film to dull"


def test_the_command_prints_and_writes_it(look, capsys: pytest.CaptureFixture[str]):
    _, _, folder = look("classify_text")
    out = folder / "row.json"
    assert main(["explain", "run", str(folder / "run"), "--row", "2", "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    written = json.loads(out.read_text())
    assert f"the model says {written['prediction']}, and it is {written['truth']}." in printed
    for step in written["steps"]:
        assert step["name"] in printed
    assert main(["explain", "run", str(folder / "run"), "--row", "5000"]) == 2
    assert capsys.readouterr().err == "error: row is 5000, expected 1 to 120\n"
