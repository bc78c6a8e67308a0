"""The form of the widget: what can be chosen, and reading and writing it as `Settings`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels, Shapes
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QSpinBox,
    QWidget,
)

from restonnx.plugin import catalogue
from restonnx.plugin.preferences import preferences
from restonnx.plugin.settings import LAYER_ROLES, ROLES, Settings, asked_for, default_level
from restonnx.plugin.source import raw_pattern
from restonnx.plugin.view.fields import HINT, LayerChoice, NoiseLevel, Strength

if TYPE_CHECKING:
    from restonnx.library import ModelEntry

KINDS: dict[str, tuple[type, ...]] = {"mask": (Labels, Shapes), "kernel": (Image,), "reference": (Image,)}
LABELS = {"noise_level": "Noise level", "mask": "Restore where", "kernel": "Blur kernel", "reference": "Reference"}
TIPS = {
    "noise_level": "Standard deviation of the noise in the image's own values",
    "mask": "Labels or shapes that cover what is to be restored, such as missing pixels or a shadow",
    "kernel": "An image layer that holds the point spread function; both sides odd",
    "reference": "An image layer of the same place; of another size than the result it is registered first",
}


class Form(QWidget):
    """Input, task, model and options. It knows which of them the chosen model has, and hides the others."""

    model_changed = Signal()
    """Another model, device or memory: what is loaded is no longer right."""
    options_changed = Signal()
    """Anything else that makes another result, the strength left out."""
    input_changed = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._entries: dict[str, list[ModelEntry]] = {}
        self._levelled = ""
        """The model whose default noise level is shown, or was before the user chose another."""
        chosen = preferences()
        self.image = LayerChoice(viewer, (Image,))
        self.task, self.model, self.scale = QComboBox(), QComboBox(), QComboBox()
        self.card, self.add = QPushButton("Card"), QPushButton("Add model...")
        self.strength, self.noise_level = Strength(), NoiseLevel()
        self.seed, self.samples = QSpinBox(), QSpinBox()
        self.seed.setRange(0, 2**31 - 1)
        self.samples.setRange(1, 64)
        self.uncertainty = QCheckBox("uncertainty")
        self.layers = {role: LayerChoice(viewer, KINDS[role], nothing="choose a layer") for role in LAYER_ROLES}
        self.planes = QComboBox()
        self.planes.addItem("all planes", "all")
        self.planes.addItem("the current plane", "current")
        self.device = QComboBox()
        self.device.addItems(["auto", "cpu", "cuda"])
        self.device.setCurrentText(chosen.device)
        self.memory = QDoubleSpinBox()
        self.memory.setRange(0.001, 1024)
        self.memory.setDecimals(3)
        self.memory.setSuffix(" GB")
        self.memory.setValue(chosen.memory)
        self.replace = QCheckBox("replace the previous result")
        self.replace.setChecked(True)
        self._arrange()
        self._connect()
        self.refresh_models()
        self._on_input()

    @property
    def entry(self) -> ModelEntry | None:
        """The chosen model."""
        name = self.model.currentData()
        return next((e for e in self._entries.get(str(self.task.currentData()), []) if e.name == name), None)

    def settings(self) -> Settings:
        """What is chosen; of layers their names."""
        return Settings(
            model=str(self.model.currentData() or ""),
            strength=self.strength.value,
            seed=int(self.seed.value()),
            samples=int(self.samples.value()),
            uncertainty=self.uncertainty.isChecked(),
            planes=self.planes.currentData(),
            noise_level=self.noise_level.value,
            device=self.device.currentText(),
            memory=float(self.memory.value()),
            replace=self.replace.isChecked(),
            **{
                role: str(choice.layer.name) if choice.layer is not None else "" for role, choice in self.layers.items()
            },
        )

    def choose(self, settings: Settings) -> None:
        """Show these settings; a model or a layer that is not there is left as it was."""
        self.choose_model(settings.model)
        self.strength.value = settings.strength
        self.seed.setValue(settings.seed)
        self.samples.setValue(settings.samples)
        self.uncertainty.setChecked(settings.uncertainty)
        self.planes.setCurrentIndex(max(0, self.planes.findData(settings.planes)))
        self.noise_level.value = settings.noise_level
        self.device.setCurrentText(settings.device)
        self.memory.setValue(settings.memory)
        self.replace.setChecked(settings.replace)
        for role, choice in self.layers.items():
            if (place := choice.findText(getattr(settings, role))) >= 0:
                choice.setCurrentIndex(place)

    def choose_last(self, settings: Settings) -> None:
        """Those of an earlier run of the task that is shown. A default model gives way to the one that suits this
        image; device, memory and what becomes of the previous result stay as they are."""
        now = self.settings()
        entry = next((e for e in self._entries.get(str(self.task.currentData()), []) if e.name == settings.model), None)
        model = now.model if entry is None or self._is_default(entry) else entry.name
        self.choose(replace(settings, model=model, device=now.device, memory=now.memory, replace=now.replace))

    def choose_model(self, name: str) -> bool:
        """-> whether there is such a model for this image."""
        for task, entries in self._entries.items():
            if any(entry.name == name for entry in entries):
                self.task.setCurrentIndex(self.task.findData(task))
                place = int(self.model.findData(name))
                if place >= 0:
                    self.model.setCurrentIndex(place)
                return place >= 0
        return False

    def choose_task(self, task: str) -> bool:
        """And the best of its models for the chosen image. -> whether there is such a task."""
        place = int(self.task.findData(task))
        if place >= 0:
            self.task.setCurrentIndex(place)
            self._offer_models(best=True)
        return place >= 0

    def refresh_models(self) -> None:
        """After models came or went."""
        self._entries = catalogue.by_task()
        chosen = self.task.currentData()
        blocked = self.task.blockSignals(True)
        self.task.clear()
        for task in self._entries:
            self.task.addItem(catalogue.title(task), task)
        self.task.setCurrentIndex(max(0, self.task.findData(chosen)) if self._entries else -1)
        self.task.blockSignals(blocked)
        self._offer_models(best=chosen is None)

    def refresh_layers(self, without: tuple[str, ...]) -> None:
        """After layers came, went, or got another name. without: what is no input, such as a preview."""
        self.image.refresh(without)
        for choice in self.layers.values():
            choice.refresh(without)

    def _arrange(self) -> None:
        def row(*parts: QWidget) -> QHBoxLayout:
            layout = QHBoxLayout()
            layout.setContentsMargins(0, 0, 0, 0)
            for number, part in enumerate(parts):
                layout.addWidget(part, 1 if number == 0 else 0)
            return layout

        self._rows = QFormLayout(self)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for label, field in (
            ("Input", self.image),
            ("Task", self.task),
            ("Model", row(self.model, self.card)),
            ("", self.add),
            ("Scale", self.scale),
            ("Strength", self.strength),
            *((LABELS[role], self._field(role)) for role in ROLES),
            ("Planes", self.planes),
            ("Seed", self.seed),
            ("Samples", row(self.samples, self.uncertainty)),
            ("Device", self.device),
            ("Memory", self.memory),
            ("", self.replace),
        ):
            self._rows.addRow(label, field)
        for role in ROLES:
            self._field(role).setToolTip(TIPS[role])
        self.scale.setToolTip("How many times as wide and high the result is: the models of this task that there are")
        self.add.setToolTip("Add an .onnx file to your models; it can also be dropped here")
        self.strength.setToolTip("0 is the input, 1 the restored image; the model does not run again for it")
        self.samples.setToolTip("How many samples the result is the mean of; for models that draw noise")
        self.uncertainty.setToolTip("A layer of the samples' standard deviation: where the sampler is unsure")
        self.memory.setToolTip("What tiles may take, and a result before it goes to a temporary file on the disk")
        for box in (self.task, self.model):
            box.setMinimumContentsLength(10)
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)

    def _connect(self) -> None:
        self.image.currentIndexChanged.connect(self._on_input)
        self.task.currentIndexChanged.connect(lambda _: self._offer_models(best=True))
        self.model.currentIndexChanged.connect(self._on_model)
        self.scale.currentIndexChanged.connect(self._on_scale)
        self.device.currentIndexChanged.connect(lambda _: self.model_changed.emit())
        self.memory.valueChanged.connect(lambda _: self.model_changed.emit())
        self.samples.valueChanged.connect(self._on_samples)
        self.seed.valueChanged.connect(lambda _: self.options_changed.emit())
        self.noise_level.changed.connect(self.options_changed.emit)
        for choice in self.layers.values():
            choice.currentIndexChanged.connect(lambda _: self.options_changed.emit())

    def _field(self, role: str) -> QWidget:
        return self.noise_level if role == "noise_level" else self.layers[role]

    def _on_input(self) -> None:
        """Another image, perhaps grey where the last one had colours: unless the user chose, so does the model."""
        layer = self.image.layer
        self.planes.setEnabled(layer is not None and layer.ndim > 2)
        entry = self.entry
        if layer is not None and (entry is None or entry.shipped or entry.metadata.for_raw):
            self._offer_models(best=entry is None or self._is_default(entry))
        self.input_changed.emit()

    def _is_default(self, entry: ModelEntry) -> bool:
        entries = self._entries.get(entry.task, [])
        kinds = [(True, "RGGB"), (True, "X-Trans"), (False, "monochrome"), (True, ""), (False, "")]
        best = (catalogue.best(entries, rgb=rgb, pattern=pattern) for rgb, pattern in kinds)
        return any(found is not None and found.name == entry.name for found in best)

    def _offer_models(self, *, best: bool) -> None:
        """The models of the task. best: choose the one that suits the image, else the one that was chosen."""
        entries = self._fitting()
        chosen = self.model.currentData()
        names = [entry.name for entry in entries]
        if best or chosen not in names:
            chosen = self._best(entries)
        before = self.model.currentData()
        blocked = self.model.blockSignals(True)
        self.model.clear()
        for number, entry in enumerate(entries):
            self.model.addItem(entry.name, entry.name)
            self.model.setItemData(number, catalogue.summary(entry.metadata), HINT)
        self.model.setCurrentIndex(self.model.findData(chosen))
        self.model.blockSignals(blocked)
        if self.model.currentData() != before or best:
            self._on_model()
        else:
            self._show_scale()  # a model of another scale may have come

    def _fitting(self) -> list[ModelEntry]:
        """The models of the task that take the chosen image."""
        return catalogue.fitting(self._entries.get(str(self.task.currentData()), []), self._pattern())

    def _best(self, entries: list[ModelEntry]) -> str | None:
        """The name of the one that suits the image."""
        layer = self.image.layer
        found = catalogue.best(entries, rgb=layer is None or bool(layer.rgb), pattern=self._pattern())
        return found.name if found else None

    def _pattern(self) -> str:
        """Of the sensor, where the chosen image is the picture of a RAW file."""
        layer = self.image.layer
        return "" if layer is None else raw_pattern(layer)

    def _on_scale(self) -> None:
        """Another enlargement is another model of the task."""
        wanted = [entry for entry in self._fitting() if entry.metadata.scale == self.scale.currentData()]
        self.model.setCurrentIndex(self.model.findData(self._best(wanted)))

    def _show_scale(self) -> None:
        """That of the chosen model, among those that the task has; without any but 1 there is nothing to choose."""
        entry = self.entry
        blocked = self.scale.blockSignals(True)
        self.scale.clear()
        for each in sorted({entry.metadata.scale for entry in self._fitting()}):
            self.scale.addItem(f"{each} times as wide and high" if each > 1 else "same size", each)
        self.scale.setCurrentIndex(self.scale.findData(entry.metadata.scale if entry is not None else 1))
        self.scale.blockSignals(blocked)
        self._rows.setRowVisible(self.scale, any(self.scale.itemData(n) > 1 for n in range(self.scale.count())))

    def _on_model(self) -> None:
        entry = self.entry
        self.card.setEnabled(entry is not None)
        if entry is None:
            return
        meta = entry.metadata
        asked = asked_for(meta)
        for role in ROLES:
            self._rows.setRowVisible(self._field(role), role in asked)
        self._show_scale()
        if entry.name != self._levelled:
            self._levelled = entry.name
            self.noise_level.value = default_level(meta)
        self.strength.setEnabled(meta.scale == 1)
        self.samples.setEnabled(meta.sampler.draws > 0)
        self._on_samples()
        self.model.setToolTip(catalogue.summary(meta))
        self.model_changed.emit()

    def _on_samples(self) -> None:
        self.uncertainty.setEnabled(self.samples.isEnabled() and self.samples.value() > 1)
        self.options_changed.emit()
