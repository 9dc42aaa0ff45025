"""Figures written into a document of prose, between two marks."""

import dataclasses
from pathlib import Path

from editcollapse.errors import ResultsError


@dataclasses.dataclass(frozen=True, slots=True)
class Marks:
    """What stands between these two lines of a document is written by a program."""

    start: str
    end: str

    @classmethod
    def of(cls, name: str) -> "Marks":
        """Return the marks of a name, as comments of Markdown."""
        return cls(f"<!-- {name} -->", f"<!-- /{name} -->")

    def check(self, path: Path) -> None:
        """Raise ResultsError where a document is there and has no marks."""
        if not path.is_file():
            return
        text = path.read_text(encoding="utf-8")
        if self.start not in text or self.end not in text.split(self.start, 1)[1]:
            raise ResultsError(
                f"--markdown {path}: the file has no {self.start} with {self.end} behind it, so it "
                "would be lost whole. Add both lines where the tables shall stand, or name a new "
                "file."
            )

    def write(self, path: Path, text: str) -> None:
        """Write a text between the marks of a document, or as a new one.

        Raises:
            ResultsError: the document is there and has no marks.
        """
        whole = f"{self.start}\n\n{text}\n{self.end}\n"
        if path.is_file():
            self.check(path)
            before, rest = path.read_text(encoding="utf-8").split(self.start, 1)
            whole = before + whole.rstrip("\n") + rest.split(self.end, 1)[1]
        path.write_text(whole, encoding="utf-8")
