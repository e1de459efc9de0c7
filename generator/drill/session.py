"""Start the drill inside a copy, and turn what it prints into progress and results."""

import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from generator.drill.inside.order import Order, Settings
from generator.drill.references import REFERENCES, Reference
from generator.drill.target import PACKAGE, Target
from hooks.commands import stream
from hooks.refusal import Refusal


@dataclass
class Result:
    """How one fault went with one target; `figures` is what the drill counted."""

    target: str
    fault: str
    figures: dict[str, Any]
    settings: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    machine: str = ""
    date: str = ""
    is_reference: bool = False

    @property
    def reference(self) -> Reference | None:
        """The reference that was drilled, if it was one."""
        return REFERENCES[self.target] if self.is_reference else None

    @property
    def broken(self) -> list[str]:
        """The promises that were broken, or why the drill failed.

        A reference promises nothing.
        """
        return list(self.figures["broken"])

    @property
    def database(self) -> str:
        """What the ledger was in."""
        return str(self.settings["database"])


def drill(
    target: Target,
    copy: Path,
    faults: list[str],
    settings: Settings,
    on_progress: Callable[[str, str], None],
    on_result: Callable[[Result], None],
) -> None:
    """Drill a prepared copy.

    Raises:
        Refusal: A server is missing, or the drill ended before it was through.
    """
    order = _order(target, faults, settings)
    versions: dict[str, str] = {}
    left = set(faults)
    noise: list[str] = []

    def on_line(line: str) -> None:
        try:
            event = json.loads(line)
            kind = event.pop("event")
        except (ValueError, KeyError, AttributeError):
            noise.append(line)
            return

        if kind == "progress":
            on_progress(event["fault"], event["text"])
        elif kind == "versions":
            versions.update(event)
        elif kind == "refused":
            raise Refusal(f"{target.name}: {event['reason']}")
        else:
            left.discard(event["fault"])
            on_result(_result(target, event, settings, versions))

    python = copy / ".venv/bin/python"
    stream([str(python), "-m", PACKAGE, json.dumps(asdict(order))], copy, on_line)

    if left:
        why = noise[-1] if noise else "no output"
        raise Refusal(f"{target.name}: the drill ended before it was through: {why}")


def _order(target: Target, faults: list[str], settings: Settings) -> Order:
    reference = target.reference
    return Order(
        **asdict(settings),
        engine=target.engine,
        broker=target.broker,
        faults=faults,
        reference=reference.setting if reference else None,
        patience=reference.patience if reference else 0.0,
    )


def _result(
    target: Target,
    event: dict[str, Any],
    settings: Settings,
    versions: Mapping[str, str],
) -> Result:
    return Result(
        target.name,
        event.pop("fault"),
        event,
        asdict(settings),
        dict(versions),
        machine(),
        datetime.now(UTC).isoformat(timespec="seconds"),
        is_reference=target.reference is not None,
    )


def machine() -> str:
    """Return what the drill ran on, in one line."""
    system = f"{platform.system()} {platform.release()}"
    return f"{system}, {platform.machine()}, {os.cpu_count()} cores"
