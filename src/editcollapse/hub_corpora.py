"""A corpus on the Hugging Face hub, through the optional ``datasets`` package."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from editcollapse.errors import DatasetError
from editcollapse.fingerprints import digest
from editcollapse.record_fields import TEXT_FIELDS, RecordError, text_of_item

_SPLIT_EXPRESSION = frozenset("[+")


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
            "'datasets' is missing. Run pip install 'editcollapse[hub]', or name a file instead."
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
    found = str(error).splitlines()[0] if str(error) else ""
    return DatasetError(
        f"the corpus {source!r} ({asked}) was asked from the Hugging Face hub, which gave "
        f"{type(error).__name__}: {found}. Check its name and the network, or name a file."
    )
