"""Published networks at their full size, with random weights: what exporting and running one takes.

    taskset -c 0 python benchmarks/published_sizes.py rddm

The weights are written as their authors write them and read again as `restonnx export --from FILE --as KIND` reads
them; the result has been compared with torch and restores an image of 256 x 256. Seconds are the processor's, memory is
the greatest of the process so far; one network each run, added to the results of the others.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import FOLDER, write

from restonnx import Restorer
from restonnx.onnx_export.published import export_published
from restonnx.training.networks.official import adm_unet, rddm_unet, resshift_unet, vq

SIDE = 256
FFHQ = {
    "image_size": 256,
    "num_channels": 128,
    "num_res_blocks": 1,
    "attention_resolutions": "16",
    "num_head_channels": 64,
    "learn_sigma": True,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
}
Built = Callable[[], Any]
NETWORKS: dict[str, tuple[str, Built, list[str]]] = {
    "rddm": ("rddm", lambda: rddm_unet.build(rddm_unet.RddmConfig(layout="single", in_channels=6)), ["steps=2"]),
    "rddm-two": ("rddm", lambda: rddm_unet.build(rddm_unet.RddmConfig(layout="two", in_channels=6)), ["steps=5"]),
    "adm-ffhq": ("adm", lambda: adm_unet.build(adm_unet.from_create_model(FFHQ)), []),
    "resshift-x4": ("resshift", lambda: resshift_unet.build(resshift_unet.ResShiftConfig()), []),
}
"""Kind, network, options of its export."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    name = parser.parse_args().network
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        row = measure(name, Path(folder))
    print(json.dumps(row, indent=2))
    file = FOLDER / "published_sizes.json"
    known = json.loads(file.read_text())["table"] if file.exists() else []
    table = [entry for entry in known if entry["network"] != name] + [row]
    write("published_sizes", {"protocol": __doc__, "threads": 1, "table": table})


def measure(name: str, folder: Path) -> dict[str, Any]:
    kind, build, settings = NETWORKS[name]
    weights = folder / f"{name}.pth"
    millions = saved(build(), weights)
    coder = None
    if kind == "resshift":
        coder = folder / "autoencoder.pth"
        millions += saved(vq.build(vq.VQConfig()), coder)
    started = time.process_time()
    written = export_published(weights, kind, folder / "model.onnx", autoencoder=coder, settings=settings)
    exported, memory = time.process_time() - started, peak()
    restorer = Restorer(written.path, device="cpu", threads=1)
    side = SIDE // written.metadata.scale
    image = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    told = {"noise_level": 25} if any(i.role == "noise_level" for i in written.metadata.inputs) else {}
    started = time.process_time()
    restored = restorer(image, **told)
    assert restored.shape == (SIDE, SIDE, 3)
    return {
        "network": name,
        "million_weights": round(millions, 1),
        "steps": written.metadata.sampler.steps,
        "export_seconds": round(exported, 1),
        "export_memory_gb": round(memory, 2),
        "largest_difference_from_torch": float(f"{max(written.errors):.1e}"),
        "file_mb": round(os.path.getsize(written.path) / 1e6, 1),
        "seconds_for_256x256": round(time.process_time() - started, 1),
    }


def saved(network: torch.nn.Module, path: Path) -> float:
    """Written with random weights, also where the published initialisation has zeros; its size in millions.

    An autoencoder's codes are spread as trained ones are. At first they lie within 1e-4 of each other, so that rounding
    decides which one is the nearest.
    """
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        if name == "quantize.embedding.weight":
            parameter.data = torch.randn(parameter.shape, generator=generator)
        if not parameter.any():
            parameter.data = 0.02 * torch.randn(parameter.shape, generator=generator)
    torch.save(network.state_dict(), path)
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
