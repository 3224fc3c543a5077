"""Change the package in small ways and count how many changes the tests notice.

Exits with 1 if the score is below the floor; with --strict, also if a survivor has no reason.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from .groups import GROUPS, ROOT, Group
from .mutants import Mutant, find_mutants, sample
from .records import Records, files_of_tests, read_records, write_records
from .running import preload, record, run_mutant
from .score import (
    Key,
    Result,
    append_result,
    failures,
    read_reasons,
    read_results,
    score,
    table,
)

FLOOR = 85.0
SURVIVORS = Path(__file__).parent / "survivors.toml"


def main() -> int:
    options = _options()
    options.directory.mkdir(exist_ok=True)
    preload()
    results = options.directory / "results.jsonl"
    if not options.resume and not options.report:
        results.unlink(missing_ok=True)
    known = {result.key: result.killed for result in read_results(results)}
    groups = [group for group in GROUPS if not options.group or group.name in options.group]
    populations: dict[str, int] = {}
    for group in groups:
        mutants = [mutant for module in _modules(group, options) for mutant in find_mutants(module)]
        populations[group.name] = len(mutants)
        if options.report or not mutants:
            continue
        if chosen := _choose(mutants, known, f"{options.seed} {group.name}", options):
            _run(group, chosen, _records(group, options), options.directory)
    return _report(results, populations, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    names = [group.name for group in GROUPS]
    parser.add_argument("--group", action="append", choices=names, help="only this group")
    parser.add_argument("--module", action="append", help="only this module: pool/fair_queue.py")
    parser.add_argument("--sample", type=int, metavar="N", help="only N mutants of each group")
    parser.add_argument("--seed", type=int, default=1, help="which sample is taken (1)")
    parser.add_argument("--floor", type=float, default=FLOOR, help=f"least percentage ({FLOOR:g})")
    parser.add_argument(
        "--strict", action="store_true", help="each survivor needs a reason in survivors.toml"
    )
    parser.add_argument("--resume", action="store_true", help="keep earlier results and records")
    parser.add_argument(
        "--survivors",
        action="store_true",
        help="only test earlier survivors without a reason again; implies --resume",
    )
    parser.add_argument("--report", action="store_true", help="only print the earlier results")
    parser.add_argument(
        "--directory", type=Path, default=ROOT / ".mutation", help="for results (.mutation)"
    )
    options = parser.parse_args()
    options.resume = options.resume or options.survivors
    return options


def _choose(
    mutants: list[Mutant], known: dict[Key, bool], seed: str, options: argparse.Namespace
) -> list[Mutant]:
    """Return the mutants to test; ``known`` has the earlier ones, and whether they were killed."""
    if options.survivors:
        # To find out the key of each mutant would take minutes.
        explained = read_reasons(SURVIVORS)
        known = {key: killed for key, killed in known.items() if key not in explained}
        places = {key[:2] for key, killed in known.items() if not killed}
        near = [mutant for mutant in mutants if (mutant.module, mutant.function) in places]
        return [mutant for mutant in near if known.get(mutant.key) is False]
    chosen = sample(mutants, options.sample, seed)
    return [mutant for mutant in chosen if mutant.key not in known]


def _modules(group: Group, options: argparse.Namespace) -> list[str]:
    return [name for name in group.files() if not options.module or name in options.module]


def _records(group: Group, options: argparse.Namespace) -> Records:
    path = options.directory / f"records {group.name}.json"
    known, since = {}, 0.0
    if options.resume and path.exists():
        known, since = read_records(path), path.stat().st_mtime
    seen = {test.split("::")[0] for test in known}
    changed = files_of_tests(group, newer_than=since)
    files = [file for file in files_of_tests(group) if file in changed or file not in seen]
    if files:
        _print(f"{group.name}: running {len(files)} test files without a mutant")
        known = {test: entry for test, entry in known.items() if test.split("::")[0] not in files}
        known.update(record(files, path.with_suffix(".txt")))
        write_records(path, known)
    return known


def _run(group: Group, mutants: list[Mutant], records: Records, directory: Path) -> None:
    for number, mutant in enumerate(mutants, 1):
        started = time.monotonic()
        outcome = run_mutant(mutant, records, directory / "last.txt")
        word = "SURVIVED" if outcome.passed else "hangs" if outcome.hung else "killed"
        before, after = mutant.key[2:]
        _print(
            f"{group.name} {number}/{len(mutants)} {word} in {time.monotonic() - started:.1f} s: "
            f"{mutant.module}:{mutant.line} {before}  ->  {after}"
        )
        killed_by = "" if outcome.passed else outcome.failed or "import"
        append_result(
            directory / "results.jsonl",
            Result(group.name, mutant.key, not outcome.passed, killed_by, outcome.hung),
        )


def _report(path: Path, populations: dict[str, int], options: argparse.Namespace) -> int:
    reasons = read_reasons(SURVIVORS)
    modules = {file for group in GROUPS if group.name in populations for file in group.files()}
    results = [
        result
        for result in read_results(path)
        if result.group in populations and result.key[0] in modules
    ]
    scores = [
        score(name, (r for r in results if r.group == name), population, reasons)
        for name, population in populations.items()
    ]
    survivors = [result for result in results if not result.killed]
    for result in sorted(survivors, key=lambda result: result.key):
        module, function, before, after = result.key
        reason = reasons.get(result.key)
        text = "NO REASON YET" if reason is None else reason.text
        word = "equivalent" if reason is not None and reason.is_equivalent else "survived"
        _print(f"{word}: {module} {function}: {before}  ->  {after}\n    {text}")
    for result in results:
        reason = reasons.get(result.key)
        if result.killed and reason is not None and reason.is_equivalent:
            _print(f"killed, so it isn't equivalent: {result.key}, by {result.killed_by}")
    _print(table(scores))
    wrong = failures(scores, options.floor, strict=options.strict)
    for line in wrong:
        _print(line)
    return 1 if wrong else 0


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
