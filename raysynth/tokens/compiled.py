"""Inner loops that Numba compiles, at their first call: importing it takes longer than most commands do."""

import functools
from collections.abc import Callable
from typing import Any


class compiled:
    """Compiles a function as `numba.njit(cache=True)` does, once it is called.

    At the first call Numba's functions take the places of all compiled ones of the module, which so may call each
    other, but none of another module. `py_func` is the function itself, before as after.
    """

    def __init__(self, function: Callable[..., Any]):
        functools.update_wrapper(self, function)
        self.py_func = function

    def __call__(self, *args: Any) -> Any:
        import numba

        names = self.py_func.__globals__
        for name, value in list(names.items()):
            if isinstance(value, compiled) and value.py_func.__globals__ is names:
                names[name] = numba.njit(cache=True)(value.py_func)
        return names[self.py_func.__name__](*args)
