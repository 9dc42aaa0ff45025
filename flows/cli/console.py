"""What the terminal shows of a study: its progress, and where its files lie."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from editcollapse.cli.console import console


@contextmanager
def progress_bar() -> Iterator[None]:
    """Show how far the study, and the job that runs, are."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from editcollapse.runtime.environment import OVERALL, listening

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    screen = console(to_stderr=True)
    with Progress(*columns, console=screen, refresh_per_second=4) as bars:
        overall = bars.add_task("study", total=None)
        unit = bars.add_task("starting Prefect", total=None)

        def show(what: str, done: int, total: int) -> None:
            if what == OVERALL:
                bars.update(overall, completed=done, total=total)
            else:
                bars.update(unit, description=what, completed=done, total=total)
            if not screen.is_terminal and what == OVERALL:
                screen.print(f"study: {done} of {total} jobs")

        with listening(show):
            yield
        bars.remove_task(unit)


def shown(path: str | Path) -> str:
    """Return a path relative to the working directory where it lies below it; a URL as it is."""
    from editcollapse.study.results_folder import is_url

    if is_url(str(path)):
        return str(path)
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
