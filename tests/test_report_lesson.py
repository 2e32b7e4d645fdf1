"""The page of an explained sentence and the lesson: complete, followable, self-contained, and its script right."""

from __future__ import annotations

import base64
import hashlib
import html as html_text
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import throughtime as tt
from test_report import Page, words
from throughtime.errors import RunError
from throughtime.experiments.lesson import EXCHANGED, Scaled, playground
from throughtime.report import notation, told
from throughtime.report.explanation import command, render_explanation, write_explanation
from throughtime.report.lesson import render_lesson, write_lesson
from throughtime.report.unrolled import unrolled
from throughtime.textbook.chain import factors, gradients
from throughtime.textbook.network import forward

from lesson_cases import small_lesson

SENTENCE = "the film was not good"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def page() -> str:
    return render_lesson(small_lesson()[0])


def loads_nothing(html: str) -> bool:
    """Whether no attribute or style names anything outside the page."""
    outside = re.search(r"""(?:src|href)\s*=\s*["'](?!#)|@import|url\((?!#)|https?://""", html)
    return outside is None and "default-src 'none'" in html


# Mathematics


def test_names_are_written_as_on_the_page() -> None:
    assert notation.formula("w^{t-1}") == ("<math><msup><mi>w</mi><mrow><mi>t</mi><mo>−</mo><mn>1</mn></mrow></msup></math>")
    assert notation.formula("alpha_t^1") == "<math><msubsup><mi>α</mi><mi>t</mi><mn>1</mn></msubsup></math>"
    above, below = re.findall(r"<mrow>(.*?)</mrow>", notation.formula("d(O_3,c_3)/dw_t"))
    assert above == "<mi>d</mi><mo>(</mo><msub><mi>O</mi><mn>3</mn></msub><mo>,</mo><msub><mi>c</mi><mn>3</mn></msub><mo>)</mo>"
    assert below == "<mi>d</mi><msub><mi>w</mi><mi>t</mi></msub>"


def test_a_formula_takes_values_and_brackets_negative_ones_after_a_sign() -> None:
    text = re.sub(r"<[^>]+>", "", notation.formula("# - # . # =", -1, -2, 3))
    assert text == "−1−(−2)·3="


@pytest.mark.parametrize(
    ("value", "tables", "cells"),
    [(0.5, 0, 0), (np.ones((1, 1, 1)), 0, 0), (np.ones(3), 1, 3), (np.ones((2, 4)), 1, 8), (np.ones((2, 2, 3)), 3, 14)],
)
def test_arrays_are_small_matrices(value: Any, tables: int, cells: int) -> None:
    written = notation.value(value)
    assert (written.count("<mtable>"), written.count("<mtd>")) == (tables, cells)


def test_numbers_that_are_none_are_said() -> None:
    assert "infinite" in notation.value(np.inf)
    assert "not a number" in notation.value(np.array([np.nan, 1.0]))
    assert notation.short_number(float("inf")) == "infinite"


# The page of an explanation

CASES = [
    {"cell": cell, "tied": tied, "hidden": hidden, "optimizer": optimizer}
    for cell, optimizer in (("rnn", "sgd"), ("lstm", "adagrad"), ("gru", "sgd"))
    for tied in (False, True)
    for hidden in (1, 2)
]


@pytest.mark.parametrize("options", CASES, ids=lambda o: "-".join(map(str, o.values())))
def test_every_gradient_factor_and_update_is_on_the_page(options: dict[str, Any]) -> None:
    found = tt.explain(SENTENCE, "negative", updates=2, **options)
    html = render_explanation(found)
    Page(html)  # each tag is closed by its own end
    assert loads_nothing(html)
    assert "<script" not in html
    update = found.updates[0]
    for name, gradient in update.gradients.items():
        assert notation.formula(f"dL/d{name}") in html
        assert str(notation.value(gradient)) in html
        assert str(notation.value(update.finite_differences[name])) in html
        gates = 1 if name == update.network.output_weight else update.network.cell.gate_count  # a row for each
        for of in (update.new, update.rates if found.optimizer == "adagrad" else update.parameters):
            assert all(str(notation.value(part)) in html for part in np.split(of[name], gates, axis=-1))
    for t, step in enumerate(update.steps, 1):
        assert str(notation.value(step.output)) in html
        assert str(notation.value(update.state_gradients[t - 1])) in html
    for factor in update.chain(update.network.input_weight(1), 1):
        assert notation.formula(f". {factor.name}") in html or notation.formula(f"= {factor.name}") in html
        assert notation.formula(". #", factor.value) in html or notation.formula("= #", factor.value) in html
    text = words(html)
    assert found.verdict in text
    assert all(word in text for word in found.words)
    assert "nan" not in text


