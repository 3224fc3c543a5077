"""Run pip-audit on a requirements file and judge its report.

Known vulnerabilities end with 1. Without a connection to the server with the data, the script says
that nothing was audited and ends with 0.

Usage: audit.py REQUIREMENTS
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

NO_DATA = "pip-audit: no vulnerability data here, dependencies not audited"
# The errors with which pip-audit ends when the server with the data is unreachable or broken.
UNREACHABLE = re.compile(
    r"^(requests\.exceptions\.\w+|pip_audit\._service\.interface\.\w*Error)\b"
    r"|Could not connect to|is not redirecting properly",
    re.MULTILINE,
)


def judge(status: int, report: str, log: str) -> tuple[bool, str]:
    """Return whether the audit passes, and the message to print.

    pip-audit's exit status is 1 when it finds something and also when it reaches no server.
    """
    if not report.strip() and UNREACHABLE.search(log):
        return True, NO_DATA
    try:
        dependencies = json.loads(report)["dependencies"]
        vulnerable = [item for item in dependencies if item.get("vulns")]
        skipped = [item["name"] for item in dependencies if "skip_reason" in item]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return False, f"pip-audit: no report ({error!r}), exit status {status}\n{log}"
    if vulnerable:
        found = [
            f"  {item['name']} {item['version']}: {vulnerability['id']}, fixed in "
            f"{', '.join(vulnerability.get('fix_versions') or ['no version'])}"
            for item in vulnerable
            for vulnerability in item["vulns"]
        ]
        return False, "\n".join(["pip-audit: known vulnerabilities", *found])
    if status != 0 or not dependencies:
        return False, f"pip-audit: exit status {status}, {len(dependencies)} audited\n{log}"
    if 2 * len(skipped) > len(dependencies):
        return True, NO_DATA
    summary = f"pip-audit: {len(dependencies) - len(skipped)} dependencies without vulnerabilities"
    return True, f"{summary}; without data: {', '.join(skipped)}" if skipped else summary


def main(requirements: str) -> int:
    command = (
        "pip-audit", "--requirement", requirements, "--no-deps", "--disable-pip",
        "--progress-spinner", "off", "--format", "json",
    )  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    passed, message = judge(done.returncode, done.stdout, done.stderr)
    sys.stdout.write(f"{message}\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
