"""A project that people live in goes round all variants, and everything of theirs with it.

At every stop it passes its own linters, types and tests; the slow ones of its tests, which kill
servers and workers, are only run here in full with `--full`, because `musthappen check` runs the
same ones on every variant.
"""

import itertools
from pathlib import Path

import pytest

from generator.variants import VARIANTS, Variant
from tests.living import give_up_promises, live_in, losses, lost_promises, promise
from tests.releases import Template, commit, conflicts, differences, switch_to, tree, without
from tests.serving import check, install

NICE = VARIANTS["nice-to-have"]
START = VARIANTS["celery-redis"]
ROUND = [
    VARIANTS[name]
    for name in ("dramatiq-rabbitmq", "arq-redis", "celery-rabbitmq", "dramatiq-redis")
]
PAIRS = list(itertools.permutations(VARIANTS.values(), 2))

SOME_BROKER_TESTS = (
    "tests/broker/test_parcels.py",
    "tests/broker/test_travel.py",
    "tests/broker/test_deployment.py",
)


def test_a_project_goes_round_all_variants_and_back(
    template: Template, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    broker_tests = ["tests/broker"] if pytestconfig.getoption("full") else [*SOME_BROKER_TESTS]

    def arrive(source: Variant, target: Variant) -> None:
        switch_to(project, source, target)
        assert conflicts(project) == []
        assert losses(project) == []
        commit(project, f"Switch to {target.name}")

    def pass_all(*tests: str) -> None:
        install(project)
        check(project, "ruff", "check")
        check(project, "ruff", "format", "--check")
        check(project, "mypy")
        for each in tests:
            check(project, "pytest", *each.split())
        commit(project, "Lock")

    # Small at first, and nothing much is lost with a task.
    project = template.generate(tmp_path / "project", NICE)
    live_in(project)
    commit(project, "Open the shop")
    pass_all("tests/bare")
    # Then there are parcels, which must not be lost.
    arrive(NICE, START)
    promise(project)
    commit(project, "Deliver parcels")
    beginning = tree(project)
    pass_all("tests/bare", " ".join(broker_tests))
    for source, target in itertools.pairwise([START, *ROUND]):
        arrive(source, target)
        assert lost_promises(project) == []
        pass_all("tests/bare", " ".join(broker_tests))
    arrive(ROUND[-1], START)
    assert lost_promises(project) == []
    assert differences(without(tree(project), "uv.lock"), without(beginning, "uv.lock")) == []
    # In the end others deliver the parcels.
    give_up_promises(project)
    commit(project, "Deliver no parcels")
    arrive(START, NICE)
    pass_all("tests/bare")
