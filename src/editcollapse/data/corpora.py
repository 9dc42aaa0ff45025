"""Where the second moment C comes from: documents of a file or of the hub, or statistics."""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import ValidationError

from editcollapse.config.spec import DEFAULT_COVARIANCE, CovarianceSpec
from editcollapse.data.hub import hub_refusal
from editcollapse.data.records import (
    LINE_SUFFIXES,
    TEXT_FIELDS,
    ParsedRecord,
    RecordError,
    asked_field,
    iter_json_lines,
    iter_lines,
    read_json_records,
    require_file,
    text_field_of,
    text_of_item,
)
from editcollapse.errors import DatasetError, MomentError, StudyError
from editcollapse.fingerprints import digest, digest_file

IDENTITY = "identity"
SAMPLES = "samples"
_STATISTICS = (".npz", ".safetensors")
_WANTED = "a corpus"
_FILE_SUFFIXES = (".txt", ".text", ".raw", ".tokens", ".json", ".parquet", *LINE_SUFFIXES)
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
_ROWS_AT_ONCE = 8192
_SPLIT_EXPRESSION = frozenset("[+")
_UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
"""What Polars raises of Parquet that is none; its reader panics where a footer lies."""


@dataclasses.dataclass(frozen=True, slots=True)
class Corpus:
    """Documents in a fixed order, read anew each time they are asked for."""

    name: str
    """File name without folder and suffix, or the hub id with its subset; what reports show."""
    content_digest: str
    """The corpus's identity: see ``open_corpus``."""
    n_documents: int | None
    """Where it is known without reading everything (Parquet: rows, blank ones included)."""
    reader: Callable[[], Iterator[str]] = dataclasses.field(repr=False, compare=False)
    """Starts one pass over the documents."""

    def documents(self) -> Iterator[str]:
        """Yield the documents, none of them blank. May be called any number of times.

        Raises:
            DatasetError: an entry is malformed, or the source can no longer be read.
        """
        return self.reader()


def open_corpus(
    source: str,
    *,
    base: Path | None = None,
    text_field: str | None = None,
    subset: str | None = None,
    split: str = "train",
) -> Corpus:
    """Return a corpus; a file is read up to its first document, a hub data set is not fetched.

    What a document is: in JSON, JSONL and Parquet, one entry; in any other file, the lines between
    two blank lines (a line of white space is blank, as in WikiText), joined by line feeds. A text
    file without a blank line is one document. Blank and null entries are skipped. Documents keep
    their leading and trailing blanks.

    Identity: the digest of a file's bytes; with a ``text_field`` other than ``text``, together
    with that name. Of a hub data set, the digest of id, subset, split, field and revision.

    Args:
        source: a path, or a hub data set id such as ``Salesforce/wikitext``. What exists,
            has a known suffix, is absolute, or starts with a dot or ``~`` is a path.
        base: folder that a relative path starts from; the working folder where None.
        text_field: field or column of the text; None for ``text`` or ``Text``; not for text files.
        subset: configuration of a hub data set; None for its default.
        split: split of a hub data set; files have none.

    Raises:
        DatasetError: the source is missing, unreadable, empty or malformed, has no such field, is
            neither a path nor an id, or needs the ``hub`` extra.
    """
    path = (base or Path()) / _expanded(source)
    if not _is_path(source, path):
        if _HUB_ID.fullmatch(source) is None:
            raise DatasetError(
                f"{_WANTED} was asked as {source!r}, which is neither a file ({path.absolute()}) "
                "nor a hub id such as Salesforce/wikitext. Correct it."
            )
        hub = open_hub_corpus(source, text_field=text_field, subset=subset, split=split)
        return Corpus(hub.name, hub.content_digest, hub.n_documents, hub.documents)
    require_file(path, _WANTED)
    if subset is not None:
        raise DatasetError(
            f"subset {subset!r} was asked of the file {path}; only hub data sets have subsets. "
            "Leave it out."
        )
    return _open_file(path, text_field)


