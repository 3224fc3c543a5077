"""What a process that uses an embedded server does for a test; nothing here needs pytest."""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import tempfile
import threading
import time
from typing import Any

import redis
from pyramid.config import Configurator

from pyramid_baseplate_redis import pool_from_config

_logged: list[tuple[str, str]] = []


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _logged.append((record.levelname, record.getMessage()))


def use_for_temporary_files(directory: str) -> None:
    tempfile.tempdir = directory


def _new_client(url: str) -> redis.Redis:
    settings = {"foo.url": url, "foo.decode_responses": "true"}
    return redis.Redis(connection_pool=pool_from_config(settings, "foo."))


_client = functools.cache(_new_client)


def ask(url: str, *command: str) -> Any:
    """A command's reply, from this process's one client of that URL."""
    return _client(url).execute_command(*command)


def ask_again(url: str, *command: str) -> Any:
    """The same on a new connection, as after the server's end."""
    _client(url).connection_pool.disconnect()
    return ask(url, *command)


def server_id(url: str) -> str:
    """Different for each start of a server."""
    return _id(_client(url))


def server_id_at(url: str, moment: float) -> str:
    """The same, asked at a moment, so that several processes ask at once."""
    while time.time() < moment:
        pass
    _client(url).connection_pool.disconnect()
    return server_id(url)


def error_of(url: str) -> str:
    """The type and the text of the error when no server can be started."""
    try:
        ask(url, "PING")
    except redis.RedisError as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def logged(url: str) -> list[tuple[str, str]]:
    """What the package logs for a command, as pairs of a level and a text."""
    logger = logging.getLogger("pyramid_baseplate_redis")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(_Handler())
    ask(url, "PING")
    return _logged


def build(url: str) -> None:
    """Build an application and send no command."""
    config = Configurator(settings={"foo.url": url})
    config.include("pyramid_baseplate_redis")
    config.make_wsgi_app()


def _put_reply(replies: Any, url: str, command: tuple[str, ...]) -> None:
    replies.put(ask(url, *command))


def ask_in_fork(url: str, *command: str) -> Any:
    """A command's reply, from a forked child that has ended since."""
    fork = multiprocessing.get_context("fork")
    replies = fork.SimpleQueue()
    child = fork.Process(target=_put_reply, args=(replies, url, command))
    child.start()
    child.join()
    assert child.exitcode == 0
    return replies.get()


def leave_fork_behind(url: str, seconds: float) -> int:
    """Fork a child that sends a command, then lives on for a while; its process id."""
    if child := os.fork():
        return child
    try:
        ask_again(url, "SET", "key", "of the child")
        time.sleep(seconds)
    finally:
        os._exit(0)


def ask_in_fork_while_starting(url: str, delay: float) -> tuple[str, str]:
    """The server's identity for a thread that starts it and for a child forked meanwhile."""
    one, other = _new_client(url), _new_client(url)  # the server is shared, no pool
    ids: list[str] = []
    thread = threading.Thread(target=lambda: ids.append(_id(one)))
    thread.start()
    time.sleep(delay)
    fork = multiprocessing.get_context("fork")
    replies = fork.SimpleQueue()
    child = fork.Process(target=lambda: replies.put(_id(other)))
    child.start()
    child.join(20)
    thread.join(20)
    if child.exitcode != 0:
        child.kill()
        return ids[0], f"exit code {child.exitcode}"
    return ids[0], replies.get()


def _id(client: redis.Redis) -> str:
    return str(client.info("server")["run_id"])
