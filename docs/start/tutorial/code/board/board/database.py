"""request.dbsession: a database session in the request's transaction."""

import zope.sqlalchemy
from sqlalchemy import engine_from_config
from sqlalchemy.orm import Session

from .models import Base


def includeme(config):
    settings = config.get_settings()
    settings["tm.manager_hook"] = "pyramid_tm.explicit_manager"
    config.include("pyramid_tm")
    engine = engine_from_config(settings, "sqlalchemy.")
    Base.metadata.create_all(engine)

    def dbsession(request):
        session = Session(engine)
        zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session

    config.add_request_method(dbsession, reify=True)
