"""Show what happens in the shop."""

import idna
from fastapi import APIRouter

from app.dependencies import Tasks
from app.tasks.signups import say_goodbye
from app.tasks.visits import note_visit, visits

router = APIRouter(prefix="/visits", tags=["visits"])


@router.post("/{page}", status_code=202)
async def visit(page: str, tasks: Tasks) -> str:
    """Visit a page, whose name may be in any language."""
    await tasks.enqueue(note_visit, page)
    await tasks.enqueue(say_goodbye, page)
    return idna.encode(page).decode()


@router.get("/{page}")
async def count(page: str) -> int:
    """Return how often a page was visited."""
    return visits[page]
