"""Make what benchmarks share: projects of variants, servers, databases, references."""

import contextlib
import itertools
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from benchmarks.processes import Failed, Process, answers, measure, run
from benchmarks.servers import PostgreSQL, Server, start_rabbitmq, start_redis
from generator.rendering import render
from generator.services import eventually, free_port, read_procfile
from generator.variants import VARIANTS, Variant
from hooks.commands import uv

HERE = Path(__file__).parent
INSIDE = HERE / "inside"
REFERENCES = HERE / "references"

POSTGRESQL = "postgresql"
"""The variant that needs no broker."""


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    repetitions: int
    quick: bool

    def __call__(self, number: int, quick: int) -> int:
        """Return how many of something to take."""
        return quick if self.quick else number

    def sizes(self, *numbers: int) -> list[int]:
        """Return these sizes, or a thousandth of them."""
        return [self(number, number // 1000) for number in numbers]


class Project:
    """A rendered and installed project with the benchmarks' own tasks and routes."""

    def __init__(self, variant: Variant, folder: Path) -> None:
        self.variant = variant
        self.folder = folder
        self._commands = read_procfile(folder)
        self._numbers = itertools.count(1)

    @property
    def engine(self) -> str:
        """The engine's name, empty if there is none."""
        return self.variant.answers.get("engine", "")

    @property
    def workers(self) -> Sequence[str]:
        """What runs its tasks: types of processes in its Procfile."""
        return ["worker", "relay"] if self.variant.has_broker else ["worker"]

    @property
    def python(self) -> str:
        """Its Python."""
        return str(self.folder / ".venv/bin/python")

    def environment(self, **settings: str) -> dict[str, str]:
        """Return what its programs run with."""
        path = f"{self.folder / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
        found = os.pathsep.join(map(str, (self.folder, INSIDE, REFERENCES)))
        return {"PATH": path, "PYTHONPATH": found, **settings}

    def start(self, kind: str, **settings: str) -> Process:
        """Start a process of its Procfile."""
        return self.start_command(self._commands[kind], kind, **settings)

    def start_command(self, command: str, name: str, **settings: str) -> Process:
        """Start any program in its environment."""
        log = self.folder / f"{name}-{next(self._numbers)}.log"
        return Process(
            command, self.folder, log, environment=self.environment(**settings)
        )

    def start_api(
        self, app: str = "bench_api:app", **settings: str
    ) -> tuple[Process, int]:
        """Start an API with the benchmarks' routes; return it and its port."""
        port = free_port()
        alive = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        command = (
            f"{self._commands['api'].replace('app.main:app', app)} --no-access-log"
        )
        api = self.start_command(command, "api", PORT=str(port), **settings)

        def look() -> bool:
            api.check()
            return answers(port, alive, b"HTTP/1.1 2")

        try:
            eventually(look, "the API answers")
        except BaseException:
            api.stop()
            raise
        return api, port

    def measure(self, program: str, *arguments: object, **settings: str) -> Any:
        """Run one of the programs in `inside`, and return what it printed as JSON."""
        command = [self.python, str(INSIDE / f"{program}.py"), *map(str, arguments)]
        return measure(command, self.folder, self.environment(**settings))

    def migrate(self, url: str) -> None:
        """Create its tables in a database."""
        command = [self.python, "-m", "alembic", "upgrade", "heads"]
        run(command, self.folder, self.environment(DATABASE_URL=url))

    def versions(self) -> dict[str, str]:
        """Return the versions of what is installed in its environment."""
        return installed(self.python, self.folder)


class Lab:
    """Makes what a benchmark asks for, once, and takes all of it down in the end."""

    def __init__(
        self,
        template: Path,
        folder: Path,
        variants: Sequence[Variant],
        scale: Scale,
        before: "Lab | None" = None,
    ) -> None:
        self.template = template
        self.folder = folder
        self.variants = [variant for variant in variants if variant.must_happen]
        self.scale = scale
        self.before = before
        """Makes the same from a commit to compare with."""
        self.closing = contextlib.ExitStack()

        self._numbers = itertools.count(1)
        self.project = cache(self._make_project)
        self._migrated = cache(self._migrate)
        self.broker = cache(self._start_broker)
        self.environment = cache(self._make_environment)

    @cached_property
    def postgresql(self) -> PostgreSQL:
        """A PostgreSQL server."""
        server = PostgreSQL(self.folder)
        self.closing.callback(server.stop)
        return server

    @property
    def brokered(self) -> Sequence[Variant]:
        """The variants whose tasks a broker carries."""
        return [variant for variant in self.variants if variant.has_broker]

    def settings(self, project: Project, url: str) -> dict[str, str]:
        """Return what tells a project's processes where its servers are."""
        settings = {"DATABASE_URL": url}
        if project.variant.has_broker:
            settings["BROKER_URL"] = self.broker(project.variant.name).url
        return settings

    def _make_environment(self, packages: Sequence[str], python: str) -> str:
        """Make an environment with these packages, and return its Python."""
        folder = self.folder / f"environment-{next(self._numbers)}"
        run(uv("venv", "--python", python, str(folder)), self.folder)
        found = str(folder / "bin/python")
        install = uv("pip", "install", *self._compiling, "--python", found)
        run([*install, *packages], self.folder)
        return found

    @property
    def _compiling(self) -> list[str]:
        # In the small, what is imported is compiled when it is: most is not.
        return [] if self.scale.quick else ["--compile-bytecode"]

    def database(self, project: Project | None = None) -> str:
        """Return the URL of a new database, with the project's tables."""
        name = f"bench_{next(self._numbers)}"
        original = self._migrated(project) if project else "template1"
        return self.postgresql.create_database(name, original)

    def _migrate(self, project: Project) -> str:
        """Make a database with a project's tables, only to copy; return its name."""
        name = f"empty_{next(self._numbers)}"
        project.migrate(self.postgresql.create_database(name))
        return name

    def _start_broker(self, name: str) -> Server:
        """Start a variant's own broker: engines declare the same queues differently."""
        folder = self.folder / f"{name}-broker"
        folder.mkdir()
        start = {"redis": start_redis, "rabbitmq": start_rabbitmq}[
            VARIANTS[name].answers["broker"]
        ]
        server = start(folder)
        self.closing.callback(server.stop)
        return server

    def _make_project(self, name: str) -> Project:
        variant = VARIANTS[name]
        folder = self.folder / "projects" / name
        folder.parent.mkdir(exist_ok=True)
        render(
            self.template, folder, {"project_name": "Order Service", **variant.answers}
        )
        run(
            uv("sync", *self._compiling, "--no-dev", "--python", sys.executable), folder
        )

        if variant.must_happen:
            shutil.copy(INSIDE / "bench_tasks.py", folder / "app/tasks")
        return Project(variant, folder)


def run_load(port: int, method: str, path: str, **options: object) -> dict[str, Any]:
    """Send requests to an API from a process of its own; see `benchmarks/load.py`."""
    arguments = [
        f"--{name.replace('_', '-')}={value}" for name, value in options.items()
    ]
    program = [sys.executable, str(HERE / "load.py")]
    command = [*program, str(port), method, path, *arguments]

    answer: dict[str, Any] = measure(command, HERE)
    return answer


def check_out(template: Path, revision: str, folder: Path) -> None:
    """Put the template as it was at a revision into a folder."""
    name = run(
        ["git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"], template
    )
    clone = ["git", "clone", "--quiet", "--shared", "--no-checkout"]
    run([*clone, str(template), str(folder)], template)
    run(["git", "checkout", "--quiet", "--detach", name.strip()], folder)


def known_to(template: Path, variants: Sequence[Variant]) -> Sequence[Variant]:
    """Return the variants that a template, perhaps an earlier one, can render."""
    engines = {
        path.name.partition(".")[0] for path in template.glob("template/engines/*")
    }
    return [v for v in variants if v.answers.get("engine") in engines]


def find_python(minor: int) -> str | None:
    """Return our own Python, or another on this machine if ours is older than 3.x."""
    if sys.version_info >= (3, minor):
        return sys.executable
    find = uv("python", "find", "--no-python-downloads", f">=3.{minor}")
    try:
        return run(find, HERE).strip()
    except Failed:
        return None


def installed(python: str, folder: Path) -> dict[str, str]:
    """Return the versions of the distributions in an environment."""
    output = run(uv("pip", "freeze", "--python", python), folder)
    pairs = (line.partition("==") for line in output.splitlines() if "==" in line)
    return {name: version for name, _, version in pairs}


def merged(*versions: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Return the versions of these distributions, from several environments."""
    return {name: each[name] for name in names for each in versions if name in each}
