"""The sequence on its way through the decoder: the only code that moves tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tokprof.errors import BrokenPromiseError
from tokprof.models.adapter import Prepared
from tokprof.models.decoder import Decoder, Rotary
from tokprof.policies.base import Edit, Positions


def take(tensor: Tensor, index: Tensor) -> Tensor:
    """Rows of (batch, sequence, width) by (batch, chosen)."""
    return tensor.gather(1, index[..., None].expand(-1, -1, tensor.shape[-1]))


@dataclass(frozen=True)
class Kept:
    """What an edit left: each token's index among all visual tokens of the prompt, -1 where it stands for no patch."""

    stop: int | None  # None: before the decoder
    origin: Tensor  # (batch, kept)
    extra: int = 0  # tokens added before the decoder, which stand for no patch either
    pivot: Tensor | None = None  # as in the edit: (batch,), among the tokens that the policy was shown


@dataclass
class Entering:
    """Visual tokens on their way into the decoder.

    `origin`: (batch, candidates), each candidate's index among all visual tokens of the prompt.
    `fixed`: newline tokens that stay without being asked. `extra`: tokens without an origin.
    """

    candidates: Tensor  # (batch, candidates, width)
    origin: Tensor
    fixed: Tensor | None = None
    fixed_origin: Tensor | None = None
    extra: Tensor | None = None
    extra_first: bool = False

    @property
    def count(self) -> int:
        return sum(part.shape[1] for part in (self.candidates, self.fixed, self.extra) if part is not None)


@dataclass
class TokenStream:
    """Hidden states in sequence order, and where in them the visual and text tokens are.

    `candidates`, `fixed`, `text`: (batch, …) places in the sequence, each ascending.
    `origin`: (batch, candidates), the candidates' index among all visual tokens of the prompt; -1 for extras.
    """

    hidden: Tensor  # (batch, sequence, width)
    positions: Tensor  # rotary ids, (batch, sequence) or (3, batch, sequence)
    rotary: Rotary
    candidates: Tensor
    fixed: Tensor
    text: Tensor
    origin: Tensor
    next_position: int
    kept: list[Kept] = field(default_factory=list)

    @property
    def length(self) -> int:
        return int(self.hidden.shape[1])

    @property
    def visual(self) -> int:
        return int(self.candidates.shape[1] + self.fixed.shape[1])

    def visual_tokens(self, hidden: Tensor | None = None) -> Tensor:
        return take(self.hidden if hidden is None else hidden, self.candidates)

    def apply(self, edit: Edit, mode: Positions, decoder: Decoder) -> None:
        """Drop, merge and reorder as the edit says; positions stay or are renumbered."""
        if edit.keep is None:
            self._keep(self.candidates[:, :0], self.fixed[:, :0], None)
        else:
            slots = self.candidates.gather(1, edit.keep)
            contents = edit.values.to(self.hidden.dtype) if edit.values is not None else None
            if edit.reordered:
                contents = take(self.hidden, slots) if contents is None else contents
                slots = slots.sort(dim=1).values
            self.origin = self.origin.gather(1, edit.keep)
            self._keep(slots, self.fixed, contents)
        if mode == "compacted":
            self._renumber(decoder)

    def _keep(self, candidates: Tensor, fixed: Tensor, contents: Tensor | None) -> None:
        parts = (self.text, candidates, fixed)
        order, places = _interleave(torch.cat(parts, dim=1))
        self.hidden = take(self.hidden, order)
        self.text, self.candidates, self.fixed = torch.split(places, [part.shape[1] for part in parts], dim=1)
        if contents is not None:
            index = self.candidates[..., None].expand(-1, -1, contents.shape[-1])
            self.hidden = self.hidden.scatter(1, index, contents)
        self.positions = self.positions.gather(-1, order.expand_as(self.positions[..., : order.shape[1]]))
        self.rotary = (take(self.rotary[0], order), take(self.rotary[1], order))
        if not candidates.shape[1]:
            self.origin = self.origin[:, :0]

    def _renumber(self, decoder: Decoder) -> None:
        self.positions = torch.arange(self.length, device=self.hidden.device).expand(self.hidden.shape[0], -1)
        self.rotary = decoder.rotary(self.positions, self.hidden)


def _interleave(places: Tensor) -> tuple[Tensor, Tensor]:
    """Sort keys of concatenated groups → (old place of each new token, new place of each old token)."""
    order, permutation = places.sort(dim=1, stable=True)
    return order, permutation.argsort(dim=1)


def text_only(prepared: Prepared, decoder: Decoder) -> TokenStream:
    """The prompt without its visual tokens, their places and rotary ids kept free."""
    hidden = decoder.embed(prepared.input_ids[:, prepared.text_index])
    positions = prepared.positions[..., prepared.text_index]
    batch, device = hidden.shape[0], hidden.device
    nothing = torch.empty((batch, 0), dtype=torch.long, device=device)
    return TokenStream(
        hidden=hidden,
        positions=positions,
        rotary=decoder.rotary(positions, hidden),
        candidates=nothing,
        fixed=nothing,
        text=torch.arange(hidden.shape[1], device=device).expand(batch, -1),
        origin=nothing,
        next_position=prepared.next_position,
    )


def whole(prepared: Prepared, decoder: Decoder, visual: Tensor, *, newlines_are_candidates: bool) -> TokenStream:
    """The unpruned prompt: every visual token at its placeholder."""
    embedded = decoder.embed(prepared.input_ids)
    hidden = embedded.index_copy(1, prepared.visual_index, visual.to(embedded.dtype))
    batch, every = hidden.shape[0], prepared.visual_index
    shown = every.new_ones(every.shape).cumsum(0) - 1 if newlines_are_candidates else prepared.candidates
    fixed = every[:0] if newlines_are_candidates else every[prepared.newlines]
    return TokenStream(
        hidden=hidden,
        positions=prepared.positions,
        rotary=decoder.rotary(prepared.positions, hidden),
        candidates=every[shown].expand(batch, -1),
        fixed=fixed.expand(batch, -1),
        text=prepared.text_index.expand(batch, -1),
        origin=shown.expand(batch, -1),
        next_position=prepared.next_position,
    )


