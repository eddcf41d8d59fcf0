"""From pixels to the visual tokens that enter the decoder, and the edits on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from tokprof.engine.stream import Entering, Kept, take, verify
from tokprof.engine.vision_views import LiveImageView, LiveVisionView
from tokprof.models.adapter import Adapter, Prepared, VisionStates
from tokprof.policies.base import Edit, Need, Policy, Scene

if TYPE_CHECKING:
    from tokprof.measure.clock import Clock

_WATCHED = frozenset({Need.CLS_ATTENTION, Need.SALIENCY, Need.PATCH_KEYS})


class VisualIntake:
    """Runs the tower and the policy's decisions before the decoder; notes which needs were used."""

    def __init__(
        self,
        adapter: Adapter,
        policy: Policy,
        prepared: Prepared,
        clock: Clock,
        *,
        checked: bool = False,
        official_scores: bool = False,
    ) -> None:
        self.adapter, self.policy, self.prepared, self.clock = adapter, policy, prepared, clock
        self.checked, self.official = checked, official_scores
        self.scene: Scene = prepared.scene.seen_by(policy)
        self.used: set[Need] = set()
        self.kept: list[Kept] = []

    def run(self) -> Tensor | Entering:
        """Every visual token as (batch, visual, width), or what is left of them."""
        self.clock.enter("vision")
        states = self._encode()
        if self.policy.identity or not (self.policy.edits_image or states.merged):
            self.clock.enter("project")
            return self.adapter.embed_visual(states, self.prepared)
        if self.policy.before_projector and self.adapter.projects_by_token and not states.merged:
            return self._select_then_project(states)
        return self._project_then_select(states)

    def _encode(self) -> VisionStates:
        if self.policy.identity:
            return self.adapter.encode(self.prepared)
        depth = self.adapter.shape.vision.depth
        watch = set(self.policy.vision_layers(depth))
        if (self.policy.needs | self.policy.optional) & _WATCHED:
            watch.add(self.adapter.default_watch)
        return self.adapter.encode(self.prepared, watch, tuple(self.policy.vision_stops(depth)), self._edit_tower)

    def _edit_tower(self, block: int, tokens: Tensor, keys: Callable[[], Tensor], sizes: Tensor) -> Edit | None:
        self.clock.enter("select")
        view = LiveVisionView(self.policy.needs, self.scene, block, tokens, keys, sizes)
        edit = self.policy.edit_vision(view)
        self._note(view.used, edit, tokens)
        self.clock.enter("vision")
        return edit

    def _select_then_project(self, states: VisionStates) -> Entering:
        self.clock.enter("select")
        features = self.adapter.spread(states.features, self.prepared)
        edit = self._ask(states, features)
        batch = features.shape[0]
        origin = self.prepared.candidates.expand(batch, -1)
        if edit is not None:
            assert edit.keep is not None
            origin = origin.gather(1, edit.keep)
            features = edit.values if edit.values is not None else take(features, edit.keep)
        self.clock.enter("project")
        entering = Entering(self.adapter.project(features), origin)
        if edit is not None and edit.extra is not None:
            entering.extra, entering.extra_first = self.adapter.project(edit.extra), edit.extra_first
        if self.scene.fixed:
            newline = self.adapter.newline()
            entering.fixed = newline.expand(batch, self.scene.fixed, -1)
            entering.fixed_origin = self.prepared.newlines.expand(batch, -1)
        return self._entered(entering, edit)

    def _project_then_select(self, states: VisionStates) -> Entering:
        self.clock.enter("project")
        every = self.adapter.embed_visual(states, self.prepared)
        batch = every.shape[0]
        self.clock.enter("select")
        if states.merged:  # no grid any more, no newlines: the tokens take the first places
            origin = self.prepared.candidates[: every.shape[1]].expand(batch, -1)
            return Entering(every, origin)
        shown = self.policy.newlines == "candidates"
        tokens = every if shown else every[:, self.prepared.candidates]
        edit = self._ask(states, tokens)
        origin = (self._all_origins() if shown else self.prepared.candidates).expand(batch, -1)
        entering = Entering(tokens, origin)
        if edit is not None:
            assert edit.keep is not None
            entering.origin = origin.gather(1, edit.keep)
            entering.candidates = edit.values if edit.values is not None else take(tokens, edit.keep)
            entering.extra, entering.extra_first = edit.extra, edit.extra_first
        if self.scene.fixed:
            entering.fixed = every[:, self.prepared.newlines]
            entering.fixed_origin = self.prepared.newlines.expand(batch, -1)
        return self._entered(entering, edit)

    def _all_origins(self) -> Tensor:
        return self.prepared.visual_index.new_ones(self.scene.layout.count).cumsum(0) - 1

    def _ask(self, states: VisionStates, tokens: Tensor) -> Edit | None:
        view = LiveImageView(self.policy, self.scene, self.adapter, states, self.prepared, tokens, self.official)
        edit = self.policy.edit_image(view)
        self._note(view.used, edit, tokens)
        return edit

    def _entered(self, entering: Entering, edit: Edit | None) -> Entering:
        """Note what the edit left. Contents keep the order of a reordering edit, places are the sorted ones."""
        if edit is not None:
            extra = 0 if entering.extra is None else entering.extra.shape[1]
            self.kept.append(Kept(None, entering.origin, extra, edit.pivot))
            if edit.reordered:
                entering.origin = entering.origin.sort(dim=1).values
        return entering

    def _note(self, used: set[Need], edit: Edit | None, tokens: Tensor) -> None:
        self.used |= used
        if self.checked and edit is not None:
            verify(edit, tokens)
