"""Colours that a page decides, not a picture: a figure is drawn in stand-ins, which become CSS
variables, so that one picture serves the light and the dark page."""

from __future__ import annotations

__all__ = ["ACCENT", "GRID", "INK", "MUTED", "NONE", "SURFACE", "colour_of", "themed", "variables"]

# No palette has these; `themed` turns each into the variable beside it.
INK, MUTED, GRID, SURFACE, ACCENT, NONE = (f"#a1b2{i:02x}" for i in range(6))
_NAMES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    SURFACE: "surface",
    ACCENT: "accent",
    NONE: "none",
}
_FIRST_LEVEL = 0x20
_MOST_LEVELS = 0x100 - _FIRST_LEVEL

# From the smallest p to the largest; each row passes 4.5 to 1 against its page's surface.
_LIGHT = ((0x0B, 0x7A, 0x6B), (0x25, 0x63, 0xB0), (0x7A, 0x2F, 0xA0))
_DARK = ((0x5F, 0xD9, 0xBF), (0x7F, 0xB2, 0xFF), (0xD0, 0x9C, 0xFF))


def colour_of(rank: int) -> str:
    """The stand-in for the level of this rank; rank 0 is p = 0, which has a colour of its own."""
    return NONE if rank == 0 else f"#a1b2{_FIRST_LEVEL + (rank - 1) % _MOST_LEVELS:02x}"


def themed(svg: str, levels: int) -> str:
    """The picture with its stand-ins turned into CSS variables."""
    for stand_in, name in _NAMES.items():
        svg = svg.replace(stand_in, f"var(--{name})")
    for rank in range(1, levels):
        svg = svg.replace(colour_of(rank), f"var(--p{rank})")
    return svg


def variables(levels: int) -> tuple[str, str]:
    """CSS that sets the variables of the levels, on a light and on a dark page."""
    light, dark = (
        " ".join(
            f"--p{rank}: {_between(ends, (rank - 1) / max(levels - 2, 1))};"
            for rank in range(1, levels)
        )
        for ends in (_LIGHT, _DARK)
    )
    return light, dark


def _between(stops: tuple[tuple[int, int, int], ...], share: float) -> str:
    place = share * (len(stops) - 1)
    low = min(int(place), len(stops) - 2)
    part = place - low
    mixed = (round(a + (b - a) * part) for a, b in zip(stops[low], stops[low + 1], strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)
