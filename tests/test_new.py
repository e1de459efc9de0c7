"""`musthappen new` makes a project that runs as it says, with no server installed."""

import json
import re
import shlex
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import yaml

from generator.rendering import ANSWERS
from generator.services import eventually, free_port
from generator.variants import Variant
from tests.conftest import ROOT, Command
from tests.terminal import DOWN, ENTER, Terminal

PREPARED = ("--no-install", "--no-git", "--no-pre-commit")


@pytest.fixture(autouse=True)
def git_identity(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let git know a committer, whatever this machine knows."""
    config = tmp_path_factory.mktemp("git") / "config"
    config.write_text("[user]\nname = Ada\nemail = ada@example.com\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")


def git(project: Path, *arguments: str) -> str:
    ran = subprocess.run(
        ["git", "-C", project, *arguments], capture_output=True, text=True, check=True
    )
    return ran.stdout


def test_the_repository_of_a_hook_is_not_the_projects(
    musthappen: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in git(tmp_path, "rev-parse", "--local-env-vars").split():
        if not name.startswith(("GIT_CONFIG", "GIT_INTERNAL")):
            monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "0")

    made = musthappen("new", "shop", "--defaults", "--no-install", "--no-pre-commit")

    assert made.returncode == 0, made.stderr
    assert "_commit: " in (tmp_path / "shop" / ANSWERS).read_text()
    assert (tmp_path / "shop/.git").is_dir()
    assert not (tmp_path / "elsewhere").exists()


def test_its_next_steps_give_a_service_that_runs_a_task(
    variant: Variant, musthappen: Command, tmp_path: Path
) -> None:
    answers = (f"--data={key}={value}" for key, value in variant.answers.items())
    made = musthappen(
        "new", "my shop", "--data=project_name=Shop", "--defaults", *answers
    )

    assert made.returncode == 0, made.stdout + made.stderr
    assert git(tmp_path / "my shop", "log", "--format=%an %s") == "Ada Start Shop\n"
    assert git(tmp_path / "my shop", "status", "--porcelain") == ""
    assert (tmp_path / "my shop/uv.lock").exists()
    assert (tmp_path / "my shop/.git/hooks/pre-commit").exists()
    steps = [
        line.strip() for line in made.stdout.splitlines() if line.startswith("    ")
    ]
    start = [step for step in steps if not step.startswith("curl")]
    first_request, *_ = (step for step in steps if step.startswith("curl"))
    with running(" && ".join(start), tmp_path) as base:
        status, headers = curl(first_request, base)
        assert status == 202
        if variant.must_happen:
            task = base + headers["Location"]
            eventually(lambda: get(task)["status"] == "succeeded", "the task succeeds")


@contextmanager
def running(command: str, directory: Path) -> Iterator[str]:
    """Run the printed command on a free port; yield the service's address."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"

    with subprocess.Popen(
        # When the pipe closes, as the test or its process ends, everything is killed.
        ["bash", "-c", f"{command} --port {port} & cat; kill -KILL 0"],
        cwd=directory,
        env={"PATH": "/usr/bin:/bin", "HOME": str(directory)},
        stdin=subprocess.PIPE,
        start_new_session=True,
    ):
        eventually(lambda: get(f"{base}/readyz") is not None, "the service is ready")
        yield base


def curl(command: str, base: str) -> tuple[int, Message]:
    """Send the request of a curl command line; return its status and headers."""
    _, _, address, _, header, _, body = shlex.split(command)
    name, _, value = header.partition(": ")
    request = urllib.request.Request(
        base + address.removeprefix("localhost:8000"), body.encode(), {name: value}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.status, answer.headers


def get(url: str) -> Any:
    """Return what is answered, or None while nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)
    except OSError:
        return None


def test_every_step_can_be_declined(musthappen: Command, tmp_path: Path) -> None:
    made = musthappen("new", "shop", *PREPARED)

    assert made.returncode == 0, made.stderr
    assert not [
        name
        for name in (".git", ".venv", "uv.lock")
        if (tmp_path / "shop" / name).exists()
    ]
    assert re.search(r"^    \S*uv sync$", made.stdout, re.MULTILINE)


def test_without_a_terminal_the_folder_and_the_defaults_answer(
    musthappen: Command, tmp_path: Path
) -> None:
    made = musthappen("new", "order-service", *PREPARED)

    assert made.returncode == 0, made.stderr
    answers = yaml.safe_load((tmp_path / "order-service" / ANSWERS).read_text())
    assert answers["project_name"] == "Order Service"
    assert answers["project_slug"] == "order-service"
    assert answers["delivery"] == "must_happen"
    assert answers["_src_path"] == str(ROOT)


def test_inside_another_repository_it_starts_none(
    musthappen: Command, tmp_path: Path
) -> None:
    git(tmp_path, "init")

    made = musthappen("new", "shop", "--no-install", "--no-pre-commit")

    assert made.returncode == 0, made.stderr
    assert "part of a git repository" in made.stdout
    assert not (tmp_path / "shop/.git").exists()


def test_the_first_commit_can_be_left_to_the_user(
    musthappen: Command, tmp_path: Path
) -> None:
    made = musthappen("new", "shop", "--no-install", "--no-pre-commit", "--no-commit")

    assert made.returncode == 0, made.stderr
    assert (tmp_path / "shop/.git").exists()
    assert git(tmp_path / "shop", "rev-list", "--all") == ""


def test_without_an_identity_it_leaves_the_commit(
    musthappen: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("EMAIL", "")
    monkeypatch.setenv("HOME", str(tmp_path))

    made = musthappen("new", "shop", "--no-install", "--no-pre-commit")

    assert made.returncode == 0, made.stdout
    assert (tmp_path / "shop/.git").exists()


def test_a_step_that_fails_is_named_and_the_project_stays(
    musthappen: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_NO_CACHE", "1")

    made = musthappen("new", "shop", "--no-git", "--no-pre-commit")

    assert made.returncode == 1
    assert "`uv sync" in made.stdout
    assert (tmp_path / "shop/pyproject.toml").exists()


def test_in_a_terminal_it_asks(tmp_path: Path) -> None:
    with Terminal(tmp_path, "new", "shop", *PREPARED) as terminal:
        terminal.wait_for("What is the service called?")
        terminal.press(" Two" + ENTER)
        terminal.wait_for("distribution, containers")
        terminal.press(ENTER)
        terminal.wait_for("What happens if a background task is lost?")
        terminal.press(ENTER)
        terminal.wait_for("Which engine runs the tasks?")
        terminal.press(DOWN + DOWN + ENTER)
        terminal.wait_for("ARQ speaks only Redis")
        terminal.press(ENTER)
        terminal.wait_for("Make it?")
        assert not (tmp_path / "shop").exists()
        terminal.press("y" + ENTER)

        assert terminal.wait_for_end() == 0

    answers = yaml.safe_load((tmp_path / "shop" / ANSWERS).read_text())
    assert (answers["project_name"], answers["project_slug"]) == (
        "Shop Two",
        "shop-two",
    )
    assert (answers["engine"], answers["broker"]) == ("arq", "redis")


@pytest.mark.parametrize("stop", ["\x03", "n"])
def test_stopped_it_has_written_nothing(stop: str, tmp_path: Path) -> None:
    with Terminal(tmp_path, "new", "shop", "--data=delivery=nice_to_have") as terminal:
        terminal.wait_for("What is the service called?")
        if stop == "n":
            terminal.press(ENTER)
            terminal.wait_for("distribution, containers")
            terminal.press(ENTER)
            terminal.wait_for("Make it?")
            terminal.press("n" + ENTER)
        else:
            terminal.press(stop)

        assert terminal.wait_for_end() == 2
        assert "nothing was written" in terminal.shown

    assert list(tmp_path.iterdir()) == []
