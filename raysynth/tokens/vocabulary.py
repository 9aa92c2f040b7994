"""Text to token ids and back with a SentencePiece model and T5's sentinels above its pieces."""

import hashlib
import io
import os
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import sentencepiece

from raysynth.errors import InputError, first_line
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.token_space import EOS, PAD, UNKNOWN

T5_PIECES = 32_000
T5_SENTINELS = 100


class Vocabulary:
    """A SentencePiece model with sentinels: `<extra_id_0>` is the highest id, the next one below it, and so on."""

    model_bytes: bytes
    """The SentencePiece model, without the sentinels."""
    num_pieces: int
    """Pieces of the model, including pad (0), end of sequence (1) and unknown (2)."""
    num_sentinels: int

    def __init__(self, model_bytes: bytes, num_sentinels: int):
        """See `load`."""
        self.model_bytes = model_bytes
        self.num_sentinels = num_sentinels
        self.num_pieces = _processor(model_bytes).get_piece_size()
        if self.size > 1 << 16:
            raise InputError(f"a vocabulary may have at most 65536 ids with its sentinels, got {self.size}")
        self._processor = _processor(model_bytes + _sentinel_pieces(num_sentinels))
        self._sentinel = rf"<extra_id_(?:{'|'.join(map(str, range(num_sentinels)))})>"

    @classmethod
    def load(cls, model_bytes: bytes, num_sentinels: int = T5_SENTINELS) -> "Vocabulary":
        """Parse a SentencePiece model; raises `InputError` unless it is complete and has T5's three special ids."""
        return cls(model_bytes, num_sentinels)

    @classmethod
    def train(cls, texts: Iterable[str], num_pieces: int, num_sentinels: int = T5_SENTINELS) -> "Vocabulary":
        """Train a unigram model on texts; equal texts give equal bytes, on any number of cores.

        Training normalizes nothing and gives every printable ASCII character a piece, so ASCII text survives encoding
        and decoding unchanged. Raises `InputError` unless the texts allow exactly `num_pieces` pieces.
        """
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=map(_checked, texts),
                model_writer=model,
                model_type="unigram",
                vocab_size=num_pieces,
                pad_id=PAD,
                eos_id=EOS,
                unk_id=UNKNOWN,
                bos_id=-1,
                pad_piece="<pad>",
                eos_piece="</s>",
                unk_piece="<unk>",
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                character_coverage=1.0,
                required_chars=_PRINTABLE,
                max_sentence_length=1 << 20,  # bytes; SentencePiece silently skips longer texts
                shuffle_input_sentence=False,
                num_threads=1,  # with several, sums of floats depend on which thread gets which text
                minloglevel=2,
            )
        except RuntimeError as error:
            raise _training_error(num_pieces, str(error)) from None
        return cls(model.getvalue(), num_sentinels)

    @property
    def size(self) -> int:
        """Number of ids: pieces and sentinels."""
        return self.num_pieces + self.num_sentinels

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without end of sequence; `<extra_id_n>` in it becomes the sentinel's id."""
        ids: list[int] = self._processor.encode(self._spaced(text))
        return ids

    def encode_many(self, texts: Sequence[str]) -> Ragged:
        """The ids of each text, as `encode` gives them."""
        rows: list[list[int]] = self._processor.encode([self._spaced(text) for text in texts])
        lengths = np.fromiter(map(len, rows), np.int64, count=len(rows))
        return Ragged.packed(np.fromiter(chain.from_iterable(rows), np.uint16, count=lengths.sum()), lengths)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids up to the first end of sequence, without padding; ids of `size` and above become unknown.

        A model's embedding may have more rows than the vocabulary has ids, so a prediction may contain such an id.
        """
        known = []
        for token in ids:
            if token == EOS:
                break
            if token != PAD:
                known.append(int(token) if token < self.size else UNKNOWN)
        text: str = self._processor.decode(known)
        return text

    def _spaced(self, text: str) -> str:
        """Surround sentinels by spaces, which makes them words of their own as in Hugging Face's T5 tokenizer."""
        if "<extra_id_" not in _checked(text):
            return text
        text = re.sub(rf"(?<=[^ ]){self._sentinel}", r" \g<0>", text)
        return re.sub(rf"{self._sentinel}(?=[^ ])", r"\g<0> ", text)


