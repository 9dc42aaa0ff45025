"""One edit of rank one, with what only such edits have: a denominator and a forecast."""

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING

from editcollapse.api.edited_model import EditedModel
from editcollapse.api.inputs import Texts
from editcollapse.data.requests import EditRequest
from editcollapse.forecast.verdicts import EditForecast
from editcollapse.rows.study import ProbeScores

if TYPE_CHECKING:
    from torch import Tensor

    from editcollapse.api.editor import Editor
    from editcollapse.rome.updates import RankOneUpdates, UpdateDiagnostics
    from editcollapse.rome.values import TargetValues
    from editcollapse.stored.updates import StoredUpdate
    from editcollapse.study.known_updates import Setting, UpdateFacts


class Edit(EditedModel):
    """One edit by a rank-one method: its update, its diagnostics and its forecast.

    Made by ``Editor.edit``.
    """

    def __init__(
        self,
        editor: "Editor",
        request: EditRequest,
        method: str,
        updates: "RankOneUpdates",
        diagnostics: "UpdateDiagnostics",
        values: "TargetValues",
        row: int,
    ) -> None:
        self.editor = editor
        self.requests = (request,)
        self.method = method
        self.layers = (editor.layer,)
        exact = updates.rows(slice(row, row + 1))
        self._direction = exact.right
        # As a study stores it: in the type that v* was optimised in.
        self.update: RankOneUpdates = exact.to(exact.left.device, values.delta.dtype)
        """The update, a batch of one: ``update.matrix(0)`` is what is added to W, (D, K)."""
        self.denominator = float(diagnostics.denominator[row])
        """a · u, signed; the update is divided by it."""
        self.rho = float(diagnostics.rho[row])
        """(k0 · u) / (kbar · u): near 0 where ROME's update explodes."""
        self.update_norm = float(diagnostics.update_norm[row])
        self.relative_update_norm = float(diagnostics.relative_update_norm[row])
        self.delta: Tensor = values.delta[row]
        """(D,): v* less the bare prompt's value, on the model's device."""
        self.n_steps = int(values.n_steps[row])
        self.target_probability = float(values.loss.target_probability[row])

    def __repr__(self) -> str:
        return (
            f"Edit({self.request.filled_prompt!r} -> {self.request.target_new!r}, {self.method}, "
            f"layer {self.editor.layer}: denominator {self.denominator:.3g}, update norm "
            f"{self.update_norm:.3g}, {self.relative_update_norm:.3g} times that of W)"
        )

    @property
    def request(self) -> EditRequest:
        """The fact that was written."""
        return self.requests[0]

    @cached_property
    def forecast(self) -> EditForecast:
        """What was known before the edit was made: verdict, bound and thresholds."""
        return EditForecast.of(self.editor.forecast_report(self.request), self.method)

    @cached_property
    def text_change(self) -> float:
        """sqrt(tr(dW C dWᵀ) / tr(W C Wᵀ)), C undamped."""
        import torch

        from editcollapse.forecast.bounds import text_changes

        norm = torch.tensor([self.update_norm], dtype=torch.float64)
        return float(text_changes(norm, self._direction, self.editor.geometry)[0])

    @cached_property
    def scores(self) -> ProbeScores:
        """Efficacy, and generalization and locality where the request has probes for them."""
        from editcollapse.units.single import probe_scores

        editor = self.editor
        return probe_scores(
            editor.model, editor.layer, editor.templates, self.request, self.update, editor.seed
        )

    @property
    def described(self) -> "tuple[Setting, ...]":
        """What the edit was made with, as people read it."""
        return self.editor.described

    @property
    def stored(self) -> "StoredUpdate":
        """The update as exports and other tools of this package take it, float64 on the CPU."""
        from editcollapse.stored.updates import LayerUpdate, StoredUpdate

        left, right = self.update.left.cpu().double(), self.update.right.cpu().double()
        editor = self.editor
        change = LayerUpdate(editor.layer, left.T.contiguous(), right)
        label = f"{self._label}, {self.method}"
        return StoredUpdate(editor.model.model_id, editor.spec, label, (change,))

    @property
    def _updates(self) -> "RankOneUpdates":
        return self.update

    def _facts(self, texts: Texts | None) -> "UpdateFacts":
        forecast = self.forecast
        return dataclasses.replace(
            super()._facts(texts),
            verdict=forecast.verdict,
            text_change_bound=forecast.change_bound,
        )
