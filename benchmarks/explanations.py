"""Do explanations say the truth? Leave the top event out, recompute, and look at the score.

For random pairs of a user with events and an item, the event with the largest contribution is
removed from the log and everything is recomputed at the same globals and the same moment: states,
running rates, repeats, likeness, popularity, context. Two exact ways to share the state out among
events stand beside each other, see `posterior/attribution.py`: "update" (what the event changed at
its time) and "observation" (what was seen, times what later events left of it); the effects of
covariates are those of `explain`. `explain` takes the first for bernoulli and rating and the second
for choice.

    python benchmarks/explanations.py    # drawn logs, all families: benchmarks/EXPLAIN.md
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import bayes_interest as bi
from bayes_interest.events.history import History
from bayes_interest.model.filtering import moment_site
from bayes_interest.model.parameters import emission_of
from bayes_interest.posterior.attribution import kept_of_states, own_events
from bayes_interest.posterior.online import Forecasts, absorb, filter_history, restarted
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    advanced_belief,
    circumstances,
    clock,
    level_cut,
    predictors,
)
from bayes_interest.ranking.explain import explain
from bayes_interest.schema import SECONDS_PER_DAY
from bayes_interest.statespace.kalman import gain_and_pull
from bayes_interest.statespace.random_walk import elapsed_growth

OUT = Path(__file__).parent / "EXPLAIN.md"
FORMS = ("update", "observation")
COLUMNS = ["model", "form", "pairs", "right", "right_all", "correlation"]
CASES, EVENTS = 200, 6
SETTINGS: dict[str, dict[str, int]] = {
    "bernoulli": {},
    "rating": {},
    "choice": {},
    "choice, context": {"context_layers": 1},
    "bernoulli, context": {"context_layers": 1},
    "bernoulli, draws of the globals": {"n_members": 4, "n_cases": 60},
}


def fitted(name: str, options: dict[str, int]) -> Posterior:
    """A model of a drawn log."""
    family = name.partition(",")[0]
    log = bi.simulate(
        n_users=40, n_items=25, events_per_user=25, emission=family,
        drift_scales=(0.02, 0.05, 0.1), seed=11,
    )  # fmt: skip
    config = bi.ModelConfig(
        emission=family, state_dim=3, context_layers=options.get("context_layers", 0)
    )
    fit = bi.FitConfig(max_epochs=5, n_members=options.get("n_members", 1), progress=False)
    model = bi.InterestModel(config, bi.PrecomputedVectors(log.vectors)).fit(log.events, config=fit)
    return model.posterior


def score(posterior: Posterior, user: int, item: int, seconds: float) -> float:
    """Mean predictor."""
    who, at = np.array([user]), np.array([seconds])
    extra = circumstances(posterior, who, at)
    found = predictors(posterior, advanced_belief(posterior, who, at), extra)
    return float(found.mean[0, item].double() - level_cut(posterior))


def without(posterior: Posterior, user: int, event: int) -> Posterior:
    """The user's state and everybody's covariates without the user's event at this place."""
    own = own_events(posterior, user)
    others = posterior.history.take(posterior.history.user_index != user)
    keep = np.ones(len(own), dtype=bool)
    keep[np.flatnonzero(own.absorb)[event]] = False
    return absorb(replace(restarted(posterior), history=others), own.take(keep))


def states_by_event(
    posterior: Posterior, user: int, item: int, seconds: float
) -> dict[str, np.ndarray]:
    """The state's part of the score by event, in both forms, (event,) each."""
    own = own_events(posterior, user)
    others = posterior.history.take(posterior.history.user_index != user)
    start = replace(restarted(posterior), history=others)
    found, after, _ = filter_history(start, own, keep_cov=True)
    gap = torch.tensor((seconds - own.seconds[-1]) / SECONDS_PER_DAY)
    decay = float(elapsed_growth(gap, posterior.layout.half_life_days)[0])
    parts: dict[str, list[np.ndarray]] = {form: [] for form in FORMS}
    settings = zip(
        posterior.each or (posterior,),
        found.members or (found,),
        after.members or (after,),
        strict=True,
    )
    for one, forecasts, end in settings:
        last = end.mean[user].double().numpy()
        target = decay * one.items.vectors[item].double().numpy()
        kept = kept_of_states(one, forecasts) if one.belief.diagonal else None
        for form in FORMS:
            keeps = form == "observation"
            back = _kept_by(one, forecasts, kept) if keeps else lambda _, q: q
            parts[form].append(_shared(forecasts, last, target, back))
    return {form: np.mean(found, axis=0)[own.absorb] for form, found in parts.items()}


def _shared(
    found: Forecasts, last: np.ndarray, weights: np.ndarray, back: Callable[..., np.ndarray]
) -> np.ndarray:
    """The slow and general `shared_out`, without mean reversion (there is none here)."""
    before, out, held = found.state_mean.double().numpy(), [], float(weights @ last)
    for event in reversed(range(len(before))):
        if found.history.absorb[event]:
            weights = back(event, weights)
        rest = float(weights @ before[event])
        out.append(held - rest)
        held = rest
    return np.array(out[::-1])


