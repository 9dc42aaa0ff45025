"""A report as one HTML file that opens anywhere: no network, every text escaped, figures inlined.

Without scripts it has its tables and the bars of the incidence all the same.
"""

from pathlib import Path

import jinja2

from editcollapse import __version__
from editcollapse.artifacts import put_text
from editcollapse.places import Place
from reports.escaping import visible, visible_lines
from reports.figures import panel_json
from reports.illustrated import illustrated_sections
from reports.scripts import json_block, page_scripts
from reports.themes import DARK, LIGHT
from reports.wording import count, percent
from storage.figures import StudyFigures, study_figures
from storage.findings import StudyFindings, findings

REPORTS = "reports"
"""Folder of the reports below the results folder."""
_TEMPLATE = "page.html.j2"
_END = "</html>"


def write_report(place: Place, study_id: str) -> str:
    """Write a study's report from what is published, whole or not at all.

    Args:
        place: the results, with a published snapshot on this machine.
        study_id: an id of table ``studies``.

    Returns:
        The report's path below the results folder.

    Raises:
        ResultsError: the study has no results yet, or the place cannot be written.
    """
    found = findings(place.here, study_id)
    path = report_path(found.name)
    put_text(place, path, report_html(found, study_figures(place.here, study_id)))
    return path


def report_html(found: StudyFindings, shown: StudyFigures) -> str:
    """Return a study's report as a page.

    Args:
        found: what it says.
        shown: what its figures are drawn from.
    """
    page = _environment().get_template(_TEMPLATE)
    return page.render(
        study=found,
        parts=illustrated_sections(found, shown),
        scripts=page_scripts(),
        light=LIGHT,
        dark=DARK,
        version=__version__,
    )


def report_path(study_name: str) -> str:
    """Return where the report of a study of this name lies below the results folder."""
    return f"{REPORTS}/{study_name}.html"


def has_report(place: Place, study_name: str, study_id: str) -> bool:
    """Return whether there is a whole report of this very study, not of another of its name."""
    try:
        text = place.fetch(report_path(study_name)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return _id_line(study_id) in text and text.rstrip().endswith(_END)


def _id_line(study_id: str) -> str:
    return f'<meta name="study-id" content="{study_id}">'


def _environment() -> jinja2.Environment:
    """Return a template environment that escapes everything it is given."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": count,
        "panel_json": lambda panel: json_block(panel_json(panel)),
        "percent": percent,
        "visible": visible,
        "visible_lines": visible_lines,
    }
    return environment
