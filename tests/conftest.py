"""How tests are run: threads, environment, marks, and who loads what they share (`support/shared_fixtures.py`)."""

import os

import pytest

# Models here are so small that threads cost more than they bring, and tests run side by side. Before PyTorch is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A test run on GitHub Actions is itself a step of a workflow; the commands under test are not.
for _name in [name for name in os.environ if name.startswith(("GITHUB_", "MODEL_RELEASE_"))]:
    del os.environ[_name]

TRACING = {"export", "whole", "released", "cached", "touchable"}
"""Fixtures that trace a model."""


def pytest_configure(config: pytest.Config) -> None:
    """Loads what tests share, for seconds: not where other processes run them."""
    if config.getoption("dist", "no") == "no":
        config.pluginmanager.import_plugin("shared_fixtures")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests by what they use. Files with slow ones come first: begun last, they would leave a core idle."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if "tool" in fixtures:
            item.add_marker("tools")
        if not TRACING.isdisjoint(fixtures):
            item.add_marker("slow")
        for marker in item.iter_markers("long_cases"):
            if isinstance(item, pytest.Function) and item.callspec.id in marker.args:
                item.add_marker("long")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
