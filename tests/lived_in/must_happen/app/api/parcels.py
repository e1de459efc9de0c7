"""Accept parcels and show what became of them."""

from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import distinct, func, select

from app.dependencies import Session, Tasks
from app.models import Delivery, Parcel
from app.tasks.parcels import deliver

router = APIRouter(prefix="/parcels", tags=["parcels"])


class ParcelIn(BaseModel):
    """A parcel, how often nobody will be at home, and how long each attempt takes."""

    number: int
    street: str
    vain: int = 0
    seconds: float = 0


class Totals(BaseModel):
    """How many parcels were accepted and delivered, and in how many deliveries."""

    accepted: int
    delivered: int
    deliveries: int


@router.post("", status_code=202)
async def accept(parcel: ParcelIn, session: Session, tasks: Tasks) -> UUID:
    """Accept a parcel; one that was accepted before is not delivered again."""
    task = deliver.using(key=str(parcel.number))
    handle = await tasks.enqueue(task, parcel.number, parcel.vain, parcel.seconds)
    if handle.created:
        session.add(Parcel(number=parcel.number, street=parcel.street))
    return handle.id


@router.get("/totals")
async def totals(session: Session) -> Totals:
    """Return what was accepted and delivered until now."""
    accepted = await session.scalar(select(func.count()).select_from(Parcel))
    delivered = await session.scalar(select(func.count(distinct(Delivery.parcel))))
    deliveries = await session.scalar(select(func.count()).select_from(Delivery))
    return Totals(
        accepted=accepted or 0, delivered=delivered or 0, deliveries=deliveries or 0
    )
