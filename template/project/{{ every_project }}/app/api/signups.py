"""Sign readers up, with work after the response that may be lost."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, EmailStr

from app.dependencies import Tasks
from app.tasks.signups import add_to_newsletter, count_visit, send_welcome_email

router = APIRouter(tags=["signups"])


class Signup(BaseModel):
    """Who signs up."""

    email: EmailStr


async def visit(request: Request, tasks: Tasks) -> None:
    """Count the request; a dependency may enqueue tasks just as a route may."""
    await tasks.enqueue(count_visit, request.url.path)


@router.post("/signups", status_code=202)
async def sign_up(
    signup: Signup, tasks: Tasks, _: Annotated[None, Depends(visit)]
) -> Signup:
    """Accept a signup; the welcome and the subscription follow after the response."""
    await tasks.enqueue(send_welcome_email, signup.email)
    await tasks.enqueue(add_to_newsletter, signup.email)
    return signup