def _kept_by(
    posterior: Posterior, found: Forecasts, kept: np.ndarray | None
) -> Callable[..., np.ndarray]:
    """`q (I - K H)` of each event."""
    if kept is not None:
        return lambda event, q: q * kept[event]
    values, history = posterior.values, found.history
    x = posterior.items.vectors[torch.as_tensor(history.item_index)]
    along = torch.einsum("eij,ej->ei", found.state_cov, x)
    mean, var = (x * found.state_mean).sum(1), (x * along).sum(1)
    outcome = torch.as_tensor(history.outcome).to(mean)
    emission = emission_of(posterior.layout, values)
    slope = emission.evidence_derivatives(found.mean, found.var, outcome)
    gain, _ = gain_and_pull(mean, var, *moment_site(slope, mean, var))
    gained, vectors = (gain[:, None] * along).double().numpy(), x.double().numpy()
    return lambda event, q: q - (q @ gained[event]) * vectors[event]


def cases(posterior: Posterior, n_cases: int) -> pd.DataFrame:
    """A row per pair and form: the top event, what leaving it out does, and for some all events."""
    rng, ids, rows = np.random.default_rng(0), posterior.vocabulary, []
    users, now = np.flatnonzero(np.isfinite(posterior.last_seconds)), clock(posterior)
    for case in range(n_cases):
        user, item = int(rng.choice(users)), int(rng.integers(posterior.layout.n_items))
        told = explain(posterior, ids.users.ids[user], ids.items.ids[item], None, 0.9, 0, 0)
        own = own_events(posterior, user)
        events = in_order(told.contributions, own.take(own.absorb), ids.items.ids)
        habit = events["habit"].to_numpy()
        forms = states_by_event(posterior, user, item, now)
        forms = {form: part + habit for form, part in forms.items()}
        shipped = forms["observation" if posterior.belief.diagonal else "update"]
        np.testing.assert_allclose(shipped, events["contribution"], atol=1e-5)
        picked = rng.permutation(len(events))[: EVENTS if case < n_cases // 8 else 0].tolist()
        tops = [int(np.abs(parts).argmax()) for parts in forms.values()]
        effect = {
            event: told.score - score(without(posterior, user, event), user, item, now)
            for event in {*picked, *tops}
        }
        for (form, parts), top in zip(forms.items(), tops, strict=True):
            right = np.sign(parts[top]) == np.sign(effect[top])
            rows.append({"form": form, "right": float(right), **compared(parts, effect, picked)})
    return pd.DataFrame(rows)


def compared(parts: np.ndarray, effect: dict[int, float], picked: list[int]) -> dict[str, float]:
    """Of some events: the share of size that has the right sign, and the correlation."""
    if not picked:
        return {"right_all": np.nan, "correlation": np.nan}
    told, true = parts[picked], np.array([effect[event] for event in picked])
    right = np.sign(told) == np.sign(true)
    size = np.abs(told)
    return {
        "right_all": float((right * size).sum() / size.sum()),
        "correlation": float(np.corrcoef(told, true)[0, 1]),
    }


def in_order(contributions: pd.DataFrame, own: History, item_ids: np.ndarray) -> pd.DataFrame:
    """Rows of events in the order of the history."""
    wanted = pd.DataFrame(
        {
            "item_id": item_ids[own.item_index],
            "timestamp": pd.to_datetime(own.seconds, unit="s", utc=True),
        }
    )
    assert not wanted.duplicated().any()
    events = contributions[contributions["source"] == "event"]
    return wanted.merge(events, on=["item_id", "timestamp"], how="left")


def write(table: pd.DataFrame) -> None:
    """The table under its explanation."""
    head = (
        "# Do explanations say the truth?\n\n"
        "Made by `python benchmarks/explanations.py`: drawn logs (40 users, 25 items, about 25 "
        "events each), random pairs of user and item. The event with the largest contribution is "
        "left out of the log, everything is recomputed at the same globals, and `right` is the "
        "share of pairs whose score moves as the contribution says. `right_all` and `correlation` "
        "(of contributions with the effects of leaving out) are over six random events each of an "
        "eighth of the pairs. `explain` uses the form marked *.\n\n"
    )
    names = list(table.columns)
    lines = [" | ".join(names), " | ".join("---" for _ in names)]
    lines += [" | ".join(str(cell) for cell in row) for row in table.itertuples(index=False)]
    OUT.write_text(head + "\n".join(f"| {line} |" for line in lines) + "\n")


def main() -> None:
    """Every setting, the table written anew after each."""
    torch.set_num_threads(1)
    tables = []
    for name, options in SETTINGS.items():
        posterior = fitted(name, options)
        n_cases = options.get("n_cases", CASES)
        found = cases(posterior, n_cases).groupby("form", sort=False).mean().round(3)
        shipped = "observation" if posterior.belief.diagonal else "update"
        marked = [form + " *" * (form == shipped) for form in found.index]
        tables.append(
            found.reset_index(drop=True).assign(model=name, form=marked, pairs=n_cases)[COLUMNS]
        )
        write(pd.concat(tables, ignore_index=True))


if __name__ == "__main__":
    main()
