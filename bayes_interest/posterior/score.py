"""Scoring a log event by event: each is predicted from its strict past, then absorbed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bayes_interest.emissions.logistic import LogisticAverages
from bayes_interest.emissions.quadrature import nodes_and_weights
from bayes_interest.events.history import History
from bayes_interest.model.parameters import emission_of, reliability
from bayes_interest.posterior.certainty import slate_certainty
from bayes_interest.posterior.draws import DRAW_SEED, draw_predictors, draws_interval
from bayes_interest.posterior.exposure import ExposedEvents
from bayes_interest.posterior.online import ROUND_NUMBER, Forecasts, filter_history
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    RANK_NODES,
    Interval,
    Predictors,
    circumstances_of_events,
    interest_interval,
    interest_probabilities,
    level_cut,
    predictors,
    recalibrated_survival,
    side_factors,
)
from bayes_interest.progress import bar
from bayes_interest.schema import P_ABOVE, P_LEVEL, P_TIED, P_TOP, TOP_HIT

TABLE_SIZE = 2_000_000
OUTCOME_SEED = DRAW_SEED + 1_000_003
"""Draws of outcomes share no noise with those of the exposure."""
TIE = 1e-6
"""Scores this close, relatively, are tied: the last bits of a product depend on an item's place."""
TINY = 1e-300  # for the quotients of nothing by nothing


@dataclass(frozen=True)
class EventScores:
    """One entry per event, in history order."""

    interval: Interval
    log_prob: np.ndarray  # of the outcome; NaN where the event is no outcome of the family
    rank: np.ndarray  # of the item among all unseen, 1 is first, ties count against it
    slate: np.ndarray | None  # positions of the k best unseen, -1 past the last, (event, k)
    certainty: np.ndarray | None  # expected share of the slate that is among the k best
    hits: np.ndarray | None  # sum of the probabilities of the slate
    detail: dict[str, np.ndarray]  # see `detail_names`; NaN where there is no outcome


