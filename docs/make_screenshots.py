"""Make the pictures of the documentation: the example application and its debug toolbar.

python -m docs.make_screenshots
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.support.browser import (
    make_links,
    open_page,
    open_redis_panel,
    running_browser,
    running_example,
)

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    """Write all pictures."""
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as directory,
        running_example(Path(directory)) as address,
        running_browser() as browser,
    ):
        page = open_page(browser)
        make_links(page, address)
        page.get_by_role("link", name="One by one").click()
        page.screenshot(path=IMAGES / "example_app.png")
        open_redis_panel(page).screenshot(path=IMAGES / "debugtoolbar.png")


if __name__ == "__main__":
    main()
