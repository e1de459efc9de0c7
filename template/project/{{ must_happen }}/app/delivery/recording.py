"""Record arguments and results as JSON, and refuse those that would change by it.

JSON holds less than Python: a serializer may mask or leave out, and a union may load as
another of its types. So whatever is recorded is loaded at once and compared.
"""

import json
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache, cached_property, partial
from typing import Any
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    PydanticUserError,
    SecretBytes,
    SecretStr,
    TypeAdapter,
    ValidationError,
)

JSON = ConfigDict(
    ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="strings"
)


def adapt(annotation: Any, what: str) -> TypeAdapter[Any]:
    """Return what records values of a type.

    Raises TypeError if the type alone shows that they cannot be.
    """
    if annotation in (SecretStr, SecretBytes):
        raise TypeError(f"{what} would be recorded masked; pass an id instead")

    try:
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=JSON)
        except PydanticUserError as error:
            if error.code != "type-adapter-config-unused":
                raise
            # A model has a configuration of its own.
            adapter = TypeAdapter(annotation)

        adapter.json_schema(mode="serialization")
    except PydanticUserError as error:
        reason = str(error).splitlines()[0]
        message = f"{what} cannot be recorded as JSON; pass an id instead ({reason})"
        raise TypeError(message) from None

    return adapter


def dump(adapter: TypeAdapter[Any], given: object, what: str) -> str:
    """Validate a value and return it as JSON, from which `load` makes its like.

    Raises pydantic's ValidationError if it is not of its type, and ValueError if it
    would change, in value or in type.
    """
    # By both, as it is loaded: by the alias for whoever hands over a body's dict.
    value = adapter.validate_python(given, by_alias=True, by_name=True)

    try:
        return _dump_unchanged(adapter, value, what, by_alias=False)
    except ValueError:
        # A discriminator, or a validator of the user's own, may look for the alias.
        with suppress(ValueError):
            return _dump_unchanged(adapter, value, what, by_alias=True)
        raise


def load(adapter: TypeAdapter[Any], recorded: str) -> Any:
    """Return what was recorded.

    Raises ValueError if it does not fit its type any more.
    """
    try:
        # By the alias, too: a field may have had another name in an earlier release.
        return adapter.validate_json(recorded, by_alias=True, by_name=True)
    except ValidationError as error:
        # Whoever knows a task's id sees its error, but only operators see its
        # arguments.
        problems = "; ".join(
            f"{problem['loc']}: {problem['msg']}" for problem in error.errors()
        )
        raise ValueError(f"what is recorded does not fit: {problems}") from None


def _dump_unchanged(
    adapter: TypeAdapter[Any], value: object, what: str, *, by_alias: bool
) -> str:
    # What pydantic would warn of is found by comparing.
    dump_json = partial(
        adapter.dump_json, value, round_trip=True, by_alias=by_alias, warnings=False
    )

    try:
        recorded = dump_json().decode()
        path = _find_change(value, load(adapter, recorded))
    except Exception as error:  # Validators and serializers raise what they like.
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        where = _where(what, _find_unrecordable(dump_json, value))
        raise ValueError(f"{where} cannot be recorded as JSON: {reason}") from None

    if path is not None:
        raise ValueError(
            f"{_where(what, path)} would change: from JSON, it does not load as the "
            "same value of the same type"
        )
    return recorded


def _find_unrecordable(dump_json: Callable[..., bytes], value: object) -> list[object]:
    names, _ = _parts(value) or ([], [])
    for name in names:
        try:
            json.loads(dump_json(include={name}))
        except Exception:
            return [name]
    return []


def _where(what: str, path: list[object]) -> str:
    name = ".".join(map(str, path))
    return f"{what} {name if name.isprintable() else ascii(name)}".rstrip()


def _find_change(given: Any, loaded: Any) -> list[object] | None:
    """Return the path to the first part that is another, or None if there is none."""
    kind = type(loaded)
    if kind is not type(given) and not _is_plainer(kind, given):
        return []
    # Of plain values that are equal, only a zero may still have another sign.
    if given is loaded or (kind in _PLAIN and loaded and given == loaded):
        return None

    if kind in _EXACT:
        return None if _EXACT[kind](given) == _EXACT[kind](loaded) else []
    if (whole := _parts(given)) is None:
        return None if given == loaded else []

    labels, parts = whole
    other_labels, others = _parts(loaded) or ([], [])
    if labels != other_labels:
        return []
    for label, part, other in zip(labels, parts, others, strict=True):
        if (path := _find_change(part, other)) is not None:
            return [label, *path]
    return None


def _is_plainer(kind: type, given: object) -> bool:
    # A driver of a database has types of its own, which the task need not know.
    is_scalar = kind in _PLAIN or kind in _EXACT or kind in {date, timedelta}
    return is_scalar and isinstance(given, kind) and not isinstance(given, (bool, Enum))


def _parts(value: object) -> tuple[Sequence[object], Sequence[object]] | None:
    """Return the names of a value's parts, and the parts; None if it has none.

    Keys are parts, too: 1 and True are equal.
    """
    match value:
        case list() | tuple():
            return range(len(value)), value
        case deque():
            return ["maxlen", *range(len(value))], [value.maxlen, *value]
        case set() | frozenset():
            return range(len(value)), sorted(value, key=repr)
        case dict():
            factory = getattr(value, "default_factory", None)
            return ["factory", *value, *value], [factory, *value, *value.values()]

    kind: Any = type(value)
    if not (
        isinstance(value, BaseModel)
        # One that does not say what it is equal to is so if its attributes are.
        or (kind.__eq__ is object.__eq__ and hasattr(value, "__dict__"))
        or is_dataclass(value)
    ):
        return None

    state: Any = object.__getstate__(value)
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    every = {**(attributes or {}), **(slots or {})}
    names = sorted(every.keys() - _not_compared(kind))
    return names, [every[name] for name in names]


@cache
def _not_compared(kind: type) -> set[str]:
    computed = {
        name
        for each in kind.__mro__
        for name, member in vars(each).items()
        if isinstance(member, cached_property)
    }
    # Which fields of a model were given is no part of its value, to pydantic either.
    return computed | {"__pydantic_fields_set__"}


_PLAIN = {bool, bytes, float, int, str, UUID}
# What to compare where equality does not tell: a NaN equals nothing, -0.0 equals 0.0,
# and moments are equal whatever their offset. Their zone's name is not recorded.
_EXACT: dict[type, Callable[[Any], object]] = {
    float: float.__repr__,
    complex: complex.__repr__,
    Decimal: Decimal.__repr__,
    datetime: datetime.isoformat,
    time: lambda value: (value.isoformat(), value.tzinfo is None),
}