def corpus_of(spec: CovarianceSpec) -> Corpus:
    """Return the corpus that a second moment is measured on, as ``open_corpus``.

    Args:
        spec: of kind ``corpus``.

    Raises:
        DatasetError: as ``open_corpus``; where it is the default, the message says what to name.
    """
    try:
        return open_corpus(
            str(spec.source), text_field=spec.text_field, subset=spec.subset, split=spec.split
        )
    except DatasetError as error:
        if (spec.source, spec.subset) != (DEFAULT_COVARIANCE.source, DEFAULT_COVARIANCE.subset):
            raise
        raise DatasetError(
            f"{error} It is what C is measured on where nothing is named: name a text file, by "
            '--covariance FILE on the command line or by source = "FILE" below [covariance] in '
            "the study file; or take the model's own samples: --covariance samples there, kind = "
            '"samples" here.'
        ) from error


def _expanded(source: str) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError as error:
        raise DatasetError(
            f"{_WANTED} was asked as {source!r}, whose home folder is unknown. "
            "Write the path in full."
        ) from error


def _open_file(path: Path, text_field: str | None) -> Corpus:
    suffix = path.suffix.lower()
    n_documents: int | None = None
    if suffix == ".parquet":
        column, n_documents = _parquet_outline(path, text_field)
        reader = functools.partial(_parquet_documents, path, column, n_documents)
    elif suffix == ".json" or suffix in LINE_SUFFIXES:
        reader = functools.partial(_json_documents, path, text_field)
    else:
        reader = functools.partial(_text_documents, path)
        text_field = None
    if next(reader(), None) is None:
        raise DatasetError(
            f"{_WANTED} was asked from {path}, which holds no text. Give a document."
        )
    content_digest = digest_file(path)
    if text_field not in {None, TEXT_FIELDS[0]}:
        content_digest = digest("corpus", content_digest, text_field)
    return Corpus(path.stem, content_digest, n_documents, reader)


def _is_path(source: str, path: Path) -> bool:
    looks_like_one = source.startswith((".", "~")) or Path(source).is_absolute()
    return looks_like_one or path.exists() or path.suffix.lower() in _FILE_SUFFIXES


def _text_documents(path: Path) -> Iterator[str]:
    lines: list[str] = []
    for line in iter_lines(path, _WANTED):
        if line.strip():
            lines.append(line)
        elif lines:
            yield "\n".join(lines)
            lines = []
    if lines:
        yield "\n".join(lines)


def _json_documents(path: Path, text_field: str | None) -> Iterator[str]:
    in_lines = path.suffix.lower() in LINE_SUFFIXES
    records = iter_json_lines(path, _WANTED) if in_lines else iter(read_json_records(path, _WANTED))
    for record in records:
        document = _document_of(record, path, text_field)
        if document is not None:
            yield document


def _document_of(record: ParsedRecord, path: Path, text_field: str | None) -> str | None:
    """Return an entry's text, None where it is blank. Raises DatasetError where it is malformed."""
    try:
        return text_of_item(record.json(), text_field)
    except RecordError as error:
        raise DatasetError(
            f"a document was asked from {record.location} of {path}, which cannot be used: {error}"
        ) from error


def _parquet_outline(path: Path, text_field: str | None) -> tuple[str, int]:
    """Return the text column and the number of rows."""
    try:
        frame = pl.scan_parquet(path, glob=False)
        schema = frame.collect_schema()
        n_rows = int(frame.select(pl.len()).collect().item())
    except _UNREADABLE as error:
        raise _bad_parquet(path, error) from error
    found = text_field_of(schema, text_field)
    if not found or schema[found] != pl.String():
        columns = ", ".join(f"{name} ({dtype})" for name, dtype in schema.items())
        raise DatasetError(
            f"a text column {asked_field(text_field)} was asked of {path}, which has {columns}. "
            "Name a column of strings as text_field."
        )
    return found, n_rows


