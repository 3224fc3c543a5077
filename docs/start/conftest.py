"""Keep pytest away from the tests that the pages show: they run in a project of their own."""

# tests/documents/test_quickstart.py and test_tutorial.py run them.
collect_ignore = ["quickstart", "tutorial/code"]
