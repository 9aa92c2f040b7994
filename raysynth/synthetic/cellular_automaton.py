"""Cellular automaton: the next grid of a random neural cellular automaton.

arXiv 2603.10055 trains language models on such sequences before natural text. The rule and the numbers are those of its
code (danihyunlee/nca-pre-pretraining at bdd1c71), which trains decoders; here the first grids are the source, and the
next grid is the target.

Rules compute with whole numbers, so bits depend neither on the order of a sum nor on the processor: entries of kernels
have units of 1 / 512 of their standard deviation, and every sum of products is exact. States are drawn by rejection,
which needs comparisons in place of the softmax.
"""

import dataclasses
import math
import zlib
from functools import cache
from statistics import NormalDist
from typing import ClassVar

import numpy as np

from raysynth.errors import InputError
from raysynth.fields import finite, positive, spec, whole
from raysynth.synthetic.base import SyntheticTask
from raysynth.tokens.compiled import compiled
from raysynth.tokens.ragged import Floats, Ids, Ints, Ragged
from raysynth.tokens.token_space import TokenSpace

_UNIT = 512
"""Units of a standard deviation."""
_NUM_NORMALS = 1 << 13
_NUM_PERCEIVED = 4
_NUM_HIDDEN = 16
_MAX_STATES = 16
_MAX_FAILURES = 10_000
"""Rules in a row outside the range of ratios, before a draw gives up."""


