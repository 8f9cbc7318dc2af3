"""A closed loop: show, see what is taken and what ignored, learn, show again; regret counted.

Truth is drawn from the model's own family and drifts on, so what was learned grows stale: a
policy must go on learning, and what it shows decides what it can learn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.config import EmissionName, FitConfig, ModelConfig
from bayes_interest.errors import ConfigError, InputError
from bayes_interest.evaluation.bootstrap import MIN_USERS, resamples
from bayes_interest.evaluation.policies import (
    MODEL_POLICIES,
    ORACLE,
    RANDOM,
    FeedbackStart,
    ModelPolicy,
    ModelRanking,
    OraclePolicy,
    Policy,
    PolicyFactory,
    RandomPolicy,
)
from bayes_interest.evaluation.world import World, world_after
from bayes_interest.events.read import EventLog
from bayes_interest.model.prepare import embed_items
from bayes_interest.model.simulate import simulate
from bayes_interest.posterior.learn import learn
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import check_prob
from bayes_interest.progress import bar, shown_if
from bayes_interest.text.precomputed import PrecomputedVectors

POLICY, SEED, ROUND = "policy", "seed", "round"
REGRET, CUMULATIVE_REGRET, TAKEN = "regret", "cumulative_regret", "taken"
NAMED = (*MODEL_POLICIES, RANDOM, ORACLE)
Chosen = str | ModelRanking | PolicyFactory
STATE_DIM = 4


def simulate_feedback(
    policies: Sequence[str] | Mapping[str, Chosen] = ("mean", "thompson", RANDOM),
    n_users: int = 40,
    n_items: int = 60,
    n_rounds: int = 60,
    k: int = 1,
    seeds: Iterable[int] = range(5),
    emission: EmissionName = "bernoulli",
    drift_scales: Sequence[float] = (0.05, 0.1, 0.15),
    warmup_events: int = 10,
    warmup_days: float = 60.0,
    days_per_round: float = 1.0,
    embed_dim: int = 8,
    config: ModelConfig | None = None,
    fit_config: FitConfig | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Let policies choose what drifting users are shown, and count what they miss.

    For each seed: `simulate` draws item vectors, users and a warm-up log of about `warmup_events`
    random impressions per user over `warmup_days`; then, every `days_per_round`, each policy shows
    every user `k` items, outcomes are drawn from the truth at that moment, and the policy sees
    them. The truth and its chance are the same for all policies. Items may be shown again.

    Args:
        policies: names, or name to policy: "mean", "lower", "upper", "thompson", "p_top_k" and
            "diverse" are the model fitted on the warm-up log (`config`, `fit_config`), ranking by
            that and updated online, items too; a `ModelRanking` says more closely how it ranks and
            learns; "random"; "oracle" knows the truth; or a function of a `FeedbackStart` that
            gives an object with `choose` and `observe` (see `Policy`).
        emission: "bernoulli" (1 taken, 0 ignored) or "rating" (taken: the upper half of five
            levels). A choice has no shown-and-ignored.
        drift_scales: of the true interest per sqrt day, one per dimension.
        embed_dim: width of the item vectors, all that is told of the items beside the log.

    Returns:
        policy, seed, round (from 1), regret, cumulative_regret, taken. `regret` is the expected
        number of items taken of the best possible slate less that of the slate shown, mean over
        users; `taken` is how many were taken, mean over users.

    Raises ConfigError for a wrong setting and InputError for a policy that breaks its protocol.
    """
    chosen = _named(policies)
    _check(emission, n_rounds, k, n_items, warmup_days, days_per_round)
    tables = []
    with shown_if(progress):
        for seed in bar(list(seeds), desc="feedback", unit="seed"):
            simulation = simulate(
                n_users,
                n_items,
                warmup_events,
                emission,
                drift_scales,
                embed_dim,
                warmup_days,
                seed=seed,
            )
            world = world_after(simulation, warmup_days, n_rounds, days_per_round, k, seed)
            start = FeedbackStart(
                simulation.events,
                simulation.vectors,
                world.users,
                world.items,
                world.seconds,
                k,
                seed,
            )
            make = _Maker(start, world, config, fit_config)
            tables += [
                run_policy(name, make(policy), world, start) for name, policy in chosen.items()
            ]
    names = [POLICY, SEED, ROUND, REGRET, CUMULATIVE_REGRET, TAKEN]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=names)


class _Maker:
    """Makes the policies of one seed; the model is fitted once, when first needed."""

    def __init__(
        self,
        start: FeedbackStart,
        world: World,
        config: ModelConfig | None,
        fit_config: FitConfig | None,
    ) -> None:
        self.start, self.world = start, world
        emission: Any = world.truth.layout.emission
        self.config = config or ModelConfig(emission, state_dim=STATE_DIM)
        self.fit_config = fit_config or FitConfig(seed=start.seed, n_members=1, progress=False)
        self.encoder = PrecomputedVectors(start.vectors)
        self.posterior = cache(lambda: self.fitted(start.events))

    def fitted(self, log: EventLog) -> Posterior:
        """Of a log; items without an event there are known by their vectors."""
        found = learn(log, None, self.encoder, self.config, self.fit_config)
        known = found.vocabulary.items.index_of(self.start.items)
        new = self.start.items[known < 0]
        if not len(new):
            return found
        return found.with_items(new, embed_items(new, [""] * len(new), self.encoder, False))

    def __call__(self, policy: Chosen) -> Policy:
        if policy == RANDOM:
            return RandomPolicy(self.start)
        if policy == ORACLE:
            return OraclePolicy(self.start, self.world)
        if isinstance(policy, str):
            policy = ModelRanking(policy)
        if isinstance(policy, ModelRanking):
            start = self.start
            return ModelPolicy(self.posterior(), self.encoder, start, policy, refit=self.fitted)
        return policy(self.start)


