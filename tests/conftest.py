"""What all tests share."""

import gc
import os
import zlib
from collections import defaultdict
from contextlib import contextmanager

import libraries
import pytest

# PyTorch's threads wait for their next work by spinning. Beside other processes, as tests run, they
# then take the processors from each other: three quarters of the suite's time. This is read where
# PyTorch is loaded, and by every process that a test starts.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

libraries.see_packages_only()


def pytest_addoption(parser):
    parser.addoption(
        "--may-lack",
        metavar="LIBRARIES",
        help="end at once where a library is not installed that is none of these (names with "
        "commas); without this option, tests are skipped for any",
    )

    parser.addoption(
        "--short",
        action="store_true",
        help="leave out tests marked long, and of tests marked one_in(n) all but one in n",
    )


def pytest_configure(config):
    allowed = config.getoption("--may-lack")
    if allowed is None:
        return
    missing = [name for name in libraries.absent() if name not in allowed.split(",")]
    if missing:
        raise pytest.UsageError(f"the tests need what is not installed: {', '.join(missing)}")


def pytest_report_header():
    names = libraries.absent()
    return f"not installed, and skipped: {', '.join(names)}" if names else None


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Without the garbage collector, which looked through thousands of tests again and again, none
    of which was garbage: a quarter of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config, items):
    """The short run. Which cases stay depends on their names alone: the same on every machine."""
    if not config.getoption("--short"):
        return
    cases = defaultdict(list)
    for item in items:
        if item.get_closest_marker("long") is None:
            cases[item.nodeid.partition("[")[0]].append(item)
    stays = set()
    for same in cases.values():
        mark = same[0].get_closest_marker("one_in")
        if mark is not None:
            (n,) = mark.args
            by_chance = sorted(same, key=lambda item: zlib.crc32(item.nodeid.encode()))
            same = by_chance[: -(-len(same) // n)]
        stays.update(same)
    config.hook.pytest_deselected(items=[item for item in items if item not in stays])
    items[:] = [item for item in items if item in stays]


@contextmanager
def skipped_where_a_library_is_absent(what):
    try:
        yield
    except (ModuleNotFoundError, pytest.Collector.CollectError) as error:
        imported = error.__cause__ if isinstance(error, pytest.Collector.CollectError) else error
        name = libraries.missed_by_tests(imported)
        if name is None:
            raise
        pytest.skip(f"{what}: {libraries.reason(name)}", allow_module_level=True)


class File(pytest.Module):
    def collect(self):
        with skipped_where_a_library_is_absent(self.nodeid):
            return super().collect()


def pytest_pycollect_makemodule(module_path, parent):
    return File.from_parent(parent, path=module_path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    with skipped_where_a_library_is_absent(item.nodeid):
        if item.get_closest_marker("cuda") is not None:
            import torch

            if not torch.cuda.is_available():
                pytest.skip("no CUDA device")
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    with skipped_where_a_library_is_absent(item.nodeid):
        return (yield)
