"""Write the tables of pages that a command writes."""

from collections.abc import Container, Sequence


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Container[int] = ()
) -> str:
    """Return a table, with the columns that hold numbers aligned to the right."""
    ruler = ["---:" if place in numbers else "---" for place in range(len(head))]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ruler, *rows))
