"""Training of the context network for choice: what it foretells of the next choice, one step ahead.

Beside smoothed states a network learns little: they have seen the choice that it should foretell.
Here it is trained before the states, on each choice given those before it,
`P(i) = exp(x_i . c_u(t) + b_i) / sum_j exp(x_j . c_u(t) + b_j)`, together with item vectors and
offsets. The fit of the states then finds what is left to say in the space of these items. Dropout
and the held-back slice stand in for the priors. Source: cross entropy for such networks, Klenitskiy
& Vasilev (RecSys 2023); sampled candidates are corrected by log q (Bengio & Senecal 2008).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayes_interest.config import FitConfig
from bayes_interest.events.history import History, Padded
from bayes_interest.model.batch import Batch
from bayes_interest.model.parameters import (
    CONTEXT,
    Globals,
    Layout,
    initial_globals,
    item_terms,
)
from bayes_interest.model.problem import Problem
from bayes_interest.model.softmax import Sample, draw_sample
from bayes_interest.progress import bar, shown_if

RATE, GRADIENT_NORM = 3e-3, 1.0
SPARE = 1.05
"""Windows are cut anew in every epoch, and may be a few more than at first."""
MIN_STEPS, LEAST_BATCH, BATCH_EVENTS = 200, 256, 4096
DROPOUT = 0.1
N_CANDIDATES = 4096
READ_ONLY = 10
"""Events that a window reads before those it predicts, where there are so many."""
POOL = 16
"""Windows of so many batches are put in order of length, so that little is padding."""
ROWS = 512
"""Events whose logits of all items are in memory at once."""
ITEM_SIDE = ("weight", "offset_weight", "offset", "residual")


def trains_first(layout: Layout, config: FitConfig) -> bool:
    """Whether there is a network, and it is to be trained before the states."""
    network = layout.emission == "choice" and layout.context_layers > 0
    return network and config.context_epochs > 0


def fit_sequence(
    problem: Problem,
    config: FitConfig,
    validate: Callable[[Globals], float] | None = None,
    n_epochs: int | None = None,
) -> tuple[Globals, int]:
    """Item side and network after the best epoch, and which that was.

    With `validate` it is that of the lowest held-back loss, otherwise number `n_epochs` or the
    last. All are run: while the rate is high the held-back loss stands still or rises, and falls
    in the end with the rate.
    """
    run, last = _Run(problem, config), n_epochs or config.context_epochs
    best: tuple[float, Globals, int] | None = None
    with shown_if(config.progress), bar(total=last, desc="context", unit="epoch") as shown:
        for epoch in range(1, last + 1):
            shown.set_postfix(loss=f"{run.epoch():.4f}")
            shown.update()
            if validate is None:
                continue
            held_back = validate(run.rest | run.snapshot())
            if best is None or held_back < best[0]:
                best = held_back, run.snapshot(), epoch
    return (run.snapshot(), last) if best is None else best[1:]


class _Run:
    """The moving parts."""

    def __init__(self, problem: Problem, config: FitConfig) -> None:
        self.problem, layout = problem, problem.layout
        self.size = batch_size(problem)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.rng = np.random.default_rng(config.seed)
        values = initial_globals(layout, self.generator, problem.features.new_zeros(1))
        head = values["context_head"]  # not nothing, as beside the states: no slope passes that
        noise = torch.randn(head.shape, generator=self.generator, dtype=torch.float64)
        values["context_head"] = noise.to(head) / math.sqrt(layout.context_dim)
        self.values = {name: value for name, value in values.items() if _trained(name)}
        self.rest = {name: value for name, value in values.items() if not _trained(name)}
        self.trained = [value.requires_grad_() for value in self.values.values()]
        n_steps = sum(1 for _ in windows(problem, self.size, np.random.default_rng(config.seed)))
        self.optimizer = torch.optim.Adam(self.trained, RATE, betas=(0.9, 0.98), fused=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, RATE, int(SPARE * n_steps * config.context_epochs) + POOL,
            pct_start=0.1, final_div_factor=100.0, cycle_momentum=False,
        )  # fmt: skip

    def epoch(self) -> float:
        """Every choice once; the mean loss."""
        total = n_events = 0.0
        for block, wanted in windows(self.problem, self.size, self.rng):
            loss = self._loss(self.problem.batch(block), wanted)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.trained, GRADIENT_NORM)
            self.optimizer.step()
            self.schedule.step()
            count = int(wanted.sum())
            total, n_events = total + count * float(loss.detach()), n_events + count
        return total / n_events

    def _loss(self, batch: Batch, wanted: Tensor) -> Tensor:
        problem, layout = self.problem, self.problem.layout
        values = self.values | self.rest
        items = item_terms(layout, values, problem.features)
        chosen = batch.item[wanted]
        with torch.autocast(chosen.device.type, torch.bfloat16, enabled=half_is_fast(chosen)):
            found = batch.with_context(layout, values, items.vectors, DROPOUT).context
            assert found is not None
            context = found[wanted]
            sample = self._candidates()
            if sample is None:
                loss: Tensor = SoftmaxLoss.apply(context, items.vectors, items.offsets, chosen)
                return loss
            table = context @ items.vectors[sample.index].T
        table = table.to(items.offsets) + (items.offsets[sample.index] + sample.log_weight)
        table = table.masked_fill(sample.index == chosen[:, None], -torch.inf)
        own = (context * items.vectors[chosen]).sum(1) + items.offsets[chosen]
        return (torch.logaddexp(torch.logsumexp(table, 1), own) - own).mean()

    def _candidates(self) -> Sample | None:
        """Some items, and the correction of their logits; None where they are few: all."""
        frequency = self.problem.frequency
        if len(frequency) <= N_CANDIDATES:
            return None
        return draw_sample(frequency, N_CANDIDATES, self.generator)

    def snapshot(self) -> Globals:
        """A detached copy of what is trained."""
        return {name: value.detach().clone() for name, value in self.values.items()}


class SoftmaxLoss(torch.autograd.Function):
    """Mean of minus log softmax of `context @ vectors.T + offsets` at what was chosen.

    Loss and gradient of some rows at a time: the table of all events and items is never kept.
    """

    @staticmethod
    def forward(
        ctx: Any, context: Tensor, vectors: Tensor, offsets: Tensor, chosen: Tensor
    ) -> Tensor:
        """Of contexts (event, D), vectors (item, D), offsets (item,) and choices (event,)."""
        kind = torch.bfloat16 if half_is_fast(context) else vectors.dtype
        rows, columns = context.detach().to(kind), vectors.detach().to(kind)
        by_context = torch.empty_like(context, dtype=vectors.dtype)
        by_vectors, by_offsets = torch.zeros_like(vectors), torch.zeros_like(offsets)
        total = offsets.new_zeros(())
        for at in range(0, len(rows), ROWS):
            some, own = rows[at : at + ROWS], chosen[at : at + ROWS, None]
            log_prob = torch.log_softmax((some @ columns.T).to(offsets).add_(offsets.detach()), 1)
            total -= log_prob.gather(1, own).sum()
            away = log_prob.exp_()
            away.scatter_add_(1, own, away.new_full(own.shape, -1.0))
            by_offsets += away.sum(0)
            slopes = away.to(kind)
            by_context[at : at + ROWS] = slopes @ columns
            by_vectors += slopes.T @ some
        ctx.save_for_backward(by_context.to(context), by_vectors, by_offsets)
        return total / len(rows)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        """What `forward` found, scaled."""
        found = ctx.saved_tensors
        each = slope / len(found[0])
        return *(each.to(part) * part for part in found), None


def _trained(name: str) -> bool:
    return name in ITEM_SIDE or name.startswith(CONTEXT)


def half_is_fast(like: Tensor) -> bool:
    """Whether the device multiplies matrices of bfloat16 in hardware."""
    if like.device.type == "cuda":
        return torch.cuda.get_device_capability(like.device) >= (8, 0)
    return like.device.type == "cpu" and _tiles()


def _tiles() -> bool:
    """AMX; where torch does not say, no."""
    ask = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return ask is not None and bool(ask())


def batch_size(problem: Problem) -> int:
    """Events per batch: fewer where an epoch would have too few steps."""
    return min(BATCH_EVENTS, max(LEAST_BATCH, len(problem.history) // MIN_STEPS))


def windows(
    problem: Problem, size: int, rng: np.random.Generator
) -> Iterator[tuple[Padded, Tensor]]:
    """Histories cut at random into windows, in random batches: events, and which are predicted."""
    history, layout = problem.history, problem.layout
    seen = layout.context_events  # the network's blocks: two of them with the events read only
    begin, first, end = _cuts(history, max(seen, 2 * seen - READ_ONLY), rng)
    order = rng.permutation(len(begin))
    batches = []
    each = POOL * max(1, size // int((end - begin).mean()))
    for at in range(0, len(order), each):
        part = order[at : at + each]
        part = part[np.argsort(end[part] - begin[part], kind="stable")]
        length = np.cumsum(end[part] - begin[part])
        batches += np.split(part, np.searchsorted(length, np.arange(size, length[-1], size)))
    device = problem.features.device
    for number in rng.permutation(len(batches)):
        rows = batches[number]
        if not len(rows):
            continue
        steps = np.arange(int((end[rows] - begin[rows]).max()))
        event = begin[rows, None] + steps
        mask, wanted = event < end[rows, None], event >= first[rows, None]
        block = Padded(
            torch.as_tensor(history.user_index[begin[rows]], device=device),
            torch.as_tensor(np.where(mask, event, 0), device=device),
            torch.as_tensor(mask, device=device),
        )
        yield block, torch.as_tensor(mask & wanted, device=device)


def _cuts(
    history: History, width: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every window: the first event read, the first predicted, and the end."""
    start, stop = history.start[:-1], history.start[1:]
    phase = rng.integers(0, width, len(start))
    parts = []
    for low, high, off in zip(start.tolist(), stop.tolist(), phase.tolist(), strict=True):
        if high > low:
            cuts = [low, *range(low + off + 1, high, width), high]
            parts += list(zip(cuts[:-1], cuts[1:], [low] * len(cuts), strict=False))
    first, end, low = np.array(parts).T
    return np.maximum(first - READ_ONLY, low), first, end
