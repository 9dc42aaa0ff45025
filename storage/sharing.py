"""Row files and the snapshot of a results folder that may lie elsewhere.

The store lies on this machine: in the results folder itself, or in the mirror of a remote one.
Several machines may work for one remote folder, each with a store of its own. Whoever publishes
takes in the row files of all of them, so that the snapshot has every row that anyone has written.
"""

import logging
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from editcollapse.errors import ArtifactError, ResultsError
from editcollapse.study.artifacts import unwritable
from editcollapse.study.results_folder import ResultsFolder, is_url
from storage.database import SNAPSHOT, publish_snapshot
from storage.rebuild import RebuildReport, rebuild
from storage.rows import ROWS_FOLDER, RowsFile
from storage.writer import IngestReport, ingest, unrecorded

logger = logging.getLogger(__name__)


def take_in(place: ResultsFolder, files: Iterable[RowsFile]) -> IngestReport:
    """Enter row files into the store of this machine; as ``writer.ingest``."""
    here = [_fetched(place, file) for file in files]
    return ingest(place.here, here)


def publish(place: ResultsFolder) -> None:
    """Publish the store; of a remote place, with what other machines have written.

    Machines that publish at the same time hold no lock: who finds, after its upload, row files that
    its snapshot lacks publishes again. So the last upload has all rows.

    Raises:
        ResultsError: the place cannot be read or written.
    """
    if not is_url(place.name):
        publish_snapshot(place.here)
        return
    try:
        with place.alone("publish", lambda: logger.info("another process publishes; waiting")):
            files = _row_files(place)
            while True:
                take_in(place, unrecorded(place.here, files))
                publish_snapshot(place.here)
                place.share(SNAPSHOT.as_posix())
                published, files = set(files), _row_files(place)
                if published.issuperset(files):
                    return
    except OSError as error:
        raise unwritable(place.name, error) from error


def rebuild_from(place: ResultsFolder) -> RebuildReport:
    """Make the store anew from the place's row files, and publish it; as ``rebuild.rebuild``."""
    if not is_url(place.name):
        return rebuild(place.here)
    files = [_fetched(place, file) for file in _row_files(place)]
    report = rebuild(place.here, files)
    place.share(SNAPSHOT.as_posix())
    return report


def folder_to_read(place: ResultsFolder) -> Path:
    """Return the folder of this machine with the place's present snapshot.

    Raises:
        ResultsError: nothing has been published there, or it cannot be reached.
    """
    if is_url(place.name):
        try:
            place.fetch(SNAPSHOT.as_posix())
        except FileNotFoundError as error:
            raise ResultsError(
                f"no results yet at {place.name}. Run a study there first: python -m flows run "
                f"STUDY.toml --results {place.name}"
            ) from error
        except OSError as error:
            raise ResultsError(
                f"cannot read {place.name}: {error.strerror}. Check the URL and your credentials."
            ) from error
    return place.here


def _row_files(place: ResultsFolder) -> list[RowsFile]:
    """Return the row files of a place; what is half written has a name that starts with a dot."""
    paths = [PurePosixPath(path) for path in place.list(ROWS_FOLDER.as_posix())]
    return [
        RowsFile(path.parent.name, Path(path), path.stem)
        for path in paths
        if path.suffix == ".parquet" and not path.name.startswith(".")
    ]


def _fetched(place: ResultsFolder, file: RowsFile) -> RowsFile:
    """Return a row file that lies on this machine; a missing one is told by who reads it."""
    if not is_url(place.name):
        return file
    try:
        place.fetch(file.path.as_posix())
    except (FileNotFoundError, ArtifactError):
        logger.warning("%s is missing at %s", file.path, place.name)
    return file
