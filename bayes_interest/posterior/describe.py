"""What a fitted model is, in a few facts."""

from __future__ import annotations

import pandas as pd

from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import clock


def facts(posterior: Posterior) -> dict[str, str]:
    """Name to text, in the order in which they are shown."""
    layout, known = posterior.layout, posterior.vocabulary
    found = {
        "family": f"{layout.emission} ({posterior.summary.family_reason})",
        "users": f"{len(known.users):,}",
        "items": f"{len(known.items):,}, {int(posterior.has_text.sum()):,} with text or vector",
        "events": _events(posterior),
    }
    if len(known.kinds) > 1:
        found["kinds"] = ", ".join(known.kinds)
    if layout.emission == "rating":
        levels = known.levels
        found["interest is"] = f"rating >= {levels[posterior.level]:g}, of {len(levels)} levels"
    found["state"] = _state(posterior)
    if layout.kinds.names:
        found["covariates"] = ", ".join(layout.kinds.names)
    if layout.context_layers:
        found["context"] = f"{layout.context_layers} layers, {layout.context_dim} wide"
    n_draws = len(posterior.members)
    found["global parameters"] = f"{n_draws} draws" if n_draws else "best values (points)"
    mapped = posterior.recalibration
    found["recalibrated"] = "no" if mapped is None else mapped.method
    summary = posterior.summary
    found["fit"] = f"{summary.best_epoch} epochs, {summary.seconds:.1f} s"
    if summary.notes:
        found["notes"] = "; ".join(summary.notes)
    return found


def _events(posterior: Posterior) -> str:
    log = posterior.history
    if not len(log):
        return "0"
    days = [pd.to_datetime(x, unit="s").date() for x in (log.seconds.min(), clock(posterior))]
    seen = int((~log.absorb).sum())
    more = f", {seen:,} of them seen and not chosen" if seen else ""
    return f"{len(log):,}, {days[0]} to {days[1]}{more}"


def _state(posterior: Posterior) -> str:
    layout = posterior.layout
    walk = "random walk"
    if layout.half_life_days is not None:
        walk = f"returns to average with a half-life of {layout.half_life_days:g} days"
    moves = " and with every event" if layout.event_drift else ""
    return f"{layout.state_dim} dimensions, {walk} in time{moves}"
