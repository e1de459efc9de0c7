"""Answer requests that do not fit, whatever is in them."""

import json
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError

ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body cannot be read."},
    413: {"description": "The body is too large."},
}
"""What any route may answer, for the documentation."""


async def refuse_request(request: Request, error: RequestValidationError) -> Response:
    """Answer 422 and say what does not fit, without what was sent.

    FastAPI's own answer repeats that, and fails if it is something that JSON cannot
    hold, such as NaN.
    """
    problems = [
        {name: problem[name] for name in ("type", "loc", "msg")}
        for problem in error.errors()
    ]
    answer = json.dumps({"detail": problems})
    return Response(answer, 422, media_type="application/json")
