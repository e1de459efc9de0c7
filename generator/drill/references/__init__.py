"""Compare with each engine on its own, and with FastAPI's `BackgroundTasks`.

These references promise nothing, so nothing judges them: what became of their tasks is
counted. Their programs are in `services`.
"""

import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from generator.variants import VARIANTS

BACKGROUND_TASKS = "background-tasks"

_SERVICES = Path(__file__).with_name("services")
_API = "api: exec uvicorn services.drill_api:app --host 127.0.0.1 --port $PORT"
_ANY_VARIANT = "dramatiq-redis"
"""Whose environment serves what needs no engine."""

_NAMES = {
    "arq": "ARQ",
    "celery": "Celery",
    "dramatiq": "Dramatiq",
    "rabbitmq": "RabbitMQ",
    "redis": "Redis",
}


class Setting(StrEnum):
    """How an engine is set."""

    SAFEST = "safest"
    DEFAULTS = "defaults"


_IN_WORDS = {
    Setting.SAFEST: "at the safest settings known",
    Setting.DEFAULTS: "at its defaults",
}
_WORKERS = {
    "celery": "exec celery --app services.engine worker --loglevel INFO",
    "arq": "exec arq services.engine.WorkerSettings",
    "dramatiq": "exec dramatiq services.engine",
}

PATIENCE = 60.0
"""Seconds without a change after which what a broker still holds is given up."""

_OTHER_PATIENCE = {
    # What a dead worker held comes back after an hour, which is not waited for.
    ("celery-redis", Setting.DEFAULTS): 30.0,
    # After the time limit of a job, and ten seconds.
    ("arq-redis", Setting.DEFAULTS): 330.0,
    # When by chance one looks for it, one command in a thousand.
    ("dramatiq-redis", Setting.DEFAULTS): 600.0,
}


@dataclass(frozen=True)
class Reference:
    """A program to compare with."""

    beside: str
    """The variant with the same engine and broker."""
    setting: Setting = Setting.DEFAULTS

    @property
    def name(self) -> str:
        """Its name as a target."""
        if self.beside == BACKGROUND_TASKS:
            return self.beside
        return f"{self.beside}-alone" + (
            "-safest" if self.setting == Setting.SAFEST else ""
        )

    @property
    def title(self) -> str:
        """What it is, in words."""
        if not self.engine:
            return "FastAPI's BackgroundTasks"
        return (
            f"{_NAMES[self.engine]} on {_NAMES[self.broker]}, {_IN_WORDS[self.setting]}"
        )

    @property
    def variant(self) -> str:
        """The variant in whose environment it runs."""
        return self.beside if self.beside in VARIANTS else _ANY_VARIANT

    @property
    def engine(self) -> str:
        """Its engine; empty if the API runs the tasks itself."""
        return (
            VARIANTS[self.beside].answers["engine"] if self.beside in VARIANTS else ""
        )

    @property
    def broker(self) -> str:
        """Its broker, if any."""
        return (
            VARIANTS[self.beside].answers["broker"] if self.beside in VARIANTS else ""
        )

    @property
    def patience(self) -> float:
        """How many seconds the drill waits for what the broker still holds."""
        return _OTHER_PATIENCE.get((self.beside, self.setting), PATIENCE)

    def plant(self, folder: Path) -> None:
        """Put its program into a project, with a Procfile that runs it instead."""
        services = folder / "services"
        services.mkdir()
        for name in ("__init__.py", "orders.py"):
            shutil.copy(_SERVICES / name, services)

        if not self.engine:
            shutil.copy(_SERVICES / "background_tasks.py", services / "api.py")
            (folder / "Procfile").write_text(f"{_API}\n")
            return

        shutil.copy(_SERVICES / "api.py", services)
        shutil.copy(_SERVICES / f"engines/{self.engine}.py", services / "engine.py")

        worker = _WORKERS[self.engine]
        if self.engine == "celery" and self.setting == Setting.SAFEST:
            # What does not end in time is given back.
            worker = f"REMAP_SIGTERM=SIGQUIT {worker}"
        (folder / "Procfile").write_text(f"{_API}\nworker: {worker}\n")


REFERENCES = {
    reference.name: reference
    for reference in (
        Reference(BACKGROUND_TASKS),
        *(
            Reference(variant.name, setting)
            for variant in VARIANTS.values()
            if variant.has_broker
            for setting in reversed(Setting)
        ),
    )
}
