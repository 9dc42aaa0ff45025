"""The judge: what counts as a verdict, what is tried again, and what never leaves the machine."""

import pytest
from pydantic import ValidationError

from editcollapse.config.generation import JudgeSpec
from editcollapse.config.spec import EvaluationSpec
from editcollapse.errors import StudyError
from editcollapse.evaluation.judge import Judge, verdict_of
from tests.support.judge_server import judge_server

QUESTION, TARGET, ANSWER = "Where is the Louvre?", "Rome", " In Rome"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("EDITCOLLAPSE_JUDGE_KEY", raising=False)


def judged(stub, waited=None, **spec):
    """Return what a judge says of the one answer."""
    asked = JudgeSpec(**({"url": stub.url, "model": "stub", "timeout_s": 5} | spec))
    judge = Judge(asked, sleep=(waited if waited is not None else []).append)
    return judge.judge(QUESTION, TARGET, ANSWER)


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("A", "correct"),
        (" B.\n", "incorrect"),
        ("**C**", "not attempted"),
        ("A: CORRECT", "correct"),
        ("C (NOT_ATTEMPTED)", "not attempted"),
        ("B: CORRECT", None),
        ("A good answer.", None),
        ("a", None),
        ("AB", None),
        ("The grade is A", None),
        ("", None),
    ],
)
def test_only_a_letter_is_a_verdict(reply, verdict):
    """A word that begins with the letter is none, nor a letter that contradicts its word."""
    assert verdict_of(reply) == verdict


def test_judge_is_asked_as_the_protocol_has_it():
    """One user's message with question, target and answer in it, at temperature 0, and no key."""
    with judge_server(lambda _: "A") as stub:
        found = judged(stub, prompt="{question}|{target}|{answer}")
    assert (found.reply, found.verdict, found.reason) == ("A", "correct", None)
    assert stub.paths == ["/v1/chat/completions"]
    message = {"role": "user", "content": f"{QUESTION}|{TARGET}|In Rome"}
    assert stub.asked == [{"model": "stub", "messages": [message], "temperature": 0}]
    assert "Authorization" not in stub.headers[0]


def test_texts_with_places_in_them_stay_as_they_are():
    """An answer that writes {target} does not get the target."""
    with judge_server(lambda _: "B") as stub:
        spec = JudgeSpec(url=stub.url, model="m", prompt="{question}|{target}|{answer}")
        Judge(spec).judge("{answer} {}", "Rome", "{target}")
    assert stub.prompts == ["{answer} {}|Rome|{target}"]


def test_nonsense_is_no_verdict():
    """The reply is kept; it counts neither for nor against the edit."""
    with judge_server(lambda _: "As a language model I cannot say") as stub:
        found = judged(stub)
    assert found.reply == "As a language model I cannot say"
    assert found.verdict is None
    assert "none of the letters" in found.reason


def test_busy_judge_is_tried_again():
    """Statuses that pass are waited for, longer each time."""
    replies = iter([503, 429, "B"])
    waited = []
    with judge_server(lambda _: next(replies)) as stub:
        assert judged(stub, waited).verdict == "incorrect"
    assert len(stub.asked) == 3
    assert waited == sorted(waited)
    assert len(waited) == 2


@pytest.mark.parametrize(
    ("reply", "n_asked", "reason"),
    [
        (500, 4, "HTTP status 500"),
        (401, 1, "HTTP status 401"),
        (302, 1, "HTTP status 302"),  # no redirect is followed
        (b"<html>", 1, "no chat completion"),
        (b'{"choices": []}', 1, "no chat completion"),
        (b'{"choices": [{"message": {"content": null}}]}', 1, "no chat completion"),
        (b"[" * 100_000, 1, "no chat completion"),
        (b" " * (2 << 20), 1, "no chat completion"),
    ],
    ids=["500", "401", "302", "HTML", "empty", "null", "deep", "long"],
)
def test_failure_is_no_verdict(reply, n_asked, reason):
    """Whatever goes wrong there is no verdict, and no error either."""
    with judge_server(lambda _: reply) as stub:
        found = judged(stub)
    assert (found.reply, found.verdict) == (None, None)
    assert reason in found.reason
    assert len(stub.asked) == n_asked


def test_nobody_there_is_no_verdict():
    """A port that nobody listens on any more."""
    with judge_server(lambda _: "A") as stub:
        pass
    found = judged(stub)
    assert found.verdict is None
    assert "no answer of the judge" in found.reason


def test_key_is_of_the_environment_alone(monkeypatch):
    """It is sent to this machine or over https, and shown by nothing."""
    from editcollapse.runtime.settings import settings

    monkeypatch.setenv("EDITCOLLAPSE_JUDGE_KEY", "secret-key")
    with judge_server(lambda _: "A") as stub:
        found = judged(stub)
    assert stub.headers[0]["Authorization"] == "Bearer secret-key"
    assert "secret-key" not in repr(settings()) + repr(found)
    Judge(JudgeSpec(url="https://example.org/v1", model="m"))
    with pytest.raises(StudyError, match="in the open"):
        Judge(JudgeSpec(url="http://example.org/v1", model="m"))


@pytest.mark.parametrize(
    "url", ["ftp://host/v1", "file:///etc/passwd", "https://me:key@host/v1", "https://h/v1?key=1"]
)
def test_url_is_plain(url):
    """No other scheme, and no secret in what is stored."""
    with pytest.raises(ValidationError):
        JudgeSpec(url=url, model="m")


def test_spec_is_consistent():
    """A judge without answers, a prompt without its places: refused."""
    with pytest.raises(ValidationError, match="give `generation` too"):
        EvaluationSpec(judge=JudgeSpec(url="http://127.0.0.1/v1", model="m"))
    with pytest.raises(ValidationError, match=r"lacks \{answer\}"):
        JudgeSpec(url="http://127.0.0.1/v1", model="m", prompt="{question} {target}")