def score_history(
    posterior: Posterior,
    history: History,
    prob: float,
    exclude_seen: bool,
    n_draws: int,
    k: int | None = None,
    exposure: ExposedEvents | None = None,
    certainty: bool = False,
    detail: bool = False,
) -> tuple[EventScores, History]:
    """Scores of every event; returns also the annotated history. Changes nothing.

    With `exposure` items are ranked by their interest times the chance of being met. `certainty`
    needs `k`, and joint draws also where else there would be none.
    """
    found, _, _ = filter_history(posterior, history, keep_cov=True)
    ranker = _Ranker(posterior, found, exclude_seen, k, exposure, n_draws if certainty else 0)
    n_events = len(history)
    names = detail_names(posterior) if detail else []
    table = np.full((6 + len(names), n_events), np.nan)
    size = max(1, TABLE_SIZE // posterior.layout.n_items)
    if posterior.choice or exposure is not None or certainty:
        size //= n_draws
    size = max(ROUND_NUMBER, size - size % ROUND_NUMBER)
    for at in bar(range(0, n_events, size), desc="score", unit="block"):
        count = min(size, n_events - at)
        # A round number of rows, for the reason that `filled` gives.
        part = np.minimum(np.arange(at, at + count + -count % ROUND_NUMBER), n_events - 1)
        if posterior.choice:
            rows = _choice_rows(posterior, found, part, prob, n_draws, ranker)
        else:
            rows = _scalar_rows(posterior, found, part, prob, ranker)
        rows = rows[: len(table)]
        table[:, at : at + count] = rows[:, :count]
        ranker.settle(count)
    parts = [torch.as_tensor(row) for row in table[:4]]
    rank = table[5].astype(np.int64)
    sure, more = ranker.certainties(), dict(zip(names, table[6:], strict=True))
    scores = EventScores(Interval(*parts), table[4], rank, ranker.slates(), *sure, more)
    return scores, found.history


def detail_names(posterior: Posterior) -> list[str]:
    """Columns that say more of the predicted distribution of an event's outcome.

    rating: P(the level) for every level. choice: probability of the most probable item, whether it
    was chosen, the mass of the items more probable than the chosen one, and the mass of those as
    probable, itself with them.
    """
    emission = posterior.layout.emission
    if emission == "choice":
        return [P_TOP, TOP_HIT, P_ABOVE, P_TIED]
    levels = posterior.vocabulary.levels if emission == "rating" else ()
    return [f"{P_LEVEL}{float(level)!r}" for level in levels]


class _Ranker:
    """Ranks of the events' own items in tables of scores (event, item), and the best others."""

    def __init__(
        self,
        posterior: Posterior,
        found: Forecasts,
        exclude_seen: bool,
        k: int | None,
        exposure: ExposedEvents | None,
        certainty_draws: int,
    ) -> None:
        self.posterior, self.history = posterior, found.history
        self.exclude_seen, self.exposure = exclude_seen, exposure
        self.k = None if k is None else min(k, posterior.layout.n_items)
        self.certainty_draws = certainty_draws
        self.best: list[np.ndarray] = []
        self.sure: list[np.ndarray] = []  # certainty and expected hits, (2, event)

    def settle(self, count: int) -> None:
        """Only the first `count` rows of the last call are wanted."""
        if self.k is not None:
            self.best[-1] = self.best[-1][:count]
        if self.certainty_draws:
            self.sure[-1] = self.sure[-1][:, :count]

    def slates(self) -> np.ndarray | None:
        """The k best of all events, in the order of the calls."""
        return None if self.k is None else np.concatenate(self.best)

    def certainties(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Certainty and expected hits of the slates, where they are wanted."""
        if not self.certainty_draws:
            return None, None
        certainty, hits = np.concatenate(self.sure, axis=1)
        return certainty, hits

    def _keep_best(
        self, scores: Tensor, part: np.ndarray, drawn: Tensor | None, mass: Tensor | None
    ) -> None:
        assert self.k is not None
        allowed = scores
        if self.exclude_seen:
            allowed = scores.clone()
            first, second = self._seen(part)
            allowed[first, second] = -torch.inf
        value, index = torch.topk(allowed, self.k)
        slate = torch.where(torch.isfinite(value), index, -1)
        self.best.append(slate.cpu().numpy())
        if self.certainty_draws:
            assert drawn is not None
            masked = drawn.masked_fill(torch.isneginf(allowed)[:, None], -torch.inf)
            certainty = slate_certainty(masked, slate, self.k)
            hits = value.double().masked_fill(slate < 0, 0.0).sum(1)
            if mass is not None:  # probabilities are among the allowed items, draw by draw
                place = slate.clamp_min(0)[:, None].expand(-1, drawn.shape[1], -1)
                taken = drawn.gather(2, place).masked_fill((slate < 0)[:, None], 0.0).sum(2)
                among = mass.masked_fill(torch.isneginf(allowed)[:, None], 0.0).sum(2)
                hits = (taken.double() / among.double().clamp_min(TINY)).mean(1)
            self.sure.append(torch.stack((certainty, hits)).cpu().numpy())

    def rank(self, scores: Tensor, part: np.ndarray, drawn: Tensor | None = None) -> np.ndarray:
        """1 + the number of other competing items that score at least as much.

        `drawn` (event, draw, item) are joint draws of the scores, where certainties are wanted.
        """
        mass = drawn if self.posterior.choice else None
        if self.exposure is not None:
            mass = met = self.exposure.draws(part)
            scores = scores * met.mean(1)
            drawn = None if drawn is None else drawn * met
        own = torch.as_tensor(self.history.item_index[part], dtype=torch.long, device=scores.device)
        row = torch.arange(len(part), device=scores.device)
        mine = scores[row, own][:, None]
        competes = scores >= mine - TIE * mine.abs()
        competes[row, own] = False
        if self.exclude_seen:
            first, second = self._seen(part)
            competes[first, second] = False
        if self.k is not None:
            self._keep_best(scores, part, drawn, mass)
        ranks: np.ndarray = 1 + competes.sum(1).cpu().numpy()
        return ranks

    def _seen(self, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(row, item) pairs that an event's user had met before it."""
        history = self.history
        before = self.posterior.seen[history.user_index[part]].tocoo()
        first = history.start[history.user_index[part]]
        count = part - first
        row = np.repeat(np.arange(len(part)), count)
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        item = history.item_index[np.repeat(first, count) + within]
        return np.concatenate((before.row, row)), np.concatenate((before.col, item))


def _scalar_rows(
    posterior: Posterior, found: Forecasts, part: np.ndarray, prob: float, ranker: _Ranker
) -> np.ndarray:
    """mean, sd, lower, upper, log_prob, rank of events of a scalar family, and its details."""
    history = found.history
    index = torch.as_tensor(part, device=posterior.features.device)
    belief = found.belief(index)
    extra = circumstances_of_events(posterior, part, found.rows)
    everything = predictors(posterior, belief, extra)
    scores = mean_score(everything.mean - level_cut(posterior), everything.var)
    own, chance = _own_predictors(posterior, found, index, part)
    pairs = list(zip(posterior.each, found.members, strict=True))
    if pairs:
        each = [_own_predictors(one, forecasts, index, part) for one, forecasts in pairs]
        chance = torch.stack([one[1] for one in each]).mean(0)
        own = replace(own, members=tuple(one[0] for one in each))
    chance = chance.clamp_min(1e-30)
    plain = interest_interval(own, prob, mapped=posterior.recalibration)
    survival = event_survival(posterior, found, index)
    level = interest_level(posterior)
    if posterior.recalibration is not None:
        if ranker.exposure is not None or ranker.certainty_draws:  # else for order only
            scores = posterior.recalibration(scores)
        outcome = torch.as_tensor(history.outcome[part], device=index.device)
        above, below = side_factors(posterior, survival[level - 1])
        chance = chance * torch.where(outcome >= level, above, below)
    levels = _level_probs(posterior, survival)
    drawn = None
    if ranker.certainty_draws:
        drawn = draw_predictors(posterior, belief, extra, ranker.certainty_draws, OUTCOME_SEED)
        drawn = interest_probabilities(posterior, drawn)
    ranks = torch.as_tensor(ranker.rank(scores, part, drawn))
    columns = [plain.mean, plain.sd, plain.lower, plain.upper, chance.log(), ranks, *levels]
    return np.stack([column.double().cpu().numpy() for column in columns])


def _level_probs(posterior: Posterior, survival: Tensor) -> list[Tensor]:
    """rating: P(each level), from raw P(level index >= k)."""
    if posterior.layout.emission != "rating":
        return []
    above = recalibrated_survival(posterior, survival)
    one = torch.ones_like(above[:1])
    return list(torch.cat((one, above)) - torch.cat((above, 0.0 * one)))


def interest_level(posterior: Posterior) -> int:
    """Outcomes from this one on are interest."""
    return posterior.level if posterior.layout.emission == "rating" else 1


def event_survival(posterior: Posterior, found: Forecasts, index: Tensor) -> Tensor:
    """Raw P(an event's outcome >= k), k from 1, its own kind counted in, (k, event)."""
    if found.members:
        pairs = zip(posterior.each, found.members, strict=True)
        return torch.stack([event_survival(*pair, index) for pair in pairs]).mean(0)
    assert found.mean is not None
    assert found.var is not None
    mean, averages = found.mean[index], LogisticAverages(found.var[index])
    cuts = emission_of(posterior.layout, posterior.values).cuts
    return torch.stack([averages.sigmoid(mean - cut) for cut in cuts])


def _own_predictors(
    posterior: Posterior, found: Forecasts, index: Tensor, part: np.ndarray
) -> tuple[Predictors, Tensor]:
    """Of the events' own items, counted from the level's cut, and the outcomes' probabilities."""
    assert found.mean is not None
    assert found.var is not None
    kind = torch.as_tensor(found.history.kind_index[part], dtype=torch.long, device=index.device)
    mean, var = found.mean[index], found.var[index]
    outcome = torch.as_tensor(found.history.outcome[part]).to(mean)
    chance = emission_of(posterior.layout, posterior.values).predictive(mean, var, outcome)
    # The interest probability is that of the reference kind; the outcome has its own.
    rho = reliability(posterior.values, kind)
    shifted = mean / rho - level_cut(posterior)
    return Predictors(shifted, var / rho**2, torch.zeros_like(var)), chance


def mean_score(mean: Tensor, var: Tensor) -> Tensor:
    """`E[sigmoid(a)]` for whole tables, with few nodes: for ordering."""
    nodes, weights = nodes_and_weights(mean, RANK_NODES)
    sd, total = var.sqrt(), torch.zeros_like(mean)
    for node, weight in zip(nodes, weights, strict=True):
        total.add_(torch.sigmoid(torch.addcmul(mean, sd, node)), alpha=float(weight))
    return total


def _choice_rows(
    posterior: Posterior,
    found: Forecasts,
    part: np.ndarray,
    prob: float,
    n_draws: int,
    ranker: _Ranker,
) -> np.ndarray:
    """mean, sd, lower, upper, log_prob, rank of choices, and details, over all items."""
    history = found.history
    index = torch.as_tensor(part, device=posterior.features.device)
    belief = found.belief(index)
    extra = circumstances_of_events(posterior, part, found.rows)
    kind = torch.as_tensor(history.kind_index[part], dtype=torch.long, device=index.device)
    logits = draw_predictors(posterior, belief, extra, n_draws)
    probs = interest_probabilities(posterior, logits)
    mean = probs.mean(1)
    own = torch.as_tensor(history.item_index[part], dtype=torch.long, device=index.device)
    row = torch.arange(len(part), device=index.device)
    interval = draws_interval(probs[row, :, own].T, prob)
    # The interest probability is that of the reference kind; the outcome has its own.
    rho = reliability(posterior.values, kind)[:, None, None]
    chance = mean
    if not (rho == 1.0).all():
        chance = interest_probabilities(posterior, logits * rho).mean(1)
    mine = chance[row, own]
    ranks = torch.as_tensor(ranker.rank(mean, part, probs))
    columns = [interval.mean, interval.sd, interval.lower, interval.upper]
    columns += [mine.clamp_min(1e-30).log(), ranks, *_choice_details(chance, mine[:, None])]
    table = np.stack([column.double().cpu().numpy() for column in columns])
    table[np.ix_([4, 6, 7, 8, 9], ~history.absorb[part])] = np.nan
    return table


def _choice_details(chance: Tensor, mine: Tensor) -> list[Tensor]:
    """Values of `detail_names` from probabilities (event, item) and the chosen one's (event, 1)."""
    top = chance.max(1, keepdim=True).values
    above, tied = chance > mine, chance == mine
    hit = tied & (mine == top)  # one of several most probable items is the top one by chance
    return [
        top[:, 0],
        hit.any(1) / tied.sum(1),
        (chance * above).double().sum(1),
        (chance * tied).double().sum(1),
    ]
