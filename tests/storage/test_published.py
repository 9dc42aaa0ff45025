"""Table published and the view that lays ours beside it."""

from storage.ask import ask

_EXAMPLE = "collapse_example"
_NORMAL = "easyedit_391"


def _figures(folder, where):
    query = f"from published_and_ours where {where}"
    return ask(folder.results, query).rows(named=True)


def _record(folder, make_row, source, *, method="rome", kind="identity", denominators=(-2.0,)):
    """Record edits of one model; each is told by its denominator."""
    model = f"{source}-{kind}"
    folder.write("studies", make_row("studies"))
    folder.write("models", make_row("models", model_id=model, source=source))
    folder.write(
        "covariances", make_row("covariances", covariance_id=model, model_id=model, kind=kind)
    )
    edits = [
        make_row(
            "edits",
            edit_id=f"{model}-{method}-{denominator}",
            model_id=model,
            covariance_id=model,
            method=method,
            denominator=denominator,
        )
        for denominator in denominators
    ]
    folder.write("edits", *edits)
    folder.write("study_edits", *(make_row("study_edits", edit_id=one.edit_id) for one in edits))
    folder.publish()


def test_every_figure_names_its_source(folder):
    """Each figure has a work, a place in it, a metric and a unit, and nothing was said twice."""
    folder.publish()
    frame = ask(folder.results, "from published")
    assert frame.height == 30
    assert frame["figure_id"].is_unique().all()
    for column in ("work", "place", "metric", "unit", "remark"):
        assert frame[column].str.len_chars().min() > 0
    assert frame["value"].is_finite().all()


def test_example_of_the_collapse_paper_is_consistent(folder):
    """Its three figures fit the formula: numerator over |denominator| is the update's norm."""
    folder.publish()
    figures = ask(
        folder.results, "select metric, value from published where place = 'Figures/output.png'"
    )
    value = dict(figures.iter_rows())
    assert abs(value["numerator_norm"] / value["abs_denominator"] - value["update_norm"]) < 0.1


def test_without_edits_of_that_model_ours_is_null(folder, make_row):
    """Edits of another model, or quantities that are not measured here, stay out."""
    _record(folder, make_row, "openai-community/gpt2")
    rows = _figures(folder, "true")
    assert len(rows) == 30
    assert {row["n_edits"] for row in rows} == {None}


def test_ours_lies_beside_where_the_same_quantity_was_measured(folder, make_row):
    """The hub's name is that of the model; the sign of a denominator does not count."""
    _record(folder, make_row, "openai-community/GPT2-XL", denominators=(-2.0, 9.0, 30.0))
    (row,) = _figures(folder, f"figure_id = '{_NORMAL}_abs_denominator'")
    assert (row["published_value"], row["n_edits"]) == (13.67, 3)
    assert (row["minimum"], row["median"], row["maximum"]) == (2.0, 9.0, 30.0)


def test_other_methods_and_moments_are_told_apart(folder, make_row):
    """A figure with C = I meets edits with C = I; one that does not say, each in a row."""
    _record(folder, make_row, "gpt2-xl", kind="corpus")
    (row,) = _figures(folder, f"figure_id = '{_NORMAL}_abs_denominator'")
    assert row["n_edits"] is None
    _record(folder, make_row, "gpt2-xl", method="c_rome", kind="corpus", denominators=(5.0,))
    rows = _figures(folder, f"figure_id = '{_EXAMPLE}_abs_denominator'")
    assert [(row["method"], row["covariance"], row["median"]) for row in rows] == [
        ("c_rome", "corpus", 5.0),
        ("rome", "corpus", 2.0),
    ]


def test_rebuilt_store_has_the_figures(folder):
    """The figures come with the schema: no file of a results folder holds them."""
    folder.rebuild()
    assert ask(folder.results, "select count(*) from published").item() == 30
