"""docs/fit.md: its table has every option of `thinned fit`, with the default that it declares."""

import re
from inspect import signature
from pathlib import Path

from thinned.cli.fit import fit

PAGE = (Path(__file__).parents[2] / "docs/fit.md").read_text(encoding="utf-8")


def rows():
    """Option -> its default, as the page has them."""
    found = re.findall(r"^\| `--([a-z-]+)(?: [A-Z=]+)?` \| (.*?) ?\|", PAGE, flags=re.M)
    return {option.replace("-", "_"): default.replace("`", "") for option, default in found}


def declared():
    """The same as the command's signature has them: a default that is computed, by its help."""
    found = {}
    for name, parameter in signature(fit, eval_str=True).parameters.items():
        how = parameter.annotation.__metadata__[0]
        named = getattr(how, "default", None)  # where Annotated is used, the first declaration
        if isinstance(named, str) and named.startswith("--"):
            name = named.lstrip("-").replace("-", "_")
        default = parameter.default
        if default is None:
            found[name] = how.help.partition("Default: ")[2].removesuffix(".")
        elif default is not parameter.empty:
            found[name] = "" if default is False else str(default)
    return found


def test_the_table_of_options_is_that_of_the_command():
    assert rows() == declared()
    assert list(rows()) == list(declared())


def test_the_lines_of_python_run(here):
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
    assert blocks
    names = {}
    exec("\n".join(blocks), names)  # the page's own
    assert names["score"] > 0
    assert len(names["values"]) == 5
    assert (here / "thinned-patients" / "report.html").exists()
