"""Enqueue values of all kinds of types, and see that none reaches its task changed.

Run inside a generated project. What is given and what arrives are compared by a
description that shares nothing with how the project itself compares.
"""

import argparse
import math
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from fractions import Fraction
from functools import cached_property
from ipaddress import IPv4Address, IPv6Network
from pathlib import Path, PurePosixPath
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    TypeVar,
)
from uuid import UUID
from zoneinfo import ZoneInfo

import pydantic
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    AwareDatetime,
    Base64Bytes,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    EmailStr,
    Field,
    HttpUrl,
    Json,
    NaiveDatetime,
    OnErrorOmit,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    SerializeAsAny,
    SkipValidation,
    Strict,
    StringConstraints,
    TypeAdapter,
    computed_field,
    field_serializer,
    model_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel
from typing_extensions import TypeAliasType, TypedDict

from app.delivery import must_happen

T = TypeVar("T")
Values = st.SearchStrategy[Any]


# --- Types that people write, some of which JSON cannot hold.


class Aliased(BaseModel):
    amount: Decimal = Field(Decimal(0), alias="amountDue")


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    order_id: int
    paid_at: datetime | None


class CamelByName(Camel):
    model_config = ConfigDict(populate_by_name=True)


class CamelOnTheWire(Camel):
    model_config = ConfigDict(serialize_by_alias=True, extra="forbid")


class TwoAliases(BaseModel):
    number: int = Field(1, validation_alias="read", serialization_alias="written")


class Chosen(BaseModel):
    number: int = Field(1, validation_alias=AliasChoices("nr", AliasPath("numbers", 0)))


class Swapped(BaseModel):
    one: int = Field(0, alias="other")
    other: int = Field(0, alias="one")


class Nested(BaseModel):
    invoices: list[Aliased]
    by_name: dict[str, Camel]


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    number: int

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def double(self) -> int:
        return self.number * 2


class Excluded(BaseModel):
    shown: int = 0
    hidden: int = Field(0, exclude=True)


class Rounded(BaseModel):
    amount: Decimal

    @field_serializer("amount")
    def _round(self, amount: Decimal) -> str:
        return str(round(amount, 1))


class Summed(BaseModel):
    numbers: list[int]

    @model_serializer
    def _sum(self) -> dict[str, Any]:
        return {"numbers": [sum(self.numbers)]}


class Event(BaseModel):
    name: str


class OrderEvent(Event):
    order: int = 0


class Private(BaseModel):
    number: int = 0
    _note: str = PrivateAttr("")

    def noted(self, text: str) -> "Private":
        self._note = text
        return self


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    number: int = 0


class InfinityIsNull(BaseModel):
    number: float | None


class Hexadecimal(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64")
    picture: bytes


class Seconds(BaseModel):
    model_config = ConfigDict(ser_json_timedelta="float")
    pause: timedelta


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)
    id: UUID
    at: datetime
    tags: frozenset[str]


class Hidden(BaseModel):
    token: SecretStr | None = None


class Box(BaseModel, Generic[T]):
    content: T


class Tree(BaseModel):
    name: str
    children: list["Tree"] = []


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str = ""


