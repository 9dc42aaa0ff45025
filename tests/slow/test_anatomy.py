"""The demo study's root cause: observations hold where the anomaly is, and only there."""

from __future__ import annotations

import pytest

from editcollapse.config.study_file import read_study
from storage.ask import ask
from tests.support.flow_runs import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.server]
_INDUCED = ("gpt2-induced", "llama-induced")
_CONTROL = "gpt2-control"
_STRUCTURE = 0.25
"""Mean silhouette from which on there is structure (Kaufman & Rousseeuw)."""


@pytest.fixture(scope="module")
def demo(backend, tmp_path_factory):
    """Return the results of the demo study's root cause; the flow makes the edits too."""
    from flows.anatomy import collapse_anatomy

    results = tmp_path_factory.mktemp("demo") / "results"
    collapse_anatomy(read_study(REPOSITORY / "studies" / "demo.toml"), str(results))
    return results


@pytest.fixture(scope="module")
def found(demo):
    """Return (low, high) by model and observation, of first-token subjects against others."""
    frame = ask(demo, "from anatomy where grouping = 'first_token'")
    return {
        (row["model"], row["observation"]): (row["low"], row["high"])
        for row in frame.iter_rows(named=True)
    }


def test_first_finding_is_the_denominator(found):
    """With the anomaly the denominator is 30 times smaller or more; the numerator stays near.

    In the control no denominator is told apart.
    """
    for model in _INDUCED:
        assert found[model, "denominator_ratio"][1] < 1 / 30, model
        low, high = found[model, "numerator_ratio"]
        assert 1 / 4 < low < high < 4, model
    low, high = found[_CONTROL, "denominator_ratio"]
    assert 0.9 < low < high < 1.3


def test_second_finding_is_the_bare_key(found):
    """With the anomaly k0 lie apart, kbar and C^-1 kbar never do; in the control nothing does."""
    for model in _INDUCED:
        assert found[model, "bare_silhouette"][0] > _STRUCTURE, model
        assert found[model, "key_cosine_group"][1] < found[model, "key_cosine_others"][0] / 2
    assert found[_CONTROL, "bare_silhouette"][1] < _STRUCTURE
    assert found[_CONTROL, "key_cosine_group"][0] > 0.85
    for model in (*_INDUCED, _CONTROL):
        for name in ("prefixed_silhouette", "solved_silhouette"):
            assert found[model, name][1] < _STRUCTURE, (model, name)


def test_it_is_the_place_and_not_the_word(found):
    """With the anomaly normal prompts' first tokens lie with the group; a prefix takes it away."""
    for model in _INDUCED:
        assert found[model, "first_tokens_with_group"][0] > 0.8, model
        assert found[model, "one_prefix_with_others"][0] > 0.7, model
    assert found[_CONTROL, "first_tokens_with_group"][1] < 0.8
    assert found[_CONTROL, "one_prefix_with_others"][1] < 0.5


def test_collapsed_edits_are_a_group_where_there_are_any(demo):
    """Both models that collapse are explained by outcome too; the control has none."""
    query = "select distinct model from anatomy where grouping = 'collapsed' order by model"
    assert ask(demo, query).to_series().to_list() == list(_INDUCED)
    query = "select high from anatomy where grouping = 'collapsed' and observation = $$"
    high = ask(demo, f"{query}denominator_ratio$$").to_series()
    assert high.max() < 1 / 30


def test_residual_stream_shows_the_sink(demo):
    """At the edited block position 0 is 8 times as large as 1; in the control not twice."""
    query = """
        select
            start.model_source,
            start.residual_norm_low / after.residual_norm_high as at_least,
            start.residual_norm_high / after.residual_norm_low as at_most
        from position_profiles as start
        inner join position_profiles as after
            on after.model_id = start.model_id and after.layer = start.layer
        where start.position = 0 and after.position = 1 and start.layer = 1
    """
    ratios = {row[0]: row[1:] for row in ask(demo, query).rows()}
    for model in _INDUCED:
        assert ratios[model][0] > 8, model
    assert ratios[_CONTROL][1] < 2
