"""Text from a language model, token by token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from throughtime.errors import SettingsError

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
    """Text that goes on from a prompt, as it is made.

    Args:
        task: its codec turns text into tokens and back.
        network: the fitted one.
        prompt: what comes before; characters that the model does not know count as unknown.
        length: most tokens.
        temperature: 1 draws as the model says, below it prefers what is likely, 0 takes the likeliest.
        top_k: draw from so many of the likeliest tokens only.
        seed: of the draw.
        documents: go on with a new document, on a new line, after the end of one; else stop there.

    Yields:
        Pieces of text, none of them part of a character; the prompt is not among them.

    Raises:
        SettingsError: a temperature below 0, a length or ``top_k`` below 1.
    """
    if not 0 <= temperature < float("inf"):
        raise SettingsError(f"temperature is {temperature}, expected a number from 0 up")
    if length < 1 or (top_k is not None and top_k < 1):
        raise SettingsError(f"length is {length} and top_k {top_k}, expected at least 1")
    codec, random = task.codec, torch.Generator().manual_seed(seed)
    device = next(network.parameters()).device
    network.eval()
    fed = torch.tensor([codec.end, *codec.encode(prompt).tolist()], device=device)
    state, waiting = None, list[int]()
    for _ in range(length):
        with torch.inference_mode():
            logits, state = network(fed[:, None], None, state)
        token = _draw(logits[-1, 0].double().cpu(), temperature, top_k, random, codec.end)
        fed = torch.tensor([token], device=device)
        if token == codec.end:
            if not documents:
                break
            yield "\n"
            state = None
            continue
        waiting.append(token)
        text = codec.decode(waiting)
        if not text.endswith("\ufffd") or len(waiting) > 4:  # bytes that are not yet a whole character wait for the rest
            yield text
            waiting.clear()


def _draw(logits: Tensor, temperature: float, top_k: int | None, random: torch.Generator, end: int) -> int:
    if end != 0:
        logits[0] = -torch.inf if end == 1 else logits[0]  # characters: 0 stands for unknown ones, nothing to write
    if temperature == 0:
        return int(logits.argmax())
    logits = logits / temperature
    if top_k is not None and top_k < len(logits):
        logits[logits < logits.topk(top_k).values[-1]] = -torch.inf
    return int(torch.multinomial(logits.softmax(0), 1, generator=random))
