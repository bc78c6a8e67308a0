"""The widget "Restore": from what is chosen to layers, with the window free all the while."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import QEvent, QSize, Qt, QTimer
from qtpy.QtWidgets import QFileDialog, QMessageBox, QScrollArea, QVBoxLayout, QWidget

from restonnx.errors import InputError, RestonnxError
from restonnx.plugin import catalogue, last, words
from restonnx.plugin.catalogue import restores_file
from restonnx.plugin.engine import Engine, Job, Outcome
from restonnx.plugin.preferences import apply_model_folder, preferences
from restonnx.plugin.settings import KEY, asked_for, from_record
from restonnx.plugin.source import raw_pattern, shrunk, snapshot
from restonnx.plugin.view import inputs, layers
from restonnx.plugin.view.compare import Compare
from restonnx.plugin.view.fields import show_card
from restonnx.plugin.view.form import Form
from restonnx.plugin.view.layers import Shown
from restonnx.plugin.view.panel import Panel
from restonnx.plugin.view.run import Run
from restonnx.plugin.view.runs import PREPARE, PREVIEW, RESTORE, Runs

if TYPE_CHECKING:
    import napari

SETTLE_MILLISECONDS = 250
"""How long the view and the sliders stand still before a preview follows them."""
MIX_MILLISECONDS = 30
"""How long the strength does, before it is shown."""
RELEASE_MILLISECONDS = 120_000
"""Without a run for so long, the model's memory is given back."""
PREVIEW_SECONDS = 0.8
FIRST_PACE = 250_000.0
"""Pixels in a second, until a run has told better."""
MOST_PIXELS = 4_000_000.0
SPARE_HEIGHT = 80
"""Pixels for what comes and goes: the progress bar, a longer line of text."""


