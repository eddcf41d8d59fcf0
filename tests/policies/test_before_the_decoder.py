"""What every method that acts before the decoder owes, on every kind of prompt."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.policies.views import FakeImageView, anyres, noise, scene_of, several, single, tiled, video
from tokprof import policies
from tokprof.engine.stream import verify
from tokprof.errors import TokprofError
from tokprof.fit import check_fit
from tokprof.policies.base import Edit, Policy, Scene

METHODS: dict[str, dict[str, Any]] = {
    "random": {},
    "uniform": {},
    "avgpool": {},
    "todre": {"exit_layer": "never"},
    "visionzip": {},
    "fastervlm": {},
    "vispruner": {},
    "globalcom2": {},
    "hired": {},
    "prumerge": {},
    "prumerge_plus": {},
}
SCENES: dict[str, Scene] = {
    "picture": single(),
    "no class token": single(cls=False),
    "tiles": anyres(),
    "padded tiles": anyres(side=5, tile_rows=1, tile_cols=3, top=1),
    "batch": anyres(tile_rows=2, tile_cols=1, left=1, batch=2),
    "pictures": several(3),
    "tiled pictures": scene_of(*tiled(4, 1, 2), *tiled(4, 2, 2, top=2, image=1), tiling="anyres"),
    "video": video(),
}
CASES = [(name, scene) for name in METHODS for scene in SCENES]


def fitting(name: str, scene: Scene, **parameters: Any) -> Policy:
    policy = policies.build(name, **{**METHODS[name], **parameters})
    try:
        check_fit(policy, scene)
    except TokprofError as refusal:
        pytest.skip(refusal.message)
    return policy


def asked(policy: Policy, scene: Scene, **given: Any) -> Edit:
    edit = policy.edit_image(FakeImageView(policy, scene, **given))
    assert edit is not None and edit.keep is not None
    return edit


def entering(edit: Edit) -> int:
    assert edit.keep is not None
    return edit.keep.shape[1] + (0 if edit.extra is None else edit.extra.shape[1])


@pytest.mark.parametrize("keep", [0.01, 0.3, 0.5, 0.9])
@pytest.mark.parametrize(("name", "which"), CASES)
def test_the_budget_is_exact_and_indices_are_sound(name: str, which: str, keep: float) -> None:
    scene = SCENES[which]
    policy = fitting(name, scene, keep=keep)
    edit = asked(policy, scene)
    plan = policy.plan(scene.seen_by(policy))
    assert plan.exact
    assert plan.layers == (entering(edit),) * scene.depth
    verify(edit, FakeImageView(policy, scene).tokens)
    assert edit.values is None or edit.values.shape[:2] == edit.keep.shape  # type: ignore[union-attr]


@pytest.mark.parametrize(("name", "which"), CASES)
def test_only_declared_needs_are_read_and_all_of_them(name: str, which: str) -> None:
    scene = SCENES[which]
    policy = fitting(name, scene, keep=0.4)
    view = FakeImageView(policy, scene)
    policy.edit_image(view)
    read = {need for need in policy.needs if need.name not in ("TILES", "ROW_ATTENTION", "COLUMN_ATTENTION")}
    assert read <= view.used <= policy.needs | policy.optional


@pytest.mark.parametrize("name", METHODS)
def test_a_sample_chooses_as_if_it_were_alone(name: str) -> None:
    """And twice the same: the second sample of a batch of three, by itself."""
    scene = anyres(top=1, batch=3)
    policy = fitting(name, scene, keep=0.4)
    view = FakeImageView(policy, scene)
    given = {
        "tokens": view.tokens[1:2],
        "logits": {layer: view._rows(layer)[1:2] for layer in (None, 0, scene.model.vision.depth - 1)},
        "keys": view._keys[1:2],
        "features": view._features[1:2],
    }
    together, alone = asked(policy, scene), asked(policy, anyres(top=1), **given)
    assert together.keep is not None and alone.keep is not None
    assert torch.equal(together.keep[1:2], alone.keep)
    if together.values is not None and alone.values is not None:
        torch.testing.assert_close(together.values[1:2], alone.values)
    assert torch.equal(asked(policy, scene).keep, together.keep)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "which"), CASES)
def test_ties_everywhere_still_give_a_sound_choice(name: str, which: str) -> None:
    """Identical tokens, flat attention: the lowest indices, and nothing chosen twice."""
    scene = SCENES[which]
    policy = fitting(name, scene, keep=0.4)
    view = FakeImageView(policy, scene)
    flat: dict[str, Any] = {
        "tokens": torch.ones_like(view.tokens),
        "keys": torch.ones_like(view._keys),
        "features": torch.ones_like(view._features),
        "logits": {layer: torch.ones_like(view._rows(None)) for layer in (None, 0, scene.model.vision.depth - 1)},
    }
    edit = asked(policy, scene, **flat)
    verify(edit, FakeImageView(policy, scene).tokens)
    assert edit.values is None or bool(torch.isfinite(edit.values).all())


IN_THE_TOWER = ("pivot", "keys", "class", "attention")


@pytest.mark.parametrize(("name", "which"), CASES)
def test_the_matrix_work_of_deciding_is_what_costs_say(name: str, which: str) -> None:
    """Apart from what the tower does for it; torch counts two operations per multiply–accumulate."""
    scene = SCENES[which]
    policy = fitting(name, scene, keep=0.4)
    view = FakeImageView(policy, scene)
    with FlopCounterMode(display=False) as counter:
        policy.edit_image(view)
    costs = policy.costs(scene.seen_by(policy))
    assert all(cost.macs >= 0 for cost in costs)
    deciding = sum(cost.macs for cost in costs if not cost.name.startswith(IN_THE_TOWER))
    assert counter.get_total_flops() == 2 * deciding * scene.batch


@pytest.mark.parametrize("name", METHODS)
def test_what_is_no_number_cannot_spoil_the_indices(name: str) -> None:
    """The engine says that the output is not finite; until then the choice has to be one."""
    scene = anyres(top=1)
    policy = fitting(name, scene, keep=0.4)
    view = FakeImageView(policy, scene)
    spoilt = [view.tokens.clone(), view._keys.clone(), view._features.clone()]
    for tensor in spoilt:
        tensor[:, 3] = tensor[:, 20] = float("nan")
    edit = asked(policy, scene, tokens=spoilt[0], keys=spoilt[1], features=spoilt[2])
    verify(edit, FakeImageView(policy, scene).tokens)
    assert entering(edit) == policy.plan(scene.seen_by(policy)).layers[0]


@pytest.mark.parametrize("name", METHODS)
def test_nothing_waits_for_the_device(name: str) -> None:
    """On the meta device a read of any value raises."""
    scene = anyres(side=5, top=1, batch=2)
    policy = fitting(name, scene, keep=0.4)
    view = FakeImageView(policy, scene)
    for attribute, value in vars(view).items():
        if isinstance(value, Tensor):
            setattr(view, attribute, value.to("meta"))
    edit = policy.edit_image(view)
    assert edit is not None and edit.keep is not None and edit.keep.is_meta


@pytest.mark.parametrize("name", METHODS)
def test_half_precision_scores_are_judged_in_single(name: str) -> None:
    """Values and extras come back in the tokens' own type."""
    scene = anyres()
    policy = fitting(name, scene, keep=0.4)
    width = FakeImageView(policy, scene).tokens.shape[-1]
    edit = asked(policy, scene, tokens=noise(1, scene.seen_by(policy).visual, width).bfloat16())
    assert edit.values is None or edit.values.dtype == torch.bfloat16
