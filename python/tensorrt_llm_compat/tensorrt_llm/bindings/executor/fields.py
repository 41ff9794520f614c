"""What the config classes share: fields that have older names, and mistyped ones."""

from __future__ import annotations

import enum
import inspect
import typing
from typing import Any, ClassVar, Collection, Mapping

from headrace.fields import CheckedFields


class _TakesOldNames(type):
    """Lets constructors take a field by an older name; the newer one comes first."""

    _OLD_NAMES: Mapping[str, str]

    def __call__(cls, *args: Any, **fields: Any) -> Any:
        for old, new in cls._OLD_NAMES.items():
            value = fields.pop(old, None)
            if value is not None and fields.get(new) is None:
                fields[new] = value
        return super().__call__(*args, **fields)


def _article(noun: str) -> str:
    return "an" if noun[0] in "AEIOU" else "a"


class Config(CheckedFields, metaclass=_TakesOldNames):
    """Base of dataclasses. An older name is another name of the same value; a name that is none is an
    AttributeError that says which is near."""

    _OLD_NAMES: ClassVar[Mapping[str, str]] = {}
    """Older to newer."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(self._OLD_NAMES.get(name, name), value)

    def __getattr__(self, name: str) -> Any:
        """Of what is not found otherwise."""
        if name in self._OLD_NAMES:
            return getattr(self, self._OLD_NAMES[name])
        raise self._no_field(name)

    def check_types(self) -> None:
        """TypeError for a field, here or further in, that should be another config or an enum's value
        and is none."""
        for name, hint in typing.get_type_hints(type(self)).items():
            classes = [one for one in (typing.get_args(hint) or (hint,)) if inspect.isclass(one)]
            wanted = [one for one in classes if issubclass(one, (Config, enum.Enum))]
            value = getattr(self, name)
            if wanted and not isinstance(value, tuple(classes)):
                raise TypeError(f"{type(self).__name__}.{name} cannot be {value!r}: use "
                                f"{_article(wanted[0].__name__)} {wanted[0].__name__}")
            if isinstance(value, Config):
                value.check_types()

    @classmethod
    def _names(cls) -> Collection[str]:
        return [*super()._names(), *cls._OLD_NAMES]
