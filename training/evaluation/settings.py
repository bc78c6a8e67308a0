"""The settings of the classical methods, by purpose.

They are the best of those that `benchmarks/classical_settings.py` tried on photographs of the training set; what every
trial gave stands in `benchmarks/results/classical_settings.json`.
"""

from __future__ import annotations

from typing import Any

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "deblur": {
        "unsharp mask": {"radius": 1.0, "amount": 0.1},
        "Richardson-Lucy, kernel guessed": {"sigma": 1.6, "iterations": 2},
    },
    "deblur-kernel": {"Richardson-Lucy": {"iterations": 10}, "Wiener": {"balance": 0.3}},
    "dehaze": {"dark channel prior": {"patch": 15, "kept": 0.35, "least": 0.1}},
    "denoise": {
        "non-local means, told": {"strength": 0.55, "patch": 5, "distance": 10},
        "non-local means": {"strength": 0.55, "patch": 5, "distance": 10},
        "non-local means, two scales": {"strength": 0.55, "patch": 5, "distance": 10},
    },
    "denoise-gray": {
        "non-local means, told": {"strength": 0.7, "patch": 5, "distance": 6},
        "non-local means": {"strength": 0.7, "patch": 5, "distance": 6},
    },
    "denoise-micrographs": {"non-local means": {"strength": 1.2, "patch": 5, "distance": 6}},
    "derain": {"median": {"side": 3}, "opening": {"width": 3}, "guided filter": {"radius": 2, "epsilon": 0.001}},
    "dual-camera": {"bicubic with the reference's detail": {"sigma": 2.0}},
    "low-light": {
        "gain": {"level": 0.35, "strength": 0.8},
        "gamma": {"level": 0.6, "strength": 0.4},
        "CLAHE": {"clip": 0.003, "strength": 0.8},
        "Retinex": {"power": 0.8, "strength": 0.8},
    },
    "raindrop": {"median": {"side": 3}, "guided filter": {"radius": 16, "epsilon": 0.001}},
    "shadow-removal": {"relighting": {"band": 8, "soft": 1.0}},
    "super-resolution-real": {"non-local means, bicubic": {"strength": 0.6}},
}
"""By purpose and method; a method that is not here has none."""


def settings(purpose: str, method: str) -> dict[str, Any]:
    return SETTINGS.get(purpose, {}).get(method, {})
