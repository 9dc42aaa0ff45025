"""The command ``edit``: make one edit in this process, and measure what it does to the model."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from editcollapse.cli import options
from editcollapse.cli.options import examples

if TYPE_CHECKING:
    from editcollapse.api import Edit, JointEdit
    from editcollapse.data.texts import TextSet

_TEXTS = "texts.jsonl"
_NOT_KNOWN = "not known"
RANK_ONE_ONLY = "the forecast knows rank-one methods only"
"""Why nothing is forecast of an edit by another editor."""


@dataclasses.dataclass(frozen=True, slots=True)
class EditReport:
    """One edit that was made: its forecast, its update, and what it does to the model.

    What rank-one methods alone have is None of other editors.
    """

    model: str
    layer: int
    """The last one, of an editor of several."""
    layers: tuple[int, ...]
    method: str
    subject: str
    prompt: str
    target_new: str
    verdict: str
    text_change_bound: float | None
    at_risk_at: float | None
    collapse_at: float | None
    why: str
    denominator: float | None
    rho: float | None
    update_norm: float
    relative_update_norm: float
    text_change: float
    """The largest of a layer."""
    text_set: str
    """Name of the texts that perplexity is of."""
    perplexity_before: float
    perplexity: float
    perplexity_ratio: float
    efficacy: float
    efficacy_prefix_mean: float | None
    text_before: str | None
    """What the unedited model adds to the prompt; None where nobody asked."""
    text_after: str | None


def add_edit(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(
        "edit",
        epilog=examples(
            'editcollapse edit --model demo/models/gpt2-induced --prompt "{} was born in" '
            "--subject Pugis --target Jorvale --covariance demo/corpus.txt --tokens 20000",
            'editcollapse edit --model openai-community/gpt2-xl --prompt "{} plays" --subject Pele '
            "--target tennis --method c_rome --covariance statistics.npz --texts texts.jsonl",
            'editcollapse edit --model demo/models/gpt2-induced --prompt "{} was born in" '
            "--subject Pugis --target Jorvale --method memit --covariance demo/corpus.txt "
            "--tokens 20000",
            "Exit status: 0 the edit was made, 2 a mistake.",
        ),
    )(edit)


def edit(
    *,
    model: options.Model,
    prompt: options.Prompt,
    subject: options.Subject,
    target: options.Target,
    covariance: options.Covariance,
    method: options.Method = "rome",
    layer: options.Layer = None,
    texts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Perplexity texts: JSON, JSONL or plain text, one a line; where left out, "
            "texts.jsonl beside the folder models that the model lies in, else the package's "
            "neutral English.",
        ),
    ] = None,
    new_tokens: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="So many tokens that the model adds to the prompt are shown."
        ),
    ] = 0,
    tokens: options.Tokens = 100_000,
    damping: options.Damping = 0.0,
    revision: options.Revision = None,
    dtype: options.Dtype = "float32",
    start_token: options.StartToken = "tokenizer",
    chat_template: options.ChatTemplate = False,
    as_json: options.AsJson = False,
) -> None:
    """Make one edit and measure what it does to the model; nothing is stored."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    from editcollapse.api import Editor, edit_request
    from editcollapse.cli.console import print_json, print_text, progress_shown
    from editcollapse.data.texts import read_texts

    request = edit_request(prompt, subject=subject, target=target)
    editor = Editor(
        model,
        covariance=covariance,
        layer=layer,
        tokens=tokens,
        damping=damping,
        revision=revision,
        dtype=dtype,
        start_token=start_token,
        chat_template=chat_template,
    )
    on_texts = read_texts(texts_for(model) if texts is None else texts)
    with progress_shown("starting torch"):
        report = _report(editor.edit(request, method=method), on_texts, new_tokens)
    if as_json:
        print_json(report)
        return
    for label, text in _lines(report):
        print_text(text, label)


