"""A prior becomes the solver of one inverse problem: DCDP with its operator inside one .onnx file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from restonnx import library
from restonnx.errors import InputError
from restonnx.model import Metadata, SamplerSpec, TileSpec
from restonnx.model import read as read_model
from restonnx.onnx_export import published
from restonnx.onnx_export.dcdp_graphs import DEFAULT, PUBLISHED, Dcdp, Prior, Setting
from restonnx.onnx_export.export import Export, unrolled
from restonnx.onnx_export.freeze import SIZES, freeze
from restonnx.onnx_export.official import State
from restonnx.onnx_export.official_graphs import AdmDenoiser, ConsistencyDenoiser
from restonnx.onnx_export.options import parse
from restonnx.onnx_export.stored import check_precision
from restonnx.onnx_export.unroll import DenoisingPrior
from restonnx.tiles import smallest_tile
from restonnx.training import checkpoint as checkpoints
from restonnx.training.checkpoint import RECIPE_KEY

TILE = 512
"""Side of a tile of the result, for priors of any size."""
FADE = 128
"""Over which such tiles are blended."""
LEAST_UNIT = 32
TASKS = {"blur": "deblur", "inpaint": "inpaint", "superresolve": "super-resolution", "denoise": "denoise"}
DOES = {
    "blur": "Removes a blur whose kernel is given",
    "inpaint": "Fills the pixels that a mask marks",
    "superresolve": "Enlarges an image {scale} times that was shrunk as MATLAB's imresize does it",
    "denoise": "Removes noise of a known level",
}
DRAWS = "; every seed draws another plausible result, and several together give an uncertainty map"
"""What a chain does besides whose rounds add all of their noise."""


def export_dcdp(
    prior: str | Path | Prior,
    out: str | Path,
    *,
    operator: str = "blur",
    scale: int = 4,
    border: str = "unknown",
    rounds: int = 10,
    passes: int = 1,
    iterations: int = 30,
    setting: str = "solve",
    first_level: int | None = None,
    last_level: int | None = None,
    style: str | None = None,
    weight: float | None = None,
    noise: float | None = None,
    start: str | None = None,
    smooth: float | None = None,
    clip: bool | None = None,
    name: str | None = None,
    title: str | None = None,
    precision: str = "float16",
) -> Export:
    """Write the .onnx file that solves `operator` (blur, inpaint, superresolve, denoise) with that prior.

    prior:       a checkpoint, a model in the library, an exported file, or the module of one.
    scale:       of superresolve.
    border:      of blur, what lies beyond the image: "unknown", as a photograph's, or "mirrored", as of
                 `restonnx.diffusion.blurs.Blur`.
    rounds:      of data consistency and purification.  passes: of the prior in each: more than 1 are DDIM.
    iterations:  at most, of conjugate gradients in each round, for blur and superresolve.
    setting:     "solve", with which the result is that of `restonnx.solve` (of one tile), or "published"; what
                 follows and is None comes from there, see `dcdp_graphs.Setting`.
    first_level: of 1000 diffusion steps, how noisy the first round is; it falls in that style, "geometric" to the
                 measurement's noise, others to `last_level`.
    weight, noise, start: of the purified image in the fit; how much of a round's noise is added; "smooth" or "zero".
    smooth:      of inpaint, the start's share in what fills the holes.
    clip:        bound the prior's estimates; by default in the published setting those of published priors.
    Raises InputError or ModelError in one line, and writes nothing then.
    """
    given = {"operator": operator, "scale": scale, "rounds": rounds, "passes": passes, "iterations": iterations}
    given["border"] = border
    chosen = {"first_level": first_level, "last_level": last_level, "style": style, "weight": weight}
    chosen |= {"noise": noise, "start": start, "smooth": smooth}
    parse("dcdp", given | chosen | {"setting": setting, "clip": clip})
    check_precision(precision)
    denoiser, about, extra = _prior(prior)
    consistent = _is_consistency(denoiser)
    if consistent and passes > 1:
        raise InputError("a consistency model purifies in one pass: passes must be 1")
    published_prior = not isinstance(denoiser, DenoisingPrior)
    try:
        plan = _setting(setting, {name: value for name, value in chosen.items() if value is not None})
        module = Dcdp(
            denoiser,
            operator,
            scale=scale,
            border="mirrored" if border == "mirrored" else "unknown",
            rounds=rounds,
            passes=passes,
            iterations=iterations,
            setting=plan,
            clip=(setting == "published" and published_prior) if clip is None else clip,
        ).eval()
    except ValueError as error:
        raise InputError(f"no such chain: {error}") from None
    purifier = "consistency" if consistent else "tweedie" if passes == 1 else "ddim"
    options: dict[str, Any] = {
        "operator": operator,
        "prior": about.name,
        "purifier": purifier,
        "passes": passes,
        "clip": module.clip is not None,
        "first_level": plan.first_level,
        "style": plan.style,
        "weight": plan.weight,
        "noise": module.noise_share,
        "start": plan.start,
    }
    if module.fixed_levels is not None:
        options["levels"] = [round(level, 5) for level in module.fixed_levels]
    if module.looped:
        options["iterations"] = iterations
    if operator == "blur":
        options["border"] = border
    if operator == "inpaint":
        options["smooth"] = plan.smooth
    does = DOES[operator].format(scale=scale) + (DRAWS if module.noise_share == 1 else "")
    metadata = about.model_copy(
        update={
            "name": name or f"{about.name}-{operator}"[:64].strip("-"),
            "title": title or f"{TASKS[operator].capitalize().replace('-', ' ')} ({about.title})",
            "task": TASKS[operator],
            "description": f"{does}. DCDP (arXiv 2403.06054) with the prior {about.name}.",
            "sampler": SamplerSpec(family="dcdp", steps=rounds, draws=module.draws, kappa=None, options=options),
            "range": module.range,
            "scale": module.scale,
            "inputs": tuple(port.spec() for port in module.ports),
            "tile": _tiles(module, about.tile),
            "measured": {},
        }
    )
    metadata = Metadata.model_validate(metadata.model_dump(by_alias=True))
    unit = module.multiple * -(-LEAST_UNIT // module.multiple)
    # Every pixel of a published prior attends to every other, so what is compared is small there.
    sizes = published.SIZES if published_prior else SIZES
    errors = freeze(module, module.ports, metadata, out, unit=unit, precision=precision, extra=extra, sizes=sizes)
    return Export(Path(out), metadata, errors)


def _setting(name: str, chosen: dict[str, Any]) -> Setting:
    """The setting of that name with some of its values replaced."""
    plan = replace(PUBLISHED if name == "published" else DEFAULT, **chosen)
    if plan.style == "geometric":
        if "last_level" in chosen:
            raise ValueError("last_level goes with another style: geometric falls to the measurement's noise")
        return replace(plan, last_level=None)
    return replace(plan, last_level=plan.last_level or 0)


def _prior(prior: str | Path | Prior) -> tuple[Prior, Metadata, dict[str, str]]:
    """The prior's module, its metadata, and what else its file says of it."""
    if not isinstance(prior, str | Path):
        return prior, _about(prior), {}
    path = Path(prior)
    if path.suffix in (".pth", ".pt", ".ckpt", ".bin"):
        raise InputError(f"{path}: export it first with --from {path} --as adm (or consistency), then that file")
    if path.suffix != ".safetensors":
        file = library.find(prior)
        path, about = file.path, file.metadata
        if about.network.get("kind") in ("adm", "consistency"):
            return published.from_exported(about, _stored(path)), about, {}
    saved = checkpoints.load(path)
    module = unrolled(saved)
    if not isinstance(module, DenoisingPrior):
        raise InputError(
            f"{prior} is no prior but a chain of {saved.recipe.sampler.family}; restonnx train prior makes one"
        )
    about = read_model(path).metadata if path.suffix == ".onnx" else _about(module, saved)
    if about.sampler.family == "dcdp":
        raise InputError(f"{prior} is a chain already; pass its prior, {about.sampler.options.get('prior', 'prior')}")
    return module, about, {RECIPE_KEY: saved.recipe.model_dump_json(by_alias=True)}


