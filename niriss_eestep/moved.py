"""Old names of modules that have moved, for code that imports public classes from them."""

import sys
import warnings
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

#: new names by the old ones, below the package
MOVED = dict(line.split() for line in Path(__file__).with_suffix(".txt").read_text(encoding="ascii").splitlines())


def _forward(old: str, new: str, name: str) -> Any:
    """Take a name from where its module is now, and say so."""
    if name.startswith("__"):
        raise AttributeError(f"module {old!r} has no attribute {name!r}")
    warnings.warn(f"{old} has moved: import {new}", DeprecationWarning, stacklevel=2)
    return getattr(import_module(new), name)


# modules without code of their own, that take each name from the new place when it is asked for
for _old, _new in MOVED.items():
    _module = ModuleType(f"niriss_eestep.{_old}", f"Moved to niriss_eestep.{_new}.")
    _module.__spec__, _module.__path__, _module.__file__ = ModuleSpec(_module.__name__, None), [], __file__
    _module.__dict__["__getattr__"] = partial(_forward, _module.__name__, f"niriss_eestep.{_new}")
    sys.modules.setdefault(_module.__name__, _module)
