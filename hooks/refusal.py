"""What a user sees when something cannot be done: one line, never a traceback."""


class Refusal(Exception):  # noqa: N818 - it is no defect: the command says no, and why
    """Something was asked for that cannot be done; the message is one line and says why."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