def _stored(path: Path) -> State:
    """The weights in an exported file."""
    import onnx

    return {name: value for name, value in checkpoints.stored_weights(onnx.load(path)).items() if value.ndim}


def _about(module: Prior, saved: checkpoints.Checkpoint | None = None) -> Metadata:
    """What is said of a prior that is in no exported file."""
    channels = int(module.ports[0].shape[1])
    about = None if saved is None else saved.recipe.about
    kind = "unknown" if saved is None else saved.recipe.network.kind
    multiple = module.network.multiple
    return Metadata(
        schema_=1,
        name="prior" if saved is None else saved.recipe.name,
        title="Prior" if about is None else about.title,
        version="1.0.0" if about is None else about.version,
        task="prior",
        description="",
        sampler=SamplerSpec(family="direct", steps=1, draws=0, kappa=None),
        domain="display_rgb" if channels == 3 else "display_gray",
        channels=channels,
        range=module.range,
        scale=1,
        inputs=tuple(port.spec() for port in module.ports),
        tile=TileSpec(mode="overlap", multiple=multiple, halo=FADE, halo_exact=0, preferred=TILE),
        precision="float32",
        licence="unknown" if about is None else about.licence,
        authors=() if about is None else about.authors,
        training_data=() if about is None else about.training_data,
        recipe="" if saved is None else saved.recipe.name,
        recipe_hash="" if saved is None else saved.recipe.hash(),
        network={"kind": kind} if saved is None else saved.recipe.network.model_dump(mode="json"),
        parent=None if saved is None else saved.parent,
    )


def _tiles(module: Dcdp, prior: TileSpec) -> TileSpec:
    """Overlap, as a pixel of the result depends on the whole tile through every round."""
    side, fade = (prior.preferred, prior.halo) if prior.mode == "overlap" else (TILE, FADE)
    side, fade = side // module.scale, fade // module.scale
    side = max(side, smallest_tile(-(-fade // 2), module.multiple)) // module.multiple * module.multiple
    return TileSpec(mode="overlap", multiple=module.multiple, halo=fade, halo_exact=0, preferred=side)


def _is_consistency(prior: Prior) -> bool:
    if isinstance(prior, AdmDenoiser):
        return False
    assert isinstance(prior, DenoisingPrior | ConsistencyDenoiser)
    return prior.preconditioning.boundary
