"""Run work after the response. User code imports from here, no deeper."""

from typing import NoReturn

from app.delivery.enqueue import Enqueuer
from app.delivery.nice_to_have import NiceToHaveTask, nice_to_have

__all__ = ["Enqueuer", "NiceToHaveTask", "must_happen", "nice_to_have"]


def must_happen(*_: object, **__: object) -> NoReturn:
    """Refuse: what runs in the API process may be lost."""
    raise RuntimeError(
        "must_happen needs a ledger; get one with: "
        "copier update --defaults -r :current: -d delivery=must_happen"
    )
