"""A language model as an estimator: fitted on documents, writes more of the kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from sklearn.utils.validation import check_is_fitted

from throughtime.data.arrays import sequences_of
from throughtime.data.records import Dataset, Sequences
from throughtime.errors import DataError
from throughtime.estimators.base import Estimator, in_python
from throughtime.tasks.generate import generate
from throughtime.tasks.lm import LanguageModelling


@dataclass(kw_only=True, eq=False, repr=False)
class LanguageModel(Estimator):
    """The next character, or the next piece of a word, of documents.

    The arguments are those of :class:`Estimator`, and these:

    Args:
        bptt: steps that a gradient goes back; the state is carried on beyond.
        tokens: ``char`` (if not given) or ``bpe``.
        bpe_size: number of BPE tokens.

    Example:
        >>> names = ["anna", "hanna", "nina", "mina", "ina", "lina", "lena", "elena"] * 10
        >>> model = LanguageModel(hidden=16, epochs=2).fit(names)
        >>> len(model.generate(length=5, seed=1)) <= 5
        True
    """

    task: ClassVar[str] = "lm"
    bptt: int | None = None
    tokens: Literal["char", "bpe"] | None = None
    bpe_size: int = 4000

    @in_python
    def fit(self, X: Any, y: Any = None) -> LanguageModel:
        """Fit a model, from the beginning.

        Args:
            X: documents: a list of str; or one str.
            y: not used; there because scikit-learn gives it.

        Returns:
            Itself.

        Raises:
            SettingsError: arguments of the constructor that cannot be.
            DataError: what is no text, or too little of it.
        """
        settings, content = self.settings(), _documents(X)
        self._train(Dataset(self.task, content, f"learn to write like {len(content):,} documents"), settings)
        return self

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the nats per character: the higher, the better; each end of a document counts as a character.

        Args:
            X: documents.
            y: not used.

        Raises:
            NotFittedError: before ``fit``.
            DataError: what is no text.
        """
        return -self._scores(X)["nats_per_character"]

    def perplexity(self, X: Any) -> float:
        """The perplexity per token.

        Args:
            X: documents.

        Raises:
            NotFittedError: before ``fit``.
            DataError: what is no text.
        """
        return self._scores(X)["perplexity"]

    @in_python
    def generate(
        self, prompt: str = "", length: int = 500, *, temperature: float = 0.8, top_k: int | None = None, seed: int = 0
    ) -> str:
        """Text that begins with a prompt, up to the end of the document; as ``throughtime generate`` prints it.

        Args:
            prompt: what it begins with; a warning names characters that the model does not know.
            length: most tokens, without those of the prompt.
            temperature: 1 draws as the model says, below it prefers what is likely, 0 takes the likeliest.
            top_k: draw from so many of the likeliest tokens only.
            seed: of the draw.

        Raises:
            NotFittedError: before ``fit``.
            SettingsError: a temperature below 0, a length or ``top_k`` below 1.
        """
        check_is_fitted(self)
        task = self.fitted_.task
        assert isinstance(task, LanguageModelling)
        return "".join(
            generate(task, self.fitted_.network, prompt, length=length, temperature=temperature, top_k=top_k, seed=seed)
        )

    def __sklearn_tags__(self) -> Any:
        """Text only."""
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags

    @in_python
    def _scores(self, X: Any) -> dict[str, float]:
        check_is_fitted(self)
        return self.fitted_.score(_documents(X))


def _documents(X: Any) -> Sequences:
    content = sequences_of([X] if isinstance(X, str) else X)
    if content.kind != "text":
        raise DataError(f"X[0] is a {type(content.inputs[0]).__name__}; expected documents: a list of str")
    return content
