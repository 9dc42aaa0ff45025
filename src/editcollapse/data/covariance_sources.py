"""Where C of single edits comes from, checked before a model is loaded."""

import dataclasses
from pathlib import Path

from pydantic import ValidationError

from editcollapse.config.spec import CovarianceSpec
from editcollapse.data.corpora import Corpus, open_corpus
from editcollapse.errors import DatasetError, MomentError, StudyError

IDENTITY = "identity"
_STATISTICS = (".npz", ".safetensors")


@dataclasses.dataclass(frozen=True, slots=True)
class CovarianceSource:
    """A second moment C that can be had."""

    spec: CovarianceSpec
    """Kind, token budget and damping."""
    corpus: Corpus | None = None
    """To measure C on."""
    statistics: Path | None = None
    """Published layer statistics to read C from. Without either, C is the identity."""

    @classmethod
    def of(cls, source: str, tokens: int, damping: float, d_key: int) -> "CovarianceSource":
        """Check where C is to come from; neither corpus nor statistics are read to their end.

        Args:
            source: ``identity``, an ``.npz`` or ``.safetensors`` file of statistics, or a corpus: a
                text file or a hub data set id.
            tokens: of a corpus, at most.
            damping: added to C's diagonal, in units of its mean.
            d_key: K of the layer.

        Raises:
            StudyError: tokens or damping are out of range.
            MomentError: there is no such statistics file, or C of so few tokens is singular.
            DatasetError: there is no such corpus, or no text in it.
        """
        kind = IDENTITY if source == IDENTITY else "corpus"
        try:
            spec = CovarianceSpec.model_validate(
                {"kind": kind, "source": source, "n_tokens": tokens, "damping": damping}
            )
        except ValidationError as error:
            raise StudyError(
                f"`tokens` {tokens}, `damping` {damping:g}: tokens have to be at least 1, and "
                "damping at least 0."
            ) from error
        if source == IDENTITY:
            return cls(spec)
        if Path(source).suffix in _STATISTICS:
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
            return cls(spec, corpus=open_corpus(source))
        except DatasetError as error:
            raise DatasetError(f"`covariance` {source}: {error}") from error

    def __str__(self) -> str:
        """For people."""
        if self.statistics is not None:
            return f"covariance of {self.statistics.name}"
        if self.corpus is not None:
            return f"covariance of {self.corpus.name}, {self.spec.n_tokens} tokens at most"
        return "identity covariance"
