"""Define the benchmarks' must-happen task, which only notes when it ran."""

from app.delivery import must_happen
from stamps import stamp


@must_happen
async def trivial(index: int) -> None:
    """Note the time."""
    stamp(index)
