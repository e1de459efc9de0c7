"""The must-happen task of the benchmarks: it notes when it ran, and nothing else."""

from app.delivery import must_happen
from stamps import stamp


@must_happen
async def trivial(index: int) -> None:
    """Note the time."""
    stamp(index)
