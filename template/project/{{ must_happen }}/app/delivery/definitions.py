"""Define what a must-happen task is, and know every one of them by its name."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    NamedTuple,
    NoReturn,
    ParamSpec,
    TypedDict,
    Unpack,
)

from pydantic import AwareDatetime, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from app.delivery.recording import dump, load

P = ParamSpec("P")

DEFAULT_QUEUE = "default"

TEN_YEARS = timedelta(days=3650)
# Between these, a moment can be told in every time zone.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)

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
    name: Annotated[str, Field(max_length=200)]
    takes_context: bool
    signature: inspect.Signature
    arguments: TypeAdapter[Any]
    result: TypeAdapter[Any]

    max_attempts: Annotated[int, Field(ge=1, le=10_000)]
    """After so many attempts that raised it is `failed`."""
    time_limit: Annotated[float, Field(gt=0, le=7 * 86_400)]
    """Seconds for one attempt."""
    retry_delay: Annotated[float, Field(ge=0, le=3600)]
    """Seconds before the second attempt, doubled for each further one up to an hour.

    Each is up to a quarter shorter or longer, so that what failed together does not
    start together.
    """
    queue: Annotated[str, Field(pattern="^[a-z][a-z0-9_-]{0,99}$")]
    """The named queue it travels through."""
    priority: Annotated[int, Field(ge=0, le=9)]
    """0 to 9, a higher one runs sooner."""
    # PostgreSQL's text holds no NUL, and no lone surrogate, which pydantic refuses.
    key: Annotated[str, Field(pattern=r"^[^\x00]{1,200}$")] | None = None
    """Idempotency key: if this task was given it before, nothing is recorded."""
    delay: Annotated[timedelta, Field(ge=timedelta(), le=TEN_YEARS)] = timedelta()
    """How much later to start, by the database's clock."""
    at: Annotated[AwareDatetime, Field(ge=EARLIEST, lt=LATEST)] | None = None
    """The moment to start at, instead of a delay; one that has passed means now."""

    def using(self, **options: Unpack[CallOptions]) -> "MustHappenTask[P]":
        """Return the same task with options for one `enqueue`.

        Raises TypeError if there is no such option, and ValueError if one is out of its
        range or no task declares the queue.
        """
        # pydantic's dataclasses ignore what they do not know.
        for name in options.keys() - CallOptions.__optional_keys__:
            raise TypeError(f"using() got an unexpected option {name!r}")
        if (queue := options.get("queue", self.queue)) not in queues():
            raise ValueError(
                f"no task declares the queue {queue!r}; known: {sorted(queues())}"
            )
        return replace(self, **options)

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> "BoundTask":
        """Return the task with its arguments, for `enqueue_many`.

        Raises what `dump_arguments` does.
        """
        return BoundTask(self, self.dump_arguments(*args, **kwargs))

    def dump_arguments(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Validate a call's arguments and return them as JSON.

        Raises TypeError if the task does not take these arguments, pydantic's
        ValidationError if one is not of its parameter's type, and ValueError if one
        would reach the task as another value or type.
        """
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return dump(self.arguments, bound.arguments, f"{self.name}: argument")

    def load_arguments(self, recorded: str) -> dict[str, Any]:
        """Return recorded arguments by name.

        Those that the function no longer takes are left out. Raises ValueError if the
        others do not fit it any more.
        """
        return dict(vars(load(self.arguments, recorded)))

    def dump_result(self, result: object) -> str:
        """Validate what the function returned and return it as JSON.

        Raises what `dump_arguments` does.
        """
        return dump(self.result, result, f"{self.name}: its result")

    # A type checker sees no `__call__` and reports the call itself.
    if not TYPE_CHECKING:

        @property
        def __call__(self) -> NoReturn:
            """Refuse to be called; `BackgroundTasks.add_task` looks it up too."""
            raise TypeError(
                f"{self.name} must happen and cannot be called or added to "
                "BackgroundTasks, where it could be lost; write: "
                f"await tasks.enqueue({self.name}, ...)"
            )


class BoundTask(NamedTuple):
    """A task with its arguments, made by `MustHappenTask.bind`."""

    task: MustHappenTask[Any]
    arguments: str
    """As JSON."""


def register(task: MustHappenTask[Any]) -> None:
    """Make a task known by its name.

    Raises ValueError if another task has this name.
    """
    other = _registry.setdefault(task.name, task)
    if other is not task:
        modules = f"{other.function.__module__} and {task.function.__module__}"
        raise ValueError(f"two tasks are named {task.name}, in {modules}")


def must_happen_tasks() -> Mapping[str, MustHappenTask[Any]]:
    """Return every must-happen task by name, of all modules of `app.tasks`."""
    _import_task_modules()
    return _registry


def queues() -> frozenset[str]:
    """Return the names of the queues that tasks declare, and the default one's."""
    declared = {task.queue for task in must_happen_tasks().values()}
    return frozenset({DEFAULT_QUEUE, *declared})


@cache
def _import_task_modules() -> None:
    package = importlib.import_module("app.tasks")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
