"""Do other programs see the same in a DNG that restonnx wrote as in the file that it was made of?

    python benchmarks/raw_readers.py --install photo.dng photo.nef

Each file is developed to a DNG without a model, and file and DNG are rendered by LibRaw, dcraw, darktable-cli (its
display-referred defaults off) and rawtherapee-cli (the neutral profile: its default one fits a curve to the preview
inside the file). The differences are of 16-bit values. Programs that are not installed are left out; --install
brings them, as Debian's packages.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from results import write

from restonnx import isp

PACKAGES = {"dcraw": "dcraw", "darktable-cli": "darktable", "rawtherapee-cli": "rawtherapee"}
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": 600, "check": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--install", action="store_true", help="install what is missing, by apt-get as root")
    options = parser.parse_args()
    if options.install:
        install()
    rows = [row for file in options.files for row in compared(file)]
    for row in rows:
        print("  ".join(f"{value}" for value in row.values()))
    write("raw_readers", {"protocol": __doc__, "files": rows})


def install() -> None:
    """Debian's packages of the programs that are not there."""
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if missing:
        subprocess.run(["apt-get", "update"], check=True)
        subprocess.run(["apt-get", "install", "--yes", "--no-install-recommends", *missing], check=True)


def compared(file: Path) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = folder / "written.dng"
        isp.develop(file, [], written)
        for reader, (program, render) in READERS.items():
            if program is not None and shutil.which(program) is None:
                continue
            source, copy = (render(path, folder).astype(np.int64) for path in (file, written))
            row: dict[str, Any] = {"file": file.name, "reader": reader, "same_size": source.shape == copy.shape}
            if row["same_size"]:
                difference = np.abs(source - copy)
                row |= {"largest_difference": int(difference.max()), "mean_difference": round(difference.mean(), 4)}
            rows.append(row)
    return rows


def libraw(path: Path, folder: Path) -> Any:
    return isp.develop(path).pixels


def dcraw(path: Path, folder: Path) -> Any:
    shown = subprocess.run(["dcraw", "-c", "-w", "-4", "-T", path], capture_output=True, check=True).stdout
    (folder / "dcraw.tif").write_bytes(shown)
    return tifffile.imread(folder / "dcraw.tif")


def darktable(path: Path, folder: Path) -> Any:
    out = folder / "darktable.tif"
    out.unlink(missing_ok=True)
    core = ["--core", "--disable-opencl", "--configdir", folder / "darktable", "--library", ":memory:"]
    settings = ("plugins/darkroom/workflow=none", "plugins/darkroom/chromatic-adaptation=legacy")
    wanted = [part for one in (*settings, "plugins/imageio/format/tiff/bpp=16") for part in ("--conf", one)]
    subprocess.run(["darktable-cli", path, out, *core, *wanted], **QUIET)
    return tifffile.imread(out)


def rawtherapee(path: Path, folder: Path) -> Any:
    out = folder / "rawtherapee.tif"
    subprocess.run(["rawtherapee-cli", "-o", out, "-b16", "-tz", "-Y", "-c", path], **QUIET)
    return tifffile.imread(out)


READERS: dict[str, tuple[str | None, Callable[[Path, Path], Any]]] = {
    "LibRaw": (None, libraw),
    "dcraw": ("dcraw", dcraw),
    "darktable": ("darktable-cli", darktable),
    "RawTherapee": ("rawtherapee-cli", rawtherapee),
}


if __name__ == "__main__":
    main()
