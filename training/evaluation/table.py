"""Which model is measured on what, beside which classical methods and which published numbers.

Synthetic tests damage the public test sets as the task's recipe damages photographs, from seeds; pairs are used as they
are. A set that is missing is left out, by name.
"""

from __future__ import annotations

from dataclasses import dataclass

from restonnx.training.evaluation.damage import blurred, gaussian, missing, of_middle, of_recipe, smaller
from restonnx.training.evaluation.samples import Damage, Pairs, References, Synthetic


@dataclass(frozen=True)
class Published:
    """PSNR in dB (of luma in suites that have a luma border) that others printed for the very same test."""

    method: str
    psnr: float
    source: str


@dataclass(frozen=True)
class Test:
    """One column of a table."""

    name: str
    source: Synthetic | Pairs | References
    classical: tuple[str, ...]
    """Names in `classical.every.METHODS`."""
    luma_border: int | None = None
    """Pixels; also measure luma, without this border. The tables then show luma."""
    free_scale: bool = False
    """Gain and offset are fitted before comparing."""
    published: tuple[Published, ...] = ()


@dataclass(frozen=True)
class Suite:
    """Tests of one kind, which share a table."""

    title: str
    purpose: str
    """Whose settings the classical methods have, in `settings.SETTINGS`."""
    tests: tuple[Test, ...]
    real: bool = False
    """Pairs that nobody made from a clean image: here a model need only be no worse than its input."""
    channels: int = 3


DENOISERS = ("non-local means, told", "wavelets, told", "non-local means", "wavelets")
BLIND_DENOISERS = ("non-local means", "wavelets")
DERAINERS = ("median", "opening", "guided filter")
BRIGHTENERS = ("gain", "gamma", "CLAHE", "Retinex")
DEBLURRERS = ("unsharp mask", "Richardson-Lucy, kernel guessed")
DECONVOLUTION = ("Richardson-Lucy", "Wiener")

FFDNET, DRUNET = "Zhang et al. 2018, arXiv 1710.04026", "Zhang et al. 2021, arXiv 2008.13751"
DNCNN, VDSR = "Zhang et al. 2017, arXiv 1608.03981", "Kim et al. 2016, arXiv 1511.04587"
IMDN = "Hui et al. 2019, arXiv 1909.11856"
"""Where the numbers below stand."""
LEVELS = (15, 25, 50)
PUBLISHED_COLOUR = (
    ("CBM3D", (33.52, 30.71, 27.38), FFDNET),
    ("FFDNet", (33.87, 31.21, 27.96), FFDNET),
    ("DRUNet", (34.30, 31.69, 28.51), DRUNET),
)
PUBLISHED_GRAY = (
    ("BM3D", (32.37, 29.97, 26.72), DNCNN),
    ("DnCNN", (32.86, 30.44, 27.18), DNCNN),
    ("DRUNet", (33.25, 30.94, 27.90), DRUNET),
)
PUBLISHED_ENLARGED = {
    2: (("bicubic", (33.66, 30.24), VDSR), ("SRCNN", (36.66, 32.42), VDSR), ("EDSR-baseline", (37.99, 33.57), IMDN)),
    4: (("bicubic", (28.42, 26.00), VDSR), ("SRCNN", (30.48, 27.49), VDSR), ("EDSR-baseline", (32.09, 28.58), IMDN)),
}
Rows = tuple[tuple[str, tuple[float, ...], str], ...]


def _column(rows: Rows, column: int) -> tuple[Published, ...]:
    return tuple(Published(method, values[column], source) for method, values, source in rows)


def _gaussian(folder: str, published: Rows, title: str, channels: int) -> Suite:
    tests = tuple(
        Test(f"sigma {level}", Synthetic(folder, gaussian(level)), DENOISERS, published=_column(published, n))
        for n, level in enumerate(LEVELS)
    )
    return Suite(title, "denoise" if channels == 3 else "denoise-gray", tests, channels=channels)


def _synthetic(purpose: str, methods: tuple[str, ...], *damages: tuple[str, Damage]) -> Suite:
    """On photographs that show every kind of scene."""
    tests = tuple(Test(name, Synthetic("test/CBSD68", damage), methods) for name, damage in damages)
    return Suite("CBSD68, damaged as in training", purpose, tests)