def test_what_a_cell_does_not_have_is_not_spoken_of() -> None:
    told = {cell: words(render_explanation(tt.explain(SENTENCE, "negative", cell=cell))) for cell in ("rnn", "gru", "lstm")}
    assert [cell for cell, text in told.items() if "forget gate" in text] == ["lstm"]
    assert [cell for cell, text in told.items() if "a stack of matrices" in text] == ["lstm"]
    assert "a stack of matrices" in words(render_explanation(tt.explain(SENTENCE, "negative", cell="gru", hidden=2)))


@pytest.mark.parametrize("lesson", [False, True])
def test_a_finite_difference_is_explained_before_the_first_stands_there(page: str, lesson: bool) -> None:
    text = words(page if lesson else render_explanation(tt.explain(SENTENCE, "negative")))
    explained = "Beside each gradient stands its finite difference"
    assert text.count(explained) == 1
    assert text.index("finite difference") == text.index(explained) + explained.index("finite difference")


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_shared_recurrent_weight_has_one_name_on_the_whole_page(cell: str) -> None:
    own, shared = "<mi>w</mi><mrow><mi>t</mi><mo>−</mo><mn>1</mn></mrow>", "<msup><mi>w</mi><mi>t</mi></msup>"
    tied, untied = (render_explanation(tt.explain(SENTENCE, "negative", cell=cell, tied=tied)) for tied in (True, False))
    assert own not in tied
    assert shared in tied
    assert own in untied
    assert shared not in untied


def test_the_parts_stand_in_the_order_of_the_page() -> None:
    html = render_explanation(tt.explain(SENTENCE, "negative"))
    assert re.findall(r"<h2>(.*?)</h2>", html) == [
        "The sentence", "The network, unrolled", "Forward", "Backward", "Update", "One update after another", "To repeat it",
    ]  # fmt: skip
    assert re.findall(r"<h3>(.*?)</h3>", html) == ["The output weight", "Input weights", "Recurrent weights", "Is it right?"]
    assert all("aria-label" in svg or "aria-hidden" in svg for svg in re.findall(r"<svg[^>]*>", html))


def test_a_shared_weight_is_the_sum_over_its_uses() -> None:
    html = render_explanation(tt.explain(SENTENCE, "negative", tied=True))
    assert html.count("from step ") == 5 + 4
    assert html.count("the sum of all") == 2


def test_one_word_has_no_recurrent_weight_and_no_curve_of_the_gradient() -> None:
    found = tt.explain("good", "positive")
    html = render_explanation(found)
    Page(html)
    assert "Recurrent weights" not in html
    assert "How much of the gradient" not in html
    assert len(unrolled(found).boxes) == 4  # O_1, x_1, y^, L


def test_a_thousand_words_are_shortened() -> None:
    found = tt.explain([f"word{i}" for i in range(1000)], "positive", updates=1)
    html = render_explanation(found)
    text = words(html)
    assert len(html) < 200_000
    assert "… 992 more steps, all in the JSON" in text
    assert "more factors)" in text
    assert notation.formula("= " + "dL/dy^") in html
    shown = {int(name[2:]) for name in (t.text for t in unrolled(found).texts) if re.fullmatch(r"O_\d+", name)}
    assert shown == {1, 2, 3, 996, 997, 998, 999, 1000}


