"""Prompts in a chat template: the ids are the tokenizer's own, and the subject stands inside."""

import dataclasses
import json

import pytest
import torch

from editcollapse.config.spec import ModelSpec
from editcollapse.data.requests import EditRequest
from editcollapse.errors import ModelError
from editcollapse.evaluation.probes import plan_probes
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.keys import read_keys
from editcollapse.forward.rewrites import build_rewrite
from editcollapse.models.chat import ChatFrame
from editcollapse.models.files import digest_model, locate_model
from editcollapse.models.loading import load_model, read_encoder
from editcollapse.models.tokenization import Encoder
from tests.support.tiny import write_model
from tests.support.toy_tokenizers import byte_tokenizer, metaspace_tokenizer, word_tokenizer

CHAT = (
    "{% for message in messages %}{{ '<|turn|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|turn|>assistant\\n' }}"
    "{% endif %}"
)
PLAIN = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ 'The city . ' + message['content'] | trim + ' said' }}{% else %}{{ ' ' + message['content']"
    " }}{% endif %}{% endfor %}"
)
"""No special token shuts the message off, and an answer stands behind a blank."""
TOKENIZERS = {
    "words": lambda: word_tokenizer(start=True),
    "bytes": byte_tokenizer,
    "metaspace": lambda: metaspace_tokenizer(start=True),
}
REQUEST = EditRequest("Lumo", "{} is red", "blue", "red", ("Old Lumo is",), ("Bram is",))
TEMPLATES = ("{}", "One more thing about it. {}")


def tokenizer_of(name, template=CHAT):
    """Return a toy tokenizer with a chat template."""
    tokenizer = TOKENIZERS[name]()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>", "<|end|>"]})
    tokenizer.chat_template = template
    return tokenizer


def in_chat(name, template=CHAT):
    """Return an encoder whose prompts are chats."""
    return Encoder(tokenizer_of(name, template), "tokenizer", 200, name, in_chat=True)


@pytest.fixture(
    params=[("words", CHAT), ("bytes", CHAT), *((name, PLAIN) for name in TOKENIZERS)],
    ids=["words", "bytes", "words, plain", "bytes, plain", "metaspace, plain"],
)
def encoder(request):
    """Return such an encoder of every kind of tokenizer and template."""
    return in_chat(*request.param)


def templated(encoder, text):
    """Return the ids that the tokenizer's own chat template gives to a user's message."""
    return tuple(
        encoder.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
    )


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("prompt", ["{} is red", "The river near {}", " {} is "])
@pytest.mark.parametrize("subject", ["Lumo", "North Bram"])
def test_prompts_have_the_template_s_own_ids(encoder, template, prompt, subject):
    """As the tokenizer renders them whole; the subject's tokens spell it, and none is the first."""
    text = template.replace("{}", prompt.replace("{}", subject)).strip()
    found = encoder.subject_sequence(template, prompt, subject)
    assert found.ids == encoder.prompt_ids(text) == templated(encoder, text)
    spelled = encoder.tokenizer.decode(found.ids[found.subject_first : found.subject_last + 1])
    assert spelled.replace(" ", "") == subject.replace(" ", "")
    audit = encoder.audit_of(found)
    assert audit.subject_position == "inside"
    assert not audit.is_first_token


def test_what_special_tokens_shut_off_is_encoded_once():
    """Where the parts would be encoded otherwise than the whole, the whole is."""
    assert in_chat("bytes")._around.closing
    assert not in_chat("bytes", PLAIN)._around.closing
    for name in TOKENIZERS:
        encoder = in_chat(name)
        for text in ("1 Old", "é", "a\n\nb", "  x "):
            assert encoder.prompt_ids(text) == templated(encoder, text.strip())


def test_a_template_of_a_start_token_alone_leaves_the_first_token_first():
    """Base models have such ones; the subject then stands where it does without."""
    encoder = in_chat("words", "{{ bos_token }}{{ messages[0]['content'] }}")
    audit = encoder.audit(REQUEST)
    assert (audit.subject_position, audit.subject_first_index) == ("first_token", 1)
    assert audit == encoder_without("words").audit(REQUEST)


def encoder_without(name):
    """Return an encoder of the same tokenizer whose prompts are texts."""
    return Encoder(tokenizer_of(name), "tokenizer", 200, name)


def test_a_target_is_the_answer():
    """It stands where the template writes answers: directly, or behind its blank."""
    encoder = in_chat("bytes")
    assert encoder.tokenizer.decode(encoder.target_ids("blue")) == "blue"
    assert (
        encoder_without("bytes").tokenizer.decode(encoder_without("bytes").target_ids("blue"))
        == " blue"
    )
    behind = in_chat("bytes", PLAIN)
    assert behind.chat.lead == " "
    assert behind.tokenizer.decode(behind.target_ids("blue")) == " blue"
    answered = [
        {"role": "user", "content": "Lumo is"},
        {"role": "assistant", "content": "blue"},
    ]
    for each in (encoder, behind):
        whole = each.tokenizer.apply_chat_template(answered, return_dict=False)
        ids = each.prompt_ids("Lumo is") + each.target_ids("blue")
        assert tuple(whole[: len(ids)]) == ids


def test_texts_stay_as_they_are():
    """Texts of perplexity and C, and what context templates are drawn from, see no template."""
    plain, chat = encoder_without("words"), in_chat("words")
    assert chat.start_ids == plain.start_ids
    assert chat.sequence("Lumo is") == plain.sequence("Lumo is")
    assert chat.encode_many(["Lumo is"]) == plain.encode_many(["Lumo is"])


def test_every_probe_and_every_row_of_a_rewrite_is_a_chat():
    """Rewrite, prefixed, paraphrase and neighborhood prompts, and the row of the KL term."""
    encoder = in_chat("bytes")
    rows = build_rewrite(encoder, TEMPLATES, REQUEST).rows
    plan = plan_probes(encoder, TEMPLATES, REQUEST, 0)
    opening = encoder._around.opening
    assert opening
    assert {question.kind for question in plan.questions} == {
        "rewrite",
        "prefixed",
        "paraphrase",
        "neighborhood",
    }
    for row in (*rows, *plan.rows):
        assert row[: len(opening)] == opening
    assert templated(encoder, "Old Lumo is") in {
        row[: len(templated(encoder, "Old Lumo is"))] for row in plan.rows
    }


@pytest.mark.parametrize("variant", ["gpt2", "qwen2", "llama"])
def test_keys_are_those_of_the_whole_chat(variant, tmp_path):
    """Read in shared parts they equal those that the model computes of the templated ids alone."""
    folder = write_model(variant, tmp_path / "model")
    spec = ModelSpec(name="m", source=str(folder), dtype="float64", chat_template=True)
    (folder / "chat_template.jinja").write_text(PLAIN)
    loaded = load_model(spec, "cpu")
    encoder, hooked = loaded.encoder, HookedLayer(loaded, 1)
    rewrite = build_rewrite(encoder, TEMPLATES, REQUEST)
    keys = read_keys(hooked, [rewrite]).prompt_keys[0]
    for key, template, prompt in zip(keys, TEMPLATES, rewrite.prompts, strict=True):
        ids = templated(encoder, template.replace("{}", "Lumo is red"))
        assert ids == prompt.ids
        whole = hooked.read_key(torch.tensor([ids]))[0, prompt.subject_last]
        assert torch.allclose(key, whole, rtol=1e-12, atol=1e-12)


def test_thinking_is_off_and_every_day_is_the_same():
    """Settings that many templates know are given; the same study has the same ids tomorrow."""
    dated = (
        "{{ strftime_now('%d %b %Y') }} {% if enable_thinking is false %}off{% endif %} "
        "{{ messages[0]['content'] }}"
    )
    frame = ChatFrame.of(tokenizer_of("words", dated), "toy")
    assert frame.before == "26 Jul 2024 off "
    given = "{% if date_string is defined %}{{ date_string }}{% endif %} {{ messages[0].content }}"
    assert ChatFrame.of(tokenizer_of("words", given), "toy").before == "26 Jul 2024 "


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (None, "has no chat template"),
        ("{{ raise_exception('a system message is needed') }}", "a system message is needed"),
        ("{{ messages[0]['content'] }}{{ messages[0]['content'] }}", "2 times, not once"),
        ("no message", "0 times, not once"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ cycler.__init__.__globals__.os.system('id') }}", "unsafe|undefined"),
        ("{{ messages.append(1) }}", "unsafe|not safely callable"),
        ("{% for", "cannot be used"),
    ],
)
def test_templates_that_cannot_be_used(template, reason):
    """One sentence each; a template's program reaches nothing outside of its sandbox."""
    with pytest.raises(ModelError, match=reason) as caught:
        in_chat("words", template)
    assert "\n" not in str(caught.value)
    assert "Leave `chat_template` out" in str(caught.value)


