"""Text from a language model, token by token."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from throughtime.errors import SettingsError
from throughtime.settings import checked_setting
from throughtime.transforms import Characters

if TYPE_CHECKING:
    from throughtime.tasks.lm import LanguageModelling


def generate(
    task: LanguageModelling,
    network: torch.nn.Module,
    prompt: str,
    *,
    length: int = 500,
    temperature: float = 0.8,
    top_k: int | None = None,
    seed: int = 0,
    documents: bool = False,
) -> Iterator[str]:
    """Text that begins with a prompt, as it is made.

    Args:
        task: its codec turns text into tokens and back.
        network: the fitted one.
        prompt: what each document begins with; a warning names characters that the model does not know.
        length: most tokens, without those of the prompt.
        temperature: 1 draws as the model says, below it prefers what is likely, 0 takes the likeliest.
        top_k: draw from so many of the likeliest tokens only.
        seed: of the draw.
        documents: go on with a new document, on a new line, after the end of one; else stop there.

    Yields:
        The prompt, then pieces of text, none of them part of a character.

    Raises:
        SettingsError: a prompt that is no text, a temperature or seed below 0, a length or ``top_k`` below 1.
    """
    if not 0 <= temperature < float("inf"):
        raise SettingsError(f"--temperature is {temperature}, expected a number from 0 up")
    for flag, count in (("--length", length), ("--top-k", top_k)):
        if count is not None and count < 1:
            raise SettingsError(f"{flag} is {count}, expected a whole number from 1 up")
    if not isinstance(prompt, str):
        raise SettingsError(f"prompt is a {type(prompt).__name__}, expected a str")
    codec, random = task.codec, torch.Generator().manual_seed(checked_setting("seed", seed))
    device = next(network.parameters()).device
    network.eval()
    start = torch.tensor([codec.end, *codec.encode(prompt).tolist()], device=device)
    if isinstance(codec, Characters) and (unknown := [c for c in dict.fromkeys(prompt) if not codec.encode(c)[0]]):
        named = ", ".join(map(repr, unknown))
        warnings.warn(
            f"the model does not know {named} of the prompt: such characters were not in its training text", stacklevel=2
        )
    yield prompt
    fed, state, waiting = start, None, list[int]()
    for _ in range(length):
        with torch.inference_mode():
            logits, state = network(fed[:, None], None, state)
        token = _draw(logits[-1, 0].double().cpu(), temperature, top_k, random, codec.end)
        fed = torch.tensor([token], device=device)
        if token == codec.end:
            if not documents:
                break
            yield "\n" + prompt
            fed, state = start, None
            continue
        waiting.append(token)
        text = codec.decode(waiting)
        if not text.endswith("\ufffd") or len(waiting) > 4:  # bytes that are not yet a whole character wait for the rest
            yield text
            waiting.clear()


def _draw(logits: Tensor, temperature: float, top_k: int | None, random: torch.Generator, end: int) -> int:
    if end == 1:  # characters: 0 stands for unknown ones, nothing to write
        logits[0] = -torch.inf
    if temperature == 0:
        return int(logits.argmax())
    logits = logits / temperature
    if top_k is not None and top_k < len(logits):
        logits[logits < logits.topk(top_k).values[-1]] = -torch.inf
    return int(torch.multinomial(logits.softmax(0), 1, generator=random))
