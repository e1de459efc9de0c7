"""An update shows, refuses, keeps or names what plain Copier does silently."""

import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from generator.rendering import ANSWERS
from generator.services import eventually
from generator.variants import VARIANTS, Variant
from tests.conftest import Command
from tests.releases import EVERY_PROJECT, Template, commit, git
from tests.terminal import ENTER, Terminal
from tests.test_refusals import assert_refused

BIN = Path(sys.executable).parent
ENGINE = "app/delivery/engine.py"

# The second release of the template changes the first, adds the second, drops the
# others.
CHANGED = "app/tasks/signups.py"
ADDED = "docs/added.md"
DROPPED = ["tests/delivery/bare/test_health.py", "tests/test_signups.py"]
OLD, NEW = "welcome, %s", "welcome to us, %s"

Start = Callable[..., Path]


@pytest.fixture
def musthappen(musthappen_here: Command) -> Command:
    """Run the command in this process."""
    return musthappen_here


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Return the template with two releases, and a commit that is not released yet."""
    template = Template(tmp_path_factory.mktemp("releases"))
    template.release("v1.0.0")

    project = template.folder / EVERY_PROJECT
    template.replace(f"{EVERY_PROJECT}/{CHANGED}", OLD, NEW)
    (project / ADDED).write_text("Added.\n")
    for path in DROPPED:
        (project / path).unlink()
    template.release("v1.1.0")

    (project / ADDED).write_text("Changed.\n")
    commit(template.folder)
    return template


@pytest.fixture(scope="module")
def started(releases: Template, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Generate a project of a version, once."""
    folder = tmp_path_factory.mktemp("started")

    def generate(variant: str, ref: str) -> Path:
        project = folder / variant / ref
        if not project.exists():
            releases.generate(project, VARIANTS[variant], ref=ref)
        return project

    return generate


@pytest.fixture
def start(started: Start, tmp_path: Path) -> Start:
    """Make a project of the first release, or another version, in the folder `shop`."""

    def copy(variant: str = "nice-to-have", ref: str = "v1.0.0") -> Path:
        return Path(
            shutil.copytree(started(variant, ref), tmp_path / "shop", symlinks=True)
        )

    return copy


def everything(project: Path) -> dict[str, tuple[int, bytes]]:
    """Return every file, those of git included, with its mode and content."""
    return {
        str(path.relative_to(project)): (path.stat().st_mode, path.read_bytes())
        for path in project.rglob("*")
        if path.is_file()
    }


def edit(project: Path, path: str, old: str = "", new: str = "# mine\n") -> None:
    """Do what a user does to a file, and commit it."""
    text = (project / path).read_text() if (project / path).exists() else ""
    assert old in text
    (project / path).write_text(text.replace(old, new, 1))
    commit(project)


def delete(project: Path, path: str) -> None:
    (project / path).unlink()
    commit(project)


def answers(project: Path) -> dict[str, str]:
    found: dict[str, str] = yaml.safe_load((project / ANSWERS).read_text())
    return found


def listed(output: str) -> set[tuple[str, str]]:
    """Return the pairs of a kind and a file that a preview shows."""
    kinds = {"change", "add", "delete", "keep", "conflict"}
    words = [line.split() for line in output.splitlines()]
    return {(line[0], line[1]) for line in words if len(line) == 2 and line[0] in kinds}


@pytest.fixture
def lived_in(start: Start) -> Path:
    """Make a project in which an update meets everything that it can meet."""
    project = start()
    edit(project, CHANGED, OLD, "good morning, %s")
    edit(project, DROPPED[0])
    edit(project, "app/mine.py")
    delete(project, "compose.yaml")
    return project


def test_a_preview_shows_everything_and_writes_nothing(
    lived_in: Path, musthappen: Command
) -> None:
    # Git would note down when it has looked at a file, if it were let.
    os.utime(lived_in / "README.md")
    untouched = everything(lived_in)

    shown = musthappen("update", "shop", "--preview")

    assert shown.returncode == 0, shown.stderr
    assert listed(shown.stdout) == {
        ("change", ANSWERS),
        ("add", ADDED),
        ("delete", DROPPED[1]),
        ("keep", DROPPED[0]),
        ("conflict", CHANGED),
    }
    assert "v1.0.0 → v1.1.0" in shown.stdout
    assert everything(lived_in) == untouched


