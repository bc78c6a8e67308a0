"""`restonnx noise-profile`: how noisy a RAW file is, in numbers and as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restonnx.cli.console import say
from restonnx.cli.outputs import check_report

if TYPE_CHECKING:
    from restonnx.isp import Frame, NoiseProfile

FILE = typer.Argument(metavar="FILE", help="A RAW file.", show_default=False)
TABLE = typer.Option("--table", metavar="FILE", help="CSV with iso,a,b, used where nothing else helps.")
ESTIMATE = typer.Option("--estimate", help="Look at the pixels also where the file has a profile.")
PLOT = typer.Option("--plot", metavar="FILE", help="Draw it, as PNG, JPEG or WebP.", show_default=False)
PLOTS = (".png", ".jpg", ".jpeg", ".webp")
OVERWRITE = typer.Option("--overwrite", help="Replace the plot if it exists.")

NAMES = ("red", "green", "blue")
INK = {"red": (200, 40, 40), "green": (30, 140, 60), "blue": (40, 80, 200), "all": (60, 60, 60)}
WIDTH, HEIGHT, MARGIN = 720, 480, 70


def noise_profile(
    file: Annotated[Path, FILE],
    table: Annotated[Path | None, TABLE] = None,
    estimate: Annotated[bool, ESTIMATE] = False,
    plot: Annotated[Path | None, PLOT] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """Print the noise profile of a RAW file: variance = a x + b, with x from 0 (black) to 1 (saturation)."""
    from restonnx import isp
    from restonnx.isp import noise_profiles as profiles
    from restonnx.isp.frame import pattern_name

    check_report(plot, PLOTS, overwrite=overwrite)
    frame = isp.read_raw(file)
    meta = frame.meta
    if estimate:
        found = profiles.estimate(frame)
    else:
        found = profiles.noise_profile(frame, profiles.read_table(table) if table else None)
    height, width = frame.image.shape[:2]
    iso = f"ISO {meta.iso:g}" if meta.iso else "ISO unknown"
    say(f"{file}: {meta.camera or 'unknown camera'}, {width}x{height} {pattern_name(meta.cfa)}, {iso}")
    typer.echo(f"{'':6} {'a':>11} {'b':>11} {'electrons':>10} {'noise at 18 %':>14}  from {found.source}")
    for name, a, b in zip(names(found), found.a, found.b, strict=True):
        electrons = f"{1 / a:.0f}" if a > 1e-9 else "-"
        typer.echo(f"{name:6} {a:11.3e} {b:11.3e} {electrons:>10} {(a * 0.18 + b) ** 0.5:14.5f}")
    if plot is not None:
        _draw(frame, found, plot, overwrite)
        say(f"plot in {plot}")


def names(profile: NoiseProfile) -> tuple[str, ...]:
    return NAMES if len(profile.a) == 3 else ("all",)


def _draw(frame: Frame, profile: NoiseProfile, path: Path, overwrite: bool) -> None:
    """Variance over level: the points that the frame shows, where it shows any, and the profile's lines."""
    import numpy as np
    from PIL import Image, ImageDraw

    from restonnx import images
    from restonnx.errors import InputError
    from restonnx.isp import noise_profiles as profiles

    try:
        fits: Any = profiles.fitted(frame)
    except InputError:
        fits = ()
    top_x = max([0.1, *(float(fit.levels.max()) for fit in fits)]) * 1.05
    lines = [a * top_x + b for a, b in zip(profile.a, profile.b, strict=True)]
    top_y = max([*lines, *(float(fit.variances.max()) for fit in fits)]) * 1.1
    canvas = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(canvas)

    def place(x: float, y: float) -> tuple[float, float]:
        return MARGIN + x / top_x * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - y / top_y * (HEIGHT - 2 * MARGIN)

    draw.rectangle([place(0, top_y), place(top_x, 0)], outline=(160, 160, 160))
    for part in (0.25, 0.5, 0.75, 1.0):
        x, y = place(part * top_x, 0)
        draw.text((x - 14, y + 8), f"{part * top_x:.2f}", fill="black")
        x, y = place(0, part * top_y)
        draw.text((4, y - 6), f"{part * top_y:.1e}", fill="black")
    draw.text((WIDTH / 2 - 60, HEIGHT - 30), "level (1 is saturation)", fill="black")
    draw.text(
        (MARGIN, 20), f"noise variance, {Path(frame.meta.source or '').name}, from {profile.source}", fill="black"
    )
    for n, name in enumerate(names(profile)):
        draw.line([place(0, profile.b[n]), place(top_x, lines[n])], fill=INK[name], width=2)
        for x, y in zip(fits[n].levels, fits[n].variances, strict=True) if n < len(fits) else ():
            across, down = place(float(x), float(y))
            draw.ellipse([across - 3, down - 3, across + 3, down + 3], outline=INK[name])
    images.write(path, images.Picture(np.asarray(canvas), "YXS"), overwrite=overwrite)
