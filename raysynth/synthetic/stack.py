"""Stack: what is left on a stack after a sequence of operations.

arXiv 2505.22308 and 2601.21725 pre-train on this task; the rule and the numbers are those of their code
(zlshinnick/procedural-pretraining at 5356d9e).
"""

from typing import ClassVar

import numpy as np

from raysynth.errors import InputError
from raysynth.fields import share, spec
from raysynth.synthetic.simple import SimpleTask
from raysynth.tokens.compiled import compiled
from raysynth.tokens.ragged import Ids, Ints, Ragged
from raysynth.tokens.token_space import TokenSpace


@spec
class Stack(SimpleTask):
    """The stack after a sequence of operations, from top to bottom.

    An operation is a token, which is pushed, or the separator, which pops the last token. With at most one token on the
    stack the operation is a push. Otherwise it is a push with probability `push_share` among the first two thirds of
    the operations (rounded down), and a pop with that probability after them; the last one is a pop. A pushed token is
    uniform among those that are not on the stack, so tokens of a stack differ, and a target has at least one.

    The number of operations is uniform from `min_length` to `max_length`, here always 64. The 99 tokens are the first
    of the paper's pool; `tokens=TokenSpace()` draws from all of it.
    """

    name: ClassVar[str] = "stack"
    revision: ClassVar[int] = 1

    tokens: TokenSpace = TokenSpace(last=100)
    min_length: int = 64
    max_length: int = 64
    """Bounds of the number of operations."""
    push_share: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        share(self, "push_share")
        self._require_pool(self.max_length)

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """Sequences of operations, [count] rows."""
        return self._drawn(_draw_operations, rng, count, self.tokens.separator, self.push_share)

    def _answers(self, sources: Ragged) -> Ragged:
        stacks, offsets = np.empty(len(sources.values), np.uint16), np.zeros(len(sources) + 1, np.int64)
        row = _apply_operations(sources.values, sources.offsets, self.tokens.separator, stacks, offsets)
        if row >= 0:
            raise InputError(f"Stack: input {row} must not pop an empty stack")
        return Ragged(stacks[: offsets[-1]], offsets)

    def readable(self, source: Ids, target: Ids) -> tuple[str, str]:
        """Write tokens as letters and the separator as `pop`."""
        source_text, target_text = super().readable(source, target)
        return source_text.replace("<s>", "pop"), target_text


@compiled
def _draw_operations(
    rng: np.random.Generator,
    values: Ids,
    offsets: Ints,
    least: int,
    most: int,
    first: int,
    size: int,
    pop: int,
    push_share: float,
) -> None:
    stack = np.empty(most, np.int64)
    is_on_stack = np.zeros(size, np.bool_)
    for row in range(len(offsets) - 1):
        length = least + int(rng.random() * (most - least + 1))
        depth = 0
        for i in range(length):
            if depth <= 1:
                pushes = True
            elif i == length - 1:
                pushes = False
            else:
                pushes = (rng.random() < push_share) == (i < 2 * length // 3)
            if pushes:
                index = int(rng.random() * size)
                while is_on_stack[index]:  # rejection treats all tokens alike, so the draws stay uniform
                    index = int(rng.random() * size)
                is_on_stack[index] = True
                stack[depth] = index
                depth += 1
                values[offsets[row] + i] = first + index
            else:
                depth -= 1
                is_on_stack[stack[depth]] = False
                values[offsets[row] + i] = pop
        for i in range(depth):
            is_on_stack[stack[i]] = False
        offsets[row + 1] = offsets[row] + length


@compiled
def _apply_operations(values: Ids, offsets: Ints, pop: int, stacks: Ids, ends: Ints) -> int:
    """Write the stack of each row, from top to bottom; returns the first row that pops an empty stack, or -1."""
    for row in range(len(ends) - 1):
        start = end = ends[row]
        for place in range(offsets[row], offsets[row + 1]):
            if values[place] != pop:
                stacks[end] = values[place]
                end += 1
            elif end == start:
                return row
            else:
                end -= 1
        stacks[start:end] = stacks[start:end][::-1].copy()
        ends[row + 1] = end
    return -1
