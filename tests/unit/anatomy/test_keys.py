"""Vectors of the root-cause study against one whole forward for each prompt: every family."""

import numpy as np
import torch

from editcollapse.anatomy.keys import drawn_template, read_key_kinds
from editcollapse.covariance.second_moment import MomentSolver
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import build_rewrites
from tests.support.cases import LAYER, REQUESTS, TEMPLATES, TIGHT, Float64Throughout, some_moment
from tests.support.tiny import VARIANTS, unlike_families


def whole_forward(loaded, ids, place):
    """Return the input of the edited down projection at one place, of the model run whole."""
    seen = []
    handle = loaded.down_projection(LAYER).register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0])
    )
    try:
        with torch.no_grad():
            loaded.model(torch.tensor([ids]))
    finally:
        handle.remove()
    return seen[0].view(len(ids), -1)[place].numpy()


def read(loaded, templates=TEMPLATES, seed=0):
    """Return C, the rewrites and their vectors."""
    moment = some_moment(loaded.widths.d_key)
    rewrites, _ = build_rewrites(loaded.encoder, templates, REQUESTS)
    with Float64Throughout():
        keys = read_key_kinds(HookedLayer(loaded, LAYER), rewrites, MomentSolver(moment), seed)
    return moment, rewrites, keys


@unlike_families
def test_vectors_are_those_of_whole_forwards(tiny_model, variant):
    """k0, kbar, C^-1 kbar, the key behind a prefix and the first token's are the plain ones."""
    loaded = tiny_model(variant)
    moment, rewrites, keys = read(loaded)
    n_start = len(loaded.encoder.start_ids)
    several = VARIANTS[variant].tokenizer == "bytes"  # Lumo is several tokens
    assert keys.is_first_token.tolist() == [not several, False, False, False]
    for b, rewrite in enumerate(rewrites):
        with Float64Throughout():
            each = [whole_forward(loaded, p.ids, p.subject_last) for p in rewrite.prompts]
            first = whole_forward(loaded, rewrite.prompts[0].ids, n_start)
        prefixed = np.mean(each, axis=0)
        drawn = drawn_template(rewrite.request.request_id, len(TEMPLATES), 0)
        assert drawn in {1, 2}
        expected = {
            "bare": each[0],
            "prefixed": prefixed,
            "solved": np.linalg.solve(moment.numpy(), prefixed),
            "one_prefix": each[drawn],
        }
        for kind, vector in expected.items():
            found = getattr(keys, kind)[b]
            assert np.allclose(found, vector, rtol=TIGHT, atol=TIGHT), (kind, b)
        assert keys.first_ids[b] == rewrite.prompts[0].ids[n_start]
        if keys.is_first_token[b]:
            assert np.isnan(keys.first_token[b]).all()
        else:
            assert np.allclose(keys.first_token[b], first, rtol=TIGHT, atol=TIGHT)


def test_denominator_and_cosine_are_those_of_the_edit(tiny_model):
    """k0 . u and the cosine of the keys are what ROME's edit reports."""
    from editcollapse.catalog.methods import METHODS
    from editcollapse.rome.updates import solved_directions

    loaded = tiny_model("gpt2")
    moment, _, keys = read(loaded)
    bare, prefixed = torch.from_numpy(keys.bare), torch.from_numpy(keys.prefixed)
    expected = solved_directions(bare, prefixed, METHODS["rome"], MomentSolver(moment))
    assert np.allclose(keys.bare_dot, expected.denominator.numpy(), rtol=TIGHT)
    assert np.allclose(keys.key_cosine, torch.cosine_similarity(bare, prefixed).numpy(), rtol=TIGHT)


def test_prefix_is_drawn_by_request_and_seed(tiny_model):
    """A request has the same prefix whichever others there are; another seed draws anew."""
    names = [f"request-{n}" for n in range(50)]
    drawn = [drawn_template(name, 4, 0) for name in names]
    assert set(drawn) == {1, 2, 3}
    assert drawn == [drawn_template(name, 4, 0) for name in names]
    assert drawn != [drawn_template(name, 4, 1) for name in names]
    _, _, alone = read(tiny_model("gpt2"), templates=("{}",))
    assert np.isnan(alone.one_prefix).all()
    assert np.array_equal(alone.bare, alone.prefixed)
