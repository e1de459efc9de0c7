"""List the variants once, for the table, the CI matrix, the checks and the tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hooks.refusal import Refusal

PYTHONS = ("3.11", "3.12", "3.13", "3.14")


@dataclass(frozen=True)
class Variant:
    """A valid combination of the answers that decide what a project is made of."""

    name: str
    answers: Mapping[str, str]

    @property
    def must_happen(self) -> bool:
        """Whether it promises that tasks happen; its tests need servers then."""
        return self.answers["delivery"] == "must_happen"

    @property
    def has_broker(self) -> bool:
        """Whether a broker carries its tasks."""
        return "broker" in self.answers


def name_of(answers: Mapping[str, str]) -> str:
    """Return the name of the variant that these answers, among others, make."""
    if answers["delivery"] == "nice_to_have":
        return "nice-to-have"
    if answers["engine"] == "postgresql":
        return "postgresql"
    return f"{answers['engine']}-{answers['broker']}"


def _variant(**answers: str) -> Variant:
    return Variant(name_of(answers), answers)


def _must_happen(engine: str, **broker: str) -> Variant:
    return _variant(delivery="must_happen", engine=engine, **broker)


VARIANTS = {
    variant.name: variant
    for variant in (
        _variant(delivery="nice_to_have"),
        _must_happen("postgresql"),
        _must_happen("celery", broker="redis"),
        _must_happen("celery", broker="rabbitmq"),
        _must_happen("arq", broker="redis"),
        _must_happen("dramatiq", broker="redis"),
        _must_happen("dramatiq", broker="rabbitmq"),
    )
}


def find_variants(names: Sequence[str]) -> list[Variant]:
    """Return the named variants, or all when none is named.

    Raises:
        Refusal: A name is unknown.
    """
    if unknown := [name for name in names if name not in VARIANTS]:
        raise Refusal(
            f"unknown variant {unknown[0]}: the variants are {', '.join(VARIANTS)}"
        )
    return [VARIANTS[name] for name in dict.fromkeys(names or VARIANTS)]
