"""The catalogue of methods: one row each, in the file that holds the method's code.

`find(name)` finds a row by any library's name for it; `every()` is the whole table. The functions
stand in `thinned` too, under the same names.
"""

from thinned.methods.bernoulli import dropout, keep_mask, packed_mask
from thinned.methods.gaussian import gaussian_dropout, uniform_dropout
from thinned.methods.paths import drop_path, stochastic_depth
from thinned.methods.table import Method as Method, every as every, find as find

# What `thinned` takes over: the functions alone.
__all__ = [
    "drop_path",
    "dropout",
    "gaussian_dropout",
    "keep_mask",
    "packed_mask",
    "stochastic_depth",
    "uniform_dropout",
]
