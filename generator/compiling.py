"""Let Jinja compile each text of a template once, however often Copier renders it.

Copier compiles the same names anew for each file, and an update renders the template
seven times: compiling was half of the work that Python did for it.
"""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from types import CodeType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

_compiled: dict[Hashable, CodeType] = {}


@contextmanager
def compiled_once() -> Iterator[None]:
    """Meanwhile, take what was compiled earlier in this process from the same text."""
    # Not at the top: see `rendering.py`.
    from jinja2 import Environment  # noqa: PLC0415

    original = Environment.compile

    def compile_once(
        environment: "Environment",
        source: str,
        name: str | None = None,
        filename: str | None = None,
    ) -> CodeType:
        # Extensions prepare for each text here; the file is another one in each clone.
        text = environment.preprocess(source, name, filename)
        settings = (environment.lexer, environment.undefined, environment.autoescape)
        key = (*settings, name, text)

        if key not in _compiled:
            _compiled[key] = original(environment, source, name, filename)
        return _compiled[key]

    Environment.compile = compile_once  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Environment.compile = original  # type: ignore[method-assign]
