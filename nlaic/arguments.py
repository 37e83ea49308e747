"""Plain values, of a command line or of a file, held against the annotations of what they are arguments of."""

import types
from collections.abc import Mapping, Sequence
from inspect import signature
from numbers import Integral, Real
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from nlaic.errors import NlaicError

T = TypeVar("T")

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", type(None): "null"}


def settings_from(kind: type[T], values: Mapping[str, Any], group: str) -> T:
    """Make a settings dataclass, or another class, from a part of the configuration.

    Raises:
        NlaicError: if a name is not one of its arguments, or a value not of its kind.
    """
    check_arguments(kind, values, group)
    return kind(**values)


def whole(name: str, value: Any) -> int:
    """A whole number of any kind, NumPy's too, as Python's, whose arithmetic has no end.

    Raises:
        NlaicError: if it is none.
    """
    if not isinstance(value, Integral):
        raise NlaicError(f"{name} must be a whole number, but got {value!r}")
    return int(value)


def real(name: str, value: Any) -> float:
    """The same for any number."""
    if not isinstance(value, Real):
        raise NlaicError(f"{name} must be a number, but got {value!r}")
    return float(value)


def check_least(settings: object, group: str, least: float, *names: str) -> None:
    """Whether settings are at least so much.

    Raises:
        NlaicError: for the first that is less, or no number.
    """
    for name in names:
        if not (value := getattr(settings, name)) >= least:
            raise NlaicError(f"{group}.{name} must be at least {least}, but got {value}")


def check_arguments(kind: type, values: Mapping[str, Any], group: str) -> None:
    """Whether a class takes these arguments.

    Args:
        kind: whose constructor is annotated.
        values: numbers, words, lists and mappings, by name.
        group: where they stand, for the message.

    Raises:
        NlaicError: if a name is not one of its arguments, or a value not what it is annotated to be.
    """
    known, hints = list(signature(kind).parameters), get_type_hints(vars(kind)["__init__"])
    if unknown := sorted(set(values) - set(known)):
        raise NlaicError(f"{group}: unknown setting {unknown[0]!r}, allowed: {', '.join(known)}")
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise NlaicError(f"{group}.{name} must be {_told(hints[name])}, but got {value!r}")


def _fits(value: Any, hint: Any) -> bool:
    """A list stands for a tuple too, a whole number for any."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            _fits(key, inner[0]) and _fits(one, inner[1]) for key, one in value.items()
        )
    if origin and issubclass(origin, Sequence):
        if not isinstance(value, list | tuple):
            return False
        parts = inner if origin is tuple and ... not in inner else inner[:1] * len(value)
        return len(parts) == len(value) and all(map(_fits, value, parts))
    if hint in (int, float):
        return isinstance(value, int if hint is int else (int, float)) and not isinstance(value, bool)
    return hint not in WORDS or isinstance(value, hint)


def _told(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_told, inner))
    if origin and issubclass(origin, Mapping):
        return f"{{NAME: {_told(inner[1])}, ...}}"
    if origin and issubclass(origin, Sequence):
        parts = [_told(one) for one in inner if one is not ...]
        return f"[{', '.join(parts)}{', ...' if len(parts) < len(inner) or origin is not tuple else ''}]"
    return WORDS.get(hint, str(hint))
