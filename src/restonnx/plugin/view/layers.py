"""Results as layers: added beside their input, mixed anew for another strength, compared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from restonnx.plugin.engine import Outcome, blended, difference
from restonnx.plugin.settings import KEY, record

PREVIEW = "preview"
UNCERTAINTY = "uncertainty"
PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


@dataclass(frozen=True)
class Shown:
    """A result and the layers that show it, by their `unique_id`."""

    outcome: Outcome
    layer: str
    std_layer: str | None = None

    @property
    def source(self) -> str:
        return self.outcome.job.source.uid


def find(viewer: Any, uid: str | None) -> Any:
    """The layer with that `unique_id`, or None where it is gone."""
    return next((layer for layer in viewer.layers if str(layer.unique_id) == uid), None)


def show(viewer: Any, outcome: Outcome, previous: Shown | None, strength: float) -> Shown:
    """Add an outcome as a layer above its input, and its standard deviation above that.

    previous: what is to be taken away for it, if it is still there. A preview takes the layer of the one before it: to
    make a layer costs the window half a second, and previews follow one another.
    """
    source, settings = outcome.job.source, outcome.job.settings
    kept = None if previous is None else find(viewer, previous.layer)
    if previous is not None and kept is not None and _takes(kept, previous, outcome):
        kept.data = blended(outcome.original, outcome.restored, strength)
        adjust(kept, source.look | source.placed(outcome.job.region, outcome.metadata.scale).arguments())
        kept.visible = True
        return replace(previous, outcome=outcome)
    selected = viewer.layers.selection.active
    name = f"{source.name} {PREVIEW if outcome.job.preview else outcome.metadata.name}"
    index = _place(viewer, source.uid)
    if previous is not None:
        for uid in (previous.std_layer, previous.layer):
            if (old := find(viewer, uid)) is not None:
                index = viewer.layers.index(old)
                name = old.name if uid == previous.layer and previous.outcome.metadata == outcome.metadata else name
                viewer.layers.remove(old)
    placed = source.placed(outcome.job.region, outcome.metadata.scale).arguments()
    layer = viewer.add_image(
        blended(outcome.original, outcome.restored, strength),
        name=name,
        rgb=source.rgb,
        multiscale=False,
        metadata={KEY: _record(outcome, strength)} if not outcome.job.preview else {},
        **source.look,
        **placed,
    )
    _move(viewer, layer, index)
    std_layer = None
    if outcome.std is not None and settings.uncertainty:
        std_layer = viewer.add_image(
            outcome.std,
            name=f"{name} {UNCERTAINTY}",
            rgb=False,
            multiscale=False,
            colormap="inferno",
            contrast_limits=_limits(outcome.std),
            blending="additive",
            visible=False,
            **placed,
        )
        _move(viewer, std_layer, viewer.layers.index(layer) + 1)
    if selected is not None and selected in viewer.layers:
        viewer.layers.selection.active = selected
    return Shown(outcome, str(layer.unique_id), None if std_layer is None else str(std_layer.unique_id))


def adjust(layer: Any, values: dict[str, Any]) -> None:
    """Set what differs of a layer's look and place; whatever is set makes the window draw."""
    for name, value in values.items():
        now = getattr(layer, name)
        now = now.affine_matrix if name == "affine" else tuple(map(str, now)) if name == "units" else now
        if not np.array_equal(now, value) if name in PLACE else now != value:
            setattr(layer, name, value)


def mix(viewer: Any, shown: Shown, strength: float) -> None:
    """Show another strength of a result; the model does not run."""
    layer = find(viewer, shown.layer)
    if layer is None or shown.outcome.metadata.scale > 1:
        return
    layer.data = blended(shown.outcome.original, shown.outcome.restored, strength)
    if not shown.outcome.job.preview:
        layer.metadata = layer.metadata | {KEY: _record(shown.outcome, strength)}


def add_difference(viewer: Any, shown: Shown, strength: float) -> Any:
    """Add restored - original as a layer around zero: blue where the result is darker, red where it is brighter."""
    outcome, source = shown.outcome, shown.outcome.job.source
    data = difference(
        outcome.original,
        blended(outcome.original, outcome.restored, strength),
        rgb=source.rgb,
        scale=outcome.metadata.scale,
        axes=source.rows_and_columns,
    )
    limit = _limits(abs(data))[1]
    layer = viewer.add_image(
        data,
        name=f"{source.name} difference",
        rgb=False,
        multiscale=False,
        colormap=_diverging(),
        contrast_limits=(-limit, limit),
        **source.placed(outcome.job.region, outcome.metadata.scale).arguments(),
    )
    result = find(viewer, shown.layer)
    _move(viewer, layer, viewer.layers.index(result) + 1 if result is not None else len(viewer.layers))
    return layer


def _takes(layer: Any, previous: Shown, outcome: Outcome) -> bool:
    """Whether the layer of the previous preview can show this one."""
    source = outcome.job.source
    previews = previous.outcome.job.preview and outcome.job.preview
    return bool(previews and previous.source == source.uid and layer.rgb == source.rgb and layer.ndim == source.ndim)


def _record(outcome: Outcome, strength: float) -> dict[str, Any]:
    settings = replace(outcome.job.settings, strength=strength).for_model(outcome.metadata)
    return record(
        settings,
        outcome.metadata,
        outcome.job.source.name,
        sha256=outcome.sha256,
        provider=outcome.provider,
        seconds=outcome.seconds,
        file=outcome.job.source.file,
    )


def _place(viewer: Any, uid: str) -> int:
    layer = find(viewer, uid)
    return len(viewer.layers) if layer is None else viewer.layers.index(layer) + 1


def _move(viewer: Any, layer: Any, index: int) -> None:
    now = viewer.layers.index(layer)
    if now != index:
        viewer.layers.move(now, index)


def _limits(data: Any) -> tuple[float, float]:
    """From 0 to near the largest value, of a few planes in the middle where there are many."""
    while data.ndim > 2 and data.size > 4_000_000:
        data = data[data.shape[0] // 2]
    top = float(np.percentile(np.asarray(data)[..., ::2, ::2], 99.8))
    return 0.0, top if top > 0 else 1.0


def _diverging() -> Any:
    """From blue over black to red; black is no difference."""
    from napari.utils import Colormap

    colours = [[0.35, 0.65, 1, 1], [0, 0, 0, 1], [1, 0.45, 0.25, 1]]
    return Colormap(colours, name="restonnx difference", display_name="blue, black, red")
