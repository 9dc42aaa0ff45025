"""The root cause in the database: outcomes by a rule, findings in order, vectors kept."""

from editcollapse.catalog.presets import ValueSettings
from editcollapse.config.spec import ModelSpec
from editcollapse.rows.collapse_rule import CollapseRule
from editcollapse.study.jobs import ModelSetup
from storage.readers import anatomy_findings, rome_outcomes

_MODEL = ModelSetup(
    spec=ModelSpec(name="tiny", source="tiny"),
    model_id="model-1",
    layer=1,
    layer_source="study file",
    values=ValueSettings(),
)


def test_outcomes_are_romes_by_the_rule(folder):
    """Only ROME's edits count; the rule decides; what was not measured stays unknown."""
    folder.add_study(perplexities=(5.0, 60.0, float("inf"), None))

    def fell(**rule):
        found = rome_outcomes(folder.results, "study-1", _MODEL, CollapseRule(**rule))
        assert [each.request_id for each in found] == [f"request-{n}" for n in range(4)]
        assert {each.numerator_norm for each in found} == {0.5}
        return [each.is_collapsed for each in found]

    assert fell() == [False, True, True, None]
    assert fell(ratio=20) == [False, False, True, None]
    other = _MODEL.model_copy(update={"layer": 2})
    assert rome_outcomes(folder.results, "study-1", other, CollapseRule()) == ()


def test_findings_are_those_of_study_and_rule(folder, make_row):
    """Another rule's are left out; places first, then outcomes, in the order of a table."""
    folder.add_study(perplexities=(5.0,))
    for anatomy_id, ratio in (("a", 10.0), ("b", 3.0)):
        folder.write(
            "anatomies",
            make_row(
                "anatomies",
                anatomy_id=anatomy_id,
                collapse_threshold=1000.0,
                collapse_ratio=ratio,
            ),
        )
    folder.write(
        "anatomy_findings",
        *(
            make_row(
                "anatomy_findings",
                anatomy_id=anatomy_id,
                grouping=grouping,
                observation=observation,
            )
            for anatomy_id in ("a", "b")
            for grouping in ("collapsed", "first_token")
            for observation in ("bare_silhouette", "denominator_ratio")
        ),
    )
    folder.publish()
    found = anatomy_findings(folder.results, "study-1", CollapseRule())
    assert [(each.model, each.grouping, each.observation) for each in found] == [
        ("tiny", "first_token", "denominator_ratio"),
        ("tiny", "first_token", "bare_silhouette"),
        ("tiny", "collapsed", "denominator_ratio"),
        ("tiny", "collapsed", "bare_silhouette"),
    ]
    assert anatomy_findings(folder.results, "study-1", CollapseRule(ratio=5)) == ()
