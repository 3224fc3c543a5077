"""Which lines of an application issued a command: libraries are left out, paths are short."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pyramid_baseplate_redis.runtime.call_stack import (
    MOST_LINES,
    CallingLine,
    calling_frames,
    calling_lines,
    frames_of_thread,
    place_of,
    stack_of,
)

HERE = Path(__file__)


def imported(path: Path, text: str, name: str) -> dict[str, Any]:
    """What a module of that text, at that path, defines."""
    names: dict[str, Any] = {"__name__": name}
    exec(compile(text, str(path), "exec"), names)
    return names


def through(path: Path, name: str = "other") -> Callable[[Callable[[], Any]], Any]:
    """A function ``call`` of another module, which calls what it is given."""
    call: Callable[[Callable[[], Any]], Any] = imported(
        path, "def call(function):\n    return function()\n", name
    )["call"]
    return call


def test_innermost_line_comes_first() -> None:
    def inner() -> tuple[CallingLine, ...]:
        return calling_lines()

    lines = inner()

    assert [line.function for line in lines[:2]] == ["inner", inspect.stack()[0].function]


def test_line_is_shown_with_its_file_its_number_and_its_function() -> None:
    line = CallingLine("my_app/views/default.py", 41, "home")

    assert (str(line), line.whole) == (
        "default.py:41 in home",
        "my_app/views/default.py:41 in home",
    )


def test_line_is_that_of_the_call() -> None:
    frame = inspect.currentframe()
    assert frame is not None
    number, lines = frame.f_lineno, calling_lines()

    assert lines[0].number == number


@pytest.mark.parametrize("name", ["redis.client", "pyramid_baseplate_redis.client.pipeline"])
def test_redis_py_and_this_package_are_left_out_wherever_they_are(name: str) -> None:
    lines = through(HERE.with_name("client.py"), name)(calling_lines)

    assert "client.py" not in {Path(line.path).name for line in lines}
    assert lines[0].path.endswith(HERE.name)


@pytest.mark.parametrize(
    "path",
    [
        "/v/lib/site-packages/pyramid/router.py",
        "/usr/lib/python3/dist-packages/mako.py",
        "<frozen importlib._bootstrap>",
    ],
)
def test_libraries_are_left_out(path: str) -> None:
    assert through(Path(path))(calling_lines)[0].path.endswith(HERE.name)


def test_standard_library_is_left_out() -> None:
    lines = through(Path(inspect.__file__))(calling_lines)

    assert lines[0].path.endswith(HERE.name)


def test_thread_that_only_has_libraries_shows_the_innermost_of_them() -> None:
    with ThreadPoolExecutor() as executor:
        lines = executor.submit(calling_lines).result()

    assert [Path(line.path).name for line in lines] == ["thread.py"]


def test_thread_shows_the_function_that_it_was_started_with() -> None:
    found: list[CallingLine] = []

    def work() -> None:
        found.extend(calling_lines())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert [line.function for line in found] == ["work"]


def test_five_lines_are_enough() -> None:
    def deeper(levels: int) -> tuple[CallingLine, ...]:
        return deeper(levels - 1) if levels else calling_lines()

    assert len(deeper(50)) == MOST_LINES == 5


@pytest.mark.parametrize("entries", [("src", "."), (".", "src")])
def test_path_is_relative_to_the_deepest_entry_of_the_python_path_that_it_is_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entries: tuple[str, str]
) -> None:
    for entry in entries:
        monkeypatch.syspath_prepend(tmp_path / entry)

    lines = through(tmp_path / "src" / "my_app" / "views.py")(lambda: calling_lines())

    assert lines[1].path == "my_app/views.py"


def test_path_is_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    lines = through(tmp_path / "my_app" / "views.py")(lambda: calling_lines())

    assert lines[1].path == "my_app/views.py"


def test_path_that_is_below_none_of_them_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])

    assert through(Path("/elsewhere/views.py"))(lambda: calling_lines())[1].path == (
        "/elsewhere/views.py"
    )


def test_only_the_innermost_200_frames_are_looked_at() -> None:
    # Besides the calls that are counted, there are the deepest one and lines_below().
    assert "lines_below" in [line.function for line in lines_below(198)]
    assert [line.function for line in lines_below(199)] == ["deepest"]


def lines_below(depth: int) -> tuple[CallingLine, ...]:
    """Look at the stack below so many calls of a library."""
    names = imported(
        Path(inspect.__file__),
        "def deepest(f, n):\n    return f() if not n else deepest(f, n - 1)\n",
        "other",
    )
    lines: tuple[CallingLine, ...] = names["deepest"](calling_lines, depth)
    return lines


# Frames


def nested(depth: int, call: Callable[[], Any]) -> Any:
    return call() if not depth else nested(depth - 1, call)


def test_frames_begin_outside_of_redis_py_and_this_package() -> None:
    frames = through(HERE.with_name("client.py"), "redis.client")(calling_frames)

    assert frames[0][0].co_name == inspect.stack()[0].function
    assert place_of(frames).startswith(f"{HERE}:")
    assert place_of(frames).endswith(f" in {inspect.stack()[0].function}")


def test_fifty_frames_are_enough() -> None:
    assert len(nested(100, calling_frames)) == 50
    assert len(nested(100, lambda: calling_frames(7))) == 7
    thread = threading.get_ident()
    assert len(nested(100, lambda: frames_of_thread(thread))) == 50
    assert len(nested(100, lambda: frames_of_thread(thread, 7))) == 7


def test_frames_are_shown_outermost_first() -> None:
    frames = nested(0, calling_frames)[:2]

    assert [line.split(" in ")[1] for line in stack_of(frames).splitlines()] == [
        inspect.stack()[0].function,
        "nested",
    ]


def test_a_place_that_is_not_known_is_not_named() -> None:
    assert place_of([]) == "an unknown place"


def test_a_thread_that_has_ended_has_no_frames() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    assert thread.ident is not None

    assert frames_of_thread(thread.ident) == []
