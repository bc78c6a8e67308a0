"""`restonnx demo`: restores the photograph inside the package, with noise, and measures the gain."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restonnx.cli.console import say, stderr
from restonnx.cli.interrupt import run_cancellable
from restonnx.cli.progress import bar
from restonnx.cli.restore import DEVICE, MODEL, running_on
from restonnx.errors import InputError

if TYPE_CHECKING:
    import numpy as np

DEFAULT_OUTPUT = Path("restonnx-demo.png")

OUTPUT = typer.Option("--output", "-o", metavar="OUT.png", help="The picture to write: before | after.")
OVERWRITE = typer.Option("--overwrite", help="Replace OUT.png if it exists.")


def demo(
    output: Annotated[Path, OUTPUT] = DEFAULT_OUTPUT,
    model: Annotated[str, MODEL] = "denoise",
    device: Annotated[str, DEVICE] = "auto",
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """Restore the noisy photograph that comes with restonnx and write it before | after."""
    import numpy as np

    from restonnx import images, photograph
    from restonnx.restore import Restorer

    # The default name is the demo's own, so that the same command can be run again.
    overwrite = overwrite or output == DEFAULT_OUTPUT
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists: pass --overwrite to replace it")
    noisy, clean = photograph.noisy(), photograph.clean()
    restorer = run_cancellable(lambda _: Restorer(model, device=device))
    if restorer.metadata.scale != 1:
        raise InputError(f"{restorer.metadata.name} enlarges, and the demo compares with an image of the same size")
    if restorer.metadata.task == "generate":
        raise InputError(f"{restorer.metadata.name} draws images of its own, and the demo restores one")
    with bar(1, stderr()) as shown:
        shown.start_file(0, "the photograph")
        started = time.perf_counter()
        restored = run_cancellable(lambda cancel: restorer(noisy, axes="YXC", progress=shown.advance, cancel=cancel))
        seconds = time.perf_counter() - started
    typer.echo(running_on(restorer))
    for name, pixels in (("before", noisy), ("after", restored)):
        psnr, ssim = _quality(clean, pixels)
        typer.echo(f"{name:6}  PSNR {psnr:5.2f} dB  SSIM {ssim:.4f}")
    megapixels = noisy.shape[0] * noisy.shape[1] / 1e6
    typer.echo(f"{seconds:.2f} s for {megapixels:.2f} megapixels")
    side_by_side = images.Picture(pixels=np.concatenate([noisy, restored], axis=1), axes="YXC")
    images.write(output, side_by_side, overwrite=overwrite)
    say(f"before | after: {output}")


def _quality(clean: np.ndarray, image: np.ndarray) -> tuple[float, float]:
    """PSNR in dB and SSIM of a uint8 RGB image (H, W, 3) against the clean one."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    psnr: Any = peak_signal_noise_ratio
    ssim: Any = structural_similarity
    return float(psnr(clean, image, data_range=255)), float(ssim(clean, image, channel_axis=-1, data_range=255))
