"""What a visual-token policy is: facts before the run, decisions during it.

A policy is a frozen dataclass in a file of its own, named as on the command line. It decides which
visual tokens stay; the engine acts. It cannot know a model: it sees integers (`Scene`) when it
plans, and read-only views when it decides. Whatever a view has to compute for it (attention rows,
keys, earlier hidden states) is declared in `needs`; nothing undeclared is computed or paid for.

Boundaries: "stop b" is the point after b decoder layers have run, which is the input of the 0-based
layer b. Stop 0 is the decoder's input.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tokprof.errors import BrokenPromiseError, ParameterError
from tokprof.policies.planning import Cost, Newlines, Plan, Scene, segments
from tokprof.policies.views import CacheView, DecoderView, ImageView, Need, Rows, View, VisionView

if TYPE_CHECKING:
    from torch import Tensor

    from tokprof.shapes import ModelShape

__all__ = [
    "CacheView",
    "Cost",
    "DecoderView",
    "Edit",
    "ImageView",
    "Need",
    "Newlines",
    "Plan",
    "Policy",
    "Positions",
    "Rows",
    "Scene",
    "View",
    "VisionView",
    "segments",
    "top_indices",
]

Positions = Literal["persistent", "compacted"]


@dataclass(frozen=True)
class Edit:
    """What becomes of the visual tokens that a view showed.

    `keep`: (batch, kept) indices among them, unique; ascending unless `reordered`.
    `values`: (batch, kept, width), the new contents of the kept tokens, where merging changed them.
    `extra`: (batch, extra, width), tokens that stand for no single patch (a class token, a remainder),
    placed behind the kept ones, or before them with `extra_first`; only before the decoder.
    `sizes`: (batch, kept), how many patches each token stands for (merging inside the vision tower).
    `pivot`: (batch,), the token the choice began with, among those shown; only for pictures of it.
    `keep=None` drops every visual token, newline tokens too.
    """

    keep: Tensor | None
    values: Tensor | None = None
    extra: Tensor | None = None
    extra_first: bool = False
    reordered: bool = False
    sizes: Tensor | None = None
    pivot: Tensor | None = None

    @staticmethod
    def top(scores: Tensor, count: int) -> Edit:
        """Keep the `count` highest scores (batch, present); ties go to the lower index; any dtype, judged in fp32."""
        return Edit(top_indices(scores, count))

    @staticmethod
    def drop_all() -> Edit:
        return Edit(None)


def top_indices(scores: Tensor, count: int) -> Tensor:
    """Indices of the `count` highest scores per row, ascending: (batch, count)."""
    ranked = scores.float().sort(dim=-1, descending=True, stable=True).indices[..., :count]
    return ranked.sort(dim=-1).values


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Base of all methods. Its fields are the parameters of the command line.

    `keep` is the share of visual tokens a method keeps; each docstring says share of what, where.
    At 1.0 a method leaves the model as it is.
    """

    name: ClassVar[str] = ""
    paper: ClassVar[str] = ""  # title, venue, arXiv id with version
    acts: ClassVar[str] = ""  # where, in a few words, for `tokprof methods`
    needs: ClassVar[frozenset[Need]] = frozenset()
    optional: ClassVar[frozenset[Need]] = frozenset()  # read where a model offers it, done without elsewhere
    before_projector: ClassVar[bool] = False
    data_decided: ClassVar[bool] = False  # token counts depend on the data, so the host waits for the device
    training_based: ClassVar[bool] = False  # meaningful accuracy needs weights trained with the method

    keep: float = 1.0
    newlines: Newlines = "keep"

    def __post_init__(self) -> None:
        self.check_share("keep")
        if self.newlines not in ("keep", "candidates", "drop"):
            raise ParameterError(f"{self.name}: newlines={self.newlines!r}", "one of keep, candidates, drop")

    # facts, asked before the run

    def on(self, model: ModelShape) -> Policy:
        """This method with what its paper publishes for this very model, where the user left that open."""
        return self

    @property
    def identity(self) -> bool:
        """Whether these parameters leave the model as it is."""
        return self.keep >= 1.0

    @property
    def positions(self) -> Positions:
        """Rotary positions after an edit inside the decoder: kept as they were, or renumbered."""
        return "persistent"

    def check(self, scene: Scene) -> None:
        """Raise ParameterError or UnsupportedError where these parameters cannot work on this scene."""

    def vision_stops(self, depth: int) -> Iterable[int]:
        """Vision blocks (0-based) inside which `edit_vision` is asked."""
        return ()

    def vision_layers(self, depth: int) -> Iterable[int]:
        """Vision blocks (0-based) whose attention or keys `edit_image` will read."""
        return ()

    def entry_layer(self, depth: int) -> int:
        """The decoder layer at which visual tokens enter."""
        return 0

    def decoder_stops(self, depth: int) -> Iterable[int]:
        """Stops at which `edit_decoder` is asked."""
        return ()

    def side_layers(self, depth: int) -> Iterable[int]:
        """Decoder layers whose weights also serve as additional layers beside the model's own (untrained copies)."""
        return ()

    def side_stop(self, depth: int) -> int | None:
        """The stop at which they run on a copy of the sequence; `layer="previous"` there means the last of them."""
        return None

    def compress_tokens(self, scene: Scene) -> int:
        """Compression tokens behind the last visual token; 0: none.

        The engine then prefills in two passes. First: text before, visual tokens and the compression
        tokens, causally, through all layers; of their cache only the compression tokens' entries
        remain. Second: the text after, which sees those entries and itself. Rotary ids persist.
        """
        return 0

    def image_scale(self, scene: Scene) -> float:
        """Factor on both sides of the pictures before the vision tower; 1.0: as they are."""
        return 1.0

    def cache_layer(self, depth: int) -> int | None:
        """The first decoder layer that reads the cache as `edit_cache` left it, at every decode step."""
        return None

    def plan(self, scene: Scene) -> Plan:
        """Visual tokens entering each layer, of those the policy chooses among. See `schedule`."""
        return Plan(layers=(scene.visual,) * scene.depth)

    def published_mean(self, scene: Scene) -> float | None:
        """The layer mean as the paper counts it, for methods whose paper counts otherwise than `Plan.layer_mean`."""
        return None

    def costs(self, scene: Scene) -> list[Cost]:
        """The matrix work of deciding."""
        return []

    # decisions, asked during a request; None leaves things as they are

    def edit_vision(self, view: VisionView) -> Edit | None:
        return None

    def edit_image(self, view: ImageView) -> Edit | None:
        return None

    def edit_decoder(self, view: DecoderView) -> Edit | None:
        return None

    def edit_cache(self, view: CacheView) -> Tensor | None:
        """(batch, kept) visual cache entries that the deeper layers may read in this step."""
        return None

    # for everybody

    @property
    def edits_image(self) -> bool:
        """Whether the method decides anything between vision tower and decoder."""
        return type(self).edit_image is not Policy.edit_image

    def schedule(self, scene: Scene) -> Plan:
        """The plan in terms of all visual tokens: what the engine will do and a run is checked against."""
        if self.identity:
            return Plan(layers=(scene.layout.count,) * scene.depth)
        scene = scene.seen_by(self)
        plan = self.plan(scene)
        counts = plan.layers if isinstance(plan, Plan) else ()
        if len(counts) != scene.depth or not all(isinstance(count, int) and count >= 0 for count in counts):
            raise BrokenPromiseError(
                f"{self.name}: its plan does not say how many visual tokens enter each of the {scene.depth} layers",
                "return Plan(layers=segments(scene.depth, [(first layer, count), …]))",
            )
        return plan.with_fixed(scene.fixed)

    def settings(self) -> dict[str, Any]:
        """Parameters that differ from the method's defaults."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}

    def parameters(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def check_share(self, name: str, *, zero: bool = False) -> None:
        value = getattr(self, name)
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if not numeric or not (0 < value <= 1 or (zero and value == 0)):
            raise ParameterError(
                f"{self.name}: {name}={value!r}", f"a number {'from 0' if zero else 'above 0'} to 1, such as 0.25"
            )

    def check_choice(self, name: str, choices: Sequence[Any]) -> None:
        if getattr(self, name) not in choices:
            shown = ", ".join(str(choice) for choice in choices)
            raise ParameterError(f"{self.name}: {name}={getattr(self, name)!r}", f"one of {shown}")
