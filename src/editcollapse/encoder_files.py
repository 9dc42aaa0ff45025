"""Encoders of encoder-decoder models, read for contrast: which there are, and what each is.

One family is known: T5.
"""

from pathlib import Path

from editcollapse.errors import UnknownFamilyError
from editcollapse.model_files import PlainFolder, fingerprint_folder, plain_folder

FAMILIES = ("t5",)
"""``model_type`` of the configurations whose encoder can be read."""


def absolute_source(source: str) -> str:
    """Return a folder's absolute path; a hub id as it is."""
    folder = Path(source).expanduser()
    return str(folder.resolve()) if folder.is_dir() else source


def encoder_id(source: str) -> str:
    """Return the digest of an encoder's weights, configuration and tokenizer; loads none of them.

    Args:
        source: a folder, or a hub id.

    Raises:
        ModelError: no such model, no safetensors, or no tokenizer.
        UnknownFamilyError: its family's encoder cannot be read.
    """
    return fingerprint_folder(encoder_files(source))


def encoder_files(source: str) -> PlainFolder:
    """Return an encoder's files.

    Raises:
        ModelError: no such model, or no safetensors.
        UnknownFamilyError: its family's encoder cannot be read.
    """
    files = plain_folder(source)
    family = files.config.get("model_type")
    if family not in FAMILIES:
        raise UnknownFamilyError(
            f"{source} is of family {family!r}; encoders that can be read: {', '.join(FAMILIES)}. "
            "A decoder is profiled as a model of the study."
        )
    return files
