"""The directive `public`: every public name of a module, first in a table, then with its docstring.

```{public} thinned.torch
:only: adopt release
```
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from docs.site.docstrings import line_in_rst


def kind(value: object) -> str | None:
    """The directive of autodoc for a value; None for a module, which has a page of its own."""
    if inspect.ismodule(value):
        return None
    if inspect.isclass(value):
        return "autoclass"
    return "autofunction" if callable(value) else "autodata"


class Public(SphinxDirective):
    """All public names of a module, or those that `only` names, without those of `without`."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {
        "only": directives.unchanged,
        "without": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        module = self.arguments[0]
        room = import_module(module)
        left_out = set(self.options.get("without", "").split())
        names = self.options.get("only", "").split() or sorted(
            set(room.__all__) - left_out, key=str.lower
        )
        found = {name: getattr(room, name) for name in names}
        entries = {name: how for name, value in found.items() if (how := kind(value))}
        lines = [".. list-table::", "   :widths: 30 70", "   :class: names", ""]
        for name in entries:
            doc = inspect.getdoc(found[name]) or ""
            first = line_in_rst(" ".join(doc.partition("\n\n")[0].split()))
            if entries[name] == "autodata":
                first = "\\ "
            lines += [f"   * - :py:obj:`{name} <{module}.{name}>`", f"     - {first}"]
        for name, how in entries.items():
            lines += ["", f".. {how}:: {module}.{name}"]
            if how == "autoclass":
                lines += ["   :members:"]
            if how == "autodata":
                lines += ["   :no-value:"]
        holder = nodes.section(ids=[f"names-of-{module}"])
        holder.document = self.state.document
        self.state.nested_parse(
            StringList(["```{eval-rst}", *lines, "```"], source=module), self.content_offset, holder
        )
        return list(holder.children)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("public", Public)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
