"""Image files: PNG, JPEG, WebP and TIFF in and out, with their colour profile, EXIF and calibration.

`dataclasses.replace(picture, pixels=restored)` is all that a restored image needs before it is written.
"""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from restonnx.errors import InputError
from restonnx.files import explained, replaced
from restonnx.images import jpeg, png, tiff, webp
from restonnx.images.picture import Picture, Resolution

__all__ = ["SUFFIXES", "Picture", "Resolution", "check", "read", "write"]

FORMATS = {".png": png, ".jpg": jpeg, ".jpeg": jpeg, ".webp": webp, ".tif": tiff, ".tiff": tiff}
SUFFIXES = tuple(FORMATS)
"""The suffixes, in lower case, of the files that can be read and written."""


def read(path: str | Path) -> Picture:
    """The picture in a file, told by its content, not by its suffix. Raises InputError, which names the file.

    Pixels are as stored: EXIF's orientation is kept and not applied. Palettes become RGB, alpha stands apart.
    """
    path = Path(path)
    with explained(path, "read"):
        with path.open("rb") as file:
            start = file.read(16)
        if not start:
            raise InputError(f"{path} is empty; copy it again from where it came from")
        if start.startswith(png.SIGNATURE):
            return png.read(path)
        if start.startswith(jpeg.SIGNATURE):
            return jpeg.read(path)
        if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
            return webp.read(path)
        if start[:4] in tiff.SIGNATURES:
            return tiff.read(path)
    raise InputError(f"{path} is no PNG, JPEG, WebP or TIFF image; convert it to one of these")


def write(path: str | Path, picture: Picture, *, overwrite: bool = False, quality: int = 95) -> None:
    """Write a picture in the format that the suffix names: whole and under its name, or not at all.

    Lossless are PNG, TIFF, and WebP for pictures that were read from a lossless WebP. TIFF holds every dtype
    and stacks. PNG holds 8 and 16 bits, JPEG and WebP 8; wider integers are scaled down, floats are taken as
    [0, 1]. For pixels of another size than their file, alpha follows by nearest neighbour, and the
    resolution so that the image stays as wide, in inches or micrometres, as it was.
    quality: of JPEG and lossy WebP, 1 to 100.
    Raises InputError, which names the file: it exists already, it cannot be written, the disk is full, the
    pixels do not fit the format.
    """
    path = Path(path)
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise InputError(f"{path} has no suffix that can be written; use one of {', '.join(SUFFIXES)}")
    if not 1 <= quality <= 100:
        raise InputError(f"quality is {quality}; use 1 (small) to 100 (best)")
    with explained(path, "write"), replaced(path, overwrite=overwrite) as temporary:
        form.write(temporary, picture, name=path, quality=quality)


def check(path: str | Path, picture: Picture) -> None:
    """Raise InputError, as `write` would, where the format that the suffix names holds no such picture, whatever its
    size: before it is computed. TIFF holds them all."""
    path = Path(path)
    form = FORMATS.get(path.suffix.lower())
    if form is None or form is tiff:
        return
    window = tuple(slice(0, 1) if letter in "YX" else slice(None) for letter in picture.axes)
    beside = tuple(part for n, part in enumerate(window) if n != picture.color_axis)
    alpha = None if picture.alpha is None else picture.alpha[beside]
    small = replace(picture, pixels=picture.pixels[window], alpha=alpha, size=(1, 1))
    with TemporaryDirectory() as folder, explained(path, "write"):
        form.write(Path(folder) / f"pixel{path.suffix}", small, name=path, quality=95)
