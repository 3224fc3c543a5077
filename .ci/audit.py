"""What pip-audit said, judged: vulnerabilities fail the gate; where there is no data, that is told.

Usage: audit.py STATUS REPORT LOG: its exit status, and the files with its JSON and its messages.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

NO_DATA = "pip-audit: no vulnerability data here, dependencies not audited"
# The errors with which pip-audit ends when whoever has the data can't be reached or is ill.
UNREACHABLE = re.compile(
    r"^(requests\.exceptions\.\w+|pip_audit\._service\.interface\.\w*Error)\b"
    r"|Could not connect to|is not redirecting properly",
    re.MULTILINE,
)


def judge(status: int, report: str, log: str) -> tuple[bool, str]:
    """Whether the gate is open, and what to say."""
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
    told = f"pip-audit: {len(dependencies) - len(skipped)} dependencies without vulnerabilities"
    return True, f"{told}; without data: {', '.join(skipped)}" if skipped else told


if __name__ == "__main__":
    passed, message = judge(int(sys.argv[1]), *(Path(name).read_text() for name in sys.argv[2:4]))
    sys.stdout.write(f"{message}\n")
    sys.exit(0 if passed else 1)
