"""What the terminal shows of a study: where its files lie."""

from pathlib import Path


def shown(path: str | Path) -> str:
    """Return a path relative to the working directory where it lies below it; a URL as it is."""
    from editcollapse.study.results_folder import is_url

    if is_url(str(path)):
        return str(path)
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
