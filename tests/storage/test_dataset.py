"""A study's rows as a dataset: whole, nobody else's, readable by path; the hub is a stand-in."""

import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest
import yaml

from editcollapse.errors import ResultsError
from flows.__main__ import main
from scripts.demo_rows import unpack
from storage.ask import ask, find_study
from storage.dataset import VIEWS, write_dataset
from storage.hub import push_dataset

STUDY = "demo"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Return the results folder of the rows that are checked in."""
    return unpack(tmp_path_factory.mktemp("demo")).parent


@pytest.fixture(scope="module")
def dataset(published, tmp_path_factory):
    """Return the folder of the demo study as a dataset."""
    folder = tmp_path_factory.mktemp("dataset") / "rows"
    assert main(["dataset", STUDY, str(folder), "--results", str(published)]) == 0
    return folder


def head_of(folder):
    """Return the card's YAML head."""
    _, head, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head)


def test_rows_are_those_of_the_study(published, dataset):
    """Read by path in DuckDB they are what the database says of the study, and of no other."""
    study_id = find_study(published, STUDY)
    outcomes = f"from edit_outcomes where study_id = '{study_id}' order by all"
    with duckdb.connect() as connection:

        def read(name):
            return connection.sql(f"from '{dataset}/{name}/rows.parquet'")

        assert read("edit_outcomes").pl().equals(ask(published, outcomes))
        assert read("studies").fetchall()[0][0] == study_id
        edits, measurements, members = map(read, ("edits", "measurements", "study_edits"))
        n_edits = len(members)
        assert len(edits) == len(measurements) == n_edits > 0
        joined = edits.set_alias("e").join(measurements.set_alias("m"), "e.edit_id = m.edit_id")
        assert len(joined) == n_edits
        models = {row[0] for row in read("models").select("model_id").fetchall()}
        assert models == {row[0] for row in read("study_models").select("model_id").fetchall()}
        assert {row[0] for row in read("edits").select("covariance_id").fetchall()} <= {
            row[0] for row in read("covariances").select("covariance_id").fetchall()
        }


def test_dataset_names_no_machine(dataset):
    """No provenance, and no text of a row is a path of the machine."""
    assert not (dataset / "provenance").exists()
    for file in dataset.glob("*/rows.parquet"):
        frame = pl.read_parquet(file).select(pl.col(pl.String))
        for column in frame.columns:
            assert not frame[column].str.contains(r"^(/|[A-Z]:\\)\w").any(), (file, column)


def test_card_declares_every_table(dataset):
    """Its head has a configuration a table, the first is the default, and all files are there."""
    head = head_of(dataset)
    files = {path.relative_to(dataset).as_posix() for path in dataset.glob("*/*.parquet")}
    declared = [config["data_files"][0]["path"] for config in head["configs"]]
    assert set(declared) == files
    assert [config["config_name"] for config in head["configs"] if "default" in config] == [
        VIEWS[0]
    ]
    assert head["license"] == "unknown"
    card = (dataset / "README.md").read_text(encoding="utf-8")
    assert f"from 'FOLDER/{VIEWS[0]}/rows.parquet'" in card
    assert "## measurements" in card


def test_catalogues_take_it_in(published, dataset, tmp_path):
    """Attached read-only, both the snapshot and a catalog made of the files are asked together."""
    with duckdb.connect() as connection:
        connection.execute(f"attach '{published}/results.duckdb' as results (read_only)")
        connection.execute(f"attach '{tmp_path}/shared.duckdb' as shared")
        connection.execute(
            f"create table shared.edit_outcomes as from '{dataset}/edit_outcomes/rows.parquet'"
        )
        connection.execute("detach shared")
        connection.execute(f"attach '{tmp_path}/shared.duckdb' as shared (read_only)")
        query = """
            select count(*) from shared.edit_outcomes
            semi join results.edits using (edit_id)
        """
        (n_edits,) = connection.sql(query).fetchall()[0]
        assert n_edits == len(connection.sql("from shared.edit_outcomes")) > 0
        with pytest.raises(duckdb.InvalidInputException, match="read-only"):
            connection.execute("delete from shared.edit_outcomes")


def ducklake_extension():
    """Return the DuckLake extension of this DuckDB, where a package on this machine carries it."""
    package = pytest.importorskip("duckdb_extension_ducklake")
    folder = Path(package.__file__).parent / "extensions" / f"v{duckdb.__version__}"
    file = folder / "ducklake.duckdb_extension"
    if not file.is_file():
        pytest.skip(f"the DuckLake extension here is not for DuckDB {duckdb.__version__}")
    return file


