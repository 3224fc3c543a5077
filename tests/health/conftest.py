"""Applications whose client answers, or does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pyramid.config import Configurator

from ..support.health import PATIENT
from ..support.servers import Server, free_port

MakeConfig = Callable[..., Configurator]


@pytest.fixture
def healthy(make_config: MakeConfig, valkey: Server) -> Configurator:
    """An application whose client ``foo`` has a server."""
    return make_config(foo__url=valkey.url, foo__health_timeout=PATIENT)


@pytest.fixture
def failing(make_config: MakeConfig) -> Configurator:
    """An application whose client ``foo`` has none."""
    return make_config(foo__url=f"redis://127.0.0.1:{free_port()}", foo__health_timeout=PATIENT)