def test_an_update_keeps_what_was_edited_and_names_conflicts(
    lived_in: Path, musthappen: Command
) -> None:
    updated = musthappen("update", "shop", "--no-install")

    assert updated.returncode == 1, updated.stderr
    assert updated.stderr == ""
    assert f"Conflicts remain in:\n\n    {CHANGED}\n" in updated.stdout
    assert 'git commit --message "Update to v1.1.0"' in updated.stdout
    marked = (lived_in / CHANGED).read_text()
    assert "<<<<<<< before updating" in marked
    assert "good morning" in marked
    assert NEW in marked
    assert "# mine" in (lived_in / DROPPED[0]).read_text()
    assert (lived_in / "app/mine.py").exists()
    assert (lived_in / ADDED).exists()
    assert not (lived_in / DROPPED[1]).exists()
    assert not (lived_in / "compose.yaml").exists()
    assert git(lived_in, "log", "-1", "--format=%s") == "Change something\n"
    assert [*lived_in.rglob("*.rej")] == []


@pytest.mark.usefixtures("lived_in")
def test_an_edited_file_can_be_given_up(musthappen: Command) -> None:
    shown = musthappen("update", "shop", "--preview", f"--delete={DROPPED[0]}")

    assert listed(shown.stdout) >= {("delete", DROPPED[0]), ("delete", DROPPED[1])}


def test_an_edited_engine_is_kept_when_none_is_left(
    start: Start, musthappen: Command
) -> None:
    project = start("celery-redis")
    edit(project, ENGINE)
    engine = (project / ENGINE).read_text()

    updated = musthappen(
        "update", "shop", "--data=delivery=nice_to_have", "--no-install"
    )

    assert updated.returncode == 0, updated.stderr
    assert "celery-redis → nice-to-have" in updated.stdout
    assert f"keep      {ENGINE}\n" in updated.stdout
    assert (project / ENGINE).read_text() == engine
    assert not (project / "app/delivery/ledger.py").exists()
    assert [*project.rglob("*.rej")] == []


def test_other_answers_leave_the_version_unless_it_is_named(
    start: Start, musthappen: Command
) -> None:
    project = start("celery-redis")

    updated = musthappen("update", "shop", "--data=engine=arq", "--no-install")

    assert updated.returncode == 0, updated.stderr
    assert (answers(project)["engine"], answers(project)["_commit"]) == (
        "arq",
        "v1.0.0",
    )
    assert 'git commit --message "Switch to arq-redis"' in updated.stdout
    commit(project)
    shown = musthappen(
        "update", "shop", "--data=engine=celery", "-r", "v1.1.0", "--preview"
    )
    assert "v1.0.0 → v1.1.0" in shown.stdout


def test_nothing_newer_changes_nothing(start: Start, musthappen: Command) -> None:
    # Newer than the newest release.
    untouched = everything(project := start(ref="HEAD"))

    updated = musthappen("update", "shop")

    assert updated.returncode == 0, updated.stderr
    assert "Nothing changes." in updated.stdout
    assert everything(project) == untouched


def test_a_version_that_no_later_update_finds_is_remarked_on(
    start: Start, releases: Template, musthappen: Command
) -> None:
    start()
    draft = releases.folder / "draft.txt"
    draft.touch()

    shown = musthappen("update", "shop", "--preview", "--vcs-ref=HEAD")

    draft.unlink()
    assert "cannot be updated" in shown.stdout


def test_a_switch_locks_the_new_engine(start: Start, musthappen: Command) -> None:
    project = start("celery-redis")

    updated = musthappen("update", "shop", "--data=engine=dramatiq")

    assert updated.returncode == 0, updated.stdout
    assert 'name = "dramatiq"' in (project / "uv.lock").read_text()
    assert (project / ".venv/bin/dramatiq").exists()


def pretend_installed(project: Path, exit_code: int) -> None:
    """Give the project a Python that notes what it is asked to do, and ends so."""
    python = project / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(
        f'#!/bin/sh\necho "$@" > "$0.asked"\necho 3 tests\nexit {exit_code}\n'
    )
    python.chmod(0o755)


def test_tests_that_fail_are_reported(start: Start, musthappen: Command) -> None:
    pretend_installed(start(), 1)

    updated = musthappen("update", "shop", "--no-install", "--test")

    assert updated.returncode == 1
    assert "✗ tests that need no server" in updated.stdout
    assert "3 tests" in updated.stdout