def test_identity_has_the_template_only_where_it_is_used(tmp_path):
    """Ids of models without the setting are as before; with it they follow the template's text."""
    folder = write_model("gpt2", tmp_path / "model")
    files = locate_model(str(folder))
    spec = ModelSpec(name="m", source=str(folder))
    chat = spec.model_copy(update={"chat_template": True})
    before = digest_model(files, spec).model_id
    with pytest.raises(ModelError, match="has no chat template"):
        digest_model(files, chat)
    (folder / "chat_template.jinja").write_text(CHAT)
    assert digest_model(files, spec).model_id == before
    first = digest_model(files, chat).model_id
    (folder / "chat_template.jinja").write_text(PLAIN)
    assert len({before, first, digest_model(files, chat).model_id}) == 3
    assert digest_model(files, spec).model_id == before


def test_a_template_in_the_tokenizer_s_settings_counts(tmp_path):
    """Older folders have it there; the tokenizer that is read alone is the loaded model's."""
    folder = write_model("gpt2", tmp_path / "model")
    settings = folder / "tokenizer_config.json"
    kept = json.loads(settings.read_text())
    kept["chat_template"] = "{{ messages[0]['content'] }}"
    settings.write_text(json.dumps(kept))
    spec = ModelSpec(name="m", source=str(folder), chat_template=True)
    files = locate_model(str(folder))
    assert digest_model(files, spec).chat_template
    alone, loaded = read_encoder(files, spec), load_model(spec, "cpu").encoder
    assert dataclasses.asdict(alone.audit(REQUEST)) == dataclasses.asdict(loaded.audit(REQUEST))
    assert alone.max_length == loaded.max_length
