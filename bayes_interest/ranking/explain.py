"""Why an answer is what it is: the predictor's mean and variance by where they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.events.history import make_history
from bayes_interest.events.split import moment_seconds
from bayes_interest.model.candidates import CandidateRows
from bayes_interest.model.filtering import Belief
from bayes_interest.model.parameters import COVARIATES
from bayes_interest.posterior.answers import find_items, find_users
from bayes_interest.posterior.attribution import item_parts, own_events, state_parts
from bayes_interest.posterior.draws import DRAW_SEED, draw_predictors, draws_interval
from bayes_interest.posterior.next_observation import expected_variances
from bayes_interest.posterior.online import candidate_rows
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    Interval,
    advanced_belief,
    check_prob,
    circumstances,
    clock,
    interest_interval,
    interest_probabilities,
    level_cut,
    novelty,
    predictors,
)
from bayes_interest.posterior.variance_parts import VarianceParts, variance_parts
from bayes_interest.ranking.explain_text import explanation_text
from bayes_interest.ranking.scores import check_seed
from bayes_interest.schema import ITEM_ID, KIND, TIMESTAMP, VALUE

SOURCE, NAME, CONTRIBUTION, SHARE = "source", "name", "contribution", "share"
HABIT, VIA_TEXT = "habit", "via_text"
VARIANCE, EXPECTED_VARIANCE, REDUCTION = "variance", "expected_variance", "reduction"
EVENT, PRIOR, ITEM, ITEM_TEXT, CONTEXT = "event", "prior", "item", "text", "context"
POPULARITY, REST = "popularity", "rest"
OWN_PAST = ("repeats", "succession", "likeness", "user_rate")
"""How the names of covariates begin that come from the user's own events."""
N_DRAWS = 400
"""Of a choice's probability, as `interest` takes by default."""
ROUNDING = 1e-6
"""Parts of the score up to this size are not worth a line of their own."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where one interest comes from, how sure it is, and what would make it surer.

    Attributes:
        user_id, item_id, at: what was asked; `at` is a UTC timestamp.
        emission: the family.
        outcome: what the probability is of, in words: "engages with", say.
        score: mean of the linear predictor in logits; for ratings of P(rating >= the threshold's
            level). Without uncertainty and recalibration the probability would be its logistic
            function; for choice its share in the softmax.
        mean, lower, upper: of the interest probability, as `interest` gives them.
        prob: mass of that interval.
        recalibrated: whether the probability has gone through the map of `recalibrate`.
        contributions: source, name, item_id, timestamp, kind, value, contribution, share, habit,
            via_text; a row per past event and per other part of the score, largest first.
            `contribution` sums to `score`, `share` is its size among all sizes. Sources: "event"
            (one of the user's), "prior" (anybody, any item), "text" and "item" (what the item's
            text, and what others' events with it, say of it at the average user), "popularity"
            (of the moment, by name), "habit" (what of the user's repeats, successions, likenesses
            and running rates no single event carries), "context", "rest" (what others' events
            that came late have changed). Of an event's contribution `habit` is what those
            covariates would lose without it, the remainder comes through the user's state;
            `via_text` is what enters through the text's part of the item's vector. `value` is 0
            or 1, the rating, or 1 for a choice.
        uncertainty: source, variance, share: parts of the predictor's variance, which they sum
            to. "state" is what the last event left, "walk" what time has added since, "item" the
            residual and offset, "text" the text weights, "globals" the draws of all globals.
        next_observations: item_id, expected_variance, reduction, share: the candidates of which
            one more event at that moment would lower the predictor's variance most on average;
            `share` is the part of the variance that goes.
        text: all of it in a few plain sentences.
    """

    user_id: Any
    item_id: Any
    at: pd.Timestamp
    emission: str
    outcome: str
    score: float
    mean: float
    lower: float
    upper: float
    prob: float
    recalibrated: bool
    contributions: pd.DataFrame
    uncertainty: pd.DataFrame
    next_observations: pd.DataFrame
    labels: Mapping[Any, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """One paragraph for a reader who knows no statistics."""
        return explanation_text(self)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return (
            f"Explanation(user_id={self.user_id!r}, item_id={self.item_id!r}, "
            f"score={self.score:.3f}, mean={self.mean:.3f}, {len(self.contributions)} parts)"
        )


@dataclass(frozen=True)
class _Question:
    """One user, one item, one moment, by position."""

    posterior: Posterior
    user: int
    item: int
    seconds: float
    belief: Belief  # about `y + c` then
    rows: CandidateRows  # of the moment, for the item


def explain(
    posterior: Posterior,
    user_id: Any,
    item_id: Any,
    at: object,
    prob: float,
    n_next: int,
    seed: int,
    candidates: Iterable[Any] | None = None,
    labels: Mapping[Any, str] | None = None,
) -> Explanation:
    """See `InterestModel.explain`."""
    check_prob(prob)
    check_seed(seed)
    if isinstance(n_next, bool) or not isinstance(n_next, Integral) or n_next < 0:
        raise InputError(f"n_next={n_next!r}: expected a whole number >= 0")
    asked = _question(posterior, user_id, item_id, at)
    posterior, user, seconds = asked.posterior, np.array([asked.user]), np.array([asked.seconds])
    extra = circumstances(posterior, user, seconds)
    found = predictors(posterior, asked.belief, extra)
    score = float(found.mean[0, asked.item].double() - level_cut(posterior))
    interval = _interval(asked, extra, found, prob, seed)
    parts = variance_parts(posterior, asked.user, asked.item, asked.belief, asked.seconds)
    return Explanation(
        posterior.vocabulary.users.ids[asked.user],
        posterior.vocabulary.items.ids[asked.item],
        pd.to_datetime(asked.seconds, unit="s", utc=True),
        posterior.layout.emission,
        _outcome(posterior),
        score,
        *(float(part) for part in (interval.mean, interval.lower, interval.upper)),
        prob,
        posterior.recalibration is not None,
        _contributions(asked, score),
        _uncertainty(parts),
        _next_observations(asked, candidates, int(n_next), parts.total),
        {} if labels is None else dict(labels),
    )


def _outcome(posterior: Posterior) -> str:
    """What the interest probability is of, as a verb that wants an item."""
    threshold = posterior.config.positive_threshold
    if posterior.layout.emission == "bernoulli" and threshold is not None:
        return f"would give a value of {threshold:g} or more to"
    if posterior.layout.emission == "rating":
        level = posterior.vocabulary.levels[posterior.level]
        return f"would give {level:g} or more to"
    choice = posterior.layout.emission == "choice"
    return "chooses next, out of all items," if choice else "engages, once shown it, with"


def _question(posterior: Posterior, user_id: Any, item_id: Any, at: object) -> _Question:
    for name, one in (("user_id", user_id), ("item_id", item_id)):
        if isinstance(one, Iterable) and not isinstance(one, (str, bytes)):
            raise InputError(f"{name}={one!r}: expected a single id, not several")
    posterior, who = find_users(posterior, [user_id])
    what = find_items(posterior, [item_id], "item_id")
    second = clock(posterior) if at is None else moment_seconds(at)
    seconds, nothing = np.array([second]), np.zeros(1, dtype=np.int64)
    belief = advanced_belief(posterior, who, seconds)
    looks = make_history(
        who, what, seconds, nothing, nothing, posterior.history.n_users, nothing > 0
    )
    rows = candidate_rows(posterior, looks)
    return _Question(posterior, int(who[0]), int(what[0]), second, belief, rows)


def _interval(asked: _Question, extra: Any, found: Any, prob: float, seed: int) -> Interval:
    """Of the interest probability, as `interest` has it."""
    posterior = asked.posterior
    if not posterior.choice:
        mine = found.of(0, slice(asked.item, asked.item + 1))
        return interest_interval(mine, prob, level_cut(posterior), posterior.recalibration)
    drawn = draw_predictors(posterior, asked.belief, extra, N_DRAWS, DRAW_SEED + seed)[0]
    chance = interest_probabilities(posterior, drawn)
    return draws_interval(chance[:, asked.item], prob)


def _contributions(asked: _Question, score: float) -> pd.DataFrame:
    """Rows of every source, largest first; they sum to the score."""
    posterior = asked.posterior
    state = state_parts(posterior, asked.user, asked.item, asked.belief, asked.seconds)
    habits, named, alike = _covariates(asked)
    events = _event_rows(asked, state.events + habits).assign(
        **{HABIT: habits, VIA_TEXT: state.events_text + alike}
    )
    base = item_parts(posterior, asked.item)
    lines = [
        (PRIOR, "level", base.level + named.pop("level", 0.0), 0.0),
        (ITEM_TEXT, "text of the item", base.text, base.text),
        (ITEM, "events with the item", base.item, 0.0),
        (CONTEXT, "last events together", state.context, state.context_text),
    ]
    lines += [(_source_of(name), name, value, 0.0) for name, value in named.items()]
    rest = score - events[CONTRIBUTION].sum() - sum(line[2] for line in lines)
    lines.append((REST, "events that came late, rounding", rest, 0.0))
    kept = [line for line in lines if abs(line[2]) > ROUNDING]
    table = pd.DataFrame(kept, columns=[SOURCE, NAME, CONTRIBUTION, VIA_TEXT])
    columns = [SOURCE, NAME, ITEM_ID, TIMESTAMP, KIND, VALUE, CONTRIBUTION, SHARE, HABIT, VIA_TEXT]
    both = pd.concat((events, table.astype({CONTRIBUTION: float}))) if len(table) else events
    size = both[CONTRIBUTION].abs()
    both[SHARE] = size / size.sum() if size.sum() > 0.0 else 0.0
    order = np.argsort(-size.to_numpy(), kind="stable")
    return both.reindex(columns=columns).iloc[order].reset_index(drop=True)


def _covariates(asked: _Question) -> tuple[np.ndarray, dict[str, float], np.ndarray]:
    """What the covariates add: by event, by name where they are of no event, by event's text."""
    posterior, layout = asked.posterior, asked.posterior.layout
    shift = novelty(posterior, np.array([asked.seconds])).expand(1, layout.n_items)
    named = {"no event before": float(shift[0, asked.item])}
    surroundings, moment = asked.rows.surroundings, int(asked.rows.moment[0])
    effects = surroundings.own_effects(moment)
    if COVARIATES not in posterior.values:
        return np.zeros(len(effects)), named, np.zeros(len(effects))
    weight = posterior.values[COVARIATES].double().cpu().numpy()
    left = (asked.rows.own()[0] - effects.sum(0)) * weight
    named |= dict(zip(layout.kinds.names, left.tolist(), strict=True))
    alike = layout.kinds.columns("likeness")
    return effects @ weight, named, effects[:, alike] @ weight[alike]


def _source_of(covariate: str) -> str:
    if covariate == "item_rate":
        return ITEM
    return HABIT if covariate.startswith(OWN_PAST) else POPULARITY


def _event_rows(asked: _Question, contribution: np.ndarray) -> pd.DataFrame:
    """The user's absorbed events, as the caller knows them."""
    posterior, own = asked.posterior, own_events(asked.posterior, asked.user)
    own, ids = own.take(own.absorb), posterior.vocabulary
    outcome = own.outcome
    if posterior.layout.emission == "rating":
        outcome = np.asarray(ids.levels)[outcome.astype(int)]
    return pd.DataFrame(
        {
            SOURCE: EVENT,
            NAME: "past event",
            ITEM_ID: ids.items.ids[own.item_index],
            TIMESTAMP: pd.to_datetime(own.seconds, unit="s", utc=True),
            KIND: np.array(ids.kinds, dtype=object)[own.kind_index],
            VALUE: outcome,
            CONTRIBUTION: contribution,
        }
    )


def _uncertainty(parts: VarianceParts) -> pd.DataFrame:
    table = pd.DataFrame(list(vars(parts).items()), columns=[SOURCE, VARIANCE])
    table[SHARE] = table[VARIANCE] / parts.total if parts.total > 0.0 else 0.0
    return table.sort_values(VARIANCE, ascending=False, kind="stable", ignore_index=True)


def _next_observations(
    asked: _Question, candidates: Iterable[Any] | None, n_next: int, variance: float
) -> pd.DataFrame:
    """The best of the candidates, by default of the items that the user has not met."""
    posterior = asked.posterior
    what = np.unique(find_items(posterior, candidates, "candidates"))
    if candidates is None:
        met = posterior.seen_by(asked.user)
        what = what if len(met) == len(what) else np.setdiff1d(what, met)
    expected = expected_variances(posterior, asked.belief, asked.rows, asked.item, what)
    best = np.argsort(expected, kind="stable")[:n_next]
    gone = variance - expected[best]
    return pd.DataFrame(
        {
            ITEM_ID: posterior.vocabulary.items.ids[what[best]],
            EXPECTED_VARIANCE: expected[best],
            REDUCTION: gone,
            SHARE: gone / variance if variance > 0.0 else 0.0 * gone,
        }
    )
