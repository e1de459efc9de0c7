"""Declare must-happen tasks, and refuse those whose calls could not be recorded."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import field, make_dataclass
from functools import partial
from typing import Any, Concatenate, ParamSpec, Protocol, get_type_hints, overload

from pydantic import TypeAdapter, ValidationError

from app.delivery.context import TaskContext
from app.delivery.definitions import DEFAULT_QUEUE, MustHappenTask, register
from app.delivery.recording import JSON, adapt, dump

P = ParamSpec("P")

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


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


def must_happen(
    function: Any = None,
    /,
    *,
    max_attempts: int = 5,
    time_limit: float = 60,
    retry_delay: float = 2,
    queue: str = DEFAULT_QUEUE,
    priority: int = 0,
) -> Any:
    """Declare a task that is never lost; its options are those of `MustHappenTask`.

    An `async def` task runs on the event loop, a `def` one in a thread. It may take a
    `TaskContext` first; its other parameters and its result are recorded as JSON.
    Raises TypeError if these cannot be or there is no such option, and ValueError if a
    default would change by it, an option is out of its range, or another task has this
    name.
    """
    declare = partial(
        _declare,
        max_attempts=max_attempts,
        time_limit=time_limit,
        retry_delay=retry_delay,
        queue=queue,
        priority=priority,
    )
    return declare if function is None else declare(function)


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
        result=adapt(hints.get("return", Any), f"{function.__name__}: its result"),
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
        adapter = adapt(hint, where)
        if parameter.default is not inspect.Parameter.empty:
            with suppress(ValidationError):  # Whoever leaves it out is told.
                dump(adapter, parameter.default, where)
        fields.append((parameter.name, hint, _field(parameter.default)))

    namespace = {"__pydantic_config__": JSON}
    return TypeAdapter(make_dataclass("Arguments", fields, namespace=namespace))


def _field(default: Any) -> Any:
    if default is inspect.Parameter.empty:
        return field(kw_only=True)
    return field(default_factory=lambda: default, kw_only=True)
