"""The busiest authors: a query over all messages, and therefore cached."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from .caching import region
from .models import Message


def busiest_authors(dbsession: Session) -> list[list]:
    """Return up to five pairs of a name and a number of messages, at most a minute old."""

    def query() -> list[list]:
        count = func.count().label("count")
        authors = select(Message.author, count).group_by(Message.author)
        return [list(row) for row in dbsession.execute(authors.order_by(count.desc()).limit(5))]

    return region.get_or_create("busiest authors", query)
