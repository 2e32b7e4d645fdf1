"""The page's names and numbers as mathematics: MathML for text, and spans for drawings."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from throughtime.report import formats

DIGITS = 4
"""Significant digits of a number where nothing else is said."""

_MARKED = r"(?:\{[^}]*\}|\w+)"
_THING = rf"(?:[A-Za-z]+(?:_{_MARKED})?(?:\^{_MARKED}?)?)"
_STATE = rf"(?:\({_THING},{_THING}\)|{_THING})"  # an LSTM's state is a pair
_TOKEN = re.compile(
    rf"(?P<slope>d{_STATE}/d{_STATE})|sqrt\((?P<root>{_THING})\)|(?P<pair>\({_THING},{_THING}\))|(?P<power>\)\^\d)"
    rf"|(?P<negative>\(-)|(?P<number>[\d.]+)|(?P<thing>{_THING})|(?P<sign>\S)"
)
_LETTERS = {"alpha": "α", "eps": "ε"}
_SIGNS = {"-": "−", ".": "·"}


def formula(text: str, *values: Any) -> Markup:
    """A formula in the page's notation as MathML.

    Args:
        text: such as ``"w_new = w_old - alpha dL/dw_old"``; a dot between blanks is a product, ``#`` stands for a value.
        *values: numbers, as :func:`value` takes them, for each ``#``; a negative one after a sign gets brackets.

    Example:
        >>> formula("O_1")
        Markup('<math><msub><mi>O</mi><mn>1</mn></msub></math>')
        >>> formula("dL/dy^")
        Markup('<math><mfrac><mrow><mi>d</mi><mi>L</mi></mrow><mrow><mi>d</mi><mi class="hat">ŷ</mi></mrow></mfrac></math>')
        >>> formula("# . #", 2, -3)
        Markup('<math><mn>2</mn><mo>·</mo><mo>(</mo><mn>−3</mn><mo>)</mo></math>')
        >>> formula("(y)^2")
        Markup('<math><msup><mrow><mo>(</mo><mi>y</mi><mo>)</mo></mrow><mn>2</mn></msup></math>')
    """
    rest = iter(values)
    written, operand = list[Markup](), False  # after + - · a negative number needs brackets
    opened = 0
    for match in _TOKEN.finditer(text):
        found = match.group()
        opened = len(written) if found.startswith("(") else opened
        if match.lastgroup == "power":  # of the whole bracket, which ends here
            bracket = Markup("").join([*written[opened:], Markup("<mo>)</mo>")])
            written[opened:] = [Markup("<msup><mrow>{}</mrow><mn>{}</mn></msup>").format(bracket, found[-1])]
        else:
            written.append(_value(next(rest), DIGITS, signed=operand) if found == "#" else _token(match))
        operand = found in ("+", "-", ".")
    return _math(written)


def value(number: Any, digits: int = DIGITS, *, signed: bool = False) -> Markup:
    """A number, a row, a matrix, or a column of matrices, as MathML.

    Args:
        number: an array; axes of length 1 are left out.
        digits: significant ones.
        signed: put a negative number in brackets: it stands in a product.

    Example:
        >>> value(-0.5, signed=True)
        Markup('<math><mo>(</mo><mn>−0.5000</mn><mo>)</mo></math>')
    """
    return _math([_value(number, digits, signed=signed)])


def spans(name: str) -> Markup:
    """A name as spans of an SVG text.

    Example:
        >>> spans("w^4"), spans("y^")
        (Markup('w<tspan class="small" dy="-4">4</tspan><tspan dy="4">\u200b</tspan>'), Markup('ŷ'))
    """
    return Markup("").join(_spans(part) for part in re.split(r"([ /()=,])", name))


def short_number(number: Any, digits: int = DIGITS) -> str:
    """A number in one line of plain text, as :func:`value` writes it.

    Example:
        >>> short_number(1.5e-7), short_number(0.25)
        ('1.500·10⁻⁷', '0.2500')
    """
    return formats.powers(formats.number(float(number), digits))


def _value(number: Any, digits: int, *, signed: bool) -> Markup:
    array = np.squeeze(np.asarray(number, dtype=np.float64))
    if array.ndim == 0:
        written = _number(float(array), digits)
        return Markup("<mo>(</mo>{}<mo>)</mo>").format(written) if signed and array < 0 else written
    digits = min(digits, 3)
    if array.ndim < 3:
        return _matrix([[_number(float(number), digits) for number in row] for row in np.atleast_2d(array)])
    return _matrix([[_value(matrix, digits, signed=False)] for matrix in array])


def _token(match: re.Match[str]) -> Markup:
    kind, text = match.lastgroup, match.group()
    if kind == "slope":
        above, below = text.split("/")
        return Markup("<mfrac><mrow>{}</mrow><mrow>{}</mrow></mfrac>").format(_slope(above), _slope(below))
    if kind == "root":
        return Markup("<msqrt>{}</msqrt>").format(_thing(match.group("root")))
    if kind == "negative":  # no room after this minus: nothing stands before it
        return Markup('<mo>(</mo><mo form="prefix">−</mo>')
    if kind == "number":
        return Markup("<mn>{}</mn>").format(text) if text != "." else Markup("<mo>·</mo>")
    if kind == "sign":
        return Markup("<mo>{}</mo>").format(_SIGNS.get(text, text))
    return _state(text)


def _slope(text: str) -> Markup:
    return Markup("<mi>d</mi>{}").format(_state(text[1:]))


def _state(text: str) -> Markup:
    if not text.startswith("("):
        return _thing(text)
    first, second = text[1:-1].split(",")
    return Markup("<mo>(</mo>{}<mo>,</mo>{}<mo>)</mo>").format(_thing(first), _thing(second))


def _parts(name: str) -> tuple[str, str, str]:
    """Base, subscript and superscript of a name; the hat of y^ is part of the base."""
    match = re.fullmatch(rf"([A-Za-z]+)(?:_({_MARKED}))?(?:\^({_MARKED})?)?", name)
    assert match
    base, below, above = (part.strip("{}") if part else "" for part in match.groups())
    base = "ŷ" if name == "y^" else base
    return _LETTERS.get(base, base), below, above


def _thing(name: str) -> Markup:
    base, below, above = _parts(name)
    marks = [Markup("<mrow>{}</mrow>").format(_mark(mark)) if "-" in mark else _mark(mark) for mark in (below, above) if mark]
    tag = "msubsup" if below and above else "msub" if below else "msup"
    inner = Markup('<mi class="hat">ŷ</mi>' if base == "ŷ" else "<mi>{}</mi>").format(base) + Markup("").join(marks)
    return Markup("<{0}>{1}</{0}>").format(Markup(tag), inner) if marks else inner


def _mark(text: str) -> Markup:
    parts = re.findall(r"\d+|[A-Za-z]+|\S", text)
    return Markup("").join(
        Markup("<{0}>{1}</{0}>").format(
            Markup("mn" if part.isdigit() else "mi" if part.isalpha() else "mo"), _SIGNS.get(part, part)
        )
        for part in parts
    )


def _spans(part: str) -> Markup:
    letter = Markup("d") if re.match(r"d[A-Zwybc]", part) else Markup("")
    name = part[len(letter) :]
    if not re.fullmatch(_THING, name):
        return escape(part)
    base, below, above = _parts(name)
    text = letter + escape(base)
    for mark, down in ((below, 4), (above, -4)):
        if mark:  # a span of no width brings the line back
            text += Markup('<tspan class="small" dy="{}">{}</tspan><tspan dy="{}">\u200b</tspan>').format(
                down, mark.replace("-", "−"), -down
            )
    return text


def _number(number: float, digits: int) -> Markup:
    if not math.isfinite(number):
        return Markup("<mtext>{}</mtext>").format(formats.number(number))
    base, _, power = formats.number(number, digits).partition("e")
    if not power:
        return Markup("<mn>{}</mn>").format(base)
    return Markup("<mn>{}</mn><mo>·</mo><msup><mn>10</mn><mn>{}</mn></msup>").format(base, str(int(power)).replace("-", "−"))


def _matrix(rows: Iterable[Iterable[Markup]]) -> Markup:
    lines = (Markup("").join(Markup("<mtd>{}</mtd>").format(cell) for cell in row) for row in rows)
    return Markup("<mtable>{}</mtable>").format(Markup("").join(Markup("<mtr>{}</mtr>").format(line) for line in lines))


def _math(parts: Iterable[Markup]) -> Markup:
    return Markup("<math>{}</math>").format(Markup("").join(parts))
