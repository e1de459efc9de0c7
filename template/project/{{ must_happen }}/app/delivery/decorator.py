"""Declare must-happen tasks, and refuse those whose calls could not be recorded."""

import inspect
from collections.abc import Callable
from dataclasses import field, make_dataclass
from functools import partial
from typing import Any, Concatenate, ParamSpec, Protocol, get_type_hints, overload

from pydantic import ConfigDict, PydanticUserError, TypeAdapter

from app.delivery.context import TaskContext
from app.delivery.definitions import MustHappenTask, register

P = ParamSpec("P")

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_JSON = ConfigDict(
    ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="strings"
)


class Declaration(Protocol):
    """The decorator of a function that may take the task's context first."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[TaskContext, P], object], /
    ) -> MustHappenTask[P]: ...

    @overload
    def __call__(self, function: Callable[P, object], /) -> MustHappenTask[P]: ...


@overload
def must_happen(
    function: Callable[Concatenate[TaskContext, P], object], /
) -> MustHappenTask[P]: ...


@overload
def must_happen(function: Callable[P, object], /) -> MustHappenTask[P]: ...


@overload
def must_happen(
    *,
    max_attempts: int = ...,
    time_limit: float = ...,
    retry_delay: float = ...,
    queue: str = ...,
    priority: int = ...,
) -> Declaration: ...


def must_happen(function: Any = None, /, **options: Any) -> Any:
    """Declare a task that is never lost; its options are those of `MustHappenTask`.

    An `async def` task runs on the event loop, a `def` one in a thread. It may take a
    `TaskContext` first; its other parameters and its result are recorded as JSON.
    Raises TypeError if these cannot be, and ValueError if an option is out of its range
    or another task has this name.
    """
    return partial(_declare, **options) if function is None else _declare(function)


def _declare(function: Callable[..., object], **options: Any) -> MustHappenTask[Any]:
    hints = get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters.values())
    takes_context = bool(parameters) and hints.get(parameters[0].name) is TaskContext
    recorded = parameters[takes_context:]

    task: MustHappenTask[Any] = MustHappenTask(
        function=function,
        name=function.__name__,
        takes_context=takes_context,
        signature=inspect.Signature(recorded),
        arguments=_adapt_arguments(function.__name__, recorded, hints),
        result=_adapt(hints.get("return", Any), f"{function.__name__}: its result"),
        **options,
    )
    register(task)
    return task


def _adapt_arguments(
    function: str, parameters: list[inspect.Parameter], hints: dict[str, Any]
) -> TypeAdapter[Any]:
    fields: list[tuple[str, Any, Any]] = []
    for parameter in parameters:
        where = f"{function}: {parameter.name}"
        if parameter.kind not in _NAMED:
            raise TypeError(f"{where} cannot be recorded; name each parameter")
        if parameter.name not in hints:
            raise TypeError(f"{where} needs a type, to be recorded as JSON")

        hint = hints[parameter.name]
        _adapt(hint, where)
        fields.append((parameter.name, hint, _field(parameter.default)))

    namespace = {"__pydantic_config__": _JSON}
    return TypeAdapter(make_dataclass("Arguments", fields, namespace=namespace))


def _field(default: Any) -> Any:
    if default is inspect.Parameter.empty:
        return field(kw_only=True)
    return field(default_factory=lambda: default, kw_only=True)


def _adapt(annotation: Any, where: str) -> TypeAdapter[Any]:
    try:
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=_JSON)
        except PydanticUserError as error:
            if error.code != "type-adapter-config-unused":
                raise
            # A model has a configuration of its own.
            adapter = TypeAdapter(annotation)

        adapter.json_schema(mode="serialization")
    except PydanticUserError as error:
        reason = str(error).splitlines()[0]
        message = f"{where} cannot be recorded as JSON; pass an id instead ({reason})"
        raise TypeError(message) from None

    return adapter
