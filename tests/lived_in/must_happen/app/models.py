"""Hold this service's own tables."""

from uuid import UUID

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base


class Parcel(Base):
    """What was accepted for delivery."""

    __tablename__ = "parcels"

    number: Mapped[int] = mapped_column(primary_key=True)
    street: Mapped[str] = mapped_column(String(200))


class Delivery(Base):
    """A delivery of a parcel; a second one of the same parcel would be a mistake."""

    __tablename__ = "deliveries"

    task_id: Mapped[UUID] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    parcel: Mapped[int]
