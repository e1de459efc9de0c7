"""Declare must-happen tasks, and refuse at the declaration what the ledger could not hold."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import field, make_dataclass, replace
from datetime import datetime, timedelta
from functools import cache, partial
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Concatenate,
    Generic,
    NoReturn,
    ParamSpec,
    Protocol,
    TypedDict,
    Unpack,
    get_type_hints,
    overload,
)

from pydantic import (
    AwareDatetime,
    ConfigDict,
    Field,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from app.delivery.context import TaskContext
from app.delivery.ledger import DEFAULT_QUEUE

P = ParamSpec("P")

_JSON = ConfigDict(
    ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="strings"
)

_registry: dict[str, "MustHappenTask[Any]"] = {}


class CallOptions(TypedDict, total=False):
    """What `using` may say of one call."""

    key: str | None
    delay: timedelta
    at: datetime | None
    queue: str
    priority: int


@dataclass(frozen=True, kw_only=True, config=ConfigDict(arbitrary_types_allowed=True))
class MustHappenTask(Generic[P]):
    """A task that is recorded with the request's own data and then never lost.

    It cannot be called: hand it to `Tasks.enqueue`.
    """

    function: Callable[..., object]
    name: str
    takes_context: bool
    signature: inspect.Signature
    arguments: TypeAdapter[Any]
    result: TypeAdapter[Any]

    max_attempts: Annotated[int, Field(ge=1)] = 5
    """After so many attempts that raised or were interrupted it is `failed`."""
    time_limit: Annotated[float, Field(gt=0)] = 60
    """Seconds for one attempt."""
    retry_delay: Annotated[float, Field(ge=0)] = 2
    """Seconds before the second attempt, doubled for each further one up to an hour."""
    queue: Annotated[str, Field(pattern="^[a-z][a-z0-9_-]*$")] = DEFAULT_QUEUE
    """The named queue it travels through."""
    priority: Annotated[int, Field(ge=0, le=9)] = 0
    """0 to 9, a higher one runs sooner."""
    key: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Idempotency key: if this task was given it before, nothing is recorded."""
    delay: timedelta = timedelta()
    """How much later to start, by the database's clock."""
    at: AwareDatetime | None = None
    """The moment to start at, instead of a delay."""

    def using(self, **options: Unpack[CallOptions]) -> "MustHappenTask[P]":
        """Return the same task with options for one `enqueue`.

        Raises ValueError if an option is out of its range or no task declares the
        queue.
        """
        if (queue := options.get("queue", self.queue)) not in queues():
            raise ValueError(
                f"no task declares the queue {queue!r}; known: {sorted(queues())}"
            )
        return replace(self, **options)

    def dump_arguments(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Validate a call's arguments and return them as JSON.

        Raises TypeError if the task does not take these arguments, and pydantic's
        ValidationError if one is not of its parameter's type.
        """
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return self.arguments.dump_json(
            self.arguments.validate_python(bound.arguments)
        ).decode()

    def load_arguments(self, recorded: str) -> dict[str, Any]:
        """Return recorded arguments by name, without those that the function no longer takes.

        Raises ValueError if they do not fit it any more.
        """
        try:
            return dict(vars(self.arguments.validate_json(recorded)))
        except ValidationError as error:
            # Whoever knows a task's id sees its error, but only operators see its
            # arguments.
            problems = (
                f"{problem['loc']}: {problem['msg']}" for problem in error.errors()
            )
            raise ValueError(
                f"the recorded arguments do not fit: {'; '.join(problems)}"
            ) from None

    def dump_result(self, result: object) -> str:
        """Validate what the function returned and return it as JSON."""
        return self.result.dump_json(self.result.validate_python(result)).decode()

    # A type checker sees no `__call__` and reports the call itself.
    if not TYPE_CHECKING:

        @property
        def __call__(self) -> NoReturn:
            """Refuse to be called, also by `BackgroundTasks.add_task`, which looks it up."""
            raise TypeError(
                f"{self.name} must happen and cannot be called or added to BackgroundTasks, where "
                f"it could be lost; write: await tasks.enqueue({self.name}, ...)"
            )


class Declaration(Protocol):
    """The decorator, with or without the task's context as the function's first parameter."""

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
    """Declare a task that is never lost; its options are attributes of `MustHappenTask`.

    An `async def` task runs on the event loop, a `def` one in a thread. It may take a
    `TaskContext` first; its other parameters and its result are recorded as JSON.
    Raises TypeError if these cannot be, and ValueError if an option is out of its range
    or another task has this name.
    """
    return partial(_declare, **options) if function is None else _declare(function)


def must_happen_tasks() -> Mapping[str, MustHappenTask[Any]]:
    """Return every must-happen task by name, after importing every module of `app.tasks`."""
    _import_task_modules()
    return _registry


def queues() -> frozenset[str]:
    """Return the names of the queues that tasks declare, and the default one's."""
    return frozenset(
        {DEFAULT_QUEUE, *(task.queue for task in must_happen_tasks().values())}
    )


@cache
def _import_task_modules() -> None:
    package = importlib.import_module("app.tasks")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)


def _declare(function: Callable[..., object], **options: Any) -> MustHappenTask[Any]:
    hints = get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters.values())
    takes_context = bool(parameters) and hints.get(parameters[0].name) is TaskContext
    parameters = parameters[takes_context:]
    fields: list[tuple[str, Any, Any]] = []
    for parameter in parameters:
        where = f"{function.__name__}: {parameter.name}"
        if parameter.kind not in (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        ):
            raise TypeError(f"{where} cannot be recorded; name each parameter")
        if parameter.name not in hints:
            raise TypeError(f"{where} needs a type, to be recorded as JSON")
        _adapt(hints[parameter.name], where)
        fields.append(
            (parameter.name, hints[parameter.name], _field(parameter.default))
        )
    arguments = make_dataclass(
        "Arguments", fields, namespace={"__pydantic_config__": _JSON}
    )
    task: MustHappenTask[Any] = MustHappenTask(
        function=function,
        name=function.__name__,
        takes_context=takes_context,
        signature=inspect.Signature(parameters),
        arguments=TypeAdapter(arguments),
        result=_adapt(hints.get("return", Any), f"{function.__name__}: its result"),
        **options,
    )
    other = _registry.setdefault(task.name, task)
    if other is not task:
        modules = f"{other.function.__module__} and {function.__module__}"
        raise ValueError(f"two tasks are named {task.name}, in {modules}")
    return task


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
            adapter = TypeAdapter(annotation)  # A model has a configuration of its own.
        adapter.json_schema(mode="serialization")
    except PydanticUserError as error:
        reason = str(error).splitlines()[0]
        message = f"{where} cannot be recorded as JSON; pass an id instead ({reason})"
        raise TypeError(message) from None
    return adapter
