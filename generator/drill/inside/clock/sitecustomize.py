"""Shift this process's clock: Python imports this module first of all.

It moves `time.time`, `time.time_ns`, and the `now`, `utcnow` and `today` of `datetime`.
Where libfaketime is installed, the drill uses that instead, which moves the whole
process.
"""

import datetime as dt
import os
import time
from typing import Self

SECONDS = float(os.environ.get("DRILL_CLOCK_SECONDS", "0"))
_time, _time_ns, _datetime = time.time, time.time_ns, dt.datetime


class _AnyDatetime(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _datetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _datetime)


class _Shifted(dt.datetime, metaclass=_AnyDatetime):
    __slots__ = ()  # Compiled code knows its size.

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Self:
        return super().now(tz) + dt.timedelta(seconds=SECONDS)

    @classmethod
    def utcnow(cls) -> Self:
        return cls.now(dt.UTC).replace(tzinfo=None)

    @classmethod
    def today(cls) -> Self:
        return cls.now()


if SECONDS:
    time.time = lambda: _time() + SECONDS
    time.time_ns = lambda: _time_ns() + int(SECONDS * 1e9)
    _Shifted.__name__ = _Shifted.__qualname__ = "datetime"
    dt.datetime = _Shifted  # type: ignore[misc]
