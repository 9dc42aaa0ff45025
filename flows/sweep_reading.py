"""Layer sweeps as reports: of a study from the database, of one edit computed in this process."""

import argparse
from collections.abc import Sequence

from editcollapse.config.spec import TemplateSpec
from editcollapse.errors import MomentError, ResultsError
from editcollapse.forecast.verdicts import (
    ForecastReport,
    LayerVerdicts,
    ModelThresholds,
    SweepReport,
    Unswept,
    safe_layers,
)
from editcollapse.models.files import digest_model, locate_model
from editcollapse.runtime.settings import settings
from editcollapse.study.jobs import KnownSetup
from editcollapse.study.locks import left_behind
from editcollapse.study.results_folder import place_of
from editcollapse.study.sweep import SweepPlan, chosen_layers, layers_in_words
from flows.edit_reading import (
    all_known,
    asked_covariance,
    asked_model,
    asked_request,
    known_order,
    preset_order,
)
from flows.forecast_options import FROM_RESULTS
from flows.run.guard_steps import present_thresholds, published_folder
from storage.publish import folder_to_read
from storage.readers import sweep_rows, thresholds

_INSTEAD = (
    "Sweep a study with this model first (python -m flows sweep STUDY.toml), or say where C comes "
    "from: --covariance identity, or --covariance CORPUS.txt"
)


def sweep_report(sweep: SweepPlan) -> SweepReport:
    """Return the published sweep of a study, in the order of its models.

    Raises:
        ResultsError: it is not there.
    """
    results = sweep.study.results
    folder = folder_to_read(place_of(results))
    basis: list[ModelThresholds] = []
    found: list[LayerVerdicts] = []
    unswept: list[Unswept] = []
    notes: list[str] = []
    for model in sweep.models:
        name = model.layers[0].order.spec.name
        limits = thresholds(folder, model.layers[0].order.model_id)
        basis.append(ModelThresholds(name, limits, limits.basis))
        templates = left_behind(model.layers[0].templates)
        if templates is None:
            raise ResultsError(
                f"the templates of {name} are not whole in {results}. Run the same command again."
            )
        ours = sweep_rows(folder, model, templates.values)
        first = (model.places[0], ours[0].method) if ours else None
        n_swept = sum(row.n_requests for row in ours if (row.layer, row.method) == first)
        n_left = len(sweep.study.requests.records) - n_swept
        found += ours
        if n_left:
            unswept.append(Unswept(name, n_left))
        last = model.layers[0].files.widths.n_layers - 1
        if last in model.places:
            notes.append(
                f"{name}: layer {last} is the last. What is written there reaches no later token, "
                "so v* is found only where the prompt ends with the subject; elsewhere nothing is "
                "edited, whatever the bound."
            )
    return SweepReport(
        basis=tuple(basis),
        layers=tuple(found),
        safe_layers=safe_layers(found),
        unswept=tuple(unswept),
        notes=tuple(notes),
    )


def edit_sweep_report(options: argparse.Namespace) -> ForecastReport:
    """Return the sweep of the edit that the command line names, one entry a layer.

    Raises:
        EditCollapseError: the model or C of a layer is missing, or the model cannot take the edit.
    """
    request = asked_request(options)
    files = locate_model(options.model, options.revision)
    spec = asked_model(options)
    model_id = digest_model(files, spec).model_id
    layers = chosen_layers(options.layers, files.widths.n_layers, files.source)
    place = place_of(options.results)
    published, limits = published_folder(place), present_thresholds(place, model_id)
    known: Sequence[KnownSetup] = ()
    covariance = None
    if options.covariance == FROM_RESULTS:
        found = all_known(published, model_id, options, _INSTEAD)
        known = _at_layers(found, layers, options)
        orders = [known_order(spec, model_id, each) for each in known]
    else:
        covariance = asked_covariance(options)
        orders = [preset_order(spec, model_id, files, layer) for layer in layers]
    from editcollapse.models.loading import load_model
    from editcollapse.units.single import known_edit, new_edits, sweep_one

    loaded = load_model(spec, settings().device)
    if covariance is not None:
        setups = new_edits(loaded, orders, covariance, TemplateSpec(), 0, request)
    else:
        pairs = zip(orders, known, strict=True)
        setups = (known_edit(place.name, order, each, request) for order, each in pairs)
    return sweep_one(loaded, files.source, layers, setups, limits)


def _at_layers(
    known: Sequence[KnownSetup], layers: Sequence[int], options: argparse.Namespace
) -> list[KnownSetup]:
    """Return a set-up of each layer, all with the same templates.

    Raises:
        MomentError: no study in the results folder has swept all of the layers.
    """
    best: dict[int, KnownSetup] = {}
    for templates in dict.fromkeys(each.template_set_id for each in known):
        ours = [each for each in known if each.template_set_id == templates]
        found = {each.layer: each for each in reversed(ours) if each.layer in layers}
        if len(found) > len(best):
            best = found
    missing = [layer for layer in layers if layer not in best]
    if missing:
        raise MomentError(
            f"no second moment C of layers {layers_in_words(tuple(missing))} of {options.model} in "
            f"{options.results}. {_INSTEAD}, or other --layers."
        )
    return [best[layer] for layer in layers]