def test_in_a_terminal_it_asks_and_offers_the_tests(
    start: Start, tmp_path: Path
) -> None:
    project = start("celery-redis")
    pretend_installed(project, 0)
    questions = (
        "service called",
        "distribution",
        "task is lost",
        "Which engine",
        "Which brok",
    )

    with Terminal(tmp_path, "update", "shop", "--no-install") as terminal:
        for question in questions:
            terminal.wait_for(question)
            terminal.press(ENTER)
        terminal.wait_for("Update to v1.1.0?")
        assert git(project, "status", "--porcelain") == ""
        terminal.press(ENTER)
        terminal.wait_for("Run the tests")
        terminal.press(ENTER)

        assert terminal.wait_for_end() == 0

    assert answers(project)["_commit"] == "v1.1.0"
    assert "pytest" in (project / ".venv/bin/python.asked").read_text()


def test_stopped_in_a_terminal_it_has_written_nothing(
    start: Start, tmp_path: Path
) -> None:
    untouched = everything(start())

    with Terminal(tmp_path, "update", "shop") as terminal:
        for question in ("service called", "distribution", "task is lost"):
            terminal.wait_for(question)
            terminal.press(ENTER)
        terminal.wait_for("Update to v1.1.0?")
        terminal.press("n" + ENTER)

        assert terminal.wait_for_end() == 2
        assert "nothing was written" in terminal.shown

    assert everything(tmp_path / "shop") == untouched


# What a shell starts in the background without job control ignores it.
HEARS_SIGINT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_ends_what_it_has_started(
    number: signal.Signals, start: Start, tmp_path: Path
) -> None:
    start()
    git, pid = tmp_path / "git", tmp_path / "pid"
    git.write_text(f"#!/bin/sh\necho $$ >'{pid}'\nexec sleep 1000\n")
    git.chmod(0o755)

    with subprocess.Popen(
        [sys.executable, "-c", HEARS_SIGINT, BIN / "musthappen", "update", "shop"],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
    ) as command:
        eventually(lambda: pid.exists() and pid.read_text().strip(), "git runs")
        command.send_signal(number)
        assert command.wait(600) != 0

    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), signal.SIGKILL)


def test_plain_copier_says_what_it_did_not(start: Start) -> None:
    project = start()

    updated = subprocess.run(
        [BIN / "copier", "update", "--defaults"],
        cwd=project,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )

    for step in (
        "git status",
        "git checkout HEAD -- <file>",
        "uv sync",
        "uv run pytest",
    ):
        assert step in updated.stderr


def failing_tests(project: Path) -> list[str]:
    """Return which of the project's tests about its answers fail."""
    tests = runpy.run_path(str(project / "tests/delivery/bare/test_answers.py"))
    failed = []
    for name, test in tests.items():
        if name.startswith("test_"):
            try:
                test()
            except AssertionError:
                failed.append(name)
    return failed


def test_answers_and_wiring_agree(variant: Variant, project: Path) -> None:
    assert failing_tests(project) == [], variant


@pytest.mark.parametrize(
    ("variant", "path", "old", "new"),
    [
        ("celery-redis", ANSWERS, "engine: celery", "engine: arq"),
        ("celery-redis", ANSWERS, "broker: redis", "broker: rabbitmq"),
        ("celery-redis", ANSWERS, "delivery: must_happen", "delivery: nice_to_have"),
        ("nice-to-have", ANSWERS, "delivery: nice_to_have", "delivery: must_happen"),
        ("nice-to-have", ANSWERS, "delivery:", "engine: arq\ndelivery:"),
        ("celery-redis", "pyproject.toml", "celery[redis]", "dramatiq[redis]"),
        ("celery-redis", ENGINE, "celery", "dramatiq"),
        ("celery-redis", "Procfile", "celery", "dramatiq"),
        ("celery-redis", "app/settings.py", '"^rediss?://"', '"^amqps?://"'),
    ],
)
def test_answers_and_wiring_that_disagree_are_noticed(
    variant: str, path: str, old: str, new: str, start: Start
) -> None:
    project = start(variant)
    text = (project / path).read_text()
    (project / path).write_text(text.replace(old, new))

    assert failing_tests(project)


