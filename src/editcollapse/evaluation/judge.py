"""A language model as a judge of free answers, behind OpenAI's chat protocol; standard library.

Source: Revisit-Editing-Evaluation llm_judge and SimpleQA: temperature 0, one letter of A correct, B
incorrect, C not attempted. There all but A counts 0, a failed call and a reply that is no letter
too; here both are no verdict at all.
"""

import dataclasses
import ipaddress
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, Literal
from urllib.parse import urlsplit

from editcollapse.config.generation import ANSWER, QUESTION, TARGET, JudgeSpec
from editcollapse.errors import StudyError, first_line
from editcollapse.runtime.settings import settings, variable_name

Verdict = Literal["correct", "incorrect", "not attempted"]

_VERDICTS: dict[str, Verdict] = {"A": "correct", "B": "incorrect", "C": "not attempted"}
_REPLY = re.compile(r"\W*([ABC])(?:\W+(CORRECT|INCORRECT|NOT[ _]ATTEMPTED))?\W*", re.ASCII)
_PLACES = re.compile("|".join(map(re.escape, (QUESTION, TARGET, ANSWER))))
_DELAYS_S = (1.0, 5.0, 20.0)
"""Seconds before each further try."""
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""HTTP statuses that a later try may not have."""
_MAX_BYTES = 1 << 20
"""Of a reply; what is longer is none of a judge that is asked for one letter."""
_PATH = "/chat/completions"


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge says of one answer."""

    reply: str | None
    """As it came; None where none came."""
    verdict: Verdict | None
    """None where none came, or where it is none of the three."""
    reason: str | None
    """Why there is no verdict."""


def verdict_of(reply: str) -> Verdict | None:
    """Return the verdict of a reply: a letter alone, or with its own word behind it; else None."""
    found = _REPLY.fullmatch(reply)
    if found is None:
        return None
    verdict, word = _VERDICTS[found.group(1)], found.group(2)
    if word is not None and word.replace("_", " ").lower() != verdict:
        return None
    return verdict


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would take the key and the texts to another host."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Return nothing: the redirect is the answer, and an error."""


class Judge:
    """Asks a judge about one answer after the other.

    Args:
        spec: who, where, and with which prompt.
        sleep: waits some seconds before another try.

    Raises:
        StudyError: there is a key, and the URL would carry it unencrypted to another machine.
    """

    def __init__(self, spec: JudgeSpec, sleep: Callable[[float], object] = time.sleep) -> None:
        self._spec, self._sleep = spec, sleep
        base = spec.url.rstrip("/")
        self._url = base if base.endswith(_PATH) else base + _PATH
        self._headers = {"Content-Type": "application/json"}
        key = settings().judge_key
        if key:
            if not _is_private(self._url):
                raise StudyError(
                    f"the judge at {spec.url} is on another machine and not behind https, and "
                    f"{variable_name('judge_key')} is set: it would travel in the open. Give an "
                    "https URL, or unset the variable."
                )
            self._headers["Authorization"] = f"Bearer {key}"
        self._opener = urllib.request.build_opener(_NoRedirect())

    def judge(self, question: str, target: str, answer: str) -> Judgement:
        """Return what the judge says of an answer; it never raises for what the judge does."""
        texts = {QUESTION: question, TARGET: target, ANSWER: answer.strip()}
        # In one pass: a place's name within a text stays what it is.
        prompt = _PLACES.sub(lambda found: texts[found.group()], self._spec.asked_with)
        reason = ""
        for delay in (*_DELAYS_S, None):
            try:
                reply = self._reply(prompt)
            except _Refusal as refusal:
                reason = str(refusal)
                if delay is None or not refusal.may_pass:
                    break
                self._sleep(delay)
                continue
            verdict = verdict_of(reply)
            missing = "the reply is none of the letters A, B, C"
            return Judgement(reply, verdict, None if verdict else missing)
        return Judgement(None, None, reason)

    def _reply(self, prompt: str) -> str:
        """Return the judge's reply; raise _Refusal where there is none."""
        asked = {
            "model": self._spec.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
        }
        request = urllib.request.Request(  # noqa: S310  the spec has checked the scheme
            self._url, json.dumps(asked).encode(), self._headers, method="POST"
        )
        try:
            with self._opener.open(request, timeout=self._spec.timeout_s) as response:
                body = response.read(_MAX_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                raise _Refusal(
                    f"the judge answered with HTTP status {error.code}",
                    may_pass=error.code in _AGAIN,
                ) from error
        except (OSError, HTTPException) as error:
            raise _Refusal(f"no answer of the judge: {first_line(error)}", may_pass=True) from error
        try:
            content = json.loads(body)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            content = None
        if len(body) > _MAX_BYTES or not isinstance(content, str):
            raise _Refusal("the judge's answer is no chat completion", may_pass=False)
        return content


class _Refusal(Exception):  # noqa: N818  no error of ours
    """No reply of the judge."""

    def __init__(self, reason: str, *, may_pass: bool) -> None:
        super().__init__(reason)
        self.may_pass = may_pass


def _is_private(url: str) -> bool:
    """Return whether nobody on the way reads what is sent to a URL."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
