"""An outage is reported when it begins, once in a while, and when it is over."""

import time

import pytest

from app.delivery import outages
from app.delivery.outages import Outage


def test_outage_is_reported_at_its_beginning_and_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage("the mill stands still")
    for _ in range(100):
        outage.go_on(RuntimeError("no wind"))
    outage.end()
    outage.end()
    assert [record.getMessage() for record in caplog.records] == [
        "the mill stands still, trying on: RuntimeError('no wind')",
        "the mill stands still: over after 0 s",
    ]


def test_success_that_was_asked_for_before_ends_no_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage("the mill stands still")
    asked_at = time.monotonic()
    outage.go_on(RuntimeError("no wind"))
    outage.end(asked_at)
    assert len(caplog.records) == 1
    outage.end(time.monotonic())
    assert len(caplog.records) == 2


def test_outage_that_lasts_is_reported_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "REPORT_SECONDS", 0)
    outage = Outage("the mill stands still")
    for reason in ("no wind", "too much wind"):
        outage.go_on(RuntimeError(reason))
    assert "no wind" in caplog.records[0].getMessage()
    assert "too much wind" in caplog.records[1].getMessage()
