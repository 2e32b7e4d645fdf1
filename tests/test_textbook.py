"""The textbook's network: every number against torch, the reference, finite differences, and by hand."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import throughtime as tt
from throughtime import reference
from throughtime.errors import SettingsError
from throughtime.textbook.explanation import Explanation
from throughtime.textbook.words import vectors

SENTENCE = "the film was not good"
CELLS = [("rnn", "sigmoid"), ("rnn", "tanh"), ("rnn", "relu"), ("lstm", None), ("gru", None)]
every_network = pytest.mark.parametrize(
    ("cell", "nonlinearity", "tied", "hidden"),
    [(*cell, tied, hidden) for cell in CELLS for tied in (False, True) for hidden in (1, 2)],
)


def torch_loss(found: Explanation, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """The same network written down once more, in torch's own cells."""
    network, hidden = found.network, found.network.hidden
    h = c = torch.zeros(1, hidden, dtype=torch.float64)
    kind = network.cell.kind
    for t in range(1, network.steps + 1):
        x = torch.tensor(found.x[t - 1 : t])
        w_ih = weights[network.input_weight(t)].T
        past = network.recurrent_weight(t)
        w_hh = weights[past].T if past else torch.zeros(len(w_ih), hidden, dtype=torch.float64)
        bias = network.bias(t)
        b_ih = weights[bias] if bias else torch.zeros(len(w_ih), dtype=torch.float64)
        b_hh = torch.zeros_like(b_ih)
        if kind == "lstm":
            h, c = torch.lstm_cell(x, (h, c), w_ih, w_hh, b_ih, b_hh)
        elif kind == "gru":
            h = torch.gru_cell(x, h, w_ih, w_hh, b_ih, b_hh)
        else:
            h = getattr(torch, network.cell.nonlinearity)(x @ w_ih.T + h @ w_hh.T)
    return (h[0] @ weights[network.output_weight] - found.y) ** 2 / 2


