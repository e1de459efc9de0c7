"""What happens to whoever wants a promise that this service does not make."""

import pytest

from app.delivery import must_happen


def test_must_happen_says_which_command_makes_it_possible() -> None:
    async def charge_card() -> None: ...

    with pytest.raises(RuntimeError, match=r"copier update .*delivery=must_happen"):
        must_happen(charge_card)


def test_must_happen_with_options_says_so_too() -> None:
    with pytest.raises(RuntimeError, match=r"copier update .*delivery=must_happen"):
        must_happen(max_attempts=8)
