"""The list of variants is the one that CI runs and that the questions allow."""

import itertools
import json

from generator.rendering import read_questions
from generator.variants import PYTHONS, VARIANTS
from tests.conftest import ROOT, Command


def test_the_table_names_every_variant(musthappen: Command) -> None:
    shown = musthappen("variants")

    assert shown.returncode == 0
    assert all(name in shown.stdout for name in VARIANTS)


def test_the_matrix_has_a_job_for_every_variant_on_every_python(
    musthappen: Command,
) -> None:
    shown = musthappen("matrix")

    jobs = {
        (job["variant"], job["python"]) for job in json.loads(shown.stdout)["include"]
    }
    assert jobs == set(itertools.product(VARIANTS, PYTHONS))
    assert shown.stdout.count("\n") == 1


def test_the_questions_allow_exactly_the_variants() -> None:
    questions = read_questions(ROOT)
    assert list(questions) == [
        "project_name",
        "project_slug",
        "delivery",
        "engine",
        "broker",
    ]

    values = {
        name: [
            choice if isinstance(choice, str) else choice["value"]
            for choice in questions[name]["choices"].values()
        ]
        for name in ("delivery", "engine", "broker")
    }

    offered = {
        (delivery, engine, broker)
        for delivery, engine, broker in itertools.product(*values.values())
        if delivery == "must_happen"
        and engine != "postgresql"
        and (engine, broker) != ("arq", "rabbitmq")
    }

    known = {tuple(v.answers.values()) for v in VARIANTS.values() if v.has_broker}
    assert known == offered
    others = [
        variant.answers for variant in VARIANTS.values() if not variant.has_broker
    ]
    assert others == [
        {"delivery": "nice_to_have"},
        {"delivery": "must_happen", "engine": "postgresql"},
    ]


def test_the_questions_need_no_trust() -> None:
    config = (ROOT / "copier.yml").read_text()
    assert not [
        key for key in ("_tasks", "_migrations", "_jinja_extensions") if key in config
    ]