def run_policy(name: str, policy: Policy, world: World, start: FeedbackStart) -> pd.DataFrame:
    """One policy through all rounds of one world; see `simulate_feedback`."""
    engagement, index = world.engagement, pd.Index(world.items)
    rows = []
    for number in range(len(world.seconds)):
        shown = _checked(name, policy.choose(world.users, number), index, len(world.users), start.k)
        value = world.outcomes(number, shown)
        policy.observe(world.events(number, shown, value))
        chance = engagement[number]
        best = -np.sort(-chance, axis=1)[:, : start.k].sum(1)
        missed = best - np.take_along_axis(chance, shown, 1).sum(1)
        rows.append((number + 1, missed.mean(), world.taken(value).sum(1).mean()))
    table = pd.DataFrame(rows, columns=[ROUND, REGRET, TAKEN])
    table.insert(2, CUMULATIVE_REGRET, table[REGRET].cumsum())
    table.insert(0, SEED, start.seed)
    table.insert(0, POLICY, name)
    return table


def summarize_feedback(
    table: pd.DataFrame,
    reference: str | None = None,
    prob: float = 0.9,
    n_boot: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Cumulative regret at the end of `simulate_feedback` per policy, means over seeds.

    policy, n (seeds), cumulative_regret, lower, upper, taken (per user and round), least regret
    first. With a `reference` also ratio (of the means of cumulative regret, to the reference's),
    ratio_lower and ratio_upper. Bounds are equal-tailed of mass `prob`, from `n_boot` resamples of
    seeds, the same for all policies; missing with fewer than 5 seeds. Raises InputError for an
    unknown reference.
    """
    check_prob(prob)
    last = table.groupby([POLICY, SEED])[CUMULATIVE_REGRET].last().unstack(SEED)
    if reference is not None and reference not in last.index:
        raise InputError(f"reference={reference!r}: expected one of {sorted(last.index)}")
    values, n_seeds = last.to_numpy(), last.shape[1]
    weights = np.concatenate(list(resamples(n_seeds, n_boot, n_seeds, seed)))
    draws = weights @ values.T / n_seeds  # (draw, policy)
    tails = [0.5 - prob / 2.0, 0.5 + prob / 2.0]

    def bounds(of: np.ndarray) -> np.ndarray:
        few = n_seeds < MIN_USERS
        return np.full((2, len(last)), np.nan) if few else np.quantile(of, tails, axis=0)

    lower, upper = bounds(draws)
    out = pd.DataFrame({POLICY: last.index, "n": n_seeds, CUMULATIVE_REGRET: values.mean(1)})
    out = out.assign(lower=lower, upper=upper)
    out[TAKEN] = table.groupby(POLICY)[TAKEN].mean().loc[last.index].to_numpy()
    if reference is not None:
        at = last.index.get_loc(reference)
        lower, upper = bounds(draws / draws[:, [at]])
        ratio = values.mean(1) / values[at].mean()
        out = out.assign(ratio=ratio, ratio_lower=lower, ratio_upper=upper)
    return out.sort_values(CUMULATIVE_REGRET, ignore_index=True)


def _named(
    policies: Sequence[str] | Mapping[str, Chosen],
) -> dict[str, Chosen]:
    if isinstance(policies, str):
        raise ConfigError(f"policies={policies!r}: expected a list, as [{policies!r}]")
    named: dict[str, Chosen] = (
        dict(policies) if isinstance(policies, Mapping) else {name: name for name in policies}
    )
    for policy in named.values():
        if isinstance(policy, str) and policy not in NAMED:
            raise ConfigError(f"policy {policy!r}: expected one of {', '.join(NAMED)}")
    return named


def _check(
    emission: str, n_rounds: int, k: int, n_items: int, warmup_days: float, days_per_round: float
) -> None:
    if emission not in ("bernoulli", "rating"):
        raise ConfigError(
            f"emission={emission!r}: expected bernoulli or rating; a choice is one item taken "
            "among all, so that there is nothing to learn from an item shown and ignored"
        )
    if not 1 <= k <= n_items:
        raise ConfigError(f"k={k!r}: expected a slate of 1 to n_items={n_items} items")
    for name, value in {"n_rounds": n_rounds, "warmup_days": warmup_days}.items():
        if value < 1:
            raise ConfigError(f"{name}={value!r}: expected at least 1")
    if not days_per_round > 0:
        raise ConfigError(f"days_per_round={days_per_round!r}: expected days > 0")


def _checked(name: str, shown: object, items: pd.Index, n_users: int, k: int) -> np.ndarray:
    """Positions (user, k) of the items that a policy chose."""
    found = np.asarray(shown)
    if found.shape != (n_users, k):
        raise InputError(
            f"policy {name!r} chose items of shape {found.shape}: expected (user, k) = "
            f"({n_users}, {k}), a row of {k} item ids per user"
        )
    index = items.get_indexer(pd.Index(found.reshape(-1))).reshape(found.shape)
    if (index < 0).any():
        raise InputError(
            f"policy {name!r} chose {found[index < 0].tolist()[0]!r}, which is no item"
        )
    ordered = np.sort(index, axis=1)
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        row = int(np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(1))[0])
        raise InputError(f"policy {name!r} shows an item twice in the slate {found[row].tolist()}")
    return np.asarray(index)
