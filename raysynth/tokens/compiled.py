"""Inner loops that Numba compiles at their first call, because importing Numba takes longer than most commands."""

import functools
import os
import stat
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
        module: dict[str, Any] = self.py_func.__globals__
        for name, value in list(module.items()):
            if isinstance(value, compiled) and value.py_func.__globals__ is module:
                module[name] = _dispatcher(value.py_func)
        dispatcher: Callable[Parameters, Result] = module[self.py_func.__name__]
        return dispatcher(*args, **kwargs)


def _dispatcher(function: Callable[..., Any]) -> Any:
    """Numba's version of a function, with a cache on disk if there is a place for it that nobody else can write."""
    import numba

    try:
        cached = numba.njit(cache=True)(function)
    except (RuntimeError, OSError):  # neither the package nor the home directory is writable
        return numba.njit(function)
    if cached is function:  # as the variable NUMBA_DISABLE_JIT asks
        return function
    place = cached.stats.cache_path or ""
    return cached if _is_trusted(place, function.__code__.co_filename) else numba.njit(function)


def _is_trusted(folder: str, source: str) -> bool:
    """Whether a cache, which holds code, belongs to this user or the source's owner, and not everybody can write it."""
    try:
        info = os.stat(folder)
        owners = {os.geteuid(), os.stat(source).st_uid}
    except OSError:
        return False
    return info.st_uid in owners and not info.st_mode & stat.S_IWOTH