class RestoreWidget(QWidget):
    """Restores image layers of a viewer."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        apply_model_folder(preferences())
        self._viewer = napari_viewer
        self._engine = Engine()
        self._results: dict[str, Shown] = {}
        """The last result of each input, by the input's `unique_id`."""
        self._preview: Shown | None = None
        self._pace = FIRST_PACE
        self._replacing = False
        """While the layers of a result are exchanged, and none of those in between means anything."""
        self.form, self.panel = Form(napari_viewer), Panel()
        self.compare = Compare(napari_viewer, self.current, lambda: self.form.strength.value)
        self.runs = Runs(self, self._make)
        self._settled = self._timer(SETTLE_MILLISECONDS, self._on_settled)
        self._mixing = self._timer(MIX_MILLISECONDS, self._mix)
        self._idle = self._timer(RELEASE_MILLISECONDS, self._on_idle)
        self._loading = self._timer(0, lambda: self.runs.begin(PREPARE))
        self._arrange()
        self._connect()
        self._on_layers()
        active = napari_viewer.layers.selection.active
        if active is not None:
            self.form.image.choose(str(active.unique_id))
        self._loading.start()

    # What a user does

    def start_preview(self) -> None:
        """Restore what is visible of the current plane; a preview that still runs is given up for it."""
        self.runs.begin(PREVIEW)

    def start_restore(self) -> None:
        self.runs.begin(RESTORE)

    def cancel(self) -> None:
        """End what runs, within a second or so."""
        self.panel.show_cancelling()
        self.runs.cancel()

    def restore_again(self) -> None:
        """With the settings of the selected result, on the input it was made from."""
        layer = self._viewer.layers.selection.active
        kept: dict[str, Any] = layer.metadata.get(KEY, {}) if layer is not None else {}
        try:
            settings = from_record(kept)
            source = next((one for one in self._viewer.layers if one.name == kept.get("source")), None)
            if source is None or not self.form.image.choose(str(source.unique_id)):
                raise InputError(
                    f'there is no layer "{kept.get("source")}", from which this result was made; open it again'
                )
            if not self.form.choose_model(settings.model):
                raise InputError(f'there is no model "{settings.model}" any more; add it again')
        except RestonnxError as error:
            show_warning(words.sentence(error))
            return
        entry = self.form.entry
        if entry is not None and entry.metadata.version != kept.get("model_version"):
            show_info(f"{entry.name} has version {entry.metadata.version} now; the result was made with another.")
        self.form.choose(settings)
        self.start_restore()

    def add_model(self, path: str | Path) -> bool:
        """Add an .onnx file to the library and choose it; asks before it replaces one. -> whether it was added."""
        try:
            try:
                entry = catalogue.add(path)
            except RestonnxError:
                question = f"There is another model of that name already. Replace it by {Path(path).name}?"
                if not catalogue.is_taken(path) or not self._agreed(question):
                    raise
                entry = catalogue.add(path, overwrite=True)
        except (RestonnxError, OSError) as error:
            show_error(words.sentence(error))
            return False
        self.form.choose_model(entry.name)
        show_info(f'Added the model "{entry.name}".')
        return True

    def current(self) -> Shown | None:
        """What the comparison is about: the chosen input's result, without one its preview."""
        uid = self.form.image.uid
        for shown in (self._results.get(uid), self._preview):
            if shown is not None and shown.source == uid and self._there(shown):
                return shown
        return None

    @property
    def busy(self) -> bool:
        """Whether a preview or a restoration runs; loading a model is none."""
        return self.runs.kind in (PREVIEW, RESTORE)

    # Runs

    def _make(self, kind: str) -> Run | None:
        """A run with what is chosen now; says what is missing and gives None where something is."""
        self._idle.stop()
        if kind == PREPARE:
            if self.form.entry is None:
                return None
            settings = self.form.settings()
            return Run(self, lambda progress, stop: self._engine.load(settings))
        try:
            job = self._job(kind)
        except Exception as error:
            show_warning(words.sentence(error))
            return None
        description = job.settings.model if kind == RESTORE else ""  # more would push the dock's Cancel out of sight
        if kind == RESTORE and self.form.entry is not None:
            last.keep(self.form.entry.task, job.settings)
        run = Run(self, lambda progress, stop: self._engine.run(job, progress, stop), description)
        run.advanced.connect(lambda done, total, seconds: self._on_advanced(job, run, done, total, seconds))
        return run

    def _job(self, kind: str) -> Job:
        """What is chosen now, as data. Raises InputError."""
        layer, entry = self.form.image.layer, self.form.entry
        if layer is None:
            raise InputError("there is no image: open one, or a sample of File > Open Sample > restonnx")
        if entry is None:
            raise InputError("there is no model for this task: add one")
        meta = entry.metadata
        source = snapshot(layer, self._viewer.dims)
        settings = self.form.settings().for_model(meta)
        region = None
        if kind == PREVIEW and restores_file(meta, source.raw_pattern):
            raise InputError(f"{meta.name} restores the RAW file as a whole: press Restore, or preview another model")
        if kind == PREVIEW:
            shown = self.panel.region.currentData() == "view"
            window = inputs.view_of(self._viewer, layer, source) if shown else None
            window = window or inputs.rectangle_of(self._viewer, layer, source)
            most = min(self._pace * PREVIEW_SECONDS / settings.samples, MOST_PIXELS)
            context = meta.tile.halo
            if meta.tile.mode == "overlap":  # tiles are computed whole, however little is shown of them
                most, context = max(most, (meta.tile.preferred / 2) ** 2), 0
            region = source.region(*shrunk(*window, most, context))
        elif settings.planes == "current" and source.planes > 1:
            region = source.region()
        given = inputs.given(self._viewer, layer, self.form.layers, asked_for(meta), source, meta.scale)
        return Job(source, settings, region, given, preview=kind == PREVIEW)

    def _on_started(self, kind: str) -> None:
        if kind != PREPARE:
            self.panel.show_running(kind)

    def _on_advanced(self, job: Job, run: Run, done: int, total: int, seconds: float) -> None:
        if not run.cancelled:
            planes = job.source.planes if job.region is None else 1
            text = words.describe(done, total, planes=planes, pixels=job.pixels, seconds=seconds)
            self.panel.advance(done, total, text)

    def _on_done(self, kind: str, result: Any) -> None:
        self._idle.start()
        self.panel.runs_on.setText(words.where(result.provider, result.device, result.fallback))
        if kind == PREPARE:
            return
        found = f"; reference: {result.registration}" if result.registration else ""
        self.panel.show_idle(f"{result.seconds:.1f} s, {result.pixels_per_second / 1e6:.2g} MP/s{found}")
        self._replacing = True
        try:
            self._show(result)
        except Exception as error:
            show_error(words.sentence(error))
        self._replacing = False
        self._on_layers()

    def _on_failed(self, kind: str, error: Exception) -> None:
        self._idle.start()
        if kind == PREPARE:
            self.panel.runs_on.setText(words.sentence(error))
            return
        self.panel.show_idle("failed")
        show_error(words.sentence(error))

    def _on_stopped(self, kind: str) -> None:
        self._idle.start()
        if kind != PREPARE:
            self.panel.show_idle("cancelled")

    def _show(self, outcome: Outcome) -> None:
        strength = self.form.strength.value if outcome.metadata.scale == 1 else 1.0
        self._pace = outcome.computed_per_second
        if outcome.job.preview:
            self._preview = layers.show(self._viewer, outcome, self._preview, strength)
            return
        preview, self._preview = self._preview, None
        if preview is not None and (layer := layers.find(self._viewer, preview.layer)) is not None:
            self._viewer.layers.remove(layer)
        uid = outcome.job.source.uid
        previous = self._results.get(uid) if outcome.job.settings.replace else None
        self._results[uid] = layers.show(self._viewer, outcome, previous, strength)

    # What happens around it

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Only now is it known how wide napari's style makes the parts."""
        bar = self._area.verticalScrollBar().sizeHint().width()
        self.setMinimumWidth(self._area.widget().minimumSizeHint().width() + bar)

    def sizeHint(self) -> QSize:  # noqa: N802
        """As high as what stands in it: napari 0.9.0 gives a widget no more, and a scroll area asks for little."""
        inside, bar = self._area.widget().sizeHint(), self._area.verticalScrollBar().sizeHint()
        return QSize(inside.width() + bar.width(), inside.height() + SPARE_HEIGHT)

    def dragEnterEvent(self, event: Any) -> None:  # noqa: N802
        if _models_in(event):
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:  # noqa: N802
        for path in _models_in(event):
            self.add_model(path)
        event.acceptProposedAction()

    def changeEvent(self, event: Any) -> None:  # noqa: N802
        """napari lets go of a widget whose dock is closed without deleting it."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.cancel()
            self.deleteLater()

    def _on_layers(self, event: Any = None) -> None:
        if self._replacing:
            return
        # What was deleted is let go, with its arrays and its files on the disk.
        self._results = {uid: shown for uid, shown in self._results.items() if self._there(shown)}
        self._preview = self._preview if self._there(self._preview) else None
        helpers = [self.compare.before, "" if self._preview is None else self._preview.layer]
        self.form.refresh_layers(tuple(filter(None, helpers)))
        self.compare.refresh()

    def _on_view(self, event: Any = None) -> None:
        if self.panel.follow.isChecked():
            self._settled.start()

    def _on_model(self) -> None:
        self.updateGeometry()  # other rows, another height
        self._loading.start()
        self._on_view()

    def _on_input(self) -> None:
        self.compare.refresh()
        self._on_view()

    def _on_settled(self) -> None:
        entry, layer = self.form.entry, self.form.image.layer
        whole = entry is not None and layer is not None and restores_file(entry.metadata, raw_pattern(layer))
        if self.panel.follow.isChecked() and layer is not None and not whole:
            self.start_preview()

    def _on_idle(self) -> None:
        if not self.runs.kind:
            self._engine.release()

    def _mix(self) -> None:
        uid, model = self.form.image.uid, self.form.settings().model
        for shown in (self._results.get(uid), self._preview):
            if shown is not None and shown.source == uid and shown.outcome.job.settings.model == model:
                layers.mix(self._viewer, shown, self.form.strength.value)

    def _there(self, shown: Shown | None) -> bool:
        """Whether its layer is still in the viewer."""
        return shown is not None and layers.find(self._viewer, shown.layer) is not None

    def _on_card(self) -> None:
        entry = self.form.entry
        if entry is not None:
            show_card(self, entry.title, entry.card or f"# {entry.title}\n\n{entry.metadata.description}")

    def _on_add(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Add a model", "", "Models (*.onnx)")
        if path:
            self.add_model(path)

    def _agreed(self, question: str) -> bool:
        return bool(QMessageBox.question(self, "restonnx", question) == QMessageBox.StandardButton.Yes)

    def _timer(self, wait: int, call: Any) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(wait)
        timer.timeout.connect(call)
        return timer

    def _arrange(self) -> None:
        self.setAcceptDrops(True)
        inside = QWidget()
        column = QVBoxLayout(inside)
        for part in (self.form, self.panel, self.compare):
            column.addWidget(part)
        column.addStretch(1)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(inside)
        outside = QVBoxLayout(self)
        outside.setContentsMargins(0, 0, 0, 0)
        outside.addWidget(area)
        self._area = area

    def _connect(self) -> None:
        panel, form = self.panel, self.form
        panel.preview.clicked.connect(self.start_preview)
        panel.restore.clicked.connect(self.start_restore)
        panel.cancel.clicked.connect(self.cancel)
        panel.again.clicked.connect(self.restore_again)
        panel.follow.toggled.connect(self._on_view)
        panel.region.currentIndexChanged.connect(self._on_view)
        form.card.clicked.connect(self._on_card)
        form.add.clicked.connect(self._on_add)
        form.strength.changed.connect(lambda _: self._mixing.start())
        form.input_changed.connect(self._on_input)
        form.options_changed.connect(self._on_view)
        form.model_changed.connect(self._on_model)
        self.compare.changed.connect(self._on_layers)
        self.runs.started.connect(self._on_started)
        self.runs.done.connect(self._on_done)
        self.runs.failed.connect(self._on_failed)
        self.runs.stopped.connect(self._on_stopped)
        events = self._viewer.layers.events
        emitters = [(one, self._on_layers) for one in (events.inserted, events.removed, events.renamed)]
        emitters += [(self._viewer.scene.camera.events, self._on_view)]
        emitters += [(self._viewer.dims.events.current_step, self._on_view)]
        for emitter, call in emitters:
            emitter.connect(call)
        # They outlive the widget, which may be closed in a viewer that stays.
        self.destroyed.connect(partial(_disconnect, emitters, catalogue.watch(form.refresh_models)))


def _disconnect(emitters: list[tuple[Any, Any]], unwatch: Any, _: Any = None) -> None:
    for emitter, call in emitters:
        emitter.disconnect(call)
    unwatch()


def _models_in(event: Any) -> list[Path]:
    """The model files in a drag."""
    paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
    return [path for path in paths if path.suffix.lower() == ".onnx"]
