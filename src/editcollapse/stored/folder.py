"""A folder that an export makes: whole or not at all, and never in the place of someone's files."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from editcollapse.errors import ResultsError

RECORD = "editcollapse.json"
"""Says what an export is; a folder with it may be overwritten."""
_LARGEST_RECORD = 1 << 20


@contextmanager
def new_folder(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give an empty folder beside the one that is asked for, which takes its place at the end.

    Where the block raises, nothing of it stays, and what was there before is as it was.

    Args:
        folder: asked for; empty, or not there.
        overwrite: whether an earlier export may stand there; it is gone afterwards.

    Raises:
        ResultsError: the folder holds files, or cannot be written.
    """
    target = folder.expanduser().resolve()
    check_free(target, overwrite=overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.export-"))
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        draft = place / "new"
        draft.mkdir()
        yield draft
        if target.exists():
            check_free(target, overwrite=overwrite)  # as it was when the block began
            target.rename(place / "old")
        draft.rename(target)
    except (OSError, SafetensorError) as error:
        old = place / "old"
        if old.exists() and not target.exists():
            old.rename(target)
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Check that an export may be written to a folder.

    Raises:
        ResultsError: it is a file, or holds files that are not an export's to be overwritten.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir() or folder.is_symlink():
        raise ResultsError(f"{folder} is no folder of its own. Name another one to export to.")
    if not any(folder.iterdir()):
        return
    if not overwrite:
        raise ResultsError(
            f"{folder} holds files already. Name another folder, or overwrite an earlier export "
            "with `overwrite`."
        )
    if not is_export(folder):
        raise ResultsError(
            f"{folder} holds files that no export wrote (there is no {RECORD} of one), and they "
            "are not overwritten. Name another folder."
        )


def is_export(folder: Path) -> bool:
    """Return whether a folder is what an export left."""
    path = folder / RECORD
    try:
        if path.stat().st_size > _LARGEST_RECORD:
            return False
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "editcollapse" in found


def _unwritable(folder: Path, error: Exception) -> ResultsError:
    reason = getattr(error, "strerror", None) or error
    return ResultsError(
        f"cannot write the export to {folder}: {reason}. Nothing of it was kept; free space or "
        "name another folder."
    )