def _pairs(purpose: str, methods: tuple[str, ...], *folders: str, real: bool = True) -> Suite:
    title = "Photographed pairs" if real else "Pairs that others made"
    tests = tuple(Test(_label(folder), Pairs(f"paired/{folder}"), methods) for folder in folders)
    return Suite(title, purpose, tests, real=real)


def _label(folder: str) -> str:
    """The set's name: what is behind the first dash says which part of it there is."""
    return folder.rpartition("/")[2].partition("_")[0]


def _enlarging(scale: int) -> Suite:
    damage = of_recipe(f"super-resolution-x{scale}")
    tests = tuple(
        Test(
            folder,
            Synthetic(f"test/{folder}", damage),
            ("bicubic",),
            luma_border=scale,
            published=_column(PUBLISHED_ENLARGED[scale], n),
        )
        for n, folder in enumerate(("Set5", "Set14"))
    )
    return Suite(f"Bicubic reductions (luma, border of {scale} left out)", "super-resolution", tests)


def _enlarging_real(scale: int) -> Suite:
    damage = of_recipe(f"super-resolution-x{scale}-real", "real_share=1.0")
    methods = ("bicubic", "non-local means, bicubic")
    tests = tuple(Test(folder, Synthetic(f"test/{folder}", damage), methods) for folder in ("Set14", "CBSD68"))
    return Suite(
        f"Blurred, noisy, compressed files to be enlarged {scale} times, made as in training",
        "super-resolution-real",
        tests,
    )


def _known(purpose: str, methods: tuple[str, ...], *damages: tuple[str, Damage]) -> Suite:
    """The slow solvers, on the small sets."""
    tests = tuple(
        Test(f"{folder}, {name}", Synthetic(f"test/{folder}", damage), methods)
        for name, damage in damages
        for folder in ("Set5", "Set14")
    )
    return Suite("Known damage", purpose, tests)


COLOUR = _gaussian("test/CBSD68", PUBLISHED_COLOUR, "CBSD68, Gaussian noise without clipping", 3)
MCMASTER = _gaussian("test/McMaster", (), "McMaster, Gaussian noise without clipping", 3)
GRAY = _gaussian("test/Set12_gray", PUBLISHED_GRAY, "Set12, Gaussian noise without clipping", 1)
CAMERAS = _pairs(
    "denoise", (*BLIND_DENOISERS, "non-local means, two scales"), "real_noise/CC15_Nam", "real_noise/PolyU"
)
MICROGRAPHS = Suite(
    "Few photons, made as in training",
    "denoise-micrographs",
    (
        Test(
            "photographs",
            Synthetic("test/Set12_gray", of_recipe("denoise-micrographs", as_file=False)),
            BLIND_DENOISERS,
            free_scale=True,
        ),
        Test(
            "drawn cells, fibres, spots",
            Synthetic("test/Set12_gray", of_recipe("denoise-micrographs", "drawn_share=1.0", as_file=False)),
            BLIND_DENOISERS,
            free_scale=True,
        ),
    ),
    channels=1,
)
FLUORESCENCE = Suite(
    "Real micrographs, gain and offset fitted",
    "denoise-micrographs",
    tuple(
        Test(_label(folder), Pairs(f"paired/{folder}"), BLIND_DENOISERS, free_scale=True)
        for folder in ("microscopy/W2S_avg1_avg400", "microscopy/Bacteria_16bit")
    ),
    real=True,
    channels=1,
)
BOTH_CAMERAS = of_recipe("dual-camera-x2")
TWO_CAMERAS = Suite(
    "CBSD68 by two cameras, made as in training",
    "dual-camera",
    tuple(
        Test(name, Synthetic("test/CBSD68", damage), ("bicubic", "bicubic with the reference's detail"))
        for name, damage in (
            ("the middle, no second camera", of_middle(BOTH_CAMERAS, reference=False)),
            ("the middle", of_middle(BOTH_CAMERAS)),
            ("second camera sees the middle", BOTH_CAMERAS),
        )
    ),
)
REFERENCES = Suite(
    "Photographs of the same place, registered",
    "dual-camera",
    tuple(
        Test(name, References(f"paired/{folder}"), ("bicubic", "bicubic with the reference's detail"))
        for name, folder in (("CUFED5 scene", "ref_sr/CUFED5_scene001"), ("CUFED", "ref_sr/CUFED_160_HR+ref"))
    ),
    real=True,
)
ISTD = Suite(
    "Photographed pairs, the mask found by their difference",
    "shadow-removal",
    (Test("ISTD", Pairs("paired/shadow/ISTD_shadow_only", truth="pseudo_gt", shaded=True), ("relighting",)),),
    real=True,
)
SHAKE, SOFT = ("camera shake", blurred("shake", 2.55)), ("Gaussian blur", blurred("gaussian", 2.55))
HALF, STROKES = ("every other pixel", missing("half")), ("strokes", missing("strokes"))

