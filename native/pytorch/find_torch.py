"""What CMake asks of the PyTorch at hand: the compiled part's name, the package, the C++ ABI.

Fails, and says why, where there is no PyTorch that the part can be built for.
"""

import sys
from importlib.metadata import PackageNotFoundError, version

try:
    release = version("torch")
except PackageNotFoundError:
    sys.exit("no PyTorch stands beside it")
major, minor = (int(part) for part in release.split(".")[:2])
# Before, a node of autograd and a tensor's object in Python are reached in other ways, untried.
if (major, minor) < (2, 13):
    sys.exit(f"it is for PyTorch 2.13 and newer, and here is {release}")

try:
    import torch
except Exception as error:  # whatever keeps PyTorch from loading keeps the part from being built
    sys.exit(f"PyTorch {release} does not load ({error})")

root = torch.__path__[0].replace("\\", "/")
print(f"_torch_{major}_{minor}", root, int(torch._C._GLIBCXX_USE_CXX11_ABI), sep=";")
