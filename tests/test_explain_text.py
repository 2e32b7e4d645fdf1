"""`throughtime explain text`: what it prints and writes, and one line for what it cannot do."""

import json
from pathlib import Path

import pytest

from throughtime.cli import main

SENTENCE = "the film was not good"


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints."""
    assert main(["explain", "text", *arguments]) == 0
    found = capsys.readouterr()
    assert not found.err
    return found.out


def test_every_number_of_the_first_update_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    printed = explained(capsys, SENTENCE, "--label", "negative", "--json", str(tmp_path / "e.json"))
    data = json.loads((tmp_path / "e.json").read_text())
    first = data["updates"][0]
    for group in ("parameters", "products", "outputs", "gradients", "finite_differences", "new"):
        for name, value in first[group].items():
            assert f"{value:.4g}" in printed, (group, name)
    for name, value in first["factors"].items():
        assert name in printed
        assert f"{value:.4g}" in printed, name
    assert "w_1   dL/dy^ . dy^/dO_5 . dO_5/dO_4 . dO_4/dO_3 . dO_3/dO_2 . dO_2/dO_1 . dO_1/dw_1" in " ".join(
        printed.split()
    ).replace("w_1 dL", "w_1   dL")
    for update in data["updates"]:
        assert f"{update['loss']:.4g}" in printed
    assert "The loss fell from" in printed


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("hidden", ["1", "2"])
@pytest.mark.parametrize("flags", [(), ("--tied",), ("--optimizer", "adagrad")], ids=str)
def test_every_network_can_be_shown(cell: str, hidden: str, flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    printed = explained(capsys, SENTENCE, "--label", "positive", "--cell", cell, "--hidden", hidden, *flags)
    for title in ("Forward", "Backward", "Update", "5 updates in a row"):
        assert title in printed
    assert ("alpha_t^1" in printed) == ("adagrad" in flags)
    assert ("the sum of these" in printed) == ("--tied" in flags)
    assert "nan" not in printed


def test_a_long_text_is_shown_shortened_and_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    text = " ".join(f"w{number}" for number in range(60))
    printed = explained(capsys, text, "--label", "positive", "--json", str(tmp_path / "e.json"), "--updates", "2")
    assert "52 more" in printed
    assert len(printed.splitlines()) < 120
    data = json.loads((tmp_path / "e.json").read_text())
    assert len(data["updates"][1]["gradients"]) == 120


def test_one_word(capsys: pytest.CaptureFixture[str]):
    assert "y^ = O_1 w^1" in explained(capsys, "superb", "--label", "positive")


def test_a_rate_that_diverges_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    flags = ("--nonlinearity", "relu", "--lr", "1e200", "--json", str(tmp_path / "e.json"))
    assert "Diverged: " in explained(capsys, SENTENCE, "--label", "positive", *flags)
    assert "NaN" not in (tmp_path / "e.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["", "--label", "negative"], 2, "error: the text has no word; give at least one, such as 'the film was not good'"),
        (["a b", "--label", "positiv"], 2, "did you mean positive?"),
        (["a b"], 2, "Missing option '--label'"),
        (["a b", "--label", "negative", "--lr", "0"], 2, "error: lr is 0.0, expected a number above 0"),
        (["a b", "--label", "negative", "--json", "{tmp}/no/e.json"], 2, "there is no folder"),
        (["a b", "--label", "negative", "--html", "{tmp}"], 2, "is a folder; name a file"),
        (["a b", "--label", "negative", "--json", "/proc/e.json"], 1, "error: /proc/e.json cannot be written"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments, status, said, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["explain", "text", *(argument.format(tmp=tmp_path) for argument in arguments)]) == status
    found = capsys.readouterr()
    assert said in found.err
    assert len(found.err.splitlines()) == 1
