"""A handler that writes to a database: its row and its acknowledgement go together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zope.sqlalchemy
from pyramid.config import Configurator
from sqlalchemy import String, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from pyramid_baseplate_redis import DurableMessageQueue

from ..support.servers import Server, wait_until
from ..support.workers_in_threads import Working


class Base(DeclarativeBase):
    pass


class Invoice(Base):
    __tablename__ = "invoices"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(String(50))


class Application:
    """An application with SQLAlchemy and pyramid_tm, as its documents recommend."""

    def __init__(self, make_config: Callable[..., Configurator], url: str, database: Path) -> None:
        self.engine = create_engine(f"sqlite:///{database}")
        Base.metadata.create_all(self.engine)
        factory = sessionmaker(bind=self.engine)

        def dbsession(request: Any) -> Session:
            session = factory(info={"request": request})
            zope.sqlalchemy.register(session, transaction_manager=request.tm)
            return session

        config = make_config(
            foo__url=url, jobs__queue="foo", jobs__durable="true", jobs__max_attempts="2",
            jobs__delay="10 milliseconds",
        )  # fmt: skip
        config.include("pyramid_tm")
        config.add_request_method(dbsession, reify=True)
        config.make_wsgi_app()
        self.registry = config.registry

    @property
    def rows(self) -> int:
        with Session(self.engine) as session:
            return session.scalar(select(func.count()).select_from(Invoice)) or 0


@pytest.fixture
def application(
    make_config: Callable[..., Configurator], valkey: Server, tmp_path: Path
) -> Application:
    return Application(make_config, valkey.url, tmp_path / "database")


def add_invoice(request: Any, message: Any) -> None:
    request.dbsession.add(Invoice(customer=message.json["customer"]))


def test_a_committed_row_belongs_to_an_acknowledged_message(
    application: Application, queue: DurableMessageQueue
) -> None:
    queue.put_json({"customer": "Alice"})
    working = Working(application.registry, add_invoice)
    wait_until(lambda: queue.stats().length == 0)
    working.end()
    assert (application.rows, queue.stats().dead) == (1, 0)


def test_an_exception_leaves_neither_row_nor_acknowledgement(
    application: Application, queue: DurableMessageQueue
) -> None:
    attempts: list[int] = []

    def handle(request: Any, message: Any) -> None:
        add_invoice(request, message)
        request.dbsession.flush()
        attempts.append(message.attempts)
        if message.attempts == 1:
            raise ZeroDivisionError

    queue.put_json({"customer": "Alice"})
    working = Working(application.registry, handle)
    wait_until(lambda: len(attempts) == 2)
    working.end()
    assert attempts == [1, 2]
    assert application.rows == 1


def test_a_commit_that_fails_leaves_neither_row_nor_acknowledgement(
    application: Application, queue: DurableMessageQueue
) -> None:
    def handle(request: Any, message: Any) -> None:
        request.dbsession.add(Invoice(customer=None))  # refused at the flush, within the commit

    queue.put("job")
    working = Working(application.registry, handle)
    wait_until(lambda: queue.stats().dead)
    working.end()
    (letter,) = queue.dead_letters()
    assert letter.error == "sqlalchemy.exc.IntegrityError"
    assert application.rows == 0