@pytest.mark.parametrize(
    ("path", "text", "hook"),
    [
        ("app/mine.txt", "<<<<<<< before updating\nmine\n", "conflict markers"),
        ("app/mine.txt", "theirs\n>>>>>>> after updating\n", "conflict markers"),
        ("app/mine.py.rej", "a rejected hunk\n", "no rejected hunks"),
    ],
)
def test_the_hooks_notice_leftovers(
    path: str, text: str, hook: str, start: Start
) -> None:
    project = start()
    edit(project, path, new=text)

    checked = subprocess.run(
        [BIN / "pre-commit", "run", "--all-files"],
        cwd=project,
        env={**os.environ, "SKIP": "ruff-check,ruff-format,mypy"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 1
    assert [
        line
        for line in checked.stdout.splitlines()
        if hook in line and "Failed" in line
    ]


def forget_git(project: Path) -> None:
    shutil.rmtree(project / ".git")


def leave_unmerged(project: Path) -> None:
    for branch, text in (("main", "ours"), ("other", "theirs")):
        if branch == "other":
            git(project, "checkout", "--quiet", "-b", "other", "HEAD~1")
        edit(project, "mine.txt", new=text)
    subprocess.run(
        ["git", "merge", "main"], cwd=project, capture_output=True, check=False
    )


REFUSALS: list[tuple[str, Callable[[Path], object], list[str], str]] = [
    ("dirty", lambda p: (p / "README.md").write_text(""), [], "uncommitted changes"),
    ("new file", lambda p: (p / "mine.txt").write_text(""), [], "uncommitted changes"),
    ("not under git", forget_git, [], "is not under git"),
    ("unmerged", leave_unmerged, [], "unresolved conflicts"),
    (
        "markers",
        lambda p: edit(p, "a.md", new="<<<<<<< HEAD\n"),
        [],
        "resolve and commit a.md",
    ),
    ("rejected", lambda p: edit(p, "app/a.rej"), [], "resolve and commit app/a.rej"),
    ("no folder", shutil.rmtree, [], "is no project made by"),
    ("no answers", lambda p: delete(p, ANSWERS), [], "no .copier-answers.yml"),
    ("no YAML", lambda p: edit(p, ANSWERS, "_commit:", "- ["), [], "is broken"),
    (
        "no version",
        lambda p: edit(p, ANSWERS, "_commit: v1.0.0\n", ""),
        [],
        "has no _commit",
    ),
    (
        "another's",
        lambda p: edit(p, ANSWERS, "delivery:", "colour:"),
        [],
        "has no delivery",
    ),
    (
        "bad answer",
        lambda p: edit(p, ANSWERS, "delivery: ", "delivery: x"),
        [],
        "is not in",
    ),
    (
        "moved",
        lambda p: edit(p, ANSWERS, "_src_path: /", "_src_path: /gone/"),
        [],
        "_src_path",
    ),
    (
        "far",
        lambda p: edit(p, ANSWERS, "_src_path: ", "_src_path: file:///a.git #"),
        [],
        "reached",
    ),
    (
        "lost",
        lambda p: edit(p, ANSWERS, "v1.0.0", "v0.9.0"),
        [],
        "has no version v0.9.0",
    ),
    ("unknown version", lambda _: None, ["-r", "v9"], "has no version v9"),
    ("unknown answer", lambda _: None, ["-d", "colour=red"], "unknown answer colour"),
    ("no value", lambda _: None, ["-d", "engine"], "engine=VALUE"),
    ("invalid", lambda _: None, ["-d", "delivery=maybe"], "'maybe' is not in"),
    (
        "nice engine",
        lambda _: None,
        ["-d", "engine=arq"],
        "only a must-happen project has an engi",
    ),
    (
        "ARQ on RabbitMQ",
        lambda _: None,
        ["-d", "delivery=must_happen", "-d", "engine=arq", "-d", "broker=rabbitmq"],
        "ARQ speaks only Redis",
    ),
    (
        "file that stays",
        lambda _: None,
        ["--delete", "README.md"],
        "deletes no such file",
    ),
]


@pytest.mark.parametrize(
    ("prepare", "arguments", "reason"),
    [refusal[1:] for refusal in REFUSALS],
    ids=[refusal[0] for refusal in REFUSALS],
)
def test_a_refused_update_leaves_everything_untouched(
    prepare: Callable[[Path], object],
    arguments: list[str],
    reason: str,
    start: Start,
    musthappen: Command,
) -> None:
    project = start()
    prepare(project)
    untouched = everything(project)

    assert_refused(musthappen("update", "shop", *arguments), reason)
    assert everything(project) == untouched


def test_an_older_version_is_refused(start: Start, musthappen: Command) -> None:
    untouched = everything(project := start(ref="v1.1.0"))

    assert_refused(
        musthappen("update", "shop", "--vcs-ref=v1.0.0"), "Downgrades are not supported"
    )
    assert everything(project) == untouched


def test_an_answer_that_became_invalid_is_not_replaced_silently(
    start: Start, musthappen: Command
) -> None:
    untouched = everything(project := start("celery-rabbitmq"))

    assert_refused(
        musthappen("update", "shop", "-d", "engine=arq"), "add --data broker=redis"
    )
    assert everything(project) == untouched
