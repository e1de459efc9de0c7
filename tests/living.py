"""Live in a project as people do: with files and lines of one's own, and deletions.

Whatever is here must survive every update, in the places where people put such things.
"""

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from hooks.commands import run, uv

OWN = Path(__file__).parent / "lived_in"

EXAMPLE = (
    "app/api/orders.py",
    "app/tasks/orders.py",
    "migrations/versions/orders_0001_create_orders_and_payments.py",
    "tests/test_orders.py",
    "tests/test_orders_on_servers.py",
)
"""The worked example of must-happen tasks, as far as it has files of its own."""

UNWANTED = (
    "app/api/signups.py",
    "tests/test_signups.py",
    "tests/delivery/bare/test_health.py",
)
"""What somebody deletes who has no signups; the module of their tasks stays."""

ADDITIONS = {
    "app/tasks/signups.py": '''

@nice_to_have
async def say_goodbye(name: str) -> None:
    """Say goodbye to somebody who leaves."""
    logger.info("goodbye, %s", name)
''',
    "app/dependencies.py": '''

def shop_name() -> str:
    """Return what the shop calls itself."""
    return settings.shop_name


ShopName = Annotated[str, Depends(shop_name)]
''',
    "compose.yaml": """
  mailpit:
    image: axllent/mailpit:v1.27
    ports: ["127.0.0.1:8025:8025"]
""",
    ".github/workflows/ci.yml": """      - name: Look for dead links
        run: uvx linkchecker README.md
""",
    "tests/conftest.py": '''

@pytest.fixture
def page() -> str:
    """The page that most people visit."""
    return books.FAVOURITE
''',
    "README.md": """
## Who to ask

The shop's own people, on the third floor. Bring cake.
""",
    ".env.example": """
# What the shop calls itself.
#SHOP_NAME=The Shop
""",
    "Procfile": "mail: exec python -m smtpd --nosetuid localhost:1025\n",
    ".gitignore": "/parcels/\n",
    ".dockerignore": "!assets\n",
    "Dockerfile": "LABEL org.opencontainers.image.vendor=shop\n",
}
"""Lines that somebody appends to files of the template."""

INSERTIONS = {
    "app/dependencies.py": (
        "from app.delivery.after_response import Calls\n",
        "from app.settings import settings\n",
    ),
    "README.md": (
        "# Order Service\n",
        "\nThis is the shop in Market Street, open since 1923.\n",
    ),
    "tests/conftest.py": (
        "# isort: split\n",
        """
import pytest

from app.tasks import visits as books
""",
    ),
    "app/settings.py": (
        '    """Larger request bodies are refused with 413."""\n',
        '''
    shop_name: str = Field(default="The Shop", max_length=40)
    """What the shop calls itself."""
''',
    ),
    "app/main.py": (
        "app.include_router(find_routes())\n",
        '''

@app.get("/about", tags=["shop"])
async def about() -> dict[str, str]:
    """Say whose service this is."""
    return {"shop": settings.shop_name}
''',
    ),
}
"""Lines that somebody inserts after a line of the template."""


PACKAGES = (["idna>=3.10"], ["--dev", "iniconfig>=2"])
MUST_HAPPEN_PACKAGES = (["greenlet>=3"], ["--dev", "pathspec>=1"])
"""What somebody adds with `uv add`; all are installed already, by way of others."""


def live_in(project: Path) -> None:
    """Put somebody's own things into any project, and delete what they do not want."""
    _take(OWN / "always", project)

    for path, lines in ADDITIONS.items():
        file = project / path
        file.write_text(file.read_text() + lines)
    for path, (line, lines) in INSERTIONS.items():
        file = project / path
        text = file.read_text()
        assert text.count(line) == 1, f"{path} holds {text.count(line)} times: {line}"
        file.write_text(text.replace(line, line + lines))

    for path in UNWANTED:
        (project / path).unlink()
    _add_packages(project, PACKAGES)


def promise(project: Path) -> None:
    """Put somebody's own must-happen tasks in the place of the worked example."""
    for path in EXAMPLE:
        (project / path).unlink()
    _take(OWN / "must_happen", project)
    _add_packages(project, MUST_HAPPEN_PACKAGES)


def give_up_promises(project: Path) -> None:
    """Take the must-happen tasks out again, on the way back to nice to have."""
    for path in own_files("must_happen"):
        (project / path).unlink()


def own_files(kind: str) -> list[str]:
    """Return the paths of somebody's own files."""
    folder = OWN / kind
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )


def lost_promises(project: Path) -> list[str]:
    """Return what of `promise` is no longer as somebody left it."""
    back = [f"{path} is back" for path in EXAMPLE if (project / path).exists()]
    lost = _lost("must_happen", project) + _lost_packages(project, MUST_HAPPEN_PACKAGES)
    return lost + back


def losses(project: Path) -> list[str]:
    """Return what of `live_in` is no longer as somebody left it."""
    lost = _lost("always", project)
    lost += [
        path
        for path, lines in ADDITIONS.items()
        if not (project / path).read_text().endswith(lines)
    ]
    lost += [
        path
        for path, (line, lines) in INSERTIONS.items()
        if line + lines not in (project / path).read_text()
    ]

    lost += _lost_packages(project, PACKAGES)
    return lost + [f"{path} is back" for path in UNWANTED if (project / path).exists()]


def _lost(kind: str, project: Path) -> list[str]:
    return [
        path
        for path in own_files(kind)
        if not (project / path).is_file()
        or (project / path).read_bytes() != (OWN / kind / path).read_bytes()
    ]


def _take(source: Path, project: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, project, dirs_exist_ok=True, ignore=ignored)


def _add_packages(project: Path, packages: Iterable[list[str]]) -> None:
    for arguments in packages:
        # What is installed is locked then; to lock at each step takes seconds.
        added = run(
            uv("add", "--frozen", "--python", sys.executable, *arguments), project
        )
        assert added.ok, added.output


def _lost_packages(project: Path, packages: Iterable[list[str]]) -> list[str]:
    listed = (project / "pyproject.toml").read_text()
    return [package for *_, package in packages if f'    "{package}",\n' not in listed]
