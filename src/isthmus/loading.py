"""Find the modules of this package where they are: one stat, one read each.

A call of a verb loads some seventy modules. Python's own way looks through the path for each, and reads its compiled
file, by dozens of calls of Python functions: 3 ms of 15, for what is known beforehand. What is found here is what
Python would find: a compiled file that it wrote, for this source by time and size. Where there is none, or anything
else is unusual, Python goes its own way, and writes one (docs/decisions/0014).

Source: PEP 451, PEP 552 (the head of a compiled file), CPython Lib/importlib/_bootstrap_external.py.
"""

from __future__ import annotations

import marshal
import os
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER, PathFinder, SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType
    from typing import Final

__all__ = ["install"]

_PACKAGE: Final = f"{__name__.partition('.')[0]}."
_TAG: Final = f".{sys.implementation.cache_tag}.pyc"
_BY_TIME: Final = MAGIC_NUMBER + bytes(4)  # not by a hash of the source
_HEAD_BYTES: Final = 16
_LIMIT_BYTES: Final = 1 << 16  # a larger buffer would be mapped anew each time


class _Loader(SourceFileLoader):
    """Loads a module whose code was read when it was found; the second time as Python does."""

    code: CodeType | None = None

    def get_code(self, fullname: str) -> CodeType | None:
        """Return the code, and keep it no longer."""
        code, self.code = self.code, None
        return code or super().get_code(fullname)


class _Finder:
    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, _: object = None) -> ModuleSpec | None:
        """Return how a module of this package is loaded; None: as any other."""
        if path is None or not name.startswith(_PACKAGE):
            return None
        folder, stem = path[0], name.rpartition(".")[2]
        inside = f"{folder}/{stem}"
        try:
            return _spec(name, folder, stem) or _spec(name, inside, "__init__", package=inside)
        except (OSError, ValueError, EOFError, TypeError):
            return None


def _spec(name: str, folder: str, stem: str, *, package: str | None = None) -> ModuleSpec | None:
    """Return how a module is loaded from a file of a folder; None: there is none."""
    source, compiled = f"{folder}/{stem}.py", f"{folder}/__pycache__/{stem}{_TAG}"
    try:
        found = os.stat(source)
    except FileNotFoundError:
        return None
    fd = os.open(compiled, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, _LIMIT_BYTES)
    finally:
        os.close(fd)
    stamp = (int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)
    head = _BY_TIME + b"".join([number.to_bytes(4, "little") for number in stamp])
    if data[:_HEAD_BYTES] != head or len(data) == _LIMIT_BYTES:
        raise ValueError(compiled)
    loader = _Loader(name, source)
    loader.code = marshal.loads(memoryview(data)[_HEAD_BYTES:])
    spec = ModuleSpec(name, loader, origin=source, is_package=package is not None)
    spec.has_location = True
    spec.cached = compiled
    if package is not None and spec.submodule_search_locations is not None:
        spec.submodule_search_locations.append(package)
    return spec


def install() -> None:
    """Have the modules of this package found so from now on, before those that Python looks for in the path."""
    usual = not sys.flags.optimize and sys.pycache_prefix is None and sys.implementation.cache_tag
    if usual and PathFinder in sys.meta_path and _Finder not in sys.meta_path:
        sys.meta_path.insert(sys.meta_path.index(PathFinder), _Finder)
