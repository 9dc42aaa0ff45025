"""Positions and targets in tokens: by offsets on the whole string, whatever the tokenizer."""

import dataclasses

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from editcollapse.data.requests import EditRequest
from editcollapse.errors import ModelError
from editcollapse.models.tokenization import Encoder, UnusableTextError, pad_right
from tests.support.toy_tokenizers import (
    byte_tokenizer,
    merging_tokenizer,
    metaspace_tokenizer,
    word_tokenizer,
)

TOKENIZERS = {
    "words": lambda: word_tokenizer(start=False),
    "words_bos": lambda: word_tokenizer(start=True),
    "bytes": byte_tokenizer,
    "merging": merging_tokenizer,
    "metaspace": lambda: metaspace_tokenizer(start=False),
    "metaspace_bos": lambda: metaspace_tokenizer(start=True),
}
SLOTS = ("{} is red", "The city of {} is red", "The river near {}")


@pytest.fixture(params=TOKENIZERS)
def encoder(request):
    """Return an encoder of every kind of tokenizer."""
    return Encoder(TOKENIZERS[request.param](), "tokenizer", 200, request.param)


def encoder_of(name, policy="tokenizer", length=200):
    """Return an encoder of one kind."""
    return Encoder(TOKENIZERS[name](), policy, length, name)


@pytest.mark.parametrize("subject", ["Lumo", "North Bram", "Quill Vane Port"])
@pytest.mark.parametrize("prompt", SLOTS)
@pytest.mark.parametrize("template", ["{}", "One more thing about it. {}"])
def test_subject_is_where_its_characters_are(encoder, template, prompt, subject):
    """The tokens up to the subject's last one spell the text up to the subject's end."""
    found = encoder.subject_sequence(template, prompt, subject)
    text = template.replace("{}", prompt.replace("{}", subject))
    assert found.ids == encoder.sequence(text)
    end = text.index(subject) + len(subject)
    start = len(encoder.start_ids)
    spans = encoder.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = spans["offset_mapping"]
    assert spans[found.subject_last - start][1] == end
    assert spans[found.subject_first - start][0] <= text.index(subject)
    before = spans[found.subject_first - start - 1][1] if found.subject_first > start else 0
    assert before <= text.index(subject)


@pytest.mark.parametrize("subject", ["🎉", "Zürich", "Łódź", "東京", "a🎉é", "naïve 🇩🇪"])
@pytest.mark.parametrize("prompt", SLOTS)
def test_bytes_of_a_character_belong_together(prompt, subject):
    """Where one character is several byte tokens, the subject ends with the last of them."""
    encoder = encoder_of("bytes")
    found = encoder.subject_sequence("It stood here. {}", prompt, subject)
    tail = prompt.split("{}")[1]
    assert encoder.encode(tail) == found.ids[found.subject_last + 1 :]
    inside = encoder.tokenizer.decode(found.ids[found.subject_first : found.subject_last + 1])
    assert inside.strip() == subject


def test_byte_tokens_of_an_emoji_are_several():
    """The trap is there: the toy tokenizer takes an emoji apart."""
    assert len(encoder_of("bytes").encode("🎉")) > 1


@pytest.mark.parametrize("target", ["Tarn", "New Port", "Old Port Tarn"])
def test_target_ids_are_those_in_context(encoder, target):
    """A target has the ids that it has at the end of a sentence, behind one space."""
    for before in ("The city is", "a", "Lumo"):
        joined = encoder.encode(f"{before} {target}")
        ids = encoder.target_ids(target)
        assert joined == encoder.encode(before) + ids


def test_metaspace_target_has_no_lone_underline():
    """A SentencePiece tokenizer's lone underline piece does not become the target's first token."""
    encoder = encoder_of("metaspace")
    naive = encoder.tokenizer.convert_ids_to_tokens(encoder.encode(" Tarn"))
    ids = encoder.target_ids("Tarn")
    assert naive[0] == "▁"
    assert encoder.tokenizer.convert_ids_to_tokens(list(ids)) == ["▁Tarn"]


def test_target_behind_an_anchor_that_merges():
    """Where the anchor does not keep its ids, the target is encoded alone, less the lone piece."""
    encoder = encoder_of("metaspace")
    encoder._anchor_ids = (9999,)
    assert encoder.target_ids("Tarn") == encoder.encode("Tarn")
    assert encoder_of("bytes").target_ids("Tarn") == encoder_of("bytes").encode(" Tarn")


def test_unknown_words_are_refused_by_name():
    """A target or a subject's end that the tokenizer does not know is refused; others go on."""
    encoder = encoder_of("words")
    with pytest.raises(UnusableTextError, match="words has no token for the target 'Xyz Tarn'"):
        encoder.target_ids("Xyz Tarn")
    with pytest.raises(UnusableTextError, match="does not know the end of the subject 'Xyz'"):
        encoder.subject_sequence("{}", "{} is", "Xyz")
    encoder.subject_sequence("{}", "{} is", "Xyz Tarn")
    with pytest.raises(UnusableTextError, match="the target '' has no tokens"):
        encoder.target_ids("")
    with pytest.raises(UnusableTextError, match=r"no token for the end of the subject '\\u2028'"):
        encoder.subject_sequence("{}", "The city {} is", "\u2028")