class Paid(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    event_type: Literal["paid"] = "paid"
    paid_at: datetime


class Shipped(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    event_type: Literal["shipped"] = "shipped"
    parcels: dict[str, Aliased]


class Renamed(BaseModel):
    number: int = Field(alias="nr")

    @model_validator(mode="before")
    @classmethod
    def _by_alias_only(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {"nr": given["nr"]}


class Numbers(RootModel[list[int]]):
    pass


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Corner(Enum):
    NEAR = (0, 0)
    FAR = (1, 1)


class Right(Flag):
    READ = 1
    WRITE = 2


class Coloured(BaseModel):
    model_config = ConfigDict(use_enum_values=True)
    colour: Colour


class Point(NamedTuple):
    x: int
    label: str = ""


class Options(TypedDict, total=False):
    limit: Annotated[int, Field(alias="maximum")]
    name: str


@dataclass
class Line:
    amount: Decimal
    picture: bytes


@dataclass(slots=True, eq=False)
class Slotted:
    number: float


@pydantic.dataclasses.dataclass
class Invoice:
    amount: Decimal = Field(Decimal(0), alias="amountDue")


Cents = NewType("Cents", int)
Matrix = TypeAliasType("Matrix", list[list[float]])
Pet = Annotated[Cat | Dog, Field(discriminator="kind")]
Rate = Annotated[float, PlainSerializer(lambda rate: round(rate, 2))]
Happened = Annotated[Paid | Shipped, Field(discriminator="event_type")]
Doubled = Annotated[int, BeforeValidator(lambda number: int(number) * 2)]
Trimmed = Annotated[str, StringConstraints(strip_whitespace=True)]
Unmasked = Annotated[SecretStr, PlainSerializer(lambda each: each.get_secret_value())]
Upper = Annotated[str, AfterValidator(str.upper)]


# --- Their values.

texts = st.text(max_size=20)
any_texts = st.one_of(texts, st.text(st.sampled_from("a\n\ud800"), max_size=3))
small = st.integers(-3, 3)
integers = st.one_of(small, st.integers(), st.just(10**4000))
floats = st.one_of(st.floats(), st.sampled_from([0.0, -0.0, math.nan, math.inf]))
decimals = st.decimals(allow_nan=False, allow_infinity=False)
offsets = st.integers(-23 * 60, 23 * 60).map(
    lambda minutes: timezone(timedelta(minutes=minutes))
)
zones = st.sampled_from(["Europe/Berlin", "Asia/Kolkata", "America/New_York"])
naive = st.datetimes()
aware = st.datetimes(timezones=st.one_of(st.just(UTC), offsets))
zoned = st.datetimes(timezones=zones.map(ZoneInfo))
bytes_ = st.binary(max_size=20)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), small, st.floats(allow_nan=False), texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(texts, inner, max_size=3),
        st.tuples(inner),
    ),
    max_leaves=6,
)
events = st.one_of(
    st.builds(Event, name=texts), st.builds(OrderEvent, name=texts, order=small)
)
camels = [
    st.builds(kind, orderId=integers, paidAt=st.none() | aware)
    for kind in (Camel, CamelByName, CamelOnTheWire)
]
aliased = st.builds(Aliased, amountDue=decimals)
trees = st.recursive(
    st.builds(Tree, name=texts),
    lambda inner: st.builds(Tree, name=texts, children=st.lists(inner, max_size=2)),
    max_leaves=4,
)
computed = st.builds(Computed, number=integers)
secrets = st.builds(SecretStr, texts.filter(bool))


def looked_at(model: Computed) -> Computed:
    assert model.double == model.number * 2
    return model