def _parquet_documents(path: Path, column: str, n_rows: int) -> Iterator[str]:
    rows = pl.scan_parquet(path, glob=False).select(column)
    for start in range(0, n_rows, _ROWS_AT_ONCE):
        try:
            batch = rows.slice(start, _ROWS_AT_ONCE).collect()
        except _UNREADABLE as error:
            raise _bad_parquet(path, error) from error
        for document in batch[column]:
            if document and document.strip():
                yield document


def _bad_parquet(path: Path, error: Exception) -> DatasetError:
    found = next(iter(str(error).splitlines()), type(error).__name__)
    return DatasetError(
        f"{_WANTED} was asked from {path}, which cannot be read as Parquet ({found}). "
        "Write the file again."
    )


@dataclasses.dataclass(frozen=True, slots=True)
class HubCorpus:
    """One split of a hub data set at a fixed revision; fetched when it is first read."""

    source: str
    subset: str | None
    split: str
    text_field: str | None
    revision: str
    """Commit of the data set's repository, as ``datasets`` resolves it (from its cache offline)."""
    n_documents: int | None
    builder: Any = dataclasses.field(repr=False, compare=False)
    """The ``datasets.DatasetBuilder``."""

    @property
    def name(self) -> str:
        """The id, with the subset where there is one."""
        return self.source if self.subset is None else f"{self.source}/{self.subset}"

    @property
    def content_digest(self) -> str:
        """Digest of id, subset, split, text field and revision; the documents are not read."""
        return digest(
            "hub",
            self.source,
            self.subset,
            self.split,
            self.text_field or TEXT_FIELDS[0],
            self.revision,
        )

    def documents(self) -> Iterator[str]:
        """Yield the documents that are not blank, from the local copy, which is made when missing.

        Raises:
            DatasetError: the data set cannot be fetched, has no such split, or a row has no text.
        """
        try:
            self.builder.download_and_prepare()
            rows = self.builder.as_dataset(split=self.split)
        except Exception as error:  # whatever network, disk or hub raise
            raise _hub_error(self.source, f"split {self.split!r}", error) from error
        for index, row in enumerate(rows):
            try:
                document = text_of_item(row, self.text_field)
            except RecordError as error:
                raise DatasetError(
                    f"a document was asked from row {index} of {self.name}, which cannot be used: "
                    f"{error}"
                ) from error
            if document is not None:
                yield document


def open_hub_corpus(
    source: str, *, text_field: str | None, subset: str | None, split: str
) -> HubCorpus:
    """Return a hub data set at its present revision, without fetching its documents.

    Args:
        source: hub id, ``Salesforce/wikitext``.
        text_field: column of the text; None for ``text`` or ``Text``.
        subset: configuration, ``wikitext-103-raw-v1``; None for the default.
        split: ``train`` and the like, or an expression of ``datasets`` such as ``train[:1%]``.

    Raises:
        DatasetError: the ``datasets`` package is missing, or the data set, its subset or split
            cannot be found.
    """
    try:
        import datasets
    except ImportError as error:
        raise DatasetError(
            f"the corpus {source!r} was asked from the Hugging Face hub, for which the package "
            "'datasets' is missing. Run pip install datasets, or name a file instead."
        ) from error
    try:
        builder = datasets.load_dataset_builder(source, name=subset)
    except Exception as error:  # whatever network, disk or hub raise
        raise _hub_error(source, f"subset {subset!r}", error) from error
    revision = builder.hash
    if not revision:
        raise DatasetError(
            f"the corpus {source!r} was asked from the hub, where its revision cannot be told. "
            "Download it and name a file."
        )
    splits = builder.info.splits or {}
    if splits and split not in splits and _SPLIT_EXPRESSION.isdisjoint(split):
        raise DatasetError(
            f"split {split!r} of the corpus {source!r} was asked, which has {', '.join(splits)}. "
            "Name one of them."
        )
    n_documents = splits[split].num_examples if split in splits else None
    return HubCorpus(source, subset, split, text_field, str(revision), n_documents, builder)


