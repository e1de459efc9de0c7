"""A project of any earlier release becomes, by an update, what a fresh one would be.

There are two kinds of releases here: those that were made, each of them a tag of this
repository, and made-up ones, which change what some release is going to change one day.
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
import yaml

from generator.rendering import ANSWERS
from generator.services import eventually
from generator.variants import VARIANTS, Variant
from tests.living import lost_promises, promise
from tests.releases import (
    EVERY_PROJECT,
    ROOT,
    WHERE_TASKS_MUST_HAPPEN,
    Template,
    commit,
    conflicts,
    differences,
    git,
    tree,
    update,
    without_bookkeeping,
)
from tests.serving import Deployment, check, deployments, install, servers

MUST_HAPPEN = [variant for variant in VARIANTS.values() if variant.must_happen]
NEXT = "v9999.0"

TABLE = f"{WHERE_TASKS_MUST_HAPPEN}/app/delivery/table.py"
MIGRATION = (
    f"{WHERE_TASKS_MUST_HAPPEN}/migrations/versions/ledger_0002_remember_the_worker.py"
)
ADDED_COLUMN = '''"""Remember which worker runs a task."""

import sqlalchemy as sa
from alembic import op

revision = "ledger_0002"
down_revision = "ledger_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the database to this revision."""
    with op.batch_alter_table("tasks") as tasks:
        tasks.add_column(sa.Column("worker", sa.String(200)))


def downgrade() -> None:
    """Bring the database back to the revision before."""
    with op.batch_alter_table("tasks") as tasks:
        tasks.drop_column("worker")
