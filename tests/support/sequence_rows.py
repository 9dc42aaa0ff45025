"""Small sequences of edits with answers known by hand, written as a worker would."""

import dataclasses
import json

STEP = 5
"""Edits a step; every second step is a checkpoint."""
CHECKPOINTS = (10, 20, 30, 40)
BEFORE = 10.0
"""Perplexity of the unedited model: by the default rule a sequence collapses above 100."""
_INF, _NAN = float("inf"), float("nan")


@dataclasses.dataclass(frozen=True)
class Walk:
    """One sequence: what is measured at its checkpoints, and how fast the weights drift."""

    editor: str
    order_seed: int
    perplexities: tuple[float, ...]
    """At the first checkpoints; the sequence ends at the last of them."""
    drift: float
    """text_change for each edit."""
    method: str = ""
    """By its name in the catalog, where the study calls it otherwise."""
    model: str = "tiny"
    skipped: tuple[int, ...] = ()
    """Steps that a guard has left out."""

    @property
    def sequence_id(self):
        """Return its id."""
        return f"{self.model} {self.editor} {self.order_seed}"


WALKS = (
    Walk("rome", 0, (12.0, 500.0, _INF, _NAN), 0.1),
    Walk("rome", 1, (11.0, 20.0, 300.0, 300.0), 0.1),
    Walk("rome", 2, (_NAN,), 0.1),
    Walk("memit", 0, (10.0, 10.0, 10.0, 200.0), 0.02),
    Walk("memit", 1, (10.0, 10.0, 11.0, 12.0), 0.02),
    Walk("memit", 2, (10.0, 10.0), 0.02),
    Walk("memit", 3, (10.0, 50.0, 50.0, 150.0), 0.02),
    Walk("alphaedit", 0, (10.0, 10.0, 10.0, 10.0), 0.01),
    Walk("ft", 0, (10.0, 10.0, 10.0, 10.0), 0.05),
)
"""rome collapses at 20, 30 and 10 edits; memit at 40, not, not (it ends at 20) and 40."""
SETTINGS = {
    "note": "",
    "methods": ["rome"],
    "templates": {"kind": "bare"},
    "models": [{"name": "tiny"}, {"name": "other"}],
}


def write_sequences(folder, make_row, walks=WALKS, study_id="study-1"):
    """Write the rows of some sequences of one study, all tables but ``studies``."""
    for name in dict.fromkeys(walk.model for walk in walks):
        folder.write("models", make_row("models", model_id=f"model {name}"))
        folder.write(
            "study_models",
            make_row("study_models", study_id=study_id, model_id=f"model {name}", name=name),
        )
        folder.write(
            "base_perplexities",
            make_row(
                "base_perplexities",
                model_id=f"model {name}",
                perplexity=BEFORE,
                perplexity_median=BEFORE,
                nll_mean=1.0,
            ),
        )
    rows = {
        "sequences": [_sequence(make_row, walk) for walk in walks],
        "study_sequences": [
            make_row(
                "study_sequences",
                study_id=study_id,
                sequence_id=walk.sequence_id,
                model=walk.model,
                editor=walk.editor,
                n_edits=CHECKPOINTS[-1],
            )
            for walk in walks
        ],
        "sequence_steps": [row for walk in walks for row in _steps(make_row, walk)],
        "sequence_layers": [row for walk in walks for row in _layers(make_row, walk)],
        "sequence_checkpoints": [row for walk in walks for row in _checkpoints(make_row, walk)],
    }
    for table, written in rows.items():
        folder.write(table, *written)


def write_study(folder, make_row, study_id="study-1", name="many"):
    """Write the row of a study, and of the dataset and the evaluation that it names."""
    folder.write("datasets", make_row("datasets"))
    folder.write("evaluations", make_row("evaluations"))
    folder.write(
        "studies",
        make_row("studies", study_id=study_id, name=name, settings=json.dumps(SETTINGS)),
    )


def write_scores(folder, make_row, walk, scores, at=20):
    """Write scores of one sequence's edits: request to efficacy right after it and at a checkpoint.

    None where the edit was not asked at that moment.
    """
    rows = []
    for place, (request, (immediate, final)) in enumerate(scores.items(), start=1):
        known = {"sequence_id": walk.sequence_id, "request_id": request, "edited_at": place}
        if immediate is not None:
            scored = {"step": place, "moment": "immediate", "efficacy": immediate}
            rows.append(make_row("sequence_scores", locality=1.0, **known, **scored))
        if final is not None:
            scored = {"step": at // STEP, "moment": "final", "efficacy": final}
            rows.append(make_row("sequence_scores", locality=0.5, **known, **scored))
    folder.write("sequence_scores", *rows)


def _sequence(make_row, walk):
    return make_row(
        "sequences",
        sequence_id=walk.sequence_id,
        model_id=f"model {walk.model}",
        editor=walk.method or walk.editor,
        order_seed=walk.order_seed,
        edits_per_step=STEP,
    )


def _steps(make_row, walk):
    last = CHECKPOINTS[len(walk.perplexities) - 1]
    for n_edits in range(STEP, last + 1, STEP):
        yield make_row(
            "sequence_steps",
            sequence_id=walk.sequence_id,
            step=n_edits // STEP,
            n_edits=n_edits,
            decision="skipped" if n_edits // STEP in walk.skipped else "applied",
            relative_drift=walk.drift * n_edits / 2,
            drift_norm=walk.drift * n_edits * 3,
            text_change=walk.drift * n_edits,
            is_finite=True,
        )


def _layers(make_row, walk):
    for n_edits, _ in zip(CHECKPOINTS, walk.perplexities, strict=False):
        for layer in (1, 2):
            yield make_row(
                "sequence_layers",
                sequence_id=walk.sequence_id,
                step=n_edits // STEP,
                layer=layer,
                text_change=walk.drift * n_edits / layer,
                kept_dimensions=7 if walk.editor == "alphaedit" else None,
            )


def _checkpoints(make_row, walk):
    for n_edits, perplexity in zip(CHECKPOINTS, walk.perplexities, strict=False):
        yield make_row(
            "sequence_checkpoints",
            sequence_id=walk.sequence_id,
            step=n_edits // STEP,
            n_edits=n_edits,
            perplexity=perplexity,
            perplexity_median=BEFORE,
            nll_mean=1.0,
        )