def _checked(text: str) -> str:
    """The text; raises `InputError` if SentencePiece would not take it, as for half of a surrogate pair."""
    try:
        text.encode()
    except (AttributeError, UnicodeEncodeError):
        raise InputError(f"a text has no UTF-8 form: {ascii(text)[:80]}") from None
    return text


_PRINTABLE = "".join(map(chr, range(33, 127)))


def t5_vocabulary_bytes(location: str | None = None) -> bytes:
    """Read T5's public SentencePiece model from `location`, or else from the path in RAYSYNTH_T5_VOCABULARY.

    Raises `InputError` if the file does not exist or is another model.
    """
    location = os.path.expanduser(location or os.environ.get("RAYSYNTH_T5_VOCABULARY") or "")
    if not location:
        raise InputError(
            "T5's vocabulary is needed: set RAYSYNTH_T5_VOCABULARY to the path of its spiece.model "
            "(it comes with every T5 checkpoint, such as google-t5/t5-small on Hugging Face)"
        )
    try:
        if os.path.exists(location) and not os.path.isfile(location):
            raise InputError(f"T5's vocabulary {location} is not a file")
        content = Path(location).read_bytes()
    except (OSError, ValueError) as error:  # a path may hold characters that no file system takes
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or first_line(error)
        raise InputError(f"T5's vocabulary {location} cannot be read: {reason}") from None
    if hashlib.sha256(content).hexdigest() == _T5_SHA256:
        return content
    try:
        num_pieces = Vocabulary.load(content).num_pieces
    except InputError as error:
        raise InputError(f"{location}: {error}") from None
    if num_pieces != T5_PIECES:
        raise InputError(f"{location} is not T5's vocabulary: it has {num_pieces} pieces, not {T5_PIECES}")
    raise InputError(f"{location} is not T5's vocabulary: its SHA-256 is not {_T5_SHA256}")


_T5_SHA256 = "d60acb128cf7b7f2536e8f38a5b18a05535c9e14c7a355904270e15b0945ea86"
"""Of the spiece.model that comes with every T5 checkpoint, 1.0 and 1.1."""


def _processor(model: bytes) -> sentencepiece.SentencePieceProcessor:
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model) if model else None
    except RuntimeError:
        processor = None
    if processor is None or not processor.get_piece_size():
        raise InputError(f"not a complete SentencePiece model ({len(model)} bytes)")
    special = (processor.pad_id(), processor.eos_id(), processor.unk_id())
    if special != (PAD, EOS, UNKNOWN):
        raise InputError(f"a SentencePiece model needs pad, eos and unk ids {(PAD, EOS, UNKNOWN)}, got {special}")
    return processor


def _sentinel_pieces(count: int) -> bytes:
    """The sentinels as serialized pieces: appended to a model's bytes, they extend the model's list of pieces."""
    serialized = b""
    for index in reversed(range(count)):
        text = f"▁<extra_id_{index}>".encode()
        piece = b"\x0a" + bytes([len(text)]) + text + b"\x18\x04"  # text: field 1; type: field 3, USER_DEFINED
        serialized += b"\x0a" + bytes([len(piece)]) + piece  # pieces: field 1 of the model
    return serialized


def _training_error(num_pieces: int, message: str) -> InputError:
    """Translate the message of SentencePiece's trainer."""
    if match := re.search(r"value <= (\d+)", message):
        return InputError(f"num_pieces must be at most {match[1]} for these texts, got {num_pieces}")
    if match := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return InputError(f"num_pieces must be at least {match[1]} for these texts, got {num_pieces}")
    if "sentences_.empty()" in message:
        return InputError("a vocabulary needs texts to train on, got none")
    return InputError(f"SentencePiece cannot train {num_pieces} pieces: {' '.join(message.split())}")
