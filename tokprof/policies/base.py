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
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tokprof.errors import BrokenPromiseError, ParameterError
from tokprof.shapes import ModelShape, VisualLayout

if TYPE_CHECKING:
    from torch import Tensor

Positions = Literal["persistent", "compacted"]
Newlines = Literal["keep", "candidates", "drop"]


class Need(Enum):
    """Something a view computes only for the policies that declare it."""

    CLS_ATTENTION = "the class token's attention row in the vision tower"
    SALIENCY = "the class token's attention, or the mean attention received where there is no such token"
    CLS_FEATURE = "the class token's own feature"
    PATCH_FEATURES = "the vision tower's features of the tokens, before the projector"
    PATCH_KEYS = "the vision tower's attention keys"
    TOWER_TOKENS = "merging tokens between the blocks of the vision tower"
    PROMPT_EMBEDDINGS = "the embeddings of the prompt's text"
    HIDDEN_BEFORE = "the hidden states one layer earlier"
    ROW_ATTENTION = "attention rows of a decoder layer"
    COLUMN_ATTENTION = "attention columns of a decoder layer, over all visual queries"
    DECODER_KEYS = "the attention keys of a decoder layer"
    DECODE_ATTENTION = "the attention of each generated token, and a cache that can be pruned while decoding"
    TILES = "a picture cut into a thumbnail and tiles"
    FRAMES = "a video of several frames"
    SMALLER_INPUT = "a picture that may be resized before the vision tower"
    EXTRA_LAYERS = "additional decoder layers beside the model's own"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """All that is known before a run, integers only.

    `visual` counts the tokens a policy chooses among; `fixed` the newline tokens that always stay
    with them (until every visual token goes). `text_after` counts the prompt's text tokens behind
    the first visual token.
    """

    model: ModelShape
    layout: VisualLayout
    text: int
    text_after: int
    batch: int = 1
    visual: int = 0
    fixed: int = 0

    @property
    def depth(self) -> int:
        return self.model.decoder.depth

    def seen_by(self, policy: Policy) -> Scene:
        """This scene with `visual` and `fixed` as the policy's way with newline tokens has them."""
        candidates = self.layout.count if policy.newlines == "candidates" else self.layout.patches
        fixed = self.layout.newlines if policy.newlines == "keep" else 0
        return replace(self, visual=candidates, fixed=fixed)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many visual tokens enter each decoder layer; exact unless `least` says that data decides.

    `layers` then is the most there can be. `projected`: tokens that pass the projector (None: every
    patch). `tower`: tokens per tile entering each vision block (None: all). `side_layers`: visual
    tokens entering each layer that runs beside the model's own. `cached_text`: where a method also
    forgets text. `read`: visual cache entries that each layer reads in a decode step, for methods that
    choose among them by the attention of the layer before (None: all).
    """

    layers: tuple[int, ...]
    least: tuple[int, ...] | None = None
    projected: int | None = None
    tower: tuple[int, ...] | None = None
    side_layers: tuple[int, ...] = ()
    cached_text: int | None = None  # text tokens left in each layer's cache; None: all of them
    read: tuple[int, ...] | None = None

    @property
    def exact(self) -> bool:
        return self.least is None

    @property
    def layer_mean(self) -> float:
        """Mean over decoder layers of the visual tokens that enter them: the papers' "average retained tokens"."""
        return sum(self.layers) / len(self.layers)

    def with_fixed(self, fixed: int) -> Plan:
        """Newline tokens stay as long as any other visual token does."""

        def add(counts: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(count + fixed if count else 0 for count in counts)

        return replace(
            self,
            layers=add(self.layers),
            least=self.least and add(self.least),
            side_layers=add(self.side_layers),
            read=self.read and add(self.read),
        )

    def covers(self, observed: Sequence[int]) -> bool:
        least = self.least or self.layers
        return len(observed) == len(self.layers) and all(
            low <= seen <= high for low, seen, high in zip(least, observed, self.layers, strict=True)
        )


@dataclass(frozen=True)
class Cost:
    """Matrix work of a decision, in multiply–accumulates for one sample."""

    name: str
    macs: int


@dataclass(frozen=True)
class Edit:
    """What becomes of the visual tokens that a view showed.

    `keep`: (batch, kept) indices among them, unique; ascending unless `reordered`.
    `values`: (batch, kept, width), the new contents of the kept tokens, where merging changed them.
    `extra`: (batch, extra, width), tokens that stand for no single patch (a class token, a remainder),
    placed behind the kept ones, or before them with `extra_first`; only before the decoder.
    `sizes`: (batch, kept), how many patches each token stands for (merging inside the vision tower).
    `keep=None` drops every visual token, newline tokens too.
    """

    keep: Tensor | None
    values: Tensor | None = None
    extra: Tensor | None = None
    extra_first: bool = False
    reordered: bool = False
    sizes: Tensor | None = None

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


class View:
    """Read-only; hands out only what its policy declared, and notes what was asked for."""

    def __init__(self, needs: frozenset[Need]) -> None:
        self._needs = needs
        self.used: set[Need] = set()

    def _use(self, need: Need) -> None:
        if need not in self._needs:
            raise BrokenPromiseError(
                f"the policy reads {need.value} without declaring it", f"add Need.{need.name} to its `needs`"
            )
        self.used.add(need)


class ImageView(View):
    """Between vision tower and decoder: the visual tokens of each sample, in sequence order.

    `tokens` are projected embeddings; for a policy with `before_projector` on a model that projects
    token by token, they are the tower's features, and only what is kept gets projected.
    `tile`, `block`, `row`, `col` are (present,) index tensors, alike for all samples.
    """

    scene: Scene
    tokens: Tensor  # (batch, present, width)
    tile: Tensor
    block: Tensor
    row: Tensor
    col: Tensor

    @property
    def features(self) -> Tensor:
        """The vision tower's features, (batch, present, vision width). Need.PATCH_FEATURES"""
        raise NotImplementedError

    def cls_attention(self, layer: int | None = None, *, logits: bool = False) -> Tensor:
        """The class token's attention per head, (batch, heads, present). Need.CLS_ATTENTION

        `layer`: a 0-based vision block; default the one whose output feeds the projector.
        `logits`: scaled scores instead of probabilities.
        """
        raise NotImplementedError

    def saliency(self, layer: int | None = None) -> Tensor:
        """(batch, present): mean over heads of the class token's attention; without a class token,
        the mean attention a patch receives from all patches. Need.SALIENCY"""
        raise NotImplementedError

    def patch_keys(self, layer: int | None = None) -> Tensor:
        """Keys of a vision block, heads side by side: (batch, present, vision width). Need.PATCH_KEYS"""
        raise NotImplementedError

    def cls_features(self) -> Tensor:
        """(batch, tiles, width), in the space of `tokens`. Need.CLS_FEATURE"""
        raise NotImplementedError

    @property
    def prompt(self) -> Tensor:
        """Embeddings of the text behind the first visual token, (batch, text after, width). Need.PROMPT_EMBEDDINGS"""
        raise NotImplementedError


class VisionView(View):
    """Inside a vision block, between attention and feed-forward: one row per tile, class token hidden.

    `sizes` (tiles, present): patches each token stands for. Need.TOWER_TOKENS
    """

    scene: Scene
    block: int
    tokens: Tensor  # (tiles, present, vision width)
    sizes: Tensor

    def keys(self) -> Tensor:
        """Mean over heads of this block's keys, (tiles, present, head dim)."""
        raise NotImplementedError


Rows = Literal["last", "instruction", "visual"]


class DecoderView(View):
    """At a stop: the visual tokens still present, in sequence order.

    `memory` lives for one prefill: a policy may leave tensors there for its later stops.
    """

    scene: Scene
    stop: int
    tokens: Tensor  # (batch, present, width)
    memory: dict[str, Any]

    @property
    def before(self) -> Tensor:
        """The same tokens one layer earlier, (batch, present, width). Need.HIDDEN_BEFORE"""
        raise NotImplementedError

    @property
    def prompt(self) -> Tensor:
        """Hidden states of the text behind the first visual token. Need.PROMPT_EMBEDDINGS"""
        raise NotImplementedError

    def attention(
        self,
        rows: Rows,
        *,
        layer: Literal["previous", "next"],
        weights: Tensor | None = None,
        columns: Literal["visual", "instruction"] = "visual",
        mean_heads: bool = True,
        over: Literal["sequence", "columns"] = "sequence",
    ) -> Tensor:
        """Mean over query rows of a layer's causal attention to the columns: (batch, columns).

        `rows`: the last token, the text behind the first visual token, or every visual token
        (the latter is Need.COLUMN_ATTENTION, the others Need.ROW_ATTENTION).
        `layer`: the layer that has just run (its queries, its cached keys), or the one about to run
        (its projections applied to the present hidden states).
        `weights`: (batch, rows), instead of a plain mean, or (batch, rows, columns).
        `mean_heads=False`: (batch, heads, columns).
        `over`: softmax over the whole sequence, or over the columns alone.
        """
        raise NotImplementedError

    def decay(self, rows: Rows) -> Tensor:
        """How rotary ids alone weaken attention with distance: (batch, rows, present).

        Scaled products of rotated vectors of ones at the rows' and the visual tokens' places. Needs
        as for `attention`.
        """
        raise NotImplementedError

    def keys(self, layer: Literal["previous", "next"]) -> Tensor:
        """Mean over key heads of the rotated keys, (batch, present, head dim). Need.DECODER_KEYS"""
        raise NotImplementedError


class CacheView(View):
    """At a decode step, before a layer that may read a pruned cache. Need.DECODE_ATTENTION"""

    step: int
    visual: int  # visual entries in the cache of the layer that has just run
    memory: dict[str, Any]

    def attention(self) -> Tensor:
        """Mean over heads of the current query's attention to them, (batch, visual)."""
        raise NotImplementedError


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
        return self.plan(scene).with_fixed(scene.fixed)

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


def segments(depth: int, steps: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """Tokens per layer from (first layer, count) steps in ascending order; a step beyond the depth is ignored."""
    layers = [0] * depth
    for first, count in steps:
        layers[first:] = [count] * max(depth - first, 0)
    return tuple(layers)
