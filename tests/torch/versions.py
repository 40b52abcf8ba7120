"""What older releases of PyTorch do otherwise, for the tests that would see it."""

import torch

VERSION = torch.__version__


def through_the_compiler(words):
    """What an error is to match that was raised in a program: Dynamo before 2.9 loses its words."""
    return words if VERSION >= (2, 9) else None
