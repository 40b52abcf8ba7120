"""The examples in a module's docstrings, those of decorated functions included."""

import doctest
import inspect


class Finder(doctest.DocTestFinder):
    """A finder that looks for a function's module below its decorators."""

    def _from_module(self, module, object):
        return super()._from_module(module, inspect.unwrap(object))


def run(module):
    """How many examples failed, and how many there are: what doctest.testmod returns."""
    runner = doctest.DocTestRunner()
    for test in Finder().find(module):
        runner.run(test)
    return runner.summarize(verbose=False)
