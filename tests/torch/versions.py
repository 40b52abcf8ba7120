"""What older releases of PyTorch do otherwise, for the tests that would see it."""

import torch

VERSION = torch.__version__


def through_the_compiler(words):
    """What an error is to match that was raised in a program. Dynamo before 2.9 loses its words: it
    saw an exception, or was inside of a `with` that it cannot leave by one."""
    return words if VERSION >= (2, 9) else "Observed exception|WITH_EXCEPT_START"