def enter(
    stream: TokenStream, entering: Entering, prepared: Prepared, decoder: Decoder, mode: Positions
) -> TokenStream:
    """Put visual tokens into a text-only stream, each at the place of its placeholder."""
    hidden, text = stream.hidden, prepared.text_index.expand(stream.hidden.shape[0], -1)
    groups, keys, origins = [hidden], [2 * text], []
    for tokens, origin in ((entering.candidates, entering.origin), (entering.fixed, entering.fixed_origin)):
        if tokens is not None and origin is not None:
            groups.append(tokens.to(hidden.dtype))
            keys.append(2 * prepared.visual_index[origin])
            origins.append(origin)
    if entering.extra is not None:
        edge = prepared.visual_index[:1] * 2 - 1 if entering.extra_first else prepared.visual_index[-1:] * 2 + 1
        groups.append(entering.extra.to(hidden.dtype))
        keys.append(edge.expand(hidden.shape[0], entering.extra.shape[1]))
    sorted_keys, permutation = torch.cat(keys, dim=1).sort(dim=1, stable=True)
    places = torch.split(permutation.argsort(dim=1), [group.shape[1] for group in groups], dim=1)
    joined = take(torch.cat(groups, dim=1), permutation)
    if mode == "compacted":
        positions = torch.arange(joined.shape[1], device=joined.device).expand(joined.shape[0], -1)
        next_position = joined.shape[1]
    else:  # an extra token borrows the rotary id of the visual token beside it
        source = ((sorted_keys + int(entering.extra_first)) // 2).expand_as(prepared.positions[..., : joined.shape[1]])
        positions = prepared.positions.gather(-1, source)
        next_position = prepared.next_position
    candidates, origin = places[1], entering.origin
    fixed = places[2] if entering.fixed is not None else places[1][:, :0]
    if entering.extra is not None:
        candidates = torch.cat((candidates, places[-1]), dim=1)
        origin = torch.cat((origin, torch.full_like(places[-1], -1)), dim=1)
        candidates, order = candidates.sort(dim=1)
        origin = origin.gather(1, order)
    return TokenStream(
        hidden=joined,
        positions=positions,
        rotary=decoder.rotary(positions, joined),
        candidates=candidates,
        fixed=fixed,
        text=places[0],
        origin=origin,
        next_position=next_position,
        kept=stream.kept,
    )


def verify(edit: Edit, tokens: Tensor, *, may_drop_all: bool = False) -> None:
    """Once per cell, outside the timed rounds: the edit of these (batch, present, width) tokens is what it says."""
    batch, present, width = tokens.shape
    if not isinstance(edit, Edit):
        raise BrokenPromiseError(f"the policy decided by a {type(edit).__name__}", "return an Edit, or None")
    if edit.keep is None:
        if not may_drop_all:
            raise BrokenPromiseError("Edit.drop_all() before the decoder", "it is for edit_decoder, at a stop above 0")
        return
    keep = edit.keep
    if not isinstance(keep, Tensor) or keep.dtype != torch.long or keep.dim() != 2:
        raise BrokenPromiseError("Edit.keep is not a (batch, kept) tensor of integers", "use Edit.top or top_indices")
    if keep.shape[0] != batch or keep.device != tokens.device:
        raise BrokenPromiseError(
            f"Edit.keep has {keep.shape[0]} rows on {keep.device}, not {batch} on {tokens.device}",
            "a row of indices per sample, where the tokens are",
        )
    if keep.numel() and (int(keep.min()) < 0 or int(keep.max()) >= present):
        raise BrokenPromiseError(f"Edit.keep points outside the {present} tokens present", "indices count from 0")
    ordered = keep if not edit.reordered else keep.sort(dim=1).values
    if not bool((ordered[:, 1:] > ordered[:, :-1]).all()):
        raise BrokenPromiseError("Edit.keep is not ascending and unique", "sort it, or say reordered=True")
    if edit.pivot is not None and not _one_per_sample(edit.pivot, batch, present):
        raise BrokenPromiseError(
            f"Edit.pivot is not one of the {present} tokens present per sample", f"a tensor of {batch} integers"
        )
    _verify_contents("values", edit.values, (batch, keep.shape[1], width), tokens)
    if edit.extra is not None:
        rows = edit.extra.shape[1] if isinstance(edit.extra, Tensor) and edit.extra.dim() == 3 else 1
        _verify_contents("extra", edit.extra, (batch, rows, width), tokens)


def _one_per_sample(index: Tensor, batch: int, present: int) -> bool:
    if not isinstance(index, Tensor) or index.dtype != torch.long or tuple(index.shape) != (batch,):
        return False
    return bool(((index >= 0) & (index < present)).all())


def _verify_contents(name: str, contents: Tensor | None, shape: tuple[int, ...], tokens: Tensor) -> None:
    if contents is None:
        return
    found = tuple(contents.shape) if isinstance(contents, Tensor) else type(contents).__name__
    if found != shape or contents.dtype != tokens.dtype:
        kind = f" of {contents.dtype}" if isinstance(contents, Tensor) else ""
        raise BrokenPromiseError(
            f"Edit.{name} is {found}{kind}, not {shape} of {tokens.dtype}", "make it from the view's own tokens"
        )