@every_network
@pytest.mark.parametrize("optimizer", ["sgd", "adagrad"])
@pytest.mark.parametrize("label", ["negative", "positive"])
def test_every_update_is_that_of_torch_optim_on_autograds_gradients(cell, nonlinearity, tied, hidden, optimizer, label):
    found = tt.explain(
        SENTENCE, label, cell=cell, nonlinearity=nonlinearity, tied=tied, hidden=hidden, optimizer=optimizer, updates=6, seed=3
    )
    assert len(found.updates) == 6
    weights = {name: torch.tensor(w, requires_grad=True) for name, w in found.updates[0].parameters.items()}
    kind = {"sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad}[optimizer]
    updater = kind(weights.values(), lr=found.alpha)
    for update in found.updates:
        updater.zero_grad()
        loss = torch_loss(found, weights)
        loss.backward()
        assert update.loss == pytest.approx(loss.item(), rel=1e-12)
        for name, weight in weights.items():
            np.testing.assert_allclose(update.parameters[name], weight.detach(), rtol=1e-10, err_msg=name)
            gradient = np.zeros(weight.shape) if weight.grad is None else weight.grad
            np.testing.assert_allclose(update.gradients[name], gradient, rtol=1e-9, atol=1e-15, err_msg=name)
            np.testing.assert_allclose(update.finite_differences[name], gradient, rtol=1e-5, atol=1e-9, err_msg=name)
        updater.step()
        for name, weight in weights.items():
            np.testing.assert_allclose(update.new[name], weight.detach(), rtol=1e-10, err_msg=name)
            if optimizer == "adagrad":
                np.testing.assert_allclose(update.sums[name], updater.state[weight]["sum"], rtol=1e-9, atol=1e-18)
                rate = found.alpha / (np.sqrt(update.sums[name]) + 1e-10)
                np.testing.assert_array_equal(update.rates[name], rate)
            else:
                assert (update.rates[name] == found.alpha).all()
    assert found.loss == pytest.approx(torch_loss(found, weights).item(), rel=1e-9)


@every_network
def test_the_loss_falls_with_the_default_rate(cell, nonlinearity, tied, hidden):
    for optimizer in ("sgd", "adagrad"):
        for label in ("negative", "positive"):
            found = tt.explain(
                SENTENCE, label, cell=cell, nonlinearity=nonlinearity, tied=tied, hidden=hidden, optimizer=optimizer
            )
            assert found.losses == sorted(found.losses, reverse=True)
            assert found.losses[-1] < found.losses[0]
            assert found.verdict.startswith("the loss fell from ")


@every_network
def test_the_reference_gives_the_same_outputs_and_gradients(cell, nonlinearity, tied, hidden):
    if not tied and cell != "rnn":
        pytest.skip("the reference has no untied gated cells")
    found = tt.explain(SENTENCE, "positive", cell=cell, nonlinearity=nonlinearity, tied=tied, hidden=hidden)
    update = found.updates[0]
    w, last = update.parameters, found.network.output_weight
    if tied:
        weights = reference.Weights(w["w_t"].T, w["w^t"].T, w.get("b_t"), np.zeros_like(w["b_t"]) if "b_t" in w else None)
    else:
        weights = reference.Weights(
            np.stack([w[f"w_{t}"].T for t in range(1, 6)]), np.stack([w[f"w^{t}"].T for t in range(1, 5)])
        )
    run = reference.forward(found.network.cell, found.x[:, None], weights)
    np.testing.assert_allclose([step.output for step in update.steps], run.output[:, 0], rtol=1e-12)
    d_output = np.zeros_like(run.output)
    d_output[-1, 0] = (update.y_hat - found.y) * w[last]
    back = reference.backward(run, d_output)
    np.testing.assert_allclose([g[:hidden] for g in update.state_gradients], back.delta[:, 0], rtol=1e-10)
    if tied:
        np.testing.assert_allclose(update.gradients["w_t"], back.weights.w_ih.T, rtol=1e-10)
        np.testing.assert_allclose(update.gradients["w^t"], back.weights.w_hh.T, rtol=1e-10)
        if cell != "rnn":
            np.testing.assert_allclose(update.gradients["b_t"], back.weights.b_ih, rtol=1e-10)
    else:
        for t in range(1, 6):
            np.testing.assert_allclose(update.gradients[f"w_{t}"], back.weights.w_ih[t - 1].T, rtol=1e-10)
        for t in range(1, 5):
            np.testing.assert_allclose(update.gradients[f"w^{t}"], back.weights.w_hh[t - 1].T, rtol=1e-10)


@every_network
def test_the_factors_of_a_chain_multiply_to_the_gradient(cell, nonlinearity, tied, hidden):
    found = tt.explain(SENTENCE, "negative", cell=cell, nonlinearity=nonlinearity, tied=tied, hidden=hidden, updates=2)
    for update in found.updates:
        for name, gradient in update.gradients.items():
            uses = [t for t in range(1, 6) if name in update.factors.weights[t - 1]] or [None]
            total = np.zeros_like(gradient)
            for step in uses:
                first, *others = update.chain(name, step)
                product = first.value
                for factor in others:
                    product = np.tensordot(product, factor.value, axes=min(product.ndim, 1))
                np.testing.assert_allclose(update.contribution(name, step), product, rtol=1e-12, atol=1e-18, err_msg=name)
                total = total + product
            np.testing.assert_allclose(total, gradient, rtol=1e-12, atol=1e-18, err_msg=name)
            if len(uses) > 1:
                with pytest.raises(ValueError, match="say which by step="):
                    update.chain(name)


def test_one_update_by_hand():
    found = tt.explain("not good", "positive", lr=0.5, updates=1)
    update = found.updates[0]
    p = {name: w.item() for name, w in update.parameters.items()}
    assert found.as_json()["x"] == {"x_1": 1.0, "x_2": 0.5}  # good, not: the alphabet

    def f(a):
        return 1 / (1 + np.exp(-a))

    o_1 = f(1.0 * p["w_1"])
    o_2 = f(0.5 * p["w_2"] + o_1 * p["w^1"])
    y_hat = o_2 * p["w^2"]
    assert update.y_hat == pytest.approx(y_hat, rel=1e-14)
    assert update.loss == pytest.approx((y_hat - 1) ** 2 / 2, rel=1e-14)
    slope = (y_hat - 1) * p["w^2"] * o_2 * (1 - o_2)
    by_hand = {
        "w^2": (y_hat - 1) * o_2,
        "w_2": slope * 0.5,
        "w^1": slope * o_1,
        "w_1": slope * p["w^1"] * o_1 * (1 - o_1) * 1.0,
    }
    assert set(by_hand) == set(update.gradients)
    for name, gradient in by_hand.items():
        assert update.gradients[name].item() == pytest.approx(gradient, rel=1e-12), name
        assert update.new[name].item() == pytest.approx(p[name] - 0.5 * gradient, rel=1e-12), name


def test_json_has_the_names_of_the_page():
    data = json.loads(json.dumps(tt.explain("one two three four", "negative").as_json(), allow_nan=False))
    names = ["w_1", "w_2", "w_3", "w_4", "w^1", "w^2", "w^3", "w^4"]
    assert data["words"] == ["one", "two", "three", "four"]
    assert data["nonlinearity"] == "sigmoid"
    assert data["alpha"] == 0.1
    assert list(data["x"]) == ["x_1", "x_2", "x_3", "x_4"]
    assert len(data["updates"]) == 5
    for update, after in zip(data["updates"], [*data["updates"][1:], None], strict=True):
        for key in ("parameters", "gradients", "finite_differences", "alpha_t", "alpha_t^1", "new"):
            assert list(update[key]) == names
            assert all(isinstance(value, float) for value in update[key].values())
        assert list(update["outputs"]) == ["O_1", "O_2", "O_3", "O_4"]
        assert list(update["factors"])[:3] == ["dL/dy^", "dy^/dw^4", "dy^/dO_4"]
        assert after is None or update["new"] == after["parameters"]
        product = 1.0
        for factor in ("dL/dy^", "dy^/dO_4", "dO_4/dO_3", "dO_3/dO_2", "dO_2/dO_1", "dO_1/dw_1"):
            product *= update["factors"][factor]
        assert product == pytest.approx(update["gradients"]["w_1"])
        assert update["products"]["x_2 w_2"] == pytest.approx(data["x"]["x_2"] * update["parameters"]["w_2"])


@pytest.mark.parametrize(("cell", "columns"), [("rnn", 2), ("gru", 6), ("lstm", 8)])
def test_json_nests_where_there_is_more_than_one_number(cell, columns):
    data = tt.explain("so it goes", "positive", cell=cell, hidden=2, tied=True).as_json()
    update = data["updates"][0]
    assert np.shape(data["x"]["x_1"]) == (2,)
    assert np.shape(update["parameters"]["w_t"]) == (2, columns) == np.shape(update["new"]["w_t"])
    assert np.shape(update["parameters"]["w^3"]) == (2,) == np.shape(update["outputs"]["O_3"])
    assert ("b_t" in update["parameters"]) == (cell != "rnn")
    assert np.shape(update["gates"][f"{data['gates'][0]}_1"] if cell != "rnn" else [0, 0]) == (2,)


def test_words_swapped_keep_their_numbers_and_change_the_outputs():
    one, other = (tt.explain(text, "negative", tied=True).as_json() for text in ("dog bites man", "man bites dog"))
    assert one["x"]["x_1"] == other["x"]["x_3"]
    assert one["x"]["x_2"] == other["x"]["x_2"]
    assert one["updates"][0]["y_hat"] != other["updates"][0]["y_hat"]


def test_the_rule_gives_distinct_words_distinct_numbers_above_zero():
    words = [f"w{i % 700}" for i in range(1000)]
    for width in (1, 2):
        x = vectors(words, width)
        assert x.shape == (1000, width)
        assert x.min() > 0
        assert x.max() == 1
        assert len({tuple(row) for row in x}) == 700


def test_one_word_has_no_recurrent_weight():
    found = tt.explain("superb", "positive")
    assert list(found.updates[0].gradients) == ["w_1", "w^1"]
    assert [factor.name for factor in found.updates[0].chain("w^1")] == ["dL/dy^", "dy^/dw^1"]


def test_a_thousand_words_are_computed_whole():
    words = [f"w{i % 700}" for i in range(1000)]
    update = tt.explain(words, "positive", updates=1, nonlinearity="tanh").updates[0]
    assert len(update.gradients) == 2000
    for name, gradient in update.gradients.items():
        assert update.finite_differences[name] == pytest.approx(gradient, rel=1e-4, abs=1e-10), name
    assert len(update.chain("w_1")) == 1002


def test_a_rate_that_diverges_is_shown():
    found = tt.explain(SENTENCE, "positive", nonlinearity="relu", lr=1e200, updates=10)
    assert 1 <= len(found.updates) < 10
    assert not found.updates[-1].finite
    assert found.verdict.startswith("diverged: ")
    data = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert data["after"]["loss"] is None
    rising = tt.explain(SENTENCE, "positive", nonlinearity="sigmoid", lr=20, updates=3)
    assert rising.loss > rising.losses[0]
    assert "is too large" in rising.verdict


@pytest.mark.parametrize(
    ("words", "label", "options", "said"),
    [
        ("", "negative", {}, "the text has no word"),
        (" \t\n", "negative", {}, "the text has no word"),
        ("a b", "negativ", {}, "label is 'negativ', expected negative or positive; did you mean negative?"),
        ("a b", "negative", {"cell": "ltsm"}, "cell is 'ltsm', expected rnn or lstm or gru; did you mean lstm?"),
        ("a b", "negative", {"nonlinearity": "sigmod"}, "did you mean sigmoid?"),
        ("a b", "negative", {"cell": "gru", "nonlinearity": "tanh"}, "nonlinearity is for cell rnn"),
        ("a b", "negative", {"optimizer": "adam"}, "optimizer is 'adam', expected sgd or adagrad"),
        ("a b", "negative", {"hidden": 3}, "hidden is 3, expected 1 or 2"),
        ("a b", "negative", {"lr": 0.0}, "lr is 0.0, expected a number above 0"),
        ("a b", "negative", {"lr": float("nan")}, "lr is nan"),
        ("a b", "negative", {"updates": 0}, "updates is 0, expected at least 1"),
        ("a b", "negative", {"seed": -1}, "seed is -1"),
    ],
)
def test_bad_input_is_named(words, label, options, said):
    with pytest.raises(SettingsError) as error:
        tt.explain(words, label, **options)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_explaining_needs_no_torch():
    code = "import sys, throughtime as tt; tt.explain('a b', 'negative'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
