"""Scores of a trial: which facts count for what, and that damage makes the objective 0."""

import dataclasses
import math
from statistics import harmonic_mean

import pytest

from editcollapse.errors import ArtifactError
from editcollapse.rows.collapse_rule import DEFAULT_RULE
from editcollapse.rows.study import EditRow, MeasurementRow
from editcollapse.study.tuning_scores import TrialEdits, objective, scores_of

_FIRST = frozenset({"first"})


def _filled(row_type, **given):
    fields = dataclasses.fields(row_type)
    zero = {"str": "", "int": 0, "float": 0.0, "bool": False}
    values = {field.name: zero.get(str(getattr(field.type, "__name__", ""))) for field in fields}
    return row_type(**(values | given))


def _edit(request, *, clamped=False, method="c_rome", perplexity=10.0, **scores):
    edit = _filled(
        EditRow, edit_id=f"{request} {method}", request_id=request, method=method, clamp_hit=clamped
    )
    given = {"efficacy": 1.0, "efficacy_prefix_mean": 1.0, "generalization": 1.0, "locality": 1.0}
    measured = _filled(
        MeasurementRow, edit_id=edit.edit_id, perplexity=perplexity, **(given | scores)
    )
    return edit, measured


def _scores(*pairs, method="c_rome"):
    batches = [TrialEdits((edit,), (measured,), 2.0) for edit, measured in pairs]
    return scores_of(batches, method, _FIRST, 10.0, DEFAULT_RULE)


def test_first_token_facts_count_behind_a_text_and_others_on_the_bare_prompt():
    """The objective is the harmonic mean of four parts; other efficacies are recorded alone."""
    found = _scores(
        _edit("first", efficacy=0.0, efficacy_prefix_mean=0.5, generalization=0.25, clamped=True),
        _edit("other", efficacy=0.75, efficacy_prefix_mean=0.1, generalization=0.75, locality=0.5),
    )
    assert (found.efficacy, found.efficacy_prefix_mean) == (0.75, 0.1)
    assert (found.first_token_efficacy, found.first_token_efficacy_prefix_mean) == (0.0, 0.5)
    assert (found.generalization, found.locality) == (0.5, 0.75)
    assert found.objective == pytest.approx(harmonic_mean([0.75, 0.5, 0.5, 0.75]))
    assert (found.n_facts, found.n_first_token, found.clamp_share) == (2, 1, 0.5)
    assert (found.n_damaged, found.n_collapsed, found.seconds) == (0, 0, 4.0)


@pytest.mark.parametrize(
    ("perplexity", "collapsed"), [(20.1, 0), (100.1, 1), (math.inf, 1), (math.nan, 1)]
)
def test_an_edit_that_does_damage_makes_the_objective_zero(perplexity, collapsed):
    """More than twice the unedited perplexity, or none at all, whether or not it is a collapse."""
    found = _scores(_edit("other"), _edit("first", perplexity=perplexity))
    assert (found.n_damaged, found.n_collapsed, found.objective) == (1, collapsed, 0.0)
    assert found.worst_ratio == pytest.approx(perplexity / 10, nan_ok=True)


def test_what_was_not_measured_counts_in_no_mean():
    """Without first-token facts and paraphrases two parts remain; a part of 0 hides no other."""
    found = _scores(_edit("other", efficacy=0.5, generalization=None))
    assert found.first_token_efficacy is None
    assert found.generalization is None
    assert found.objective == pytest.approx(harmonic_mean([0.5, 1.0]))
    assert 0 < objective((0.0, 0.5)) < objective((0.0, 1.0))
    assert objective((None, None)) == 0.0


def test_edits_of_another_method_do_not_count():
    """Scores are one method's; where it has none, that is an error."""
    pairs = [_edit("other"), _edit("first", method="rome", perplexity=1e9)]
    assert _scores(*pairs).n_damaged == 0
    assert _scores(*pairs, method="rome").n_collapsed == 1
    with pytest.raises(ArtifactError, match="no measured edit by r_rome"):
        _scores(*pairs, method="r_rome")