KEPT: dict[str, tuple[Any, Values]] = {
    "none": (None, st.none()),
    "bool": (bool, st.booleans()),
    "int": (int, integers),
    "float": (float, floats),
    "decimal": (Decimal, decimals),
    "str": (str, texts),
    "bytes": (bytes, bytes_),
    "UUID": (UUID, st.uuids()),
    "date": (date, st.dates()),
    "naive datetime": (datetime, naive),
    "aware datetime": (datetime, aware),
    "AwareDatetime": (AwareDatetime, aware),
    "NaiveDatetime": (NaiveDatetime, naive),
    "time": (time, st.times()),
    "timedelta": (timedelta, st.timedeltas()),
    "Path": (Path, texts.filter(lambda text: "\0" not in text).map(Path)),
    "IPv4Address": (IPv4Address, st.ip_addresses(v=4)),
    "fraction": (Fraction, st.fractions()),
    "str enum": (Colour, st.sampled_from(Colour)),
    "int enum": (Level, st.sampled_from(Level)),
    "literal": (Literal["a", 1, None], st.sampled_from(["a", 1, None])),
    "HttpUrl": (HttpUrl, st.just("https://example.com/ä?q=1#x").map(HttpUrl)),
    "EmailStr": (EmailStr, st.just("someone@example.com")),
    "ByteSize": (ByteSize, st.integers(0, 2**62)),
    "Json": (Json[list[int]], st.lists(small).map(str)),
    "trimmed": (Trimmed, texts),
    "upper case": (Upper, st.text("abcß", max_size=4)),
    "unmasked secret": (Unmasked, secrets),
    "strict int": (Annotated[int, Strict()], integers),
    "new type": (Cents, integers),
    "type alias": (Matrix, st.lists(st.lists(floats, max_size=2), max_size=2)),
    "list": (list[UUID], st.lists(st.uuids(), max_size=3)),
    "tuple": (tuple[int, bytes, date], st.tuples(integers, bytes_, st.dates())),
    "long tuple": (tuple[float, ...], st.lists(floats, max_size=3).map(tuple)),
    "set": (set[int], st.sets(integers, max_size=3)),
    "frozenset": (frozenset[str], st.frozensets(texts, max_size=3)),
    "dict of UUIDs": (dict[UUID, Decimal], st.dictionaries(st.uuids(), decimals)),
    "dict of ints": (dict[int, bool], st.dictionaries(integers, st.booleans())),
    "OrderedDict": (
        OrderedDict[str, int],
        st.dictionaries(texts, small).map(OrderedDict),
    ),
    "Counter": (Counter[str], st.text("abc").map(Counter)),
    "OnErrorOmit": (list[OnErrorOmit[int]], st.lists(small)),
    "named tuple": (Point, st.builds(Point, small, texts)),
    "typed dict": (
        Options,
        st.fixed_dictionaries({}, optional={"limit": small, "name": texts}),
    ),
    "dataclass": (Line, st.builds(Line, decimals, texts.map(str.encode))),
    "list of dataclasses": (list[Line], st.lists(st.builds(Line, decimals, bytes_))),
    "slots": (Slotted, st.builds(Slotted, floats.filter(math.isfinite))),
    "pydantic dataclass": (Invoice, st.builds(Invoice, amountDue=decimals)),
    "int or str": (int | str, st.one_of(integers, st.sampled_from(["1", "a"]))),
    "bool or int": (bool | int, st.one_of(st.booleans(), small)),
    "finite float or int": (
        float | int,
        st.one_of(small, st.floats(allow_nan=False, allow_infinity=False)),
    ),
    "optional model": (Aliased | None, st.none() | aliased),
    "alias": (Aliased, aliased),
    "list of aliases": (list[Aliased], st.lists(aliased, max_size=3)),
    "camel": (Camel, camels[0]),
    "camel by name": (CamelByName, camels[1]),
    "camel on the wire": (CamelOnTheWire, camels[2]),
    "two aliases": (TwoAliases, st.builds(TwoAliases, read=integers)),
    "alias choices": (Chosen, st.builds(Chosen, nr=integers)),
    "nested aliases": (
        Nested,
        st.builds(
            Nested,
            invoices=st.lists(aliased, max_size=2),
            by_name=st.dictionaries(texts, camels[0], max_size=2),
        ),
    ),
    "computed": (Computed, st.one_of(computed, computed.map(looked_at))),
    "frozen and strict": (
        Frozen,
        st.builds(Frozen, id=st.uuids(), at=aware, tags=st.frozensets(texts)),
    ),
    "extra": (Open, st.builds(Open, number=small, colour=texts)),
    "enum values": (Coloured, st.builds(Coloured, colour=st.sampled_from(Colour))),
    "timedelta as seconds": (
        Seconds,
        st.builds(Seconds, pause=st.integers(0, 10**6).map(lambda s: timedelta(0, s))),
    ),
    "generic model": (Box[Decimal], st.builds(Box[Decimal], content=decimals)),
    "generic alias": (Box[Aliased], st.builds(Box[Aliased], content=aliased)),
    "recursive model": (Tree, trees),
    "root model": (Numbers, st.lists(integers).map(Numbers)),
    "discriminated union": (
        Pet,
        st.one_of(st.builds(Cat, lives=small), st.builds(Dog, name=texts)),
    ),
    "discriminated by an alias": (
        Happened,
        st.one_of(
            st.builds(Paid, paidAt=aware),
            st.builds(Shipped, parcels=st.dictionaries(texts, aliased, max_size=2)),
        ),
    ),
    "validator of the alias": (Renamed, st.builds(Renamed, nr=integers)),
    "aliased parameter": (Annotated[int, Field(alias="other")], integers),
}
"""Arrives always."""

