"""SQLite's C driver, `_sqlite3`, at half its import cost.

`_sqlite3` imports `functools` for `lru_cache` alone, and that `collections`: 3 ms, a third of a bare
interpreter's start. Where nobody has loaded it, the C half that does the caching is lent in its place for the
length of the import. Source: CPython 3.11 to 3.13, Modules/_sqlite/module.c, load_functools_lru_cache.
"""

from __future__ import annotations

import _functools  # type: ignore[import-not-found]
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

__all__ = ["Error", "connect"]


def _lru_cache(maxsize: int) -> Callable[[Callable[..., Any]], Any]:
    """Do what functools.lru_cache does, without the bookkeeping that nobody asks for."""
    return lambda function: _functools._lru_cache_wrapper(function, maxsize, False, tuple)


def _load() -> Any:
    if "functools" in sys.modules:
        return __import__("_sqlite3")
    stand_in = type(sys)("functools")
    vars(stand_in)["lru_cache"] = _lru_cache
    sys.modules["functools"] = stand_in
    try:
        return __import__("_sqlite3")
    finally:
        del sys.modules["functools"]


_driver: Final = _load()
Error: Final[type[Exception]] = _driver.Error
connect: Final[Callable[..., Any]] = _driver.connect
