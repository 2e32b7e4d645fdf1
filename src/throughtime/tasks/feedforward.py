"""The feed-forward networks (ANNs) that a recurrent one is held against: blind to order, or with an input per step.

Each takes what the recurrent network of its task takes and returns what that returns, so that loss, evaluation and scores of
the task work on it unchanged. All have one hidden layer of ReLU, as wide as the recurrent layer where nothing else is said.
Time first: ``[T, B, ...]``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from throughtime.settings import ModelSettings
from throughtime.tasks.base import State
from throughtime.tasks.dropout import Dropout
from throughtime.tasks.networks import Numbers, Tokens, WordIds, Words, forecast_with_ends

RECENT = 8
"""Tokens that a feed-forward language model sees."""
NEIGHBOURS = 2
"""Steps before and after each that a feed-forward tagger sees."""
FIRST_LAYER = 2_000_000
"""The most weights of the first layer of a flattened network; it bounds how many steps the network can take."""
OUTPUT_LAYER = 1 << 18
"""The most weights of the output layer of a feed-forward language model; it bounds the hidden layer where tokens are many."""


class FeedForward(nn.Module):
    """An input, one hidden layer of ReLU, and an output; subclasses say what of the sequence the hidden layer reads.

    Dropout is where a recurrent network has it: on the inputs and before the output.

    Args:
        settings: of the recurrent model; its hidden size and dropout are used.
        inputs: as for the recurrent network.
        fan_in: numbers that the hidden layer reads.
        outputs: numbers that come out.
    """

    def __init__(self, settings: ModelSettings, inputs: Tokens | Words | Numbers, fan_in: int, outputs: int) -> None:
        super().__init__()
        assert settings.hidden and settings.dropout is not None
        self.inputs = inputs
        self.dropout = Dropout(settings.dropout)
        self.hidden = nn.Linear(fan_in, settings.hidden)
        self.head = nn.Linear(settings.hidden, outputs)

    def embedded(self, x: Tensor | WordIds, lengths: Tensor) -> Tensor:
        """The inputs as vectors ``[T, B, D]``, zero past the end of each sequence, whatever stands there."""
        vectors: Tensor = self.inputs(x)
        inside = torch.arange(len(vectors), device=vectors.device)[:, None] < lengths.to(vectors.device)[None]
        masked: Tensor = self.dropout(torch.where(inside[:, :, None], vectors, 0.0))
        return masked

    def answer(self, read: Tensor) -> Tensor:
        """``[..., fan_in]`` -> ``[..., outputs]``."""
        return self.finished(self.hidden(read))

    def finished(self, before: Tensor) -> Tensor:
        """From the hidden layer before its ReLU, ``[..., H]``, to the output."""
        answer: Tensor = self.head(self.dropout(before.relu()))
        return answer


class BlindSequence(FeedForward):
    """One answer for a sequence, from the mean of its inputs: the same for every order of the same steps.

    Args:
        settings: of the recurrent model.
        inputs: as for the recurrent network.
        outputs: numbers that come out.

    Example:
        >>> model = BlindSequence(ModelSettings(hidden=4, dropout=0.0), Tokens(9, 5), 2)
        >>> one, other = (model(torch.tensor(order)[:, None], torch.tensor([3])) for order in ([1, 2, 3], [3, 1, 2]))
        >>> torch.equal(one, other)
        True

    Source: Iyyer et al. 2015, "Deep unordered composition rivals syntactic methods for text classification", with one layer.
    """

    def __init__(self, settings: ModelSettings, inputs: Tokens | Words | Numbers, outputs: int) -> None:
        super().__init__(settings, inputs, inputs.width, outputs)

    def forward(self, x: Tensor | WordIds, lengths: Tensor) -> Tensor:
        """[T, B] of inputs -> ``[B, outputs]``."""
        return self.answer(_mean(self.embedded(x, lengths), lengths))


class FlatSequence(FeedForward):
    """One answer for a sequence, each step having an input and weights of its own: the ANN of the textbook page.

    Steps that a sequence does not have are zeros; steps beyond the last input are not seen.

    Args:
        settings: of the recurrent model.
        inputs: as for the recurrent network.
        outputs: numbers that come out.
        steps: how many the network has inputs for.
    """

    def __init__(self, settings: ModelSettings, inputs: Tokens | Words | Numbers, outputs: int, steps: int) -> None:
        super().__init__(settings, inputs, steps * inputs.width, outputs)
        self.steps = steps

    def forward(self, x: Tensor | WordIds, lengths: Tensor) -> Tensor:
        """[T, B] of inputs -> ``[B, outputs]``."""
        flat = self.embedded(x, lengths)[: self.steps].transpose(0, 1).flatten(1)
        # The zeros of steps that no sequence of the batch has add nothing: their weights are left out, not multiplied.
        return self.finished(nn.functional.linear(flat, self.hidden.weight[:, : flat.shape[1]], self.hidden.bias))


class BlindSteps(FeedForward):
    """An answer for every step, from the step and the mean of the whole sequence: blind to the order of all others.

    Args:
        settings: of the recurrent model.
        inputs: as for the recurrent network.
        outputs: numbers that come out for a step.
    """

    def __init__(self, settings: ModelSettings, inputs: Tokens | Words | Numbers, outputs: int) -> None:
        super().__init__(settings, inputs, 2 * inputs.width, outputs)

    def forward(self, x: Tensor | WordIds, lengths: Tensor, state: State = None) -> tuple[Tensor, State]:
        """[T, B] of inputs -> ``[T, B, outputs]``, and no state."""
        steps = self.embedded(x, lengths)
        return self.answer(torch.cat([steps, _mean(steps, lengths).expand_as(steps)], dim=2)), None


class WindowSteps(FeedForward):
    """An answer for every step, from the step and its neighbours, each place of the window with weights of its own.

    Args:
        settings: of the recurrent model.
        inputs: as for the recurrent network.
        outputs: numbers that come out for a step.

    Source: Collobert et al. 2011, "Natural language processing (almost) from scratch", arXiv:1103.0398: the window approach.
    """

    def __init__(self, settings: ModelSettings, inputs: Tokens | Words | Numbers, outputs: int) -> None:
        super().__init__(settings, inputs, (2 * NEIGHBOURS + 1) * inputs.width, outputs)

    def forward(self, x: Tensor | WordIds, lengths: Tensor, state: State = None) -> tuple[Tensor, State]:
        """[T, B] of inputs -> ``[T, B, outputs]``, and no state."""
        padded = nn.functional.pad(self.embedded(x, lengths), (0, 0, 0, 0, NEIGHBOURS, NEIGHBOURS))
        return self.answer(padded.unfold(0, 2 * NEIGHBOURS + 1, 1).flatten(2)), None


class RecentTokens(FeedForward):
    """The next token from the last :data:`RECENT` ones: from their mean, or flattened with weights for each place.

    There is no dropout: one layer that sees a few tokens of a long text has little to overfit with. Its state is the tokens
    before, so that it sees across the windows in which a long text is read.

    Args:
        settings: of the recurrent model.
        inputs: a vector for each token.
        outputs: how many tokens there are.
        blind: whether it takes the mean, and so cannot see the order of the tokens.

    Source: Bengio et al. 2003, "A neural probabilistic language model", for the flattened one.
    """

    def __init__(self, settings: ModelSettings, inputs: Tokens, outputs: int, *, blind: bool) -> None:
        super().__init__(settings, inputs, inputs.width if blind else RECENT * inputs.width, outputs)
        self.blind = blind

    def forward(self, x: Tensor, lengths: Tensor | None = None, state: State = None) -> tuple[Tensor, State]:
        """[T, B] of tokens -> ``[T, B, outputs]``, and the tokens before each true end, -1 for none, ``[RECENT - 1, B]``."""
        before = x.new_full((RECENT - 1, x.shape[1]), -1) if state is None else state
        tokens = torch.cat([before, x])
        windows = tokens.unfold(0, RECENT, 1)  # [T, B, RECENT]
        known = (windows >= 0).to(self.hidden.weight.dtype)
        rows, share = windows.clamp(min=0), known
        # What each token gives to the hidden layer, by place: far fewer products than one for each step of the batch.
        assert isinstance(self.inputs, Tokens)
        by_place = self.hidden.weight.view(len(self.hidden.bias), -1, self.inputs.width)
        table = torch.einsum("vd,hpd->pvh", self.inputs.embedding.weight, by_place)
        if self.blind:
            share = known / known.sum(dim=2, keepdim=True)
        else:
            rows = rows + table.shape[1] * torch.arange(RECENT, device=x.device)
        bags = nn.functional.embedding_bag(
            rows.flatten(0, 1), table.flatten(0, 1), per_sample_weights=share.flatten(0, 1), mode="sum"
        )
        ends = torch.full_like(x[0], len(x)) if lengths is None else lengths.to(x.device)
        places = ends[None] + torch.arange(RECENT - 1, device=x.device)[:, None]
        answer = self.head((bags + self.hidden.bias).relu())
        return answer.unflatten(0, x.shape), tokens.gather(0, places)


class WindowForecast(nn.Module):
    """A forecast and the ends of its interval from the values of the window: in their order, or sorted by size.

    Args:
        settings: of the recurrent model.
        window: values that it sees, W.
        horizon: steps to forecast, H.
        blind: whether the values are sorted first, so that their order is lost and nothing else.
    """

    def __init__(self, settings: ModelSettings, window: int, horizon: int, *, blind: bool) -> None:
        super().__init__()
        assert settings.hidden and settings.dropout is not None
        self.horizon, self.blind = horizon, blind
        self.hidden = nn.Linear(window, settings.hidden)
        self.dropout = Dropout(settings.dropout)
        self.head = nn.Linear(settings.hidden, 3 * horizon)

    def forward(self, features: Tensor, past: Tensor) -> Tensor:
        """Scaled forecast, lower and upper end, ``[B, H, 3]``."""
        values = past.sort(dim=1).values if self.blind else past
        said = self.head(self.dropout(self.hidden(values).relu())).unflatten(1, (self.horizon, 3))
        return forecast_with_ends(said[:, :, 0], said[:, :, 1], said[:, :, 2])


def steps_within(longest: int, width: int, hidden: int) -> int:
    """How many steps a flattened network takes: all, or as many as :data:`FIRST_LAYER` weights allow.

    Args:
        longest: steps of the longest sequence.
        width: numbers in a step.
        hidden: units of the hidden layer.

    Example:
        >>> steps_within(30, 128, 128), steps_within(1000, 128, 128)
        (30, 122)
    """
    return max(1, min(longest, FIRST_LAYER // (width * hidden)))


def _mean(steps: Tensor, lengths: Tensor) -> Tensor:
    """The mean over the true steps, ``[B, D]``; zeros for a sequence without any.

    Args:
        steps: ``[T, B, D]``, zero past each end.
        lengths: ``[B]``.
    """
    count = lengths.to(steps.device).clamp(min=1)[:, None]
    # In float64 float32 values of about one size add up without rounding, in any order.
    return (steps.sum(dim=0, dtype=torch.float64) / count).to(steps.dtype)