DOUBTFUL: dict[str, tuple[Any, Values]] = {
    "complex": (complex, st.complex_numbers()),
    "text": (str, any_texts),
    "texts": (dict[str, list[str]], st.dictionaries(any_texts, st.lists(any_texts))),
    "huge int": (int, st.sampled_from([10**4000, 10**4400, -(10**5000)])),
    "zone": (datetime, zoned),
    "time with a zone": (time, st.times(timezones=zones.map(ZoneInfo))),
    "pattern": (
        re.Pattern[str],
        st.sampled_from([re.compile("a"), re.compile("a", re.IGNORECASE)]),
    ),
    "network": (IPv6Network, st.just(IPv6Network("2001:db8::/32"))),
    "pure path": (PurePosixPath, texts.map(PurePosixPath)),
    "tuple enum": (Corner, st.sampled_from(Corner)),
    "flag": (Right, st.sampled_from([Right.READ, Right.READ | Right.WRITE])),
    "Base64Bytes": (Base64Bytes, st.just(b"AP8=")),
    "hidden": (Hidden, st.builds(Hidden, token=st.none() | secrets)),
    "SecretStr": (SecretStr, secrets),
    "SecretBytes": (SecretBytes, st.just(SecretBytes(b"secret"))),
    "Secret": (Secret[int], small.map(Secret[int])),
    "secrets": (list[SecretStr], st.lists(secrets)),
    "SkipValidation": (SkipValidation[int], st.one_of(small, texts, st.uuids())),
    "base class": (Event, events),
    "list of events": (list[Event], st.lists(events, max_size=3)),
    "SerializeAsAny": (SerializeAsAny[Event], events),
    "dict of floats": (dict[float, int], st.dictionaries(floats, small)),
    "dict of tuples": (
        dict[tuple[int, int], int],
        st.dictionaries(st.tuples(small, small), small),
    ),
    "dict of numbers": (
        dict[bool | int | float, int],
        st.dictionaries(st.one_of(st.booleans(), small, floats), small),
    ),
    "set of numbers": (
        set[bool | int | float],
        st.sets(st.one_of(st.booleans(), small, floats), max_size=3),
    ),
    "deque": (
        deque[int],
        st.builds(deque, st.lists(small, max_size=3), st.sampled_from([None, 3])),
    ),
    "defaultdict": (
        defaultdict[str, int],
        st.builds(
            defaultdict,
            st.sampled_from([int, lambda: 7]),
            st.dictionaries(texts, small, max_size=2),
        ),
    ),
    "sequence": (Sequence[int], st.lists(small) | st.tuples(small)),
    "mapping": (
        Mapping[str, int],
        st.dictionaries(texts, small) | st.just(OrderedDict(a=1)),
    ),
    "iterable": (Iterable[int], st.lists(small)),
    "any": (Any, st.one_of(json_values, st.uuids(), aware, events, floats)),
    "object": (object, json_values),
    "dict of anything": (
        dict[str, Any],
        st.dictionaries(texts, st.one_of(json_values, decimals), max_size=3),
    ),
    "float or int": (float | int, st.one_of(small, floats)),
    "Decimal or float": (Decimal | float, st.one_of(decimals, floats)),
    "Decimal or str": (Decimal | str, st.one_of(decimals, st.just("1.0"))),
    "bytes or str": (bytes | str, st.one_of(bytes_, texts)),
    "UUID or str": (UUID | str, st.one_of(st.uuids(), st.uuids().map(str))),
    "date or datetime": (date | datetime, st.one_of(st.dates(), naive, aware)),
    "datetime or str": (datetime | str, st.one_of(naive, naive.map(str), texts)),
    "list or tuple": (list[int] | tuple[int, ...], st.lists(small) | st.tuples(small)),
    "models alike": (Event | OrderEvent, events),
    "swapped": (Swapped, st.builds(Swapped, one=small, other=small)),
    "excluded": (Excluded, st.builds(Excluded, shown=small, hidden=small)),
    "rounded": (Rounded, st.builds(Rounded, amount=decimals)),
    "rounded float": (Rate, floats),
    "summed": (Summed, st.builds(Summed, numbers=st.lists(small, max_size=2))),
    "private": (
        Private,
        st.builds(
            Private.noted, st.builds(Private, number=small), st.sampled_from(["", "x"])
        ),
    ),
    "infinity is null": (InfinityIsNull, st.builds(InfinityIsNull, number=floats)),
    "bytes of a model": (Hexadecimal, st.builds(Hexadecimal, picture=bytes_)),
    "other seconds": (Seconds, st.builds(Seconds, pause=st.timedeltas())),
    "unchecked": (Aliased, st.builds(Aliased.model_construct, amount=texts)),
    "doubled": (Doubled, small),
}
"""Arrives or is refused."""

KINDS = {**KEPT, **DOUBTFUL}


# --- What is the same.