'''

ENQUEUE = """
import asyncio
from app.database import session_factory
from app.delivery import Enqueuer
from app.models import Parcel
from app.tasks.parcels import deliver

async def enqueue():
    async with session_factory.begin() as session:
        for number in range(20):
            session.add(Parcel(number=number, street="Market Street"))
            await Enqueuer(session).enqueue(deliver, number, 0, 0)

asyncio.run(enqueue())
"""


def answers(project: Path) -> dict[str, str]:
    found: dict[str, str] = yaml.safe_load((project / ANSWERS).read_text())
    return {name: value for name, value in found.items() if not name.startswith("_")}


def failures_of_updates(
    template: Template, releases: list[str], variants: Iterable[Variant], folder: Path
) -> dict[str, object]:
    """Update projects of these releases to the newest; compare them with fresh ones."""
    failed: dict[str, object] = {}
    for release in releases:
        for variant in variants:
            place = folder / release / variant.name
            project = template.generate(place / "old", variant, ref=release)
            before = answers(project)
            update(project)

            fresh = template.generate(place / "fresh", variant, ref=NEXT, **before)
            differing = differences(
                without_bookkeeping(tree(project)), without_bookkeeping(tree(fresh))
            )
            if conflicts(project) or differing:
                failed[f"{variant.name} from {release}"] = (
                    conflicts(project) or differing
                )

    return failed


def test_every_earlier_release_updates_to_the_working_tree(tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(ROOT), "template")
    template = Template(tmp_path / "template")
    releases = git(template.folder, "tag", "--list", "v*").split()
    template.release(NEXT)

    assert failures_of_updates(template, releases, VARIANTS.values(), tmp_path) == {}


@pytest.fixture
def changing(tmp_path: Path) -> Template:
    """Return a template of which one release was made, to be changed for the next."""
    folder = tmp_path / "template"
    folder.mkdir()
    template = Template(folder)
    template.release("v1.0")
    return template


def test_a_difference_would_be_noticed(changing: Template, tmp_path: Path) -> None:
    changing.replace(
        "copier.yml", "_subdirectory:", "_skip_if_exists: [Procfile]\n_subdirectory:"
    )
    procfile = changing.folder / EVERY_PROJECT / "Procfile.jinja"
    procfile.write_text(procfile.read_text() + "cron: exec cron\n")
    changing.release(NEXT)

    failed = failures_of_updates(changing, ["v1.0"], [VARIANTS["arq-redis"]], tmp_path)

    assert failed == {"arq-redis from v1.0": ["Procfile"]}


def test_a_changed_default_changes_no_project(
    changing: Template, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    plain = Variant("with nothing but a name", {})
    changing.generate(project, plain, ref="v1.0")
    before = without_bookkeeping(tree(project))
    changing.replace(
        "copier.yml", "{{ 'celery' if delivery ==", "{{ 'dramatiq' if delivery =="
    )
    changing.replace(
        "copier.yml", "{{ slug_of(project_name) }}", "{{ slug_of(project_name) }}-api"
    )
    changing.release("v2.0")

    update(project)

    assert differences(without_bookkeeping(tree(project)), before) == []
    assert answers(project)["engine"] == "celery"
    new = changing.generate(tmp_path / "new", plain, ref="v2.0")
    assert answers(new)["engine"] == "dramatiq"
    assert answers(new)["project_slug"] == "order-service-api"


@pytest.mark.parametrize("name", ["nice-to-have", "celery-redis"])
def test_a_new_question_changes_no_project(
    name: str, changing: Template, tmp_path: Path
) -> None:
    project = changing.generate(tmp_path / "project", VARIANTS[name], ref="v1.0")
    before = without_bookkeeping(tree(project))
    questions = changing.folder / "copier.yml"
    questions.write_text(
        questions.read_text() + "\nmonitoring:\n  type: bool\n  default: false\n"
    )
    layer = changing.folder / "template/project/{{ '.' if monitoring else '' }}"
    layer.mkdir()
    (layer / "monitoring.yaml").write_text("rules: []\n")
    changing.release("v2.0")

    update(project)

    after = dict(without_bookkeeping(tree(project)))
    assert differences(after, before) == [ANSWERS]
    assert "monitoring: false" in (project / ANSWERS).read_text()


def _add_a_column(template: Template) -> None:
    column = '    sa.Column("wake_at", Timestamp()),\n'
    template.replace(
        TABLE, column, column + '    sa.Column("worker", sa.String(200)),\n'
    )
    (template.folder / MIGRATION).write_text(ADDED_COLUMN)


def test_a_ledger_that_changed_reaches_every_variant(
    changing: Template, tmp_path: Path
) -> None:
    _add_a_column(changing)
    changing.release(NEXT)

    assert failures_of_updates(changing, ["v1.0"], MUST_HAPPEN, tmp_path) == {}


def test_a_ledger_that_changed_keeps_its_rows(
    changing: Template, tmp_path: Path
) -> None:
    variant = VARIANTS["celery-redis"]
    project = changing.generate(tmp_path / "project", variant, ref="v1.0")
    promise(project)
    commit(project, "Deliver parcels")
    install(project)
    commit(project, "Lock")
    _add_a_column(changing)
    changing.release("v2.0")

    with servers(project, "postgresql") as settings:
        databases = [
            settings,
            {"DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/app.db"},
        ]
        for database in databases:
            check(project, "alembic", "upgrade", "heads", **database)
            check(project, "python", "-c", ENQUEUE, **database)

        update(project)
        assert conflicts(project) == []
        assert lost_promises(project) == []
        fresh = changing.generate(tmp_path / "fresh", variant, ref="v2.0")
        promise(fresh)
        shutil.copy(project / "uv.lock", fresh)
        assert differences(tree(project), tree(fresh)) == []
        commit(project, "Update")

        for database in databases:
            check(project, "alembic", "upgrade", "heads", **database)
            _expect_what_was_recorded(project, database)
            check(project, "alembic", "check", **database)
        # The next migration, as README.md says, follows the ledger's and the user's own
        # last one.
        command = "revision --autogenerate --head heads --message Next"
        check(project, "alembic", *command.split(), **databases[1])
        assert len(check(project, "alembic", "heads").splitlines()) == 1


def _expect_what_was_recorded(project: Path, database: Mapping[str, str]) -> None:
    """Let the API run by itself what was recorded before the update."""
    token = {"OPERATOR_TOKEN": "secret-of-operators"}
    deployment = Deployment(project, {**database, **token})
    with deployments(deployment):
        deployment.start("api")
        deployment.wait_until_ready()

        eventually(
            lambda: (
                [task["status"] for task in deployment.tasks()] == ["succeeded"] * 20
            ),
            "all recorded tasks run",
        )
        assert deployment.request("/parcels/totals") == dict.fromkeys(
            ("accepted", "delivered", "deliveries"), 20
        )
