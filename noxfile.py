"""The checks of this project, each in its own virtual environment."""

from __future__ import annotations

import shutil
import sys
import tarfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
# The tests have to pass on the versions that the classifiers name.
SUPPORTED = nox.project.python_versions(PROJECT)
# On versions to come, and on those without the global interpreter lock, they may fail.
EXPERIMENTAL = ["3.14", "3.15", "3.13t", "3.14t"]

DOCUMENTS = ("README.rst", "CHANGES.rst", "CONTRIBUTING.rst", "changes/README.rst")
GITHUB_FILES = {
    "github-workflows": "workflows/*.yml",
    "github-issue-forms": "ISSUE_TEMPLATE/*.yml",
    "dependabot": "dependabot.yml",
}
# These tests show that a wheel is complete: commands, queues, requests, the templates of the
# toolbar's panel, the files of the queues page, the testing kit and the metadata.
SMOKE_TESTS = (
    "tests/client/test_client.py",
    "tests/debugtoolbar/test_panel.py",
    "tests/documents/test_long_description.py",
    "tests/queues/list_queue",
    "tests/testing/test_application.py",
    "tests/web/test_request.py",
    "tests/web/queues_page",
)
# These tests read the documents and follow them, or test the tools of the tests. They find the same
# with each version of Python, and take almost a third of the time of the quick tests.
SAME_ON_EACH_PYTHON = (
    "tests/documents",
    "tests/histories",
    "tests/mutation",
    "tests/peers",
    "tests/simulation",
    "tests/soak",
    "tests/test_architecture.py",
    "tests/test_selection.py",
)


def install_groups(session: nox.Session, *groups: str) -> None:
    """Install dependency groups with any pip: older ones have no ``--group``."""
    session.install(*nox.project.dependency_groups(PROJECT, *groups))


@nox.session(python=[*SUPPORTED, *EXPERIMENTAL], default=False)
def tests(session: nox.Session) -> None:
    """Run the quick tests, or pytest with the arguments that follow ``--``."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session(python=[*SUPPORTED, *EXPERIMENTAL], default=False)
def python(session: nox.Session) -> None:
    """Run the quick tests that depend on the version of Python."""
    session.install("-e", ".[test]")
    left_out = [f"--ignore={path}" for path in SAME_ON_EACH_PYTHON]
    session.run("pytest", "tests", *left_out, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style of the code and the GitHub workflows."""
    install_groups(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("yamllint", "--strict", ".github")
    for schema, pattern in GITHUB_FILES.items():
        files = sorted(str(path) for path in Path(".github").glob(pattern))
        session.run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files)


@nox.session
def types(session: nox.Session) -> None:
    """Check the types."""
    session.install("-e", ".[test]")
    install_groups(session, "sessions")
    session.run("mypy")
    session.run("mypy", "noxfile.py", ".ci")


@nox.session
def imports(session: nox.Session) -> None:
    """Check that each layer imports only from those below it."""
    install_groups(session, "imports")
    session.run("lint-imports")


@nox.session
def lowest(session: nox.Session) -> None:
    """Test what depends on a dependency's version on the lowest versions of all of them."""
    session.install("-e", ".", "-r", ".ci/lowest.txt")
    session.run("pytest", "@.ci/lowest_tests.txt", *session.posargs)


@nox.session(default=False)
def mutation(session: nox.Session) -> None:
    """Change the package in small ways and count how many changes the tests notice."""
    session.install("-e", ".[test]")
    install_groups(session, "mutation")
    session.run("python", "-m", "tests.mutation", *session.posargs)


@nox.session(default=False)
def simulation(session: nox.Session) -> None:
    """Run the pool on a virtual clock, in schedules that threads rarely have."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.simulation", *session.posargs)


@nox.session
def audit(session: nox.Session) -> None:
    """Look for known vulnerabilities in what the tests run with."""
    session.install("-e", ".[test]", "pip")
    installed = Path(session.create_tmp()) / "installed.txt"
    with installed.open("w") as file:
        session.run("pip", "freeze", "--exclude-editable", stdout=file, stderr=None)
    install_groups(session, "audit")
    session.run("python", ".ci/audit.py", str(installed))


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site, and check the documents outside of it."""
    if sys.version_info < (3, 11):
        session.skip("sphinx-argparse-cli cannot show predis on Python 3.10")
    session.install("-e", ".[test]")
    session.run("sphinx-build", "-W", "-n", "-q", "docs", "docs/_build")
    for document in DOCUMENTS:
        session.run("docutils", "--strict", document, "/dev/null", silent=True)


@nox.session
def changes(session: nox.Session) -> None:
    """Check that the fragments in ``changes/`` make a section of ``CHANGES.rst``.

    With arguments after ``--``, run ``towncrier check`` with them.
    """
    install_groups(session, "changes")
    section = Path(session.create_tmp()) / "section.rst"
    version = PROJECT["project"]["version"]  # towncrier would import the package to find it
    with section.open("w") as file:
        session.run("towncrier", "build", "--draft", "--version", version, stdout=file, stderr=None)
    session.log(section.read_text())
    session.run("docutils", "--strict", str(section), "/dev/null", silent=True)
    if session.posargs:
        session.run("towncrier", "check", *session.posargs)


@nox.session
def package(session: nox.Session) -> None:
    """Build the sdist, and the wheel from the sdist, into ``dist/``, and check both."""
    install_groups(session, "package")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build", "--quiet")
    built = sorted(str(path) for path in Path("dist").iterdir())
    session.run("twine", "check", "--strict", *built)
    session.run("check-wheel-contents", "dist")


@nox.session(requires=["package"])
def wheel(session: nox.Session) -> None:
    """Install the wheel from ``dist/`` and run tests of the sdist with it."""
    (built,) = Path("dist").glob("*.whl")
    (sdist,) = Path("dist").glob("*.tar.gz")
    session.install(f"pyramid_baseplate_redis[test] @ {built.resolve().as_uri()}")
    directory = Path(session.create_tmp())
    with tarfile.open(sdist) as archive:
        archive.extractall(directory)
    session.chdir(directory / sdist.name.removesuffix(".tar.gz"))
    # The tests can then only import the package that is installed.
    shutil.rmtree("pyramid_baseplate_redis")
    location = "import pyramid_baseplate_redis as package; print(package.__file__)"
    imported = session.run("python", "-c", location, silent=True)
    if "site-packages" not in str(imported):
        session.error(f"The tests would import {imported}, which is not the installed wheel.")
    session.run("pytest", "-q", *SMOKE_TESTS, *session.posargs)