def test_start_token_policies():
    """The tokenizer's own habit, never, or always; a tokenizer without BOS cannot be made to."""
    assert encoder_of("words").start_ids == ()
    assert encoder_of("words_bos").start_ids == (1,)
    opens = encoder_of("words_bos").start_token
    assert opens == "<s>"
    assert encoder_of("words_bos", "never").start_ids == ()
    assert encoder_of("words", "always").start_ids == (1,)
    assert encoder_of("words").start_token is None
    with pytest.raises(ModelError, match='"always", but the tokenizer of bytes has no BOS'):
        encoder_of("bytes", "always")


def test_end_token_is_no_start_token():
    """A tokenizer that only closes texts opens none."""
    tokenizer = word_tokenizer(start=False)
    from tokenizers import processors

    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 2)]
    )
    closing = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    assert closing("a")["input_ids"][-1] == 2
    assert Encoder(closing, "tokenizer", 9, "closing").start_ids == ()


def test_tokenizer_without_offsets_is_refused():
    """A slow tokenizer cannot say where a character went."""
    with pytest.raises(ModelError, match="gives no character offsets"):
        Encoder(object(), "tokenizer", 9, "slow")


def test_too_long_sequences_are_refused():
    """A prompt beyond the model's positions is refused with both numbers."""
    encoder = encoder_of("words_bos", length=5)
    encoder.subject_sequence("{}", "{} is red", "Lumo")
    with pytest.raises(UnusableTextError, match="has 6 tokens; words_bos takes 5"):
        encoder.subject_sequence("{}", "{} is red river city", "Lumo")


@pytest.mark.parametrize(
    ("name", "prompt", "subject", "expected"),
    [
        ("words", "{} is red", "Lumo", ("first_token", 0, 0, True, True)),
        ("words", "{} is red", "North Bram", ("first_several", 0, 1, False, False)),
        ("words", "The {} is red", "Lumo", ("inside", 1, 1, False, False)),
        ("words_bos", "{} is red", "Lumo", ("first_token", 1, 1, True, False)),
        ("words_bos", "The {}", "North Bram", ("inside", 2, 3, False, False)),
    ],
)
def test_audit_of_the_position(name, prompt, subject, expected):
    """The audit tells the first token of the prompt from the first of the sequence."""
    audit = encoder_of(name).audit(EditRequest(subject, prompt, "red", None))
    position, first, last, is_first, at_start = expected
    assert audit.subject_position == position
    assert (audit.subject_first_index, audit.subject_last_index) == (first, last)
    assert (audit.is_first_token, audit.is_sequence_start) == (is_first, at_start)
    assert audit.n_subject_tokens == len(subject.split())
    assert audit.n_prompt_tokens == len(prompt.replace("{}", subject).split())
    assert audit.subject_last_token == subject.split()[-1]
    assert dataclasses.is_dataclass(audit)


def test_pad_right_repeats_the_last_id():
    """Rows keep their ids in place; padding stands to the right only."""
    found = pad_right([[5], [6, 7, 8]], torch.device("cpu"))
    assert found.tolist() == [[5, 5, 5], [6, 7, 8]]


@pytest.mark.parametrize(
    ("name", "prompt", "subject", "differs"),
    [
        ("words", "{} is red", "Lumo", False),
        ("metaspace", "{} is red", "Lumo", False),
        ("metaspace", "{}on is red", "Lumo", False),
        ("merging", "{} is red", "Tarn", False),
        ("merging", "{} is red", "Japan", True),
        ("merging", "{}ese people speak", "Japan", True),
        ("merging", "The {}ese people speak", "Japan", False),
        ("merging", "{} is red", "Old Japan", False),
        ("merging", "{}s", "Tarn", False),
    ],
)
def test_other_last_token_in_a_context(name, prompt, subject, differs):
    """It differs where the token's characters do, in the subject or behind it; no blank counts."""
    encoder = encoder_of(name)
    bare, context = (
        encoder.subject_sequence(template, prompt, subject) for template in ("{}", "Therefore. {}")
    )
    assert encoder.audit_of(bare, [context]).last_token_differs is differs
    assert not encoder.audit_of(bare).last_token_differs
    pieces = [
        encoder.tokenizer.decode(each.ids[each.subject_last]).strip() for each in (bare, context)
    ]
    assert (pieces[0] != pieces[1]) is differs


def test_extent_is_counted_from_the_subject_s_end():
    """A token that reaches beyond the subject has an end above 0; a blank in front is left out."""
    merging = encoder_of("merging")
    assert merging.subject_sequence("{}", "{}ese", "Japan").last_extent == (-4, 0)
    assert merging.subject_sequence("A. {}", "{}ese", "Japan").last_extent == (-5, 3)
    assert merging.subject_sequence("A. {}", "{}", "Japan").last_extent == (-5, 0)
    assert encoder_of("words").subject_sequence("{}", "{} is", "Old Lumo").last_extent == (-4, 0)
