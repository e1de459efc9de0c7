"""Show tasks over HTTP, and let operators cancel and replay them."""

import secrets
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Json
from sqlalchemy import select

from app.delivery import ledger
from app.delivery.statements import query
from app.delivery.table import Status, columns, task_table
from app.settings import settings

Credentials = Annotated[
    HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))
]


def require_operator(credentials: Credentials) -> None:
    """Refuse whoever does not show the operator token; everyone, when none is set."""
    if settings.operator_token is None:
        raise HTTPException(403, "OPERATOR_TOKEN is not set")
    expected = settings.operator_token.get_secret_value().encode()
    given = credentials.credentials.encode() if credentials else b""
    if not secrets.compare_digest(given, expected):
        raise HTTPException(401, "operators only", {"WWW-Authenticate": "Bearer"})


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
    error: str | None
    result: Json[Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    wake_at: datetime | None


class TaskDetails(TaskState):
    """What operators see of a task."""

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


@router.get("/{task_id}")
async def get_task(task_id: UUID) -> TaskState:
    """Return where a task stands."""
    rows = await query(select(task_table).where(columns.id == task_id))
    if not rows:
        raise HTTPException(404, "no such task")
    return TaskState.model_validate(rows[0])


@router.get("", dependencies=for_operators)
async def list_tasks(
    status: Status | None = None,
    name: Annotated[str | None, Query(max_length=200, pattern="^[^\\x00]*$")] = None,
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


@router.post("/{task_id}/cancel", dependencies=for_operators)
async def cancel_task(task_id: UUID) -> TaskState:
    """Cancel a task that has not ended.

    What a running attempt did in its session is rolled back.
    """
    task = await get_task(task_id)
    if not await ledger.cancel(task_id):
        raise HTTPException(409, f"a task that is {task.status} cannot be cancelled")
    return await get_task(task_id)


@router.post("/{task_id}/replay", dependencies=for_operators)
async def replay_task(task_id: UUID) -> TaskState:
    """Queue a failed or cancelled task again."""
    task = await get_task(task_id)
    if not await ledger.replay(task_id):
        raise HTTPException(409, f"a task that is {task.status} cannot be replayed")
    return await get_task(task_id)