@spec
class CellularAutomaton(SyntheticTask):
    """Continue a random neural cellular automaton by one grid.

    A grid is a torus of `grid_size` x `grid_size` cells with one of `num_states` states each. A rule is a convolution
    of the states, one-hot, with 3 x 3 kernels to 4 channels, then for each cell a linear map to 16 numbers, ReLU and a
    linear map to one logit a state. Its kernels are LeCun normal (variance 1 / inputs, cut off at two standard
    deviations before scaling, as in JAX) and have no biases. A cell's next state is drawn from
    softmax(logits / `temperature`), almost always the largest. The cells of the first grid are drawn from one softmax
    of standard normal logits. Normal numbers are the midpoints of 8,192 intervals of equal probability.

    Every example has a rule of its own. After `num_skipped` steps, the next `num_grids` grids are the source and the
    one after them is the target. A grid is written as a start token, its 2 x 2 patches from left to right and from top
    to bottom, and an end token: 38 tokens, so sources have 494 without end of sequence. A patch is a number with four
    digits, its states in the same order, and counts from the pool's first id; start and end are the two ids after the
    last patch. All 10,002 are the first ids of the paper's pool, which has more than the task needs.

    Examples are kept if gzip at level 9 makes source and target, two bytes a token, smaller by a ratio above
    `min_ratio` and below `max_ratio`; for code the paper took 0.3 to 0.4. The ratio is that of the zlib that Python
    uses, the only part of this package's data that another library's version could change.
    """

    name: ClassVar[str] = "cellular_automaton"

    tokens: TokenSpace = TokenSpace(last=10_003)
    grid_size: int = 12
    num_states: int = 10
    num_skipped: int = 10
    num_grids: int = 13
    """Grids of a source."""
    temperature: float = 1e-4
    min_ratio: float = 0.5
    max_ratio: float = 1.0

    def __post_init__(self) -> None:
        whole(self, "grid_size", minimum=2, maximum=100)
        whole(self, "num_states", minimum=2, maximum=_MAX_STATES - 1)
        whole(self, "num_skipped", minimum=0, maximum=10_000)
        whole(self, "num_grids", maximum=10_000)
        positive(self, "temperature", "max_ratio")
        finite(self, "min_ratio", minimum=0)
        if self.grid_size % 2:
            raise InputError(f"CellularAutomaton.grid_size must be even, got {self.grid_size}")
        if self.min_ratio >= self.max_ratio:
            raise InputError(
                f"CellularAutomaton.min_ratio must be below max_ratio ({self.max_ratio}), got {self.min_ratio}"
            )
        if self.tokens.size < self.num_states**4 + 2:
            raise InputError(
                f"CellularAutomaton.tokens must have a pool of at least {self.num_states**4 + 2} ids for "
                f"{self.num_states} states, got {self.tokens.size}"
            )

    @property
    def grid_length(self) -> int:
        """Tokens of a grid, start and end included."""
        return (self.grid_size // 2) ** 2 + 2

    def tiny(self) -> "CellularAutomaton":
        """Three grids of 4 x 4 cells, kept whatever their ratio is."""
        return dataclasses.replace(self, grid_size=4, num_grids=3, min_ratio=0.0, max_ratio=10.0)

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Ragged, Ragged]:
        """`count` sources of `num_grids` grids and their next grids; raises `InputError` if no rule is kept."""
        length = (self.num_grids + 1) * self.grid_length
        rows = np.empty((count, length), np.uint16)
        num_kept = num_failures = 0
        while num_kept < count:
            drawn = np.empty((count - num_kept, length), np.uint16)  # one that is kept is never left over
            self._fill(rng, drawn)
            kept = np.array([self.min_ratio < _ratio(row) < self.max_ratio for row in drawn])
            rows[num_kept : num_kept + kept.sum()] = drawn[kept]
            num_kept += int(kept.sum())
            num_failures = 0 if kept.any() else num_failures + len(drawn)
            if num_failures > _MAX_FAILURES:
                raise InputError(
                    f"CellularAutomaton: none of {num_failures} rules has a gzip ratio between min_ratio "
                    f"({self.min_ratio}) and max_ratio ({self.max_ratio})"
                )
        cut = self.num_grids * self.grid_length
        return _equal_rows(rows[:, :cut]), _equal_rows(rows[:, cut:])

    def readable(self, source: Ids, target: Ids) -> tuple[str, str]:
        """Write a grid as [ ], with its patches as four digits each."""
        num_patches = self.num_states**4

        def word(id: int) -> str:
            number = id - self.tokens.first
            if number >= num_patches:
                return "[" if number == num_patches else "]"
            return "".join(
                "0123456789abcde"[number // self.num_states**place % self.num_states] for place in (3, 2, 1, 0)
            )

        source_text, target_text = (" ".join(map(word, ids.tolist())) for ids in (source, target))
        return source_text, target_text

    def _fill(self, rng: np.random.Generator, rows: Ids) -> None:
        """Fill `rows`, [count, length], each with the grids of a rule of its own."""
        # A logit is a sum of products of one entry of each kernel.
        variance = 1 / (9 * self.num_states) / _NUM_PERCEIVED / _NUM_HIDDEN
        unit = _UNIT**3 / math.sqrt(variance) * self.temperature
        _draw_grids(
            rng,
            _normals(math.inf),
            _normals(2.0),
            unit,
            self.grid_size,
            self.num_states,
            self.num_skipped,
            self.tokens.first,
            rows,
        )


def _ratio(row: Ids) -> float:
    """Bytes after compression by gzip at level 9 over bytes before, at two bytes a token."""
    content = row.astype("<u2").tobytes()
    return len(zlib.compress(content, 9, 31)) / len(content)


def _equal_rows(rows: Ids) -> Ragged:
    """Rows of equal lengths, [count, length]."""
    return Ragged.packed(rows.reshape(-1), np.full(len(rows), rows.shape[1], np.int64))


@cache
def _normals(cutoff: float) -> Ints:
    """Normal numbers of equal probability without those beyond a cutoff, [8192], in units of 1 / 512 of their SD."""
    normal = NormalDist()
    least = normal.cdf(-cutoff)
    # The variance of what is left (Johnson, Kotz and Balakrishnan 1994, section 10.1).
    variance = 1 if cutoff == math.inf else 1 - 2 * cutoff * normal.pdf(cutoff) / (1 - 2 * least)
    half = _NUM_NORMALS // 2
    shares = [0.5 + (0.5 - least) * (2 * i + 1) / (2 * half) for i in range(half)]
    upper = [round(_UNIT * normal.inv_cdf(share) / math.sqrt(variance)) for share in shares]
    return np.array([-value for value in reversed(upper)] + upper)


@compiled
def _fill_normal(rng: np.random.Generator, normals: Ints, out: Ints) -> None:
    """Fill a flat array with normal numbers, four from each drawn number."""
    for start in range(0, len(out), 4):
        bits = int(rng.random() * 4_503_599_627_370_496.0)  # 52 bits, 13 for each
        for place in range(start, min(start + 4, len(out))):
            out[place] = normals[bits & (_NUM_NORMALS - 1)]
            bits >>= 13


@compiled
def _happens(rng: np.random.Generator, x: float) -> bool:
    """True with probability exp(-x), from comparisons of uniform numbers alone (von Neumann 1951)."""
    while True:
        last = min(x, 1.0)
        num_falling = 0
        while True:
            drawn = rng.random()
            if drawn >= last:
                break
            last = drawn
            num_falling += 1
        if num_falling % 2:
            return False
        x -= 1.0
        if x <= 0.0:
            return True


@compiled
def _draw_state(rng: np.random.Generator, logits: Floats, num_states: int, unit: float) -> int:
    """A state with probability softmax(logits / unit), without those below exp(-40) of the largest."""
    best, second = 0, -np.inf
    for state in range(1, num_states):
        if logits[state] > logits[best]:
            best, second = state, logits[best]
        else:
            second = max(second, logits[state])
    while logits[best] - second <= 40.0 * unit:
        state = int(rng.random() * num_states)
        below = logits[best] - logits[state]
        if below <= 40.0 * unit and _happens(rng, below / unit):
            return state
    return best


@compiled
def _step(
    rng: np.random.Generator, added: Floats, shown: Floats, num_states: int, unit: float, grid: Ints, next_grid: Ints
) -> None:
    """Write the grid after `grid`, [size, size], to `next_grid`."""
    size = len(grid)
    around = (np.arange(size + 2) + size - 1) % size  # a torus: the place before the first is the last
    hidden, logits = np.empty(_NUM_HIDDEN, np.float64), np.empty(_MAX_STATES, np.float64)
    for y in range(size):
        for x in range(size):
            for j in range(_NUM_HIDDEN):
                hidden[j] = 0.0
            for dy in range(3):  # a row of neighbours at a time
                left = added[3 * dy * num_states + grid[around[y + dy], around[x]]]
                middle = added[(3 * dy + 1) * num_states + grid[around[y + dy], x]]
                right = added[(3 * dy + 2) * num_states + grid[around[y + dy], around[x + 2]]]
                for j in range(_NUM_HIDDEN):
                    hidden[j] += left[j] + middle[j] + right[j]
            for state in range(_MAX_STATES):
                logits[state] = 0.0
            for j in range(_NUM_HIDDEN):
                if hidden[j] > 0.0:
                    for state in range(_MAX_STATES):
                        logits[state] += hidden[j] * shown[j, state]
            next_grid[y, x] = _draw_state(rng, logits, num_states, unit)


@compiled
def _write(grid: Ints, num_states: int, first: int, row: Ids, place: int) -> int:
    """Write a grid to places of `row`, [length], from `place` on; returns the place after its end."""
    row[place] = first + num_states**4
    place += 1
    for y in range(0, len(grid), 2):
        for x in range(0, len(grid), 2):
            upper = grid[y, x] * num_states + grid[y, x + 1]
            lower = grid[y + 1, x] * num_states + grid[y + 1, x + 1]
            row[place] = first + upper * num_states * num_states + lower
            place += 1
    row[place] = first + num_states**4 + 1
    return place + 1


@compiled
def _draw_grids(
    rng: np.random.Generator,
    normals: Ints,
    cut_normals: Ints,
    unit: float,
    size: int,
    num_states: int,
    num_skipped: int,
    first: int,
    rows: Ids,
) -> None:
    """Fill `rows`, [count, length], each with the grids of a rule of its own.

    The order of draws: kernels [3, 3, states, channels], [channels, hidden] and [hidden, states], then the first logits
    and the cells.
    """
    perceive = np.empty(9 * num_states * _NUM_PERCEIVED, np.int64)
    hide = np.empty(_NUM_PERCEIVED * _NUM_HIDDEN, np.int64)
    show = np.empty(_NUM_HIDDEN * num_states, np.int64)
    start = np.empty(num_states, np.int64)
    # What a neighbour in a state adds to the hidden numbers: the two linear maps before ReLU are one.
    added = np.empty((9 * num_states, _NUM_HIDDEN), np.float64)
    shown, logits = np.zeros((_NUM_HIDDEN, _MAX_STATES), np.float64), np.zeros(_MAX_STATES, np.float64)
    grid, next_grid = np.empty((size, size), np.int64), np.empty((size, size), np.int64)
    for row in range(len(rows)):
        _fill_normal(rng, cut_normals, perceive)
        _fill_normal(rng, cut_normals, hide)
        _fill_normal(rng, cut_normals, show)
        _fill_normal(rng, normals, start)
        for i in range(9 * num_states):
            for j in range(_NUM_HIDDEN):
                total = 0
                for channel in range(_NUM_PERCEIVED):
                    total += perceive[i * _NUM_PERCEIVED + channel] * hide[channel * _NUM_HIDDEN + j]
                added[i, j] = total
        for state in range(num_states):
            logits[state] = start[state]
            for j in range(_NUM_HIDDEN):
                shown[j, state] = show[j * num_states + state]
        for y in range(size):
            for x in range(size):
                grid[y, x] = _draw_state(rng, logits, num_states, _UNIT)
        num_steps, place = num_skipped, 0
        while place < rows.shape[1]:
            for _ in range(num_steps):
                _step(rng, added, shown, num_states, unit, grid, next_grid)
                grid, next_grid = next_grid, grid
            place = _write(grid, num_states, first, rows[row], place)
            num_steps = 1
