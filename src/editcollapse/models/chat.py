"""A tokenizer's chat template as the texts that it puts around one user's message.

The template is a program of the model's folder, which transformers renders in a sandboxed jinja
environment (``ImmutableSandboxedEnvironment``): it reaches no file, no network and no attribute of
Python's own. It may still take long; it is rendered only where a study asks for it.
"""

import dataclasses
import datetime as dt
import json
import re
from typing import Any

from editcollapse.errors import ModelError, first_line

_PROMPT, _ANSWER = "editcollapseprompt", "editcollapseanswer"
_DAY = dt.date(2024, 7, 26)
"""Today, for templates that write the date: the default of Llama 3's own."""
_DATE = re.compile(r"""strftime_now\(\s*['"]([^'"]*)['"]\s*\)""")


@dataclasses.dataclass(frozen=True, slots=True)
class ChatFrame:
    """The texts around one user's message."""

    before: str
    """Up to the message, special tokens included."""
    after: str
    """From the message to where the assistant's answer begins: the generation prompt."""
    lead: str
    """What the template writes between that and an answer: a blank, or nothing."""

    @classmethod
    def of(cls, tokenizer: Any, source: str) -> "ChatFrame":
        """Render a tokenizer's chat template.

        Args:
            tokenizer: of transformers.
            source: folder or hub id, for messages.

        Raises:
            ModelError: it has no chat template, or one that takes no single user's message.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise no_chat_template(source)
        asked = [{"role": "user", "content": _PROMPT}]
        whole = _rendered(tokenizer, asked, source, for_answer=True)
        if whole.count(_PROMPT) != 1:
            raise ModelError(
                f"the chat template of {source} writes the user's message "
                f"{whole.count(_PROMPT)} times, not once. {_WITHOUT}"
            )
        before, after = whole.split(_PROMPT)
        answered = [*asked, {"role": "assistant", "content": _ANSWER}]
        # What is trained on: the generation prompt, and the answer right behind it or behind a gap.
        text = _rendered(tokenizer, answered, source, for_answer=False)
        gap = text.removeprefix(whole).partition(_ANSWER)[0] if text.startswith(whole) else ""
        return cls(before, after, gap)

    def around(self, text: str) -> str:
        """Return a message in the template; blanks around it are left out."""
        return f"{self.before}{text.strip()}{self.after}"


_WITHOUT = "Leave `chat_template` out: prompts are then texts that the model goes on from."


def no_chat_template(source: str) -> ModelError:
    """Return the error on a model that has none."""
    return ModelError(f"the tokenizer of {source} has no chat template. {_WITHOUT}")


def _on_one_day(template: str) -> str:
    """Return a template that writes the same date every day, by a macro in the clock's place."""
    forms = {form: _DAY.strftime(form) for form in _DATE.findall(template)}
    if not forms:
        return template
    known = json.dumps(forms)
    return (
        f"{{%- macro strftime_now(form) -%}}{{{{ ({known})[form] }}}}{{%- endmacro -%}}{template}"
    )


def _rendered(
    tokenizer: Any, messages: list[dict[str, str]], source: str, *, for_answer: bool
) -> str:
    try:
        text = tokenizer.apply_chat_template(
            messages,
            chat_template=_on_one_day(tokenizer.get_chat_template()),
            tokenize=False,
            add_generation_prompt=for_answer,
            enable_thinking=False,  # the answer comes first, where a template lets it
            date_string=_DAY.strftime("%d %b %Y"),
        )
    except Exception as error:  # jinja's, and whatever a template's program runs into
        raise ModelError(
            f"the chat template of {source} cannot be used: {first_line(error)}. {_WITHOUT}"
        ) from error
    return str(text)