def _hub_error(source: str, asked: str, error: Exception) -> DatasetError:
    refusal = hub_refusal(error, "dataset", source)
    return DatasetError(
        f"the corpus {source!r} ({asked}) was asked, and {refusal}, or name a file instead."
    )


def _kind_of(source: str) -> str:
    """Return the kind of second moment that a source names."""
    if source in {SAMPLES, IDENTITY}:
        return source
    return "statistics" if Path(source).suffix in _STATISTICS else "corpus"


@dataclasses.dataclass(frozen=True, slots=True)
class CovarianceSource:
    """A second moment C that can be had."""

    spec: CovarianceSpec
    """Kind, token budget and damping."""
    corpus: Corpus | None = None
    """To measure C on."""
    statistics: Path | None = None
    """Published layer statistics to read C from. Without either, C is of the model's own samples
    or the identity, as the kind says."""
    seed: int = 0
    """Of the model's own samples."""

    @classmethod
    def of(
        cls, source: str | None, tokens: int, damping: float, d_key: int, seed: int = 0
    ) -> "CovarianceSource":
        """Check where C is to come from; neither corpus nor statistics are read to their end.

        Args:
            source: ``samples``, ``identity``, an ``.npz`` or ``.safetensors`` file of statistics,
                or a corpus: a text file or a hub data set id; None for the default corpus.
            tokens: of a corpus, at most.
            damping: added to C's diagonal, in units of its mean.
            d_key: K of the layer.
            seed: of the model's own samples.

        Raises:
            StudyError: tokens or damping are out of range.
            MomentError: there is no such statistics file, or C of so few tokens is singular.
            DatasetError: there is no such corpus, or no text in it.
        """
        subset = None
        if source is None:
            source, subset = str(DEFAULT_COVARIANCE.source), DEFAULT_COVARIANCE.subset
        kind = _kind_of(source)
        is_named = kind in {"corpus", "statistics"}
        try:
            spec = CovarianceSpec.model_validate(
                {
                    "kind": kind,
                    "source": source if is_named else None,
                    "subset": subset,
                    "n_tokens": tokens,
                    "damping": damping,
                }
            )
        except ValidationError as error:
            raise StudyError(
                f"`tokens` {tokens}, `damping` {damping:g}: tokens have to be at least 1, and "
                "damping at least 0."
            ) from error
        if kind == "identity":
            return cls(CovarianceSpec(kind="identity"))
        if kind == "statistics":
            path = Path(source).expanduser()
            if not path.is_file():
                raise MomentError(
                    f"`covariance` {source}: there is no such file. It was looked up as "
                    f"{path.absolute()}."
                )
            return cls(spec, statistics=path)
        if tokens < d_key and damping == 0:
            raise MomentError(
                f"`tokens` {tokens}: keys of this model have {d_key} entries, and C of fewer "
                f"tokens is singular. Give {d_key} or more, or a `damping` such as 0.001."
            )
        try:
            return cls(spec, corpus=corpus_of(spec) if kind == "corpus" else None, seed=seed)
        except DatasetError as error:
            if subset is not None:
                raise
            raise DatasetError(f"`covariance` {source}: {error}") from error

    @property
    def covariance_id(self) -> str:
        """Id of C where it is kept in no file."""
        own = (self.seed,) if self.spec.kind == "samples" else ()
        return digest("unstored covariance", self.spec, *own)

    def __str__(self) -> str:
        """For people."""
        if self.statistics is not None:
            return f"covariance of {self.statistics.name}"
        if self.corpus is not None:
            return f"covariance of {self.corpus.name}, {self.spec.n_tokens} tokens at most"
        if self.spec.kind == "samples":
            return f"covariance of {self.spec.in_words()}"
        return "identity covariance"