@pytest.mark.parametrize(("lr", "said"), [(1e3, "the loss rose"), (1e200, "diverged")])
def test_a_rate_that_is_too_large_is_shown_as_such(lr: float, said: str) -> None:
    found = tt.explain(SENTENCE, "negative", nonlinearity="tanh", lr=lr, updates=10)
    assert found.verdict.startswith(said)
    html = render_explanation(found)
    Page(html)
    assert 'class="headline poor"' in html
    assert ("a smaller" in words(html)) == (said == "diverged")


def test_words_are_escaped() -> None:
    html = render_explanation(tt.explain("<script>alert(1)</script> & <b>", "negative"))
    Page(html)
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_the_command_makes_the_same_explanation() -> None:
    found = tt.explain(
        "it's not good", "positive", cell="gru", tied=True, hidden=2, optimizer="adagrad", lr=0.3, updates=2, seed=4
    )
    program, explain, text, sentence, *options = shlex.split(command(found))
    assert (program, explain, text, sentence) == ("throughtime", "explain", "text", "it's not good")
    assert (
        " ".join(options) == "--label positive --cell gru --tied --hidden 2 --optimizer adagrad --lr 0.3 --updates 2 --seed 4"
    )


def test_pages_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    found = tt.explain("good", "positive")
    write_explanation(found, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == render_explanation(found)
    for write, record in ((write_explanation, found), (write_lesson, small_lesson()[0])):
        with pytest.raises(RunError, match="cannot be written") as caught:
            write(record, tmp_path / "none" / "page.html")  # type: ignore[operator]
        assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


# The lesson


def test_the_lesson_follows_the_page(page: str) -> None:
    parsed = Page(page)
    headings = re.findall(r"<h2 id=\"(\w+)\">(.*?)</h2>", page)
    assert [title for _, title in headings] == [
        "1. Why not an ANN for text?", "2. Forward", "3. Backward", "4. Problems: sigmoid, ReLU, LSTM", "5. Adagrad",
        "6. What to do next", "7. Words",
    ]  # fmt: skip
    assert re.findall(r'<li><a href="#(\w+)"', page) == [anchor for anchor, _ in headings]
    ids = [value for name, value in parsed.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for quoted in ("dL/dw^4 = dL/dy^ . dy^/dw^4", "dL/dw_4 = dL/dy^ . dy^/dO_4 . dO_4/dw_4", "O_4 = f(x_4 w_4 + O_3 w^3)"):
        assert notation.formula(quoted) in page
    assert page.count('<blockquote class="page">') >= 10


def test_every_statement_has_its_measured_numbers(page: str) -> None:
    record, text = small_lesson()[0], words(page)
    for statement in record.statements:
        verdicts = ["Holds here"] if statement.holds else ["Does not hold here", "Not always"]
        assert any(f"{verdict}: {statement.says}" in text for verdict in verdicts)
    for count in record.cost.parameters["flattened network"]:
        assert f"{count:,}" in text
    for compared in (record.only_order, record.packages, record.characters):
        assert compared.method in text
        assert all(one.description in text for one in compared.contenders)
    for start in record.starts:
        assert start.weights in text
    for name in ("w^4", "w_4", "w_1"):
        assert str(notation.value(record.sentence.updates[0].gradients[name])) in page
    assert str(notation.value(record.adagrad.updates[0].sums["w_4"])) in page
    assert str(notation.value(record.adagrad.updates[-1].rates["w_4"])) in page
    assert "{{" not in page
    assert "None" not in text


def test_the_lesson_loads_nothing_and_runs_only_its_own_script(page: str) -> None:
    assert loads_nothing(page)
    data, script = re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "unsafe-inline'; script" in page
    assert page.count("unsafe-inline") == 1
    assert "fetch(" not in script
    assert "import" not in script
    json.loads(data)


def test_without_script_the_numbers_stand_and_the_controls_hide(page: str) -> None:
    record = small_lesson()[0]
    assert '<div class="controls" hidden>' in page
    shown = dict(re.findall(r'data-at="([^"]+)">([^<]*)</text>', page))
    update = record.sentence.updates[0]
    for t, step in enumerate(update.steps, 1):
        assert shown[f"O_{t}"] == notation.short_number(step.output[0])
        assert shown[f"dL/dO_{t}"] == notation.short_number(update.state_gradients[t - 1][0])
    assert shown["y^"] == notation.short_number(update.y_hat)


def test_what_can_be_operated_and_seen_has_a_name(page: str) -> None:
    drawings = re.findall(r"<svg[^>]*>", page)
    assert len(drawings) > 20
    assert all("aria-label" in svg or "aria-hidden" in svg for svg in drawings)
    fields = [field for field in re.findall(r"<input[^>]*>", page) if 'id="scale"' not in field]
    assert len(fields) == 4
    assert all(f"<label>{field} " in page for field in fields)
    assert '<label for="scale">' in page
    assert 'role="status"' in page
    assert all("tabindex" in wide for wide in re.findall(r'<div class="wide"[^>]*>', page))


def test_a_square_is_of_the_whole_bracket() -> None:
    assert "<msup><mrow><mo>(</mo>" in notation.formula("(# - 1)^2 / 2", -0.5)
    assert notation.formula("(# - 1)^2", -0.5).count("<mo>)</mo></mrow><mn>2</mn></msup>") == 1


@pytest.mark.parametrize("word", ["unbelievable" * 3, "言葉" * 20])
def test_a_long_word_stays_within_the_drawing(word: str) -> None:
    drawing = unrolled(tt.explain([word, "good"], "positive"))
    (shown,) = [text for text in drawing.texts if text.at == "word_1"]
    letters = sum(2 if letter > "\u2fff" else 1 for letter in shown.text)
    assert shown.text.endswith("…")
    assert letters <= 15
    assert shown.x - letters / 2 * 7 > 0


# What is said of the numbers


def said_of(low: float, high: float) -> str:
    record = small_lesson()[0].only_order
    gaps = [replace(gap, mean=(low + high) / 2, low=low, high=high) for gap in record.differences]
    return " ".join(told.order(replace(record, differences=gaps), {}))


def test_an_interval_with_0_in_it_shows_nothing() -> None:
    assert "no worth of order is shown here" in said_of(-0.1, 0.2)
    assert "includes 0: no difference is shown" in said_of(-0.1, 0.2)
    assert "so much is order worth" in said_of(0.1, 0.2)
    assert "includes 0" not in said_of(0.1, 0.2)


@pytest.mark.parametrize(
    ("left", "starts", "ends"),
    [([0.1, 0.3, 0.2], "No: at most 0.30", "flatten the sigmoid."), ([0.1, 0.2, 0.3], "No: at most 0.30", "the slider ends."),
     ([0.1, 2.0, 0.3], "Yes", "own.")],
)  # fmt: skip
def test_the_slider_s_question_is_answered_by_what_was_computed(left: list[float], starts: str, ends: str) -> None:
    answer = told.slider([Scaled(False, [0.1, 1.0, 10.0], left)])
    assert answer.startswith(starts)
    assert answer.endswith(ends)


def test_clipping_is_praised_only_where_it_helped() -> None:
    record = small_lesson()[0]
    free, held = record.clipped
    start = record.starts[0]
    bad, good = replace(free, accuracy=[0.25], peak=9.5), replace(held, accuracy=[1.0], peak=40.5)
    assert "were not the larger ones: at most 9.50, against 40.5" in told.clipping((bad, good), start)
    assert "were the larger ones: at most 90.5" in told.clipping((replace(bad, peak=90.5), good), start)
    assert "no help here" in told.clipping((good, bad), start)
    broken = told.clipping((replace(good, diverged_at=70, peak=90.5), good), start)
    assert "Without clipping this run broke off at update 70" in broken
    assert broken.endswith(
        "with clipping it ended at an accuracy of 1. Without clipping the largest gradient before that was 90.5."
    )


def test_what_is_said_of_the_learners_is_what_their_numbers_say() -> None:
    run = replace(small_lesson()[0].learned[0], guessing=0.2, scored=1000, task="order")
    good = replace(run, name="GRU", score=0.99, learned_after=250)
    bad = replace(run, name="tanh", score=0.2, learned_after=None)
    # Two standard errors of .2 in 1000 are .0253.
    near, above = replace(bad, name="ReLU, large", score=0.225), replace(bad, name="LSTM", score=0.226)
    assert told.learners([good, bad, near, above]) == (
        "1 of 4 networks had 95 % right: “GRU” after 250 updates. No better than guessing, which is right in 0.200: “tanh” and "
        "“ReLU, large”, between 0.200 and 0.225."
    )
    assert told.learners([above]) == "No one of 1 networks had 95 % right."
    assert told.learners([good, good]).endswith("“GRU” after 250 updates and “GRU” after 250 updates.")
    first = [good, bad]
    assert told.either(first, first) == ""
    second = [replace(one, task="adding") for one in (replace(good, learned_after=None), replace(bad, learned_after=9))]
    said = told.either(first, second)
    assert "“GRU” learned order, but not adding" in said
    assert "“tanh” learned adding, but not order" in said


@pytest.mark.parametrize(
    ("name", "said"),
    [("horizon at 1 %, tanh", "not within the sequence"), ("updates until 95 % are right, tanh", "never"),
     ("accuracy after the last update, without clipping", "not defined"), ("largest gradient in training", "not defined")],
)  # fmt: skip
def test_a_number_that_is_not_there_is_named_for_what_it_is(name: str, said: str) -> None:
    record = small_lesson()[0]
    statement = replace(record.statements[0], measured={name: None})
    html = render_lesson(replace(record, statements=[statement]))
    assert f"{name}: <b>{said}</b>" in html


def test_a_run_that_diverged_at_once_is_a_line_of_the_table() -> None:
    record = small_lesson()[0]
    nothing: dict[str, Any] = {"updates": [], "accuracy": [], "horizon": [], "loss": [], "largest_gradient": []}
    gone = replace(record.added[0], **nothing, peak=None, diverged_at=1, learned_after=None)
    text = words(render_lesson(replace(record, added=[gone, *record.added[1:]], learned=[gone, *record.learned[1:]])))
    assert text.count("never; diverged at 1") == 2


def test_each_table_of_learners_says_what_is_compared(page: str) -> None:
    record, text = small_lesson()[0], words(page)
    for runs, task in ((record.learned, "Temporal order"), (record.added, "The adding problem")):
        assert f"{task}. The same batches and {runs[0].asked} updates for each network; of the learning rates 0.001," in text
        assert told.learners(runs) in text


def test_a_small_loss_is_said_with_its_power_of_ten_raised() -> None:
    record = small_lesson()[0]
    assert "1.50·10⁻⁹ against" in told.graph(replace(record, adagrad=replace(record.adagrad, loss=1.5e-9)))


def test_exchanging_two_words_says_what_it_does_to_the_prediction() -> None:
    record = small_lesson()[0]
    said = told.exchanged(record)
    case = next(case for case in playground(3) if case.words == EXCHANGED)
    assert said == f"ŷ is {case.updates[0].y_hat:.4f}, and was {record.sentence.updates[0].y_hat:.4f}."
    assert "stays" in told.exchanged(replace(record, cases=(replace(record.sentence, words=EXCHANGED),)))


def test_a_network_that_was_getting_better_is_named() -> None:
    run = small_lesson()[0].learned[0]
    rising = replace(run, accuracy=[0.2, 0.3, 0.2, 0.5], learned_after=None)
    assert run.name in told.rising([rising])
    assert not told.rising([replace(rising, accuracy=[0.2, 0.3, 0.2, 0.3]), replace(rising, learned_after=100)])


def test_the_rates_that_came_back_after_the_spike_are_told_from_those_that_did_not() -> None:
    found = small_lesson()[0].disadvantage
    count = len(found.moving[0].rate)
    moving = [replace(run, rate=[1.0] * count) for run in found.moving]
    back = [0.01] * (count - 10) + [0.6] * 10
    spiked = [replace(run, rate=back if run.optimizer == "RMSprop" else [0.01] * count) for run in found.spiked]
    said = told.forgetting(replace(found, moving=moving, spiked=spiked))
    assert f"RMSprop is back at half of what it would be without the spike after update {count - 9:,}" in said
    assert "Adam is not, by update" in said


def test_adagrad_is_said_to_go_on_only_while_its_error_falls_and_the_best_is_named() -> None:
    found = small_lesson()[0].disadvantage
    runs = [replace(run, losses=[0.1 if run.optimizer == "SGD" else 1.0] * 150 + [0.5] * 50) for run in found.moving]
    runs[0] = replace(runs[0], losses=[0.1] * 200)
    said = told.shrinking(replace(found, moving=runs, spiked=runs))
    assert "It has not stopped: after the last move its error still falls, from 1 to 0.500 and after" in said
    assert "SGD has the smallest error in both columns." in said
    flat = [replace(run, losses=[1.0] * 200) for run in runs]
    assert "not stopped" not in told.shrinking(replace(found, moving=runs, spiked=flat))
    slower = [replace(run, losses=[0.1] * 100 + [0.2] * 101) for run in found.moving]
    assert "0.100 at first, 0.200 at last: learning slows." in told.shrinking(
        replace(found, moving=slower, spiked=slower, moves=[1, 101, 201])
    )


# The script, in a browser


def in_browser(html: str, tmp_path: Path) -> str:
    """The page after its script has run."""
    assert CHROMIUM
    file = tmp_path / "page.html"
    file.write_text(html, encoding="utf-8")
    browser = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    found = subprocess.run([*browser, "--dump-dom", file.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return found.stdout


needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")


@needs_browser
def test_the_script_says_what_python_said(page: str, tmp_path: Path) -> None:
    shown = in_browser(page, tmp_path)
    assert 'data-agrees="true"' in shown
    assert "in 12 settings" in shown
    assert '<div class="controls">' in shown  # no longer hidden
    broken = in_browser(page.replace('"y_hat": 0.', '"y_hat": 1.', 1), tmp_path)
    assert 'data-agrees="false"' in broken


PLAYS: dict[str, tuple[str, Callable[[], tuple[Any, float]]]] = {
    "two words exchanged": (
        "press('[data-word=\"2\"]'); press('[data-word=\"4\"]');",
        lambda: (next(c for c in playground(3) if c.words == EXCHANGED), 1.0),
    ),
    "ReLU, shared, ten times the weights": (
        "press('[value=relu]'); press('[name=tied]'); const s = document.querySelector('[name=scale]'); s.value = 1;"
        "s.dispatchEvent(new Event('input'));",
        lambda: (next(c for c in playground(3) if c.network.tied and c.network.cell.nonlinearity == "relu"), 10.0),
    ),
}


@needs_browser
@pytest.mark.parametrize("play", PLAYS)
def test_what_is_played_is_what_the_textbook_computes(page: str, tmp_path: Path, play: str) -> None:
    keys, expected = PLAYS[play]
    # The test's own script is let in; the page as it is written allows only its own.
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    played = f"<script>const press = (at) => document.querySelector(at).click(); {keys}</script></body>"
    shown = dict(re.findall(r'data-at="([^"]+)">([^<]*)</text>', in_browser(free.replace("</body>", played), tmp_path)))
    case, scale = expected()
    network = case.network
    parameters = {
        name: value * (scale if name in {network.recurrent_weight(t) for t in range(2, 5)} else 1.0)
        for name, value in case.updates[0].parameters.items()
    }
    steps, y_hat, _ = forward(network, case.x, parameters)
    _, states = gradients(network, factors(network, case.x, parameters, steps, y_hat - case.y))
    assert html_text.unescape(shown["word_2"]) == case.words[1]
    assert shown["y^"] == notation.short_number(y_hat)
    for t in range(1, 5):
        assert shown[f"O_{t}"] == notation.short_number(steps[t - 1].output[0])
        assert shown[f"dL/dO_{t}"] == notation.short_number(states[t - 1][0])
