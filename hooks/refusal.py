"""Say in one line why something cannot be done, instead of a traceback."""


class Refusal(Exception):  # noqa: N818 - it is no defect: the command says no, and why
    """Something was asked for that cannot be done; the message says why in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
