"""DNGs that LibRaw cannot decode (JPEG XL, deflate on integers, LZW) as plain DNGs in memory that it can."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from restonnx.errors import InputError
from restonnx.isp import dng_tags
from restonnx.isp.dng_tags import Tag

STORAGE_TAGS = frozenset((254, 256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 330, 339))
"""How pixels lie in the file: written anew."""
LEFT_OUT = frozenset((34665, 34853, 40965, 305, 52547, 52548, 52549, 52550, 52551))
"""Directories of their own, and what belongs to JPEG XL."""


def to_plain_dng(path: Path) -> bytes:
    """The same sensor data and tags, uncompressed. Raises InputError for files that are no DNG."""
    import tifffile

    other = InputError(f"{path} is no camera RAW file that LibRaw or tifffile can decode; convert it to DNG first")
    with path.open("rb") as file:
        if file.read(4) not in dng_tags.SIGNATURES[:4]:
            raise other
    with tifffile.TiffFile(path) as tiff:
        pages = [page for top in tiff.pages for page in (top, *(top.pages or ()))]
        page = dng_tags.raw_page(pages)
        if page is None:
            raise other
        first, own = dng_tags.tags_of(pages[0]), dng_tags.tags_of(page)
        try:
            pixels = page.asarray()
        except (ValueError, RuntimeError, KeyError, ImportError) as error:
            name = getattr(page.compression, "name", page.compression)
            raise InputError(f"{path}: neither LibRaw nor tifffile can decode its compression, {name}") from error
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim not in (2, 3):
        raise InputError(
            f"{path} holds {pixels.dtype} data of shape {pixels.shape}, not 8 or 16 bit samples of a sensor"
        )
    if 50717 not in own:  # the white level that goes without saying depends on the depth that is lost here
        bits = int(np.max(own[258].value))
        own[50717] = Tag(50717, 4, 1, 2**bits - 1)
    tags = {code: tag for code, tag in {**first, **own}.items() if code not in STORAGE_TAGS | LEFT_OUT}
    return _written(pixels.astype(np.uint16), own[262].value, tags)


def _written(pixels: Any, photometric: int, tags: dict[int, Tag]) -> bytes:
    import tifffile

    extra = [tag.extra() for tag in tags.values()]
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric=photometric, extratags=extra, metadata=None, software=False)
    return file.getvalue()
