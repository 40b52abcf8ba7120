"""The rules, a file for each family. Importing this room imports every file of it, and so fills the
table."""

from importlib import import_module
from pkgutil import iter_modules

for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")
