"""predis: how it loads an application, how it ends, and that it shows no secret."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import plaster
import pytest
import trustme

import pyramid_baseplate_redis
from pyramid_baseplate_redis.cli.main import _parsed, main
from pyramid_baseplate_redis.cli.output import lossless, make_console, printable, table
from pyramid_baseplate_redis.cli.work import _command_of_one

from ..support.cli import PREDIS, ROOT, Predis
from ..support.servers import RecordedSpans, Server, free_port

SECRET = "Kreuzwort-QZX"


def run_installed(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The installed executable, which finds the tests' applications."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
    return subprocess.run(
        [str(PREDIS), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environ,
    )


def test_the_installed_command_checks_an_application(predis: Predis, valkey: Server) -> None:
    predis.write(foo__url=valkey.url)

    ended = run_installed("check", str(predis.ini))

    assert ended.returncode == 0, ended.stderr
    assert "foo: ok: standalone" in ended.stdout


def test_output_to_a_pipe_has_no_control_characters_and_nothing_is_cut_off(
    predis: Predis, valkey: Server
) -> None:
    long = "n" * 300
    predis.write(foo__url=valkey.url, foo__client_name=long)

    ended = run_installed("check", str(predis.ini))

    assert long in ended.stdout
    assert "\x1b" not in ended.stdout + ended.stderr


def test_an_encoding_that_lacks_a_character_is_no_error(predis: Predis, valkey: Server) -> None:
    predis.write(foo__url=valkey.url)
    predis("queue", "jobs", "put", "Grüße")

    ended = run_installed("queue", str(predis.ini), "jobs", "peek", PYTHONIOENCODING="ascii")

    assert ended.returncode == 0, ended.stderr
    assert r"Gr\xfc\xdfe" in ended.stdout


def test_without_rich_it_says_which_extra_to_install(predis: Predis) -> None:
    code = (
        "import sys; sys.modules['rich'] = None; "
        "from pyramid_baseplate_redis.cli.main import main; sys.exit(main(['check', 'app.ini']))"
    )

    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 2
    assert ended.stderr == "predis: needs rich: pip install 'pyramid_baseplate_redis[cli]'\n"


def test_another_application_of_the_file_is_named_after_a_number_sign(
    predis: Predis, valkey: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    predis.write_text(
        f"[app:other]\nuse = call:tests.support.cli_app:main\nbar.url = {valkey.url}\n"
    )

    assert main(["check", f"{predis.ini}#other"]) == 0
    assert "bar: ok: standalone" in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--count", "1"]], ids=["alone", "behind an option"])
def test_what_the_file_refers_to_stands_at_the_end(
    predis: Predis, valkey: Server, options: list[str]
) -> None:
    predis.write(foo__url="redis://127.0.0.1:%(redis_port)s/%(database)s")

    ended = predis("hotkeys", "foo", *options, f"redis_port={valkey.port}", "database=0")

    assert ended.status == 0, ended.err


@pytest.mark.parametrize("argument", ["--nonsense", "--nonsense=1", "nonsense"])
def test_an_argument_that_is_unknown_is_refused(
    predis: Predis, argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        predis("check", "--json", argument)

    assert ended.value.code == 2
    assert f"unrecognized arguments: {argument}" in capsys.readouterr().err


def test_something_else_in_their_place_is_reported(predis: Predis) -> None:
    ended = predis("check", "nonsense")

    assert ended.status == 2
    assert ended.err == "predis: options after the .ini file are written name=value\n"


def test_what_the_application_prints_is_not_in_the_result(predis: Predis, valkey: Server) -> None:
    predis.write("printing", foo__url=valkey.url)

    ended = predis("check", "--json")

    assert ended.json["ok"] is True
    assert "hello from the application" in ended.err


def test_a_command_has_no_spans(predis: Predis, valkey: Server, spans: RecordedSpans) -> None:
    predis.write(foo__url=valkey.url)

    predis("check")
    predis("queue", "jobs", "put", "text")
    predis("hotkeys", "foo")

    assert spans.names == []


def test_an_error_in_the_settings_is_one_line(predis: Predis) -> None:
    predis.write(foo__url="redis://localhost", foo__socket_timeout="3")

    ended = predis("check")

    assert ended.status == 2
    assert ended.out == ""
    assert ended.err.startswith("predis: foo.socket_timeout: '3' has no unit; ")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[app:main]\nuse = call:tests.support.cli_app:main\nfoo.url = redis://:a%40b@localhost\n",
         "[app:main] foo.url: has a single %. Write %%"),
        ("[app:main]\nuse = call:tests.support.cli_app:main\nfoo.url = %(nothing)s\n",
         "[app:main] foo.url: refers to a %(name)s that is not defined"),
        ("foo.url = redis://localhost\n", "line 1: is outside of any [section]"),
        ("[app:main]\nfoo.url\n", "line 2: is not written name = value"),
        ("[app:main]\na = 1\na = 2\n", "line 3: is a duplicate"),
        ("[app:other]\nuse = call:tests.support.cli_app:main\n",
         "the file has no application of this name"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_one_line(predis: Predis, text: str, said: str) -> None:
    predis.write_text(text)

    ended = predis("check")

    assert (ended.status, ended.err) == (2, f"predis: {predis.ini}: {said}\n")


def test_a_file_that_is_missing_is_one_line(predis: Predis) -> None:
    ended = predis("check")

    assert (ended.status, ended.err) == (2, f"predis: {predis.ini}: No such file or directory\n")


@pytest.mark.parametrize("name", ["settings.nonsense", "settings"])
def test_a_file_that_no_loader_takes_is_an_error_that_asks_for_an_ini_file(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", name]) == 2
    assert capsys.readouterr().err == (
        f"predis: {name}: no loader takes this kind of file. Write the name of an .ini file\n"
    )


def test_a_missing_loader_of_ini_files_is_an_error_that_names_the_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plaster_pastedeploy", None)
    monkeypatch.setattr(plaster, "find_loaders", lambda *arguments, **options: [])
    monkeypatch.setattr("plaster.loaders.find_loaders", plaster.find_loaders)

    assert main(["check", "app.ini"]) == 2
    assert capsys.readouterr().err == (
        "predis: app.ini: the loader of .ini files is not installed. "
        "Run pip install 'pyramid_baseplate_redis[cli]'\n"
    )


def test_a_fault_of_the_application_keeps_its_traceback(predis: Predis) -> None:
    predis.write("failing")

    with pytest.raises(ZeroDivisionError):
        predis("check")


def test_a_client_that_is_unknown_is_reported_with_those_that_are(
    predis: Predis, valkey: Server
) -> None:
    predis.write(foo__url=valkey.url, bar__url=valkey.url)

    ended = predis("hotkeys", "baz")

    assert ended.status == 2
    assert ended.err == "predis: there is no Redis client 'baz'; configured: bar, foo\n"


def test_a_server_that_is_down_is_one_line(predis: Predis) -> None:
    port = free_port()
    predis.write(foo__url=f"redis://127.0.0.1:{port}")

    ended = predis("queue", "jobs", "length")

    assert ended.status == 1
    assert ended.err.startswith("predis: ConnectionError: foo: Error 111 connecting to ")
    assert ended.err.count("\n") == 1


# Each with a server that isn't there, and a setting that another test breaks.
SECRETS = {
    "url": {"foo__url": f"redis://user:{SECRET}@127.0.0.1:1"},
    "url without a password": {"foo__url": f"redis://{SECRET}@127.0.0.1:1"},
    "password": {"foo__url": "redis://127.0.0.1:1", "foo__password": SECRET},
    "password_file": {"foo__url": "redis://127.0.0.1:1", "foo__password_file": "{file}"},
    "url_env": {"foo__url_env": "TEST_SECRET_URL"},
    "url_file": {"foo__url_file": "{url_file}"},
    "query": {"foo__url": f"redis://127.0.0.1:1?password={SECRET}"},
    "sentinel_password": {
        "foo__url": "redis+sentinel://127.0.0.1:1/mymaster",
        "foo__sentinel_password": SECRET,
    },
    "a Cluster": {"foo__url": f"redis+cluster://:{SECRET}@127.0.0.1:1"},
    "ssl_password": {
        "foo__url": "rediss://127.0.0.1:1",
        "foo__ssl_certfile": "{certificate}",
        "foo__ssl_password": SECRET,
    },
}


@pytest.fixture
def secret_settings(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    url = f"redis://:{SECRET}@127.0.0.1:1?client_name=named"
    monkeypatch.setenv("TEST_SECRET_URL", url)
    files = {name: tmp_path / name for name in ("file", "url_file", "certificate")}
    files["file"].write_text(SECRET)
    files["url_file"].write_text(url)
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        str(files["certificate"])
    )
    return {key: value.format(**files) for key, value in request.param.items()}


every_secret = pytest.mark.parametrize(
    "secret_settings", SECRETS.values(), ids=SECRETS, indirect=True
)


@every_secret
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_check_shows_no_secret(
    predis: Predis, secret_settings: dict[str, str], options: list[str]
) -> None:
    predis.write(**secret_settings)

    ended = predis("check", *options)

    assert ended.status == 1
    assert "***" in ended.out
    assert SECRET not in ended.out + ended.err


@every_secret
def test_no_other_command_shows_a_secret(predis: Predis, secret_settings: dict[str, str]) -> None:
    predis.write(**secret_settings)

    commands = [
        ("queue", "jobs", "length"),
        ("hotkeys", "foo"),
        ("top", "foo", "--count", "1", "--interval", "0.1"),
        ("top", "foo", "--count", "1", "--interval", "0.1", "--json"),
    ]
    for command in commands:
        ended = predis(*command)
        assert ended.out + ended.err
        assert SECRET not in ended.out + ended.err


@every_secret
def test_an_error_in_the_settings_shows_no_secret(
    predis: Predis, secret_settings: dict[str, str]
) -> None:
    predis.write(**secret_settings, foo__retries="many")

    ended = predis("check")

    assert ended.status == 2
    assert "foo.retries" in ended.err
    assert SECRET not in ended.err


def test_a_keyword_arguments_password_is_not_shown(predis: Predis) -> None:
    predis.write("in_code", foo__url="redis://127.0.0.1:1", password_in_code=SECRET)

    ended = predis("check")

    assert "foo.password" in ended.out
    assert SECRET not in ended.out + ended.err


@pytest.mark.parametrize(
    "line", [f"foo.password {SECRET}", f"foo.url = redis://:%40{SECRET}@localhost"]
)
def test_a_malformed_file_shows_no_secret(predis: Predis, line: str) -> None:
    predis.write_text(f"[app:main]\nuse = call:tests.support.cli_app:main\n{line}\n")

    ended = predis("check")

    assert ended.status == 2
    assert SECRET not in ended.err


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"plain text", "plain text"),
        ("Grüße 密".encode(), "Grüße 密"),
        (b"\xff\x00", r"\xff\x00"),
        (b"\x1b[31mred\r\n", r"\x1b[31mred\r\n"),
        ("\u202eright to left".encode(), r"\u202eright to left"),
        ("[bold]no markup[/bold]", "[bold]no markup[/bold]"),
    ],
)
def test_bytes_are_shown_so_that_a_terminal_does_nothing(data: bytes | str, shown: str) -> None:
    assert printable(data) == shown


def test_bytes_that_are_not_text_are_whole_in_json() -> None:
    assert lossless(b"\xff\x00") == {"text": None, "base64": "/wA="}
    assert lossless("é".encode()) == {"text": "é", "base64": "w6k="}


def test_a_narrow_terminal_folds_and_cuts_nothing_off(tmp_path: Path) -> None:
    with open(tmp_path / "out", "w+") as stream:
        console = make_console(stream)
        console.width = 30
        made = table("a", "b")
        made.add_row("x" * 40, "y" * 40)
        console.print(made)
        stream.seek(0)
        text = stream.read()

    assert (text.count("x"), text.count("y")) == (40, 40)


def test_the_version_is_that_of_the_installed_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"predis {version('pyramid_baseplate_redis')}\n"
    assert pyramid_baseplate_redis.__version__ == version("pyramid_baseplate_redis")


def test_only_arguments_that_are_required_are_called_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check"])

    assert ended.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.endswith("the following arguments are required: config.ini[#app]")


def test_a_workers_processes_have_no_reloader_of_their_own() -> None:
    command = _command_of_one(["work", "a.ini", "jobs", "m:f", "--processes=2", "--rel"])
    arguments = _parsed(command[3:])
    assert arguments.processes == 1
    assert not arguments.reload
