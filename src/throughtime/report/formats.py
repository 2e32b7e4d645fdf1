"""How numbers, times, sizes and texts are written on the page."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

WORKING = ("loss", "scaled_mae")
"""Scores that serve training; where results are shown, others say the same better."""

NAMES = {
    "loss": "loss",
    "log_loss": "log loss",
    "macro_f1": "macro F1",
    "span_f1": "span F1",
    "f1": "F1",
    "mae": "MAE",
    "mse": "MSE",
    "rmse": "RMSE",
    "mase": "MASE",
    "smape": "sMAPE",
    "r2": "R²",
    "accuracy_unknown": "accuracy on unknown words",
    "share_unknown": "share of unknown words",
    "lr": "learning rate",
    "lm": "language model",
    "valid": "validation",
    "train": "training",
}


def name(key: object) -> str:
    """The words for a key of the records.

    Example:
        >>> name("macro_f1"), name("bits_per_character"), name("seasonal-naive")
        ('macro F1', 'bits per character', 'seasonal-naive')
    """
    return NAMES.get(str(key), str(key).replace("_", " "))


def capital(text: object) -> str:
    """A text with its first letter large, and the others as they are."""
    return str(text)[:1].upper() + str(text)[1:]


def number(value: Any, digits: int = 4) -> str:
    """A number with so many significant digits, and separators of thousands; anything else as it is, nothing as a dash.

    Example:
        >>> number(0.62396), number(0.0439), number(1234567), number(0.00001234), number(12345.6), number(1.0), number(-2.5, 3)
        ('0.6240', '0.0439', '1,234,567', '1.234e-05', '12,346', '1', '−2.50')
    """
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite" if value > 0 else "−infinite"
    if value == int(value) and abs(value) < 1e15:
        text = f"{int(value):,}"
    else:
        size = math.floor(math.log10(abs(value)))
        # Scores stand in columns: .6240 and .0439 have as many decimals.
        decimals = digits if size in (-1, -2) else max(0, digits - 1 - size)
        text = f"{value:,.{decimals}f}" if -4 <= size < 15 else f"{value:.{digits - 1}e}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def plain(value: Any) -> str:
    """The same, in characters that every terminal has.

    Example:
        >>> plain(0.62396), plain(-12345.6), plain(None)
        ('0.6240', '-12,346', '-')
    """
    return number(value).replace("−", "-").replace("–", "-")


def powers(text: str) -> str:
    """A number as Python writes it, with its power of ten raised.

    Example:
        >>> powers("1.500e-07"), powers("1e+08"), powers("1e+00"), powers("0.25")
        ('1.500·10⁻⁷', '10⁸', '1', '0.25')
    """
    match = re.fullmatch(r"(.*\d)e([+-]\d+)", text)
    if match is None:
        return text
    base, power = match[1], int(match[2])
    raised = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return base if power == 0 else f"10{raised}" if base == "1" else f"{base}·10{raised}"


def duration(seconds: Any) -> str:
    """A time.

    Example:
        >>> duration(0.0), duration(0.0123), duration(14.23), duration(95), duration(7260), duration(None)
        ('below 1 ms', '12 ms', '14.2 s', '1 min 35 s', '2 h 1 min', '–')
    """
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return number(seconds)
    if seconds < 0.001:
        return "below 1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def size(count: Any) -> str:
    """A number of bytes.

    Example:
        >>> size(512), size(1_115_394)
        ('512 bytes', '1.12 MB')
    """
    if not isinstance(count, int | float) or count < 1000:
        return f"{number(count)} bytes"
    power = min(int(math.log10(count) // 3), 4)
    return f"{number(count / 1000**power, 3)} {('kB', 'MB', 'GB', 'TB')[power - 1]}"


def short(text: object, length: int = 600) -> str:
    """A text cut to a length, the cut shown.

    Example:
        >>> short("characters", 5)
        'char…'
    """
    text = str(text)
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def code(text: object) -> Markup:
    """A sentence, escaped, with what stands between backticks set as code.

    Example:
        >>> code("classify `text` & more")
        Markup('classify <code>text</code> &amp; more')
    """
    parts = re.split(r"`([^`]*)`", str(text))
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))


def setting(value: Any) -> str:
    """The value of a setting, as it is typed.

    Example:
        >>> setting(True), setting(0.003), setting(["hour", "day"]), setting(None), setting("gru")
        ('true', '0.003', 'hour,day', '', 'gru')
    """
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def toml(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Settings as ``throughtime fit --config`` reads them; what was not used is left out.

    Example:
        >>> print(toml({"data": {"target": "genre", "valid": None}, "training": {"lr": 0.003}}))
        [data]
        target = "genre"
        <BLANKLINE>
        [training]
        lr = 0.003
        <BLANKLINE>
    """
    # A JSON string is a TOML string, but for the one control character that JSON leaves alone.
    used = {
        section: {
            key: json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
            for key, value in values.items()
            if is_set(value)
        }
        for section, values in settings.items()
    }
    return "\n".join(
        f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())
        for section, values in used.items()
        if values
    )


def is_set(value: Any) -> bool:
    """Whether a setting holds anything: neither nothing nor an empty list.

    Args:
        value: of the setting.
    """
    return value is not None and value != []
