"""Text as ids of byte pairs, and back, by the tokenizers library."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from throughtime.errors import NotServedError, RunError
from throughtime.settings import checked_setting
from throughtime.transforms._saved import TEXT, checked, saved

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class BytePairs:
    """Text as ids of frequent pieces of its UTF-8 bytes; every byte has an id too, so that each text comes back as it was.

    Args:
        description: the tokenizer as the tokenizers library writes it.

    Attributes:
        size: the number of ids.
        end: the id of the end of a document, the last one. It is no token, so that no text can be taken for it.

    Example:
        >>> codec = BytePairs.fit(["the cat and the hat"] * 9, size=260)
        >>> codec.size, codec.decode(codec.encode("the cat é")), len(codec.encode("the the"))
        (260, 'the cat é', 3)

    Source: Sennrich, Haddow and Birch 2016, arXiv:1508.07909; on bytes: Radford et al. 2019.
    """

    description: str
    _tokenizer: Tokenizer = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tokenizer", _library().Tokenizer.from_str(self.description))

    @classmethod
    def fit(cls, pieces: Iterable[str], size: int) -> BytePairs:
        """The pairs that are most frequent in the pieces of text, merged one after the other.

        Args:
            pieces: training text, in pieces of any size.
            size: most ids, those of the 256 bytes and of the end of a document included; fewer if the text has no more pairs.

        Raises:
            SettingsError: a size that the setting ``bpe_size`` cannot have.
        """
        size, library = checked_setting("bpe_size", size), _library()
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=size - 1, show_progress=False, initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet()
        )
        tokenizer.train_from_iterator(pieces, trainer)
        return cls(tokenizer.to_str())

    @property
    def size(self) -> int:
        """The number of ids."""
        return self.end + 1

    @property
    def end(self) -> int:
        """The id of the end of a document."""
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> NDArray[np.int32]:
        """The ids of a text; int32 ``[n]``. Those of two texts joined are not always those of the texts, joined."""
        return np.array(self._tokenizer.encode_batch_fast([text])[0].ids, np.int32)

    def decode(self, ids: ArrayLike) -> str:
        """The text of ids: nothing for the end of a document, U+FFFD for bytes that are part of a character."""
        numbers = np.asarray(ids, np.int64)
        return self._tokenizer.decode(numbers[numbers != self.end].tolist(), skip_special_tokens=False)

    def to_json(self) -> dict[str, Any]:
        """All of it, for a file."""
        return saved("bpe", tokenizer=self.description)

    @classmethod
    def from_json(cls, data: Any) -> BytePairs:
        """What ``to_json`` wrote.

        Raises:
            RunError: damaged, or of another kind or version.
            NotServedError: the tokenizers library is not installed.
        """
        description = checked(data, "bpe", tokenizer=TEXT)["tokenizer"]
        _library()
        try:
            return cls(description)
        except Exception as error:  # the library raises no narrower one
            raise RunError(f"bpe: the tokenizer cannot be read ({error}); the file is damaged") from None


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise NotServedError("byte pairs need the tokenizers library: pip install tokenizers") from None
    return tokenizers