def test_ducklake_takes_it_in(dataset, tmp_path):
    """A DuckLake with a local catalog holds the rows, and what it held before another was added."""
    with duckdb.connect() as connection:
        connection.execute(f"load '{ducklake_extension()}'")
        connection.execute(
            f"attach 'ducklake:{tmp_path}/lake.ducklake' as lake (data_path '{tmp_path}/lake')"
        )
        connection.execute(
            f"create table lake.edit_outcomes as from '{dataset}/edit_outcomes/rows.parquet'"
        )
        n_edits = len(connection.sql("from lake.edit_outcomes"))
        assert n_edits == len(connection.sql(f"from '{dataset}/edit_outcomes/rows.parquet'")) > 0
        (version,) = connection.sql("select max(snapshot_id) from lake.snapshots()").fetchall()[0]
        connection.execute(
            f"insert into lake.edit_outcomes from '{dataset}/edit_outcomes/rows.parquet'"
        )
        assert len(connection.sql("from lake.edit_outcomes")) == 2 * n_edits
        before = f"from lake.edit_outcomes at (version => {version})"
        assert len(connection.sql(before)) == n_edits
        connection.execute("detach lake")
        connection.execute(f"attach 'ducklake:{tmp_path}/lake.ducklake' as lake (read_only)")
        assert len(connection.sql("from lake.edit_outcomes")) == 2 * n_edits


class Hub:
    """What the hub's client is asked to do."""

    asked = ()

    def create_repo(self, repo, **more):
        """Remember it."""
        Hub.asked += (("create", repo, more),)
        return f"https://hub/datasets/{repo}"

    def upload_folder(self, **more):
        """Remember it, with the files that are there by now."""
        files = sorted(path.name for path in Path(more["folder_path"]).iterdir())
        Hub.asked += (("upload", more["repo_id"], files),)


@pytest.fixture
def hub(monkeypatch):
    """Put a stand-in before the hub."""
    Hub.asked = ()
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    return Hub


def test_dataset_is_pushed_where_it_is_asked(published, tmp_path, hub, capsys):
    """A new dataset is private, all files and the card go, and the card names the address."""
    folder = tmp_path / "rows"
    line = ["dataset", STUDY, str(folder), "--results", str(published), "--license", "mit"]
    assert main([*line, "--push", "somebody/rows"]) == 0
    (made, sent) = hub.asked
    assert made == (
        "create",
        "somebody/rows",
        {"repo_type": "dataset", "private": True, "exist_ok": True},
    )
    assert sent[:2] == ("upload", "somebody/rows")
    assert {"README.md", "edits", "measurements"} <= set(sent[2])
    assert "https://hub/datasets/somebody/rows" in capsys.readouterr().out
    assert "'hf://datasets/somebody/rows/edit_outcomes/rows.parquet'" in (
        folder / "README.md"
    ).read_text(encoding="utf-8")
    assert head_of(folder)["license"] == "mit"


def test_mistakes_are_said_before_anything_is_written(published, tmp_path, hub, capsys):
    """A folder with files, a name that is none and an unknown study leave nothing behind."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").touch()
    line = ["dataset", STUDY, str(tmp_path / "full"), "--results", str(published)]
    assert main(line) == 2
    assert "not empty. Name a new folder." in capsys.readouterr().err.replace("\n", " ")
    assert main([*line[:2], str(tmp_path / "new"), *line[3:], "--public"]) == 2
    assert main([*line[:2], str(tmp_path / "new"), *line[3:], "--push", "rows"]) == 2
    with pytest.raises(ResultsError, match="holds no study with the id nobody"):
        write_dataset(published, "nobody", tmp_path / "nobody")
    assert {path.name for path in tmp_path.iterdir()} == {"full"}
    assert hub.asked == ()


def test_refusal_of_the_hub_is_a_sentence(tmp_path, monkeypatch):
    """Who has not logged in is told so, and where the files are."""

    def refuse(*_, **__):
        raise OSError("401 Client Error")

    monkeypatch.setattr(Hub, "create_repo", refuse)
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    with pytest.raises(ResultsError, match=r"401 Client Error. Log in with hf auth login"):
        push_dataset(tmp_path, "somebody/rows")


def test_hub_is_asked_for_nothing_without_push(dataset):
    """Writing a dataset does not load the hub's client."""
    code = "import sys, storage.dataset, reports.dataset_card, storage.hub; "
    code += "sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
