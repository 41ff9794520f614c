"""Dataclasses that know a mistyped field."""

from __future__ import annotations

import difflib
from typing import Any, Collection


class CheckedFields:
    """Base of dataclasses: setting what is no field is an AttributeError that names the nearest.
    Subclasses that are no dataclasses themselves may have attributes of their own."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._names() and "__dataclass_fields__" in type(self).__dict__:
            raise self._no_field(name)
        object.__setattr__(self, name, value)

    @classmethod
    def _names(cls) -> Collection[str]:
        """What can be set."""
        return cls.__dataclass_fields__  # type: ignore[attr-defined]

    @classmethod
    def _no_field(cls, name: str) -> AttributeError:
        near = difflib.get_close_matches(name, cls._names(), 1)
        hint = f"use '{near[0]}'" if near else f"there are {', '.join(cls._names())}"
        return AttributeError(f"{cls.__name__} has no field '{name}': {hint}", name=name)
