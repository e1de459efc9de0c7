"""Show tasks over HTTP, and let operators cancel and replay them."""

import secrets
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AfterValidator, BaseModel, ConfigDict, Json
from sqlalchemy import Row, select

from app.delivery import ledger
from app.delivery.statements import query
from app.delivery.table import Status, columns, task_table
from app.settings import settings

Credentials = Annotated[
    HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))
]


async def is_operator(credentials: Credentials) -> bool:
    """Return whether the operator token is shown; nobody can, when none is set."""
    if settings.operator_token is None or credentials is None:
        return False
    expected = settings.operator_token.get_secret_value().encode()
    return secrets.compare_digest(credentials.credentials.encode(), expected)


IsOperator = Annotated[bool, Depends(is_operator)]


async def require_operator(is_operator: IsOperator) -> None:
    """Refuse whoever is no operator."""
    if settings.operator_token is None:
        raise HTTPException(403, "OPERATOR_TOKEN is not set")
    if not is_operator:
        raise HTTPException(401, "operators only", {"WWW-Authenticate": "Bearer"})


def _name_of(error: str | None) -> str | None:
    return error and error.partition(":")[0]


class TaskState(BaseModel):
    """What anyone who knows a task's id may see of it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    status: Status
    attempts: int
    failures: int
    max_attempts: int
    interruptions: int
    error: Annotated[str | None, AfterValidator(_name_of)]
    """The name of what the last failed attempt raised: its text may hold arguments."""
    result: Json[Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    wake_at: datetime | None


class TaskDetails(TaskState):
    """What operators see of a task."""

    error: str | None
    arguments: Json[Any]
    queue: str
    priority: int
    key: str | None


class TaskPage(BaseModel):
    """A part of the list of tasks, and what to give as `after` for the next part."""

    tasks: list[TaskDetails]
    next: UUID | None


router = APIRouter(prefix="/tasks", tags=["tasks"])
for_operators = [Depends(require_operator)]
known: dict[int | str, dict[str, Any]] = {404: {"description": "No such task."}}
refused: dict[int | str, dict[str, Any]] = {
    401: {"description": "Operators only."},
    403: {"description": "There are no operators: `OPERATOR_TOKEN` is not set."},
}
changed = {**known, **refused, 409: {"description": "Its status does not allow it."}}


@router.get("/{task_id}", responses=known)
async def get_task(task_id: UUID, is_operator: IsOperator) -> TaskDetails | TaskState:
    """Return where a task stands, and to operators all that is known of it."""
    model = TaskDetails if is_operator else TaskState
    return model.model_validate(await _find(task_id))


@router.get("", dependencies=for_operators, responses=refused)
async def list_tasks(
    status: Status | None = None,
    name: Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")] = None,
    after: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> TaskPage:
    """Return tasks, the newest first."""
    statement = select(task_table).order_by(columns.id.desc()).limit(limit + 1)

    if status is not None:
        statement = statement.where(columns.status == status)
    if name is not None:
        statement = statement.where(columns.name == name)
    if after is not None:
        statement = statement.where(columns.id < after)

    rows = await query(statement)
    page = [TaskDetails.model_validate(row) for row in rows]
    following = page[limit - 1].id if len(page) > limit else None
    return TaskPage(tasks=page[:limit], next=following)


@router.post("/{task_id}/cancel", dependencies=for_operators, responses=changed)
async def cancel_task(task_id: UUID) -> TaskDetails:
    """Cancel a task that has not ended.

    What a running attempt did in its session is rolled back.
    """
    task = await _find(task_id)
    if not await ledger.cancel(task_id):
        raise HTTPException(409, f"a task that is {task.status} cannot be cancelled")
    return TaskDetails.model_validate(await _find(task_id))


@router.post("/{task_id}/replay", dependencies=for_operators, responses=changed)
async def replay_task(task_id: UUID) -> TaskDetails:
    """Queue a failed or cancelled task again."""
    task = await _find(task_id)
    if not await ledger.replay(task_id):
        raise HTTPException(409, f"a task that is {task.status} cannot be replayed")
    return TaskDetails.model_validate(await _find(task_id))


async def _find(task_id: UUID) -> Row[Any]:
    rows = await query(select(task_table).where(columns.id == task_id))
    if not rows:
        raise HTTPException(404, "no such task")
    return rows[0]