def described(value: object) -> str:  # noqa: PLR0911 - a kind a line
    """Describe a value so that two are alike only if their values and types are."""
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    match value:
        case bool() | Enum():
            return f"{name} {value!r}"
        case int():
            return f"{name} {value:x}"
        case float():
            return f"{name} {value.hex()}"
        case complex():
            return f"{name} {value.real.hex()} {value.imag.hex()}"
        case datetime() | time():
            # The name of the zone is not part of the promise, its offset is.
            moment = value.replace(tzinfo=None, fold=0)
            has_zone = value.tzinfo is not None
            return f"{name} {moment!r} {value.utcoffset()} {has_zone}"
        case Secret() | SecretStr() | SecretBytes():
            return f"{name} {value.get_secret_value()!r}"
        case BaseModel():
            shown = {each: getattr(value, each) for each in type(value).model_fields}
            more = (value.model_extra, value.__pydantic_private__)
            return f"{name} {described(shown)} {described(more)}"
        case dict():
            items = [f"{described(k)}: {described(v)}" for k, v in value.items()]
            return f"{name} {getattr(value, 'default_factory', None)} {items}"
        case list() | tuple() | deque():
            return f"{name} {getattr(value, 'maxlen', None)} {[*map(described, value)]}"
        case set() | frozenset():
            return f"{name} {sorted(map(described, value))}"

    if is_dataclass(value):
        return f"{name} {[described(getattr(value, f.name)) for f in fields(value)]}"
    if kind.__repr__ is object.__repr__ or "Iterator" in name:
        return f"{name} at {id(value)}"
    return f"{name} {value!r}"


# --- What must hold.


class ChangedError(AssertionError):
    """A value reached its task as another, or was refused without need or reason."""


@dataclass
class Kind:
    name: str
    validated: TypeAdapter[Any]
    task: Any = None
    """None if its declaration is refused."""


def declared(name: str) -> Kind:
    """Declare a task that takes a value of a kind and returns one."""
    annotation = KINDS[name][0]

    def task(value: Any) -> Any:
        return value

    task.__name__ = "task_of_" + re.sub(r"\W", "_", name)
    task.__annotations__ = {"value": annotation, "return": annotation}

    kind = Kind(name, TypeAdapter(annotation))
    try:
        kind.task = must_happen(task)
    except TypeError as error:
        check_refusal(name, error, "value")
    return kind


def check_refusal(kind: str, error: Exception, what: str) -> None:
    """Check that a refusal is due, and names the task and what it is about."""
    if kind in KEPT:
        raise ChangedError(f"{kind} is refused: {error}")
    task, _, reason = str(error).partition(": ")
    if not task.startswith("task_of_") or what not in reason or "\n" in reason:
        raise ChangedError(f"{kind} is refused in other words: {error}")


def arrived(kind: Kind, value: Any) -> bool:
    """Hand a value to a task, and let the task return it; return false if refused."""
    expected = described(kind.validated.validate_python(value, by_name=True))

    try:
        recorded = kind.task.dump_arguments(value)
    except ValueError as error:
        check_refusal(kind.name, error, "value")
        return False
    got = described(kind.task.load_arguments(recorded)["value"])
    if got != expected:
        raise ChangedError(f"{kind.name}: {expected} arrived as {got}")

    try:
        result = kind.task.dump_result(value)
    except ValueError as error:
        check_refusal(kind.name, error, "its result ")
        return False
    got = described(kind.task.result.validate_json(result, by_name=True))
    if got != expected:
        raise ChangedError(f"{kind.name}: {expected} was recorded as {result}")
    return True


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()

    kinds = {name: declared(name) for name in KINDS}
    seen: Counter[tuple[str, bool]] = Counter()

    @seed(chosen.seed)
    @settings(
        max_examples=chosen.examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def none_changes(data: st.DataObject) -> None:
        kind = kinds[data.draw(st.sampled_from(list(KINDS)))]
        value = data.draw(KINDS[kind.name][1])
        seen[kind.name, bool(kind.task) and arrived(kind, value)] += 1

    none_changes()
    for name in KINDS:
        say(f"{name}: {seen[name, True]} arrived, {seen[name, False]} refused")
        if not seen[name, True] + seen[name, False]:
            raise SystemExit(f"{name}: not tried")
    say(f"kept: {seen.total()} examples of {len(KINDS)} kinds")


if __name__ == "__main__":
    main()