SUITES: dict[str, tuple[Suite, ...]] = {
    "denoise": (COLOUR, MCMASTER, CAMERAS),
    "denoise-fast": (COLOUR, MCMASTER, CAMERAS),
    "denoise-gray": (GRAY, FLUORESCENCE),
    "denoise-micrographs": (MICROGRAPHS, FLUORESCENCE, GRAY),
    "prior": (COLOUR,),
    "prior-gray": (GRAY,),
    "super-resolution-x2": (_enlarging(2),),
    "super-resolution-x4": (_enlarging(4),),
    "super-resolution-x2-real": (_enlarging_real(2),),
    "super-resolution-x4-real": (_enlarging_real(4),),
    "derain": (
        _synthetic("derain", DERAINERS, ("rain", of_recipe("derain"))),
        _pairs("derain", DERAINERS, "derain/Rain100L", "derain/Rain100H", "derain/DDN_synthetic", real=False),
        _pairs("derain", DERAINERS, "derain/SPA_real"),
    ),
    "dehaze": (
        _synthetic("dehaze", ("dark channel prior",), ("haze", of_recipe("dehaze"))),
        _pairs("dehaze", ("dark channel prior",), "dehaze/SOTS_indoor", "dehaze/ITS_indoor", real=False),
        _pairs("dehaze", ("dark channel prior",), "dehaze/REVIDE_real"),
    ),
    "dual-camera-x2": (TWO_CAMERAS, REFERENCES),
    "shadow-removal": (
        _synthetic("shadow-removal", ("relighting",), ("shadow", of_recipe("shadow-removal"))),
        ISTD,
    ),
    "low-light": (_synthetic("low-light", BRIGHTENERS, ("low light", of_recipe("low-light"))),),
    "raindrop": (
        _synthetic("raindrop", ("median", "guided filter"), ("drops", of_recipe("raindrop"))),
        _pairs("raindrop", ("median", "guided filter"), "raindrop/RainDrop_real"),
    ),
    "deblur": (
        _synthetic("deblur", DEBLURRERS, ("blur", of_recipe("deblur"))),
        _pairs("deblur", DEBLURRERS, "deblur/GoPro"),
    ),
    "inpaint": (_known("inpaint", ("biharmonic",), HALF, STROKES),),
    "deblur-kernel": (_known("deblur-kernel", DECONVOLUTION, SHAKE, SOFT),),
    "super-resolution-known": (_known("super-resolution", ("bicubic",), ("x4, sigma 2.55", smaller(4, 2.55))),),
}
"""By the model's name."""

ELSEWHERE = {
    "raw-denoise": "benchmarks/raw_denoise.py measures it, on mosaics",
    "raw-denoise-fast": "benchmarks/raw_denoise.py measures it, on mosaics",
    "linear-denoise": "benchmarks/raw_denoise.py measures it, on demosaicked colours",
    "prior-fast": "benchmarks/one_step_prior.py measures it, beside its teacher's many steps",
    "generate": "what makes new images has no true ones to be compared with",
}
"""Models that are not measured here, and why."""


def suites(name: str, recipe: str = "") -> tuple[Suite, ...]:
    """The suites of a model: by its name, that without "-detail", or the name of its recipe; () for others."""
    for known in (name, name.removesuffix("-detail"), recipe, recipe.removesuffix("-detail")):
        if known in SUITES:
            return SUITES[known]
    return ()


def limited(count: int, limit: int | None) -> list[int]:
    """Which of `count` images are used: all, or at most `limit`, every k-th from the first."""
    step = 1 if limit is None else max(1, -(-count // limit))
    return list(range(0, count, step))
