"""What all tests share."""

import gc
from contextlib import contextmanager

import libraries
import pytest

libraries.see_packages_only()


def pytest_addoption(parser):
    parser.addoption(
        "--may-lack",
        metavar="LIBRARIES",
        help="end at once where a library is not installed that is none of these (names with "
        "commas); without this option, tests are skipped for any",
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
