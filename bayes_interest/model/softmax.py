"""One look at the softmax of many choices: log probabilities, moments, gradients.

The logit table is worked through in pieces and never kept: gradients of the log probabilities
(`chosen minus expected`) are folded into the parameters on the way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bayes_interest.emissions.choice import ChoiceMoments
from bayes_interest.model.candidates import CandidateRows
from bayes_interest.model.parameters import COVARIATES, Globals, Items, weighed

CHUNK_LOGITS = 4_000_000
Entries = list[
    tuple[slice, Tensor, Tensor, Tensor]
]  # which covariates, row, place in the table, values


@dataclass(frozen=True)
class Sample:
    """Sampled candidates, unique, with `log(count / (n q))`: the log-q correction."""

    index: Tensor  # (candidate,)
    log_weight: Tensor  # (candidate,)
    position: Tensor  # of each item among the candidates, -1 if absent, (item,)


@dataclass(frozen=True)
class Choices:
    """Flat events of the choice family."""

    item: Tensor  # the chosen item, (event,)
    rho: Tensor  # reliability: multiplies every logit, (event,)
    kind: Tensor  # (event,)
    covariates: Tensor  # of the chosen item, (event, covariate)
    events: np.ndarray  # positions in `rows`
    rows: CandidateRows

    def part(self, rows: slice) -> Choices:
        """A run of the events."""
        return self._pick(rows, self.events[rows])

    def at(self, positions: Tensor) -> Choices:
        """The events at these positions (event,)."""
        return self._pick(positions, self.events[positions.cpu().numpy()])

    def _pick(self, which: slice | Tensor, events: np.ndarray) -> Choices:
        return Choices(
            self.item[which],
            self.rho[which],
            self.kind[which],
            self.covariates[which],
            events,
            self.rows,
        )


@dataclass(frozen=True)
class Look:
    """Log probability of each choice and moments of the item vectors under its softmax."""

    log_prob: Tensor  # (event,)
    moments: ChoiceMoments


def draw_sample(frequency: Tensor, n_candidates: int, generator: torch.Generator) -> Sample:
    """Candidates drawn by a half-uniform, half-frequency proposal, frequency (item,)."""
    n_items = len(frequency)
    q = 0.5 / n_items + 0.5 * frequency / frequency.sum()
    drawn = torch.multinomial(q.cpu(), n_candidates, True, generator=generator).to(q.device)
    index, count = torch.unique(drawn, return_counts=True)
    position = torch.full((n_items,), -1, dtype=torch.long, device=q.device)
    position[index] = torch.arange(len(index), device=q.device)
    return Sample(index, torch.log(count / (n_candidates * q[index])), position)


def look(
    values: Globals,
    items: Items,
    choices: Choices,
    states: Tensor,
    sample: Sample | None = None,
    gradients: dict[str, Tensor] | None = None,
) -> Look:
    """Softmax of every event at deviations `states` (event, state_dim).

    `gradients` (see `gradient_sums`) collects the derivatives of the summed log probability.
    """
    n_columns = len(items.offsets) if sample is None else len(sample.index)
    size = max(1, CHUNK_LOGITS // n_columns)
    log_prob, mean, var = torch.empty_like(choices.rho), states.clone(), states.clone()
    for at in range(0, len(choices.item), size):
        rows = slice(at, at + size)
        part = _Chunk(values, items, choices.part(rows), states[rows], sample)
        log_prob[rows], mean[rows], var[rows] = part.log_prob, *part.moments()
        if gradients is not None:
            part.collect(gradients)
    return Look(log_prob, ChoiceMoments(mean, var))


def choice_table(values: Globals, items: Items, choices: Choices, states: Tensor) -> Tensor:
    """Probability of every item at every event, (event, item); for few of them."""
    part = _Chunk(values, items, choices, states, None)
    probs: Tensor = part.probs.scatter(1, choices.item[:, None].long(), part.own[:, None])
    return probs


def gradient_sums(values: Globals, items: Items) -> dict[str, Tensor]:
    """Zeros to collect into: by item vectors, offsets, and the choice family's own weights.

    `curvature` (item, state_dim + 1) is no gradient but the precision of residual and offset.
    """
    offsets = torch.zeros_like(items.offsets)
    vectors = torch.zeros_like(items.vectors)
    curvature = torch.cat((vectors, offsets[:, None]), 1)
    sums = {"vectors": vectors, "offsets": offsets, "curvature": curvature}
    for name in (COVARIATES, "log_reliability"):
        if name in values:
            sums[name] = torch.zeros_like(values[name])
    return sums


class _Chunk:
    """A piece of the table: the chosen item apart from all others."""

    def __init__(
        self,
        values: Globals,
        items: Items,
        choices: Choices,
        states: Tensor,
        sample: Sample | None,
    ) -> None:
        self.items, self.choices, self.states, self.sample = items, choices, states, sample
        self.mean = values["mean"]
        self.vectors = items.vectors if sample is None else items.vectors[sample.index]
        offsets = items.offsets if sample is None else items.offsets[sample.index]
        self.follows = self._succession()
        self.entries = self._entries(values)
        self.alike = choices.rows.surroundings.kinds.columns("likeness")
        table = torch.addmm(offsets, states, self.vectors.T)
        if self.alike.stop > self.alike.start:
            self.texts, self.like = self._likeness()
            blend = weighed(self.like.transpose(1, 2), values[COVARIATES][self.alike])
            table.addmm_(blend, self.texts.T)
        if self.follows is not None:
            column, what = self.follows
            table.add_(what * values[COVARIATES][column])
        for columns, _, flat, value in self.entries:
            table.view(-1).scatter_add_(0, flat, weighed(value, values[COVARIATES][columns]))
        self.raw_own = self._own_logit(values)
        self.raw = table if "log_reliability" in values else None
        scaled = table if self.raw is None else table * choices.rho[:, None]
        scaled = scaled if sample is None else scaled + sample.log_weight
        position = choices.item if sample is None else sample.position[choices.item]
        hit = torch.nonzero(position >= 0)[:, 0]
        scaled[hit, position[hit]] = -torch.inf
        own = self.raw_own * choices.rho
        norm = torch.logaddexp(torch.logsumexp(scaled, 1), own)
        self.log_prob = own - norm
        self.own = self.log_prob.exp()
        self.probs = scaled.sub_(norm[:, None]).exp_()
        if self.raw is not None:
            self.raw_mean = (self.probs * self.raw).sum(1)

    def _own_logit(self, values: Globals) -> Tensor:
        choices = self.choices
        own = (self.items.vectors[choices.item] * self.states).sum(1)
        own = own + self.items.offsets[choices.item]
        if COVARIATES in values:
            own = own + weighed(choices.covariates, values[COVARIATES])
        return own

    def _likeness(self) -> tuple[Tensor, Tensor]:
        """Directions of the candidates' texts (item, text_dim), and what they are compared with."""
        rows = self.choices.rows
        texts = torch.as_tensor(rows.surroundings.texts).to(self.states)
        texts = texts if self.sample is None else texts[self.sample.index]
        return texts, rows.likeness(self.choices.events).to(self.states)

    def _succession(self) -> tuple[int, Tensor] | None:
        """Which covariate, and its values (event, candidate), where they come as a table."""
        rows, width = self.choices.rows, self.vectors.shape[0]
        place = np.arange(width) if self.sample is None else self.sample.position.cpu().numpy()
        # Among all items always: the last bits of an event do not depend on those beside it.
        found = rows.succession(self.choices.events, place, width, always=self.sample is None)
        if found is None:
            return None
        return rows.surroundings.kinds.columns("succession").start, found.to(self.states)

    def _entries(self, values: Globals) -> Entries:
        out: Entries = []
        device, dtype = self.states.device, self.states.dtype
        wanted = None if self.sample is None else (self.sample.position >= 0).cpu().numpy()
        without = () if self.follows is None else ("succession",)
        events = self.choices.events
        for columns, row, column, value in self.choices.rows.entries(events, wanted, without):
            row, column, value = row.to(device), column.to(device), value.to(device, dtype)
            if self.sample is not None:
                column = self.sample.position[column]
            width = self.vectors.shape[0]
            out.append((columns, row, row * width + column, value))
        return out

    def moments(self) -> tuple[Tensor, Tensor]:
        """`E_p[x]` and `Var_p[x]`, (event, state_dim)."""
        own = self.items.vectors[self.choices.item]
        mean = self.probs @ self.vectors + self.own[:, None] * own
        second = self.probs @ self.vectors**2 + self.own[:, None] * own**2
        return mean, (second - mean**2).clamp_min(0.0)

    def _collect_curvature(self, total: Tensor) -> None:
        """`sum rho^2 p (1 - p) (z^2, 1)` per item, with p for p (1 - p) of those not chosen."""
        choices = self.choices
        moment = torch.cat(((self.states + self.mean) ** 2, torch.ones_like(self.own[:, None])), 1)
        moment = moment * (choices.rho**2)[:, None]
        others = self.probs.T @ moment
        if self.sample is None:
            total.add_(others)
        else:
            total.index_add_(0, self.sample.index, others)
        total.index_add_(0, choices.item, (self.own * (1.0 - self.own))[:, None] * moment)

    def collect(self, sums: dict[str, Tensor]) -> None:
        """Add the derivatives of this piece; uses up the table of probabilities."""
        choices, rest = self.choices, 1.0 - self.own
        if "log_reliability" in sums:
            slope = choices.rho * (rest * self.raw_own - self.raw_mean)
            other = choices.kind > 0
            sums["log_reliability"].index_add_(0, choices.kind[other] - 1, slope[other])
        if COVARIATES in sums:
            sums[COVARIATES].add_((rest * choices.rho) @ choices.covariates)
        if self.follows is not None:
            column, what = self.follows
            sums[COVARIATES][column] -= choices.rho @ torch.linalg.vecdot(self.probs, what)
        for columns, row, flat, value in self.entries:
            pulled = self.probs.view(-1).take(flat)
            pulled = pulled if self.raw is None else pulled * choices.rho[row]
            sums[COVARIATES][columns] -= pulled @ value
        if self.alike.stop > self.alike.start:
            expected = (self.probs @ self.texts) * choices.rho[:, None]
            sums[COVARIATES][self.alike] -= torch.einsum("ed,ekd->k", expected, self.like)
        if "curvature" in sums:
            self._collect_curvature(sums["curvature"])
        push = choices.rho * rest
        pulled_states = self.states * choices.rho[:, None]
        sums["vectors"].index_add_(0, choices.item, rest[:, None] * pulled_states)
        sums["offsets"].index_add_(0, choices.item, push)
        vectors, offsets = self.probs.T @ pulled_states, choices.rho @ self.probs
        if self.sample is None:
            sums["vectors"].sub_(vectors)
            sums["offsets"].sub_(offsets)
        else:
            sums["vectors"].index_add_(0, self.sample.index, -vectors)
            sums["offsets"].index_add_(0, self.sample.index, -offsets)
