"""The OME-XML of a TIFF file, brought up to date for pixels of another size, dtype or order."""

from fractions import Fraction
from typing import Any
from xml.etree import ElementTree

import numpy as np

PIXEL_TYPES = {"float32": "float", "float64": "double"}
"""numpy's name -> OME's, where they differ."""


def updated(
    xml: str, axes: str, shape: tuple[int, ...], dtype: np.dtype[Any], zoom: tuple[Fraction, Fraction]
) -> bytes:
    """The XML of one image, with all that describes instrument, channels and time kept as it was.

    axes, shape: of the array as it is written, page after page.
    zoom:        how many times higher and wider it became.
    """
    root = ElementTree.fromstring(xml)
    space = root.tag.partition("}")[0].strip("{")
    ElementTree.register_namespace("", space)
    pixels = root.find(f".//{{{space}}}Pixels")
    if pixels is None:
        raise ValueError("its OME-XML describes no pixels")
    root.attrib.pop("UUID", None)  # another file is another file
    outer = [letter for letter in reversed(axes) if letter in "CZT"]
    pixels.set("DimensionOrder", "XY" + "".join(outer) + "".join(c for c in "CZT" if c not in outer))
    pixels.set("Type", PIXEL_TYPES.get(dtype.name, dtype.name))
    for letter, factor in zip("YX", zoom, strict=True):
        pixels.set(f"Size{letter}", str(shape[axes.index(letter)]))
        physical = pixels.get(f"PhysicalSize{letter}")
        if physical is not None and factor != 1:
            pixels.set(f"PhysicalSize{letter}", repr(float(physical) / float(factor)))
    for attribute in ("BigEndian", "SignificantBits"):
        pixels.attrib.pop(attribute, None)
    _one_run_of_pages(pixels, space, axes, shape)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()


def _one_run_of_pages(pixels: ElementTree.Element, space: str, axes: str, shape: tuple[int, ...]) -> None:
    """One TiffData element in the place of the others: all pages, in the order of the axes."""
    old = [child for child in pixels if child.tag in (f"{{{space}}}TiffData", f"{{{space}}}BinData")]
    place = list(pixels).index(old[0]) if old else len(pixels.findall(f"{{{space}}}Channel"))
    for child in old:
        pixels.remove(child)
    pages = int(np.prod([n for n, letter in zip(shape, axes, strict=True) if letter not in "YXS"], dtype=np.int64))
    data = ElementTree.Element(f"{{{space}}}TiffData", {"IFD": "0", "PlaneCount": str(pages)})
    pixels.insert(place, data)
