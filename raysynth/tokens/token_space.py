"""The token ids that synthetic tasks draw and write.

The paper's generators used the ids of the T5 vocabulary. In a smaller vocabulary, ids of the same roles serve:
sentinels count down from its top.
"""

from raysynth.errors import InputError
from raysynth.fields import spec

PAD = 0
EOS = 1
UNKNOWN = 2
LARGEST_ID = 2**16 - 1
"""Data sets store ids in 16 bits."""


@spec
class TokenSpace:
    """The ids a synthetic task may use; defaults are those of the T5 vocabulary with 32,100 ids."""

    first: int = 2
    """Smallest id that is drawn. T5's pool contains <unk> (2) and the bare space (3), as in the paper's code."""
    last: int = 31_999
    """Largest id that is drawn."""
    separator: int = 32_097
    """Separates sequence 1 from sequence 2: <extra_id_2>."""
    word_separator: int = 32_098
    """Separates the words of Longest Word: <extra_id_1>."""
    empty: int = 32_096
    """The whole target if the answer is the empty sequence: <extra_id_3>."""
    yes: tuple[int, ...] = (4273,)
    no: tuple[int, ...] = (150,)
    digits: tuple[int, ...] = ()
    """The ids of the digits 0 to 9; if empty, T5's pieces spell the numbers, from 0 to 220 only."""

    def __post_init__(self) -> None:
        if not 2 <= self.first < self.last:
            raise InputError(f"first must be at least 2 and below last ({self.last}), got {self.first}")
        for name in ("separator", "word_separator", "empty"):
            value = getattr(self, name)
            if self.first <= value <= self.last or value < 2:
                raise InputError(f"{name} must lie outside the drawn ids {self.first}..{self.last}, got {value}")
        if len(self.digits) not in (0, 10):
            raise InputError(f"digits must be ten ids or none, got {len(self.digits)}")
        if not 0 <= min(self.used) <= max(self.used) <= LARGEST_ID:
            raise InputError(f"token ids must lie between 0 and {LARGEST_ID}, got {min(self.used)}..{max(self.used)}")

    @property
    def size(self) -> int:
        """Number of ids that are drawn."""
        return self.last - self.first + 1

    @property
    def used(self) -> tuple[int, ...]:
        """The smallest and largest drawn id and all ids with a role of their own, except T5's number pieces."""
        return (
            self.first,
            self.last,
            self.separator,
            self.word_separator,
            self.empty,
            *self.yes,
            *self.no,
            *self.digits,
        )

    def number(self, value: int) -> tuple[int, ...]:
        """The ids that spell `value` in decimal; raises `InputError` if T5's table does not contain it."""
        if self.digits:
            return tuple(self.digits[int(digit)] for digit in str(value))
        if not 0 <= value < len(T5_NUMBERS):
            raise InputError(f"number {value} cannot be written: T5's number table spells 0 to {len(T5_NUMBERS) - 1}")
        return T5_NUMBERS[value]


def token_space(*, num_pieces: int, num_sentinels: int = 100) -> TokenSpace:
    """The token space of a vocabulary of `num_pieces` pieces with `num_sentinels` sentinels above them.

    Its pieces have no fixed meaning, so the first ten drawn ids serve as digits and the next two as yes and no.
    """
    top = num_pieces + num_sentinels - 1
    return TokenSpace(
        last=num_pieces - 1,
        separator=top - 2,
        word_separator=top - 1,
        empty=top - 3,
        yes=(12,),
        no=(13,),
        digits=tuple(range(2, 12)),
    )


# T5's pieces of the decimal strings 0 to 220, without the piece of the leading space; + joins two pieces of one number.
_T5_NUMBER_PIECES = """
632 209 204 220 314 305 431 489 505 668 335 850 586 1179 968 627 898 1003 507 957 460 1401 1630 1902 997 944
2208 2307 2059 2838 604 2664 3538 5400 6154 3097 4475 6862 6654 6352 1283 8798 6426 8838 8537 3479 9668
10635 4678 9526 943 11696 9065 12210 10630 6897 11526 3436 3449 3390 1640 4241 4056 3891 6687 7123 3539 3708
3651 3951 2861 4450 9455 4552 4581 6374 3959 4013 3940 4440 2775 4959 4613 4591 4608 11989 3840 4225 4060
3914 2777 4729 4508 4271 4240 11923 4314 4327 3916 12185 910 13736 14388 17864 15442 12869 16431 18057 16169
17304 11190 15866 850+357 20522 18959 15660 20159 20275 20056 19993 5864 22011 20889 14574 22504 10124 21976
22367 209+2577 22174 12778 22048 23757 22974 23747 209+2469 23459 24636 22744 24090 11397 26059 24978 25133
20885 20987 24300 24719 24748 24816 4261 26578 26320 27025 27308 20896 25463 27452 26556 27904 11321 898+536
898+357 898+519 26987 22823 26811 27650 24274 27096 209+2518 1003+536 27156 1003+519 27693 209+3072 26782
26793 27640 26593 8003 507+536 507+357 24361 25987 21594 25398 25828 25794 25312 11776 957+536 19978 957+519
957+591 22464 26937 27181 24151 19479 2382 22772 19818 23330 26363 23201 24643 26426 23946 460+1298 15239
27278 24837 204+2368 27357 204+1808 27184 204+2517 204+2606 204+2294 204+1755
"""
T5_NUMBERS = tuple(tuple(int(piece) for piece in number.split("+")) for number in _T5_NUMBER_PIECES.split())
T5_TOKENS = TokenSpace()
