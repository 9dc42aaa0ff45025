"""What the library is given: models, requests, texts and templates, checked when they are given."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from editcollapse.config.spec import ModelSpec
from editcollapse.data import datasets
from editcollapse.data.datasets import edit_request
from editcollapse.data.requests import SLOT, EditRequest, RequestFile
from editcollapse.data.texts import read_texts
from editcollapse.errors import StudyError
from editcollapse.runtime.settings import settings

if TYPE_CHECKING:
    from editcollapse.models.loading import LoadedModel

Texts = Sequence[str] | str | Path
"""Texts, or the file that holds them: JSON, JSONL or plain text, one a line."""


def load_model(
    source: str | Path,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    start_token: str = "tokenizer",
    chat_template: bool = False,
    device: str | None = None,
) -> "LoadedModel":
    """Causal LM of a folder or of the Hugging Face hub, with its tokenizer; safetensors only.

    Args:
        source: a folder, a GGUF file or a hub id.
        revision: branch, tag or commit on the hub.
        dtype: float32, float64, bfloat16 or float16.
        start_token: whether prompts open with a start token (BOS): as the ``tokenizer`` does,
            ``never``, or ``always``.
        chat_template: put prompts into the tokenizer's chat template, as the user's message;
            targets are then the answer.
        device: a torch device; where left out, EDITCOLLAPSE_DEVICE, or the best that is there.

    Raises:
        ModelError: the model cannot be loaded.
        StudyError: an argument has no such value.
    """
    from editcollapse.models.loading import load_model as load

    spec = model_spec("loaded", source, revision, dtype, start_token, chat_template=chat_template)
    return load(spec, settings().device if device is None else device)


def read_requests(path: str | Path) -> RequestFile:
    """Edit requests of a CounterFact, zsRE, KnowEdit or QAEdit file, as published or flat.

    Args:
        path: a JSON list or JSONL; each record that cannot be used is explained in ``rejections``.

    Raises:
        DatasetError: the file is missing, malformed, or without one usable record.
    """
    return datasets.read_requests(Path(path))


def asked_request(
    prompt: str | EditRequest, subject: str | None, target: str | None
) -> EditRequest:
    """Return the request that is meant.

    Raises:
        StudyError: it is none, or is given twice.
    """
    if isinstance(prompt, EditRequest):
        if subject is not None or target is not None:
            raise StudyError(
                "a whole request was given, and `subject` or `target` with it; leave them out."
            )
        return prompt
    if subject is None or target is None:
        missing = "`subject`" if subject is None else "`target`"
        raise StudyError(f"{missing} is missing: an edit has a prompt, a subject and a target.")
    return edit_request(prompt, subject=subject, target=target)


def given_texts(texts: Texts) -> tuple[str, ...]:
    """Return texts, read from a file where a path is given.

    Raises:
        DatasetError: there is no such file, or no text in it.
    """
    return read_texts(Path(texts)).texts if isinstance(texts, (str, Path)) else tuple(texts)


def checked_templates(templates: str | Sequence[str]) -> str | tuple[str, ...]:
    """Return a kind of templates, or templates with the bare one first.

    Raises:
        StudyError: there is no such kind, or a template has no slot at its end.
    """
    if isinstance(templates, str):
        if templates not in {"five_words", "start_token"}:
            raise StudyError(
                f"`templates` {templates!r}: give five_words, start_token, or a list of templates."
            )
        return templates
    for template in templates:
        if template.count(SLOT) != 1 or not template.endswith(SLOT):
            raise StudyError(f"`templates`: {template!r} needs exactly one {SLOT}, at its end.")
    return (SLOT, *dict.fromkeys(template for template in templates if template != SLOT))


def model_spec(
    name: str,
    source: str | Path,
    revision: str | None,
    dtype: str,
    start_token: str,
    *,
    chat_template: bool,
) -> ModelSpec:
    """Return a model as a study would name it.

    Args:
        name: what to call it.
        source: as all that follows, as ``load_model`` takes it.
        revision: of a hub model.
        dtype: type of the weights; one of torch is known by its name.
        start_token: whether prompts open with a start token.
        chat_template: whether prompts are put into the tokenizer's chat template.

    Raises:
        StudyError: a value is not known.
    """
    try:
        return ModelSpec.model_validate(
            {
                "name": name,
                "source": str(source),
                "revision": revision,
                "dtype": str(dtype).removeprefix("torch."),
                "start_token": start_token,
                "chat_template": chat_template,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        what = f"`{first['loc'][0]}` {first['input']!r}: " if first["loc"] else ""
        raise StudyError(f"{what}{first['msg'].removeprefix('Value error, ')}.") from error
