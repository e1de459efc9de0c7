"""The worked example of tasks that are nice to have."""

import logging

import pytest
from fastapi.testclient import TestClient


def test_all_tasks_of_a_signup_run(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answer = client.post("/signups", json={"email": "ada@example.com"})
    assert (answer.status_code, answer.json()) == (202, {"email": "ada@example.com"})

    logged = [
        each.getMessage() for each in caplog.records if each.name == "app.tasks.signups"
    ]
    assert logged == [
        "counted a visit of /signups",
        "welcome, ada@example.com",
        "subscribed ada@example.com to the newsletter",
    ]


def test_no_task_of_a_refused_signup_runs(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert client.post("/signups", json={"email": "ada"}).status_code == 422
    assert not [each for each in caplog.records if each.name == "app.tasks.signups"]
