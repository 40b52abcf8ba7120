"""What CMake asks of the PyTorch at hand: the compiled part's name, the package, the C++ ABI.

Fails where there is no PyTorch that the part can be built for.
"""

import sys
from importlib.metadata import PackageNotFoundError, version

try:
    major, minor = (int(part) for part in version("torch").split(".")[:2])
except PackageNotFoundError:
    sys.exit(1)
# Before, a node of autograd and a tensor's object in Python are reached in other ways, untried.
if (major, minor) < (2, 13):
    sys.exit(1)

import torch

root = torch.__path__[0].replace("\\", "/")
print(f"_torch_{major}_{minor}", root, int(torch._C._GLIBCXX_USE_CXX11_ABI), sep=";")
