"""Inner loops that Numba compiles at their first call, because importing Numba takes longer than most commands."""

import functools
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class compiled(Generic[Parameters, Result]):
    """Decorator: compiles a function at its first call, as `numba.njit(cache=True)` does.

    The first call replaces every function of the module that is decorated so by Numba's function. Functions of one
    module may therefore call each other, but not those of another module. `py_func` is the undecorated function,
    before the first call and after it.
    """

    def __init__(self, function: Callable[Parameters, Result]):
        functools.update_wrapper(self, function)
        self.py_func = function

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        import numba

        module: dict[str, Any] = self.py_func.__globals__
        for name, value in list(module.items()):
            if isinstance(value, compiled) and value.py_func.__globals__ is module:
                module[name] = numba.njit(cache=True)(value.py_func)
        dispatcher: Callable[Parameters, Result] = module[self.py_func.__name__]
        return dispatcher(*args, **kwargs)
