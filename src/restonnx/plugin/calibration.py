"""What a layer's axes measure, in the words of TIFF, ImageJ and OME: letters, steps, units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LETTERS = {"t": "T", "time": "T", "z": "Z", "c": "C", "ch": "C", "channel": "C", "y": "Y", "x": "X"}
"""Names of axes, in lower case, that the formats know."""
UNNAMED = "TZC"
"""What axes before rows and columns are taken for where they have no such names; a single one is Z."""
FURTHER = "PRIVEALHM"
"""Letters for more axes than the formats know."""
LENGTHS = {"nm": 1e-9, "µm": 1e-6, "mm": 1e-3, "cm": 1e-2, "m": 1.0}
"""Units that are kept by name, in metres; other lengths become micrometres."""
PIXEL = "pixel"


@dataclass(frozen=True)
class Axis:
    letter: str
    step: float
    """From one pixel to the next, in `unit`."""
    start: float
    """Where the first pixel lies."""
    unit: str
    """A key of LENGTHS, "s", or "pixel" for what is neither a length nor a time."""

    @property
    def is_measured(self) -> bool:
        return self.unit != PIXEL

    @property
    def is_calibrated(self) -> bool:
        """Whether there is something to say that a file without calibration would not."""
        return self.is_measured or self.step != 1 or self.start != 0

    def steps_in(self, unit: str) -> float:
        """The step in another length."""
        return self.step * _factor(self.unit, unit)

    def starts_in(self, unit: str) -> float:
        return self.start * _factor(self.unit, unit)


def axes_of(meta: Mapping[str, Any], ndim: int) -> tuple[Axis, ...]:
    """Those of a layer without colour, from the `scale`, `translate`, `units` and `axis_labels` of its metadata."""
    letters = letters_of(meta.get("axis_labels") or (), ndim)
    steps, starts = (_each(meta.get(key), ndim, default) for key, default in (("scale", 1.0), ("translate", 0.0)))
    units = _each(meta.get("units"), ndim, PIXEL)
    found = []
    for letter, step, start, unit in zip(letters, steps, starts, units, strict=True):
        name, factor = _known(str(unit))
        found.append(Axis(letter, abs(float(step)) * factor, float(start) * factor, name))
    return tuple(found)


def letters_of(labels: Sequence[Any], ndim: int) -> str:
    """One letter for each axis: by its name where all names are known and differ, else by its place."""
    named = [LETTERS.get(str(label).strip().lower(), "") for label in labels]
    if len(named) == ndim and all(named) and len(set(named)) == ndim and {"X", "Y"} <= set(named):
        return "".join(named)
    leading = ndim - 2
    if leading == 1:
        return "ZYX"
    before = UNNAMED[:leading] if leading <= len(UNNAMED) else FURTHER[: leading - len(UNNAMED)] + UNNAMED
    return before + "YX"


def length_unit(axes: Sequence[Axis]) -> str | None:
    """The unit for all lengths of a file: that of the columns; None where rows and columns are no lengths."""
    spatial = {axis.letter: axis.unit for axis in axes if axis.letter in "YX"}
    return spatial["X"] if all(unit in LENGTHS for unit in spatial.values()) else None


def _factor(unit: str, to: str) -> float:
    return 1.0 if unit == to else LENGTHS[unit] / LENGTHS[to]


def _each(values: Any, ndim: int, default: Any) -> list[Any]:
    found = [] if values is None else list(values)
    return found if len(found) == ndim else [default] * ndim


def _known(unit: str) -> tuple[str, float]:
    """The name under which a unit is kept, and how many of that it is."""
    import pint

    untyped: Any = pint
    registry = untyped.get_application_registry()
    try:
        one = registry.Quantity(1.0, unit)
    except (pint.PintError, ValueError, TypeError):
        return PIXEL, 1.0
    for base, kept in (("meter", LENGTHS), ("second", {"s": 1.0})):
        if one.is_compatible_with(base):
            short = f"{one.units:~}".replace("\u03bc", "\u00b5")
            if short in kept:
                return short, 1.0
            other = "µm" if base == "meter" else "s"
            return other, float(one.to(base).magnitude) / kept[other]
    return PIXEL, 1.0