def _report(made: "Edit | JointEdit", text_set: "TextSet", new_tokens: int) -> EditReport:
    """Return the report on an edit of one fact."""
    from editcollapse.api import Edit

    texts = text_set.texts
    editor, (request,) = made.editor, made.requests
    prompt = request.filled_prompt
    one = made if isinstance(made, Edit) else None
    forecast = one.forecast if one else None
    scores = made.scores if isinstance(made, Edit) else made.scores[0]
    return EditReport(
        model=editor.model.source,
        layer=made.layers[-1],
        layers=made.layers,
        method=made.method,
        subject=request.subject,
        prompt=request.prompt,
        target_new=request.target_new,
        verdict=forecast.verdict if forecast else _NOT_KNOWN,
        text_change_bound=forecast.change_bound if forecast else None,
        at_risk_at=forecast.at_risk_at if forecast else None,
        collapse_at=forecast.collapse_at if forecast else None,
        why=forecast.why if forecast else RANK_ONE_ONLY,
        denominator=one.denominator if one else None,
        rho=one.rho if one else None,
        update_norm=made.update_norm,
        relative_update_norm=made.relative_update_norm,
        text_change=made.text_change,
        text_set=text_set.name,
        perplexity_before=editor.perplexity(texts),
        perplexity=made.perplexity(texts),
        perplexity_ratio=made.perplexity_ratio(texts),
        efficacy=scores.efficacy,
        efficacy_prefix_mean=scores.efficacy_prefix_mean,
        text_before=editor.generate(prompt, new_tokens) if new_tokens else None,
        text_after=made.generate(prompt, new_tokens) if new_tokens else None,
    )


def _lines(report: EditReport) -> Iterator[tuple[str, str]]:
    """Yield the report on an edit: labels with what they are of."""
    from editcollapse.study.sweep import named_layers
    from editcollapse.visible import visible

    prompt = visible(report.prompt.replace("{}", report.subject))
    yield (
        "edit:       ",
        (
            f"{prompt} -> {visible(report.target_new)}, of {report.model}, "
            f"{named_layers(report.layers)}, by "
            f"{report.method}"
        ),
    )
    yield from _forecast_lines(report)
    size = (
        f"norm {report.update_norm:.3g}, {report.relative_update_norm:.3g} times that of W; text "
        f"change {report.text_change:.3g}"
    )
    if report.denominator is not None:
        size = f"denominator {report.denominator:.3g} (rho {report.rho:.3g}), {size}"
    yield "update:     ", size
    yield (
        "perplexity: ",
        (
            f"{report.perplexity_before:.4g} before, {report.perplexity:.4g} after, "
            f"{report.perplexity_ratio:.4g} times as large, on {visible(report.text_set)}"
        ),
    )
    with_text = report.efficacy_prefix_mean
    mean = "" if with_text is None else f", {with_text:.3g} with one (mean)"
    yield "efficacy:   ", f"{report.efficacy:.3g} without a text before the prompt{mean}"
    if report.text_before is not None and report.text_after is not None:
        yield "before:     ", f"{prompt}{visible(report.text_before)}"
        yield "after:      ", f"{prompt}{visible(report.text_after)}"


def _forecast_lines(report: EditReport) -> Iterator[tuple[str, str]]:
    """Yield what was forecast of an edit."""
    if report.text_change_bound is None:
        yield "forecast:   ", f"{report.verdict}: {report.why}"
        return
    yield (
        "forecast:   ",
        forecast_sentence(
            report.verdict,
            f"{report.text_change_bound:.3g}",
            f"{report.at_risk_at:.3g}",
            f"{report.collapse_at:.3g}",
        ),
    )
    if report.verdict == _NOT_KNOWN:
        yield "            ", report.why


def forecast_sentence(verdict: str, bound: str, at_risk_at: str, collapse_at: str) -> str:
    """Return what was forecast of an edit.

    Args:
        verdict: of ``editcollapse.forecast.verdicts``.
        bound: change bound, written.
        at_risk_at: from which bound on an edit is at risk, written.
        collapse_at: from which on it is likely to collapse, written.
    """
    from editcollapse.forecast.verdicts import in_words

    if verdict == _NOT_KNOWN:
        return f"not known, as C has too few tokens; change bound {bound}, which is no bound then"
    return (
        f"{in_words(verdict)}; change bound {bound}, at risk from {at_risk_at} on, likely to "
        f"collapse from {collapse_at}"
    )


def texts_for(model: str) -> Path:
    """Return the perplexity texts of a model for which none are named.

    Those that lie beside the folder ``models`` that it lies in, as the demo models have them, whose
    language is no English; for any other model the package's own.

    Args:
        model: a local folder or a hub id.
    """
    from editcollapse.data.texts import NEUTRAL_TEXTS

    folder = Path(model).expanduser().resolve()
    found = folder.parent.parent / _TEXTS
    return found if folder.parent.name == "models" and found.is_file() else NEUTRAL_TEXTS
