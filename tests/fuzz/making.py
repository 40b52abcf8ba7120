"""How a call is made up: every decision is a number below another, drawn from a seed.

The numbers of a call are its seed's record: the same ones make the same call, and smaller ones a
simpler call, for what is simplest stands first everywhere.
"""

import inspect
from functools import lru_cache

from .calls import FORWARD, HANDED_ON, Call
from .inputs import FLOATS, GOOD, HUGE, ODD, OURS, WRONG
from .surface import fuzzed, modules, parameters, rows

_EMPTY = inspect.Parameter.empty
_FAULTS = (0, 0, 0, 1, 1, 2)


class Choices:
    """Numbers that decide: those that are given, and 0 after the last; or drawn ones."""

    def __init__(self, drawn_from=None, given=()):
        self._random, self._given, self.made = drawn_from, given, []

    def below(self, n):
        place = len(self.made)
        if self._random is not None:
            number = int(self._random.random() * n)
        else:
            number = min(self._given[place], n - 1) if place < len(self._given) else 0
        self.made.append(number)
        return number

    def among(self, pool):
        return pool[self.below(len(pool))]

    def coin(self):
        return self.below(2) == 1

    def probability(self):
        """Of thresholds' grid, of all binary64, or next to an end."""
        kind = self.below(4)
        if kind == 0:
            return self.below(2**32 + 1) / 2**32
        if kind == 1:
            return self.below(2**53) / 2**53
        least = 2.0 ** -self.below(1075)
        return least if kind == 2 else 1.0 - least


def drawn_call(names, source):
    """(a call of one of these functions, the numbers that made it)."""
    choices = Choices(drawn_from=source)
    return call(choices, names), choices.made


def smallest(names, numbers, fails, tries=600):
    """The numbers of the simplest call, of those tried, that still fails; `numbers` do."""
    changed = True
    while changed:
        changed, place = False, 1  # the first one is the function
        while place < len(numbers):
            for fewer in sorted({0, numbers[place] // 2, numbers[place] - 1}):
                if not 0 <= fewer < numbers[place] or tries == 0:
                    continue
                tries -= 1
                choices = Choices(given=[*numbers[:place], fewer, *numbers[place + 1 :]])
                found = call(choices, names)
                if choices.made < numbers and fails(found):
                    numbers, changed = choices.made, True
                    break
            place += 1
    return numbers


def call(choices, names):
    """A call of one of these functions: most often right throughout, else wrong in one or two."""
    function = choices.among(names)
    taken = parameters(function)
    open_to_faults = _open_to_faults(function)
    faults = choices.among(_FAULTS) if open_to_faults else 0
    wrong = {choices.among(open_to_faults) for _ in range(faults)}
    several = choices.among(FLOATS) if len(arrays_of(function)) > 1 else None
    arguments = []
    for name, default in taken.items():
        if name in wrong:
            expression = _bad_expression(choices, function, name)
        elif name in arrays_of(function):
            expression = _array(choices, function, arrays_of(function).index(name))
            if several and rows()[function].sample.dtypes:
                expression = _retyped(expression, several)
        else:
            expression = _good_expression(choices, function, name, default)
        if expression is not None:
            arguments.append((name, expression))
    return Call(function, tuple(arguments))


def swept(function):
    """Calls that are simple but for one argument: each odd or wrong value in each one's place."""
    plain = dict(call(Choices(), [function]).arguments)
    for name in _open_to_faults(function):
        for expression in dict.fromkeys((*WRONG.get(name, ()), *_odd(function, name))):
            changed = {**plain, name: expression}
            arguments = tuple((n, changed[n]) for n in parameters(function) if n in changed)
            yield Call(function, arguments)


def _open_to_faults(function):
    """Arguments that Thinned answers for."""
    handed_on = HANDED_ON if function in surface_of_modules() else ()
    return sorted(set(parameters(function)) - set(handed_on))


def good(function, parameter):
    """Expressions for a parameter: of this function, else of the name; None if there are none."""
    return GOOD.get(f"{function}.{parameter}") or GOOD.get(parameter)


@lru_cache(None)
def arrays_of(function):
    row = rows().get(function)
    return row.arrays if row is not None and row.sample is not None else ()


def _array(choices, function, place):
    """An array that its row is tried with, of one seed, type and layout for the whole call."""
    sample = rows()[function].sample
    dtype = choices.among(sample.dtypes or ("int64",))
    seed, layout = choices.below(6), choices.among(OURS)
    if place == 0 and sample.arrays is None:
        shape = choices.among((sample.shape, (2, *sample.shape[1:])))
        if len(shape) == 2 and choices.coin():
            shape = (choices.below(5), 1 + choices.below(40))
        return f"x({shape}, {dtype!r}, {seed}, {layout!r})"
    return f"given({function!r}, {place}, {seed % 2}, {dtype!r}, {layout!r})"


def _option(function, parameter):
    row = rows().get(function) or modules().get(function)
    if row is None or row.sample is None or parameter not in row.sample.options:
        return None
    return repr(row.sample.options[parameter])


def _bad_expression(choices, function, name):
    pool = WRONG.get(name, ()) if choices.coin() else ()
    return choices.among(pool or _odd(function, name))


def _good_expression(choices, function, name, default):
    """None where the parameter is left out."""
    given = _option(function, name)
    if given is not None and choices.coin():
        return given
    if default is not _EMPTY and given is None and name != "p" and not choices.coin():
        return None
    if name == "p" and choices.coin():
        return repr(choices.probability())
    return choices.among(good(function, name) or ODD)


@lru_cache(None)
def surface_of_modules():
    return FORWARD.keys() | modules().keys()


def _odd(function, name):
    if name[0] == "*":
        return tuple(f"({e},)" for e in ODD)
    return tuple(e for e in ODD if (function, name, e) not in HUGE)


def _retyped(expression, dtype):
    for known in FLOATS:
        expression = expression.replace(f"'{known}'", f"'{dtype}'")
    return expression


def covered():
    """Public functions without a value for one of their parameters."""
    return {
        f"{function}: {name}"
        for function in fuzzed()
        for name in parameters(function)
        if not (name in arrays_of(function) or good(function, name) or _option(function, name))
    }
