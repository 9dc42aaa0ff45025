"""Where reports lie below a results folder, and the page that lists them: ``reports/index.html``.

The page is brought up to date whenever a report is written, and remembers in a block of JSON what
it says of each. What lies beside it without an entry, such as the report of an older version or of
another machine that wrote at the same moment, is listed by its name alone, until it is written
again.
"""

import dataclasses
import json
import logging
import re
import sys
from datetime import UTC, datetime
from pathlib import PurePosixPath
from urllib.parse import quote

from pydantic import TypeAdapter

from editcollapse.study.artifacts import put_text
from editcollapse.study.results_folder import ResultsFolder, results_at
from reports.figures import DARK, LIGHT
from reports.templates import template
from reports.text import json_block

logger = logging.getLogger(__name__)

REPORTS = "reports"
"""Folder of the reports below the results folder."""
INDEX = f"{REPORTS}/index.html"
_TEMPLATE = "index.html.j2"
_PAGE = ".html"
_REMEMBERED = re.compile(r'<script type="application/json" id="reports">(.*?)</script>', re.DOTALL)
_LOCK = "reports-index"


@dataclasses.dataclass(frozen=True, slots=True)
class ListedReport:
    """A report, as the page that lists them has it."""

    file: str
    """Its name in the folder of the reports."""
    study: str
    headline: str = ""
    """What the study found; empty where the page does not know."""
    written_at: str = ""
    """ISO 8601, UTC; likewise."""

    @property
    def link(self) -> str:
        """Address, relative to the page."""
        return quote(self.file, safe="")


_LISTED = TypeAdapter(list[ListedReport])


def report_path(study_name: str) -> str:
    """Return the path of a study's report below the results folder."""
    path = f"{REPORTS}/{study_name}{_PAGE}"
    # No name of a study has a blank: this one is not another's.
    return f"{REPORTS}/{study_name} (study){_PAGE}" if path.lower() == INDEX else path


def tuning_path(name: str) -> str:
    """Return the path of a tuning's page below the results folder; no study's has a blank."""
    return f"{REPORTS}/{name} (tuning){_PAGE}"


def list_report(folder: ResultsFolder, path: str, study_name: str, headline: str) -> None:
    """List a report that has just been written, before all others.

    Args:
        folder: the results folder.
        path: of the report below it.
        study_name: what it is of.
        headline: what the study found.

    Raises:
        ResultsError: the results folder cannot be written.
    """
    file = PurePosixPath(path).name
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    _write(folder, ListedReport(file, study_name, headline, now))


def has_index(folder: ResultsFolder) -> bool:
    """Return whether there is a page that lists the reports."""
    try:
        folder.fetch(INDEX)
    except OSError:
        return False
    return True


def index_html(reports: list[ListedReport]) -> str:
    """Return the page that lists some reports, in their order."""
    remembered = json_block(json.dumps([dataclasses.asdict(each) for each in reports]))
    page = template(_TEMPLATE)
    return page.render(reports=reports, remembered=remembered, light=LIGHT, dark=DARK)


def _write(folder: ResultsFolder, newest: ListedReport | None) -> None:
    """Bring the page up to date with the folder; one process of a machine at a time does."""
    with folder.alone(_LOCK, lambda: logger.info("another process lists reports; waiting")):
        known = {each.file: each for each in _remembered(folder)}
        if newest is not None:
            known[newest.file] = newest
        files = [PurePosixPath(path) for path in folder.list(REPORTS)]
        listed = [
            known.get(path.name, ListedReport(path.name, path.stem))
            for path in files
            if path.suffix == _PAGE and str(path) != INDEX and path.parent.name == REPORTS
        ]
        listed.sort(key=lambda each: each.written_at, reverse=True)
        put_text(folder, INDEX, index_html(listed))


def _remembered(folder: ResultsFolder) -> list[ListedReport]:
    """Return what the present page says; nothing where there is none, or none of ours."""
    try:
        found = _REMEMBERED.search(folder.fetch(INDEX).read_text(encoding="utf-8"))
        return _LISTED.validate_json(found[1]) if found else []
    except (OSError, ValueError):
        return []


if __name__ == "__main__":  # before the pages are served: there is none where no study has run
    _write(results_at(sys.argv[1]), None)
