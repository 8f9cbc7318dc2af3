"""Draws the bundled interaction log, and the truth behind it, from a fixed seed.

    python data/make_log.py            rewrites the log and the truth beside this script
    python data/make_log.py --check    exits with 1 unless the files equal a fresh draw

The catalogue (catalogue.csv) is no draw and is only read here. Everything else is drawn:

    interest of user u in theme k    z_uk(t_1) ~ Normal(m_k, s^2), t_1 the user's first event
                                     z_uk(t + d) ~ Normal(z_uk(t), q_k^2 d), d in days
    item i                           x_i: 1 on its theme, c_i on a related theme, 0 elsewhere
                                     quality_i ~ Normal(0, 0.4^2)
    impression of i to u at t        P(value = 1) = sigmoid(intercept + x_i . z_u(t) + quality_i)

Which items are shown, and when, does not depend on interest: the log has no selection bias.
Every user has a random stream of their own, so that one user's draw never moves another's.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FOLDER = Path(__file__).parent
SEED = 20250101
N_USERS = 300
N_TRUTH_ITEMS = 20
START = np.datetime64("2025-01-01T00:00:00", "s")
END = np.datetime64("2026-01-01T00:00:00", "s")
DAY_SECONDS = 86_400
YEAR_SECONDS = int((END - START).astype(np.int64))

INTERCEPT = -0.45
INITIAL_SD = 1.0
QUALITY_SD = 0.4
SLOW_PER_SQRT_DAY = 0.02
FAST_PER_SQRT_DAY = 0.12

# theme: (mean of the initial interest, drift scale per sqrt day, related themes)
THEMES: dict[str, tuple[float, float, tuple[str, str]]] = {
    "space": (0.2, FAST_PER_SQRT_DAY, ("machine learning", "travel")),
    "cooking": (0.4, SLOW_PER_SQRT_DAY, ("gardening", "parenting")),
    "gardening": (0.1, SLOW_PER_SQRT_DAY, ("wildlife", "home repair")),
    "finance": (-0.3, SLOW_PER_SQRT_DAY, ("politics", "machine learning")),
    "running": (0.0, FAST_PER_SQRT_DAY, ("travel", "wildlife")),
    "jazz": (-0.2, SLOW_PER_SQRT_DAY, ("cooking", "travel")),
    "politics": (-0.1, FAST_PER_SQRT_DAY, ("finance", "parenting")),
    "machine learning": (-0.2, FAST_PER_SQRT_DAY, ("space", "finance")),
    "parenting": (0.0, SLOW_PER_SQRT_DAY, ("cooking", "home repair")),
    "travel": (0.3, FAST_PER_SQRT_DAY, ("running", "jazz")),
    "wildlife": (0.2, SLOW_PER_SQRT_DAY, ("gardening", "space")),
    "home repair": (-0.1, FAST_PER_SQRT_DAY, ("gardening", "finance")),
}
THEME_NAMES = list(THEMES)
INITIAL_MEAN: Floats = np.array([mean for mean, _, _ in THEMES.values()])
DRIFT_PER_SQRT_DAY: Floats = np.array([drift for _, drift, _ in THEMES.values()])


@dataclass(frozen=True)
class Items:
    """What is true of the items, one entry per row of the catalogue."""

    item_id: npt.NDArray[np.object_]
    theme: Ints  # position in THEME_NAMES
    related: Ints  # position in THEME_NAMES
    related_loading: Floats  # c_i, between 0.15 and 0.45
    quality: Floats
    popularity: Floats  # probability of being shown where a popular item is shown; sums to 1


@dataclass(frozen=True)
class Draw:
    """One user's year, and the truth about it."""

    user_id: str
    seconds: Ints  # of each event, since START
    item: Ints  # position in Items
    value: Ints  # 0 or 1
    weeks: Ints  # seconds since START of the weekly grid, from the first event on, ending at END
    weekly_interest: Floats  # [week, theme]
    truth_item: Ints  # positions in Items of the items in truth.csv


def draw_items(catalogue: pd.DataFrame) -> Items:
    """Loadings, quality and popularity of the catalogue's items."""
    rng = np.random.default_rng([SEED, 0])
    n = len(catalogue)
    theme = np.array([THEME_NAMES.index(name) for name in catalogue["theme"]])
    pick = rng.integers(0, 2, size=n)
    related = [
        THEME_NAMES.index(THEMES[name][2][p])
        for name, p in zip(catalogue["theme"], pick, strict=True)
    ]
    weight = 1.0 / (10.0 + rng.permutation(n)) ** 0.9
    return Items(
        item_id=catalogue["item_id"].to_numpy(dtype=object),
        theme=theme,
        related=np.array(related),
        related_loading=np.round(rng.uniform(0.15, 0.45, size=n), 2),
        quality=np.round(QUALITY_SD * rng.standard_normal(n), 4),
        popularity=weight / weight.sum(),
    )


def draw_session_sizes(rng: np.random.Generator) -> Ints:
    """Impressions per session, 1 to 6; 15 to 120 over the year."""
    n_events = int(np.clip(np.round(45.0 * np.exp(0.6 * rng.standard_normal())), 15, 120))
    sizes = rng.choice(np.arange(1, 7), size=n_events, p=[0.25, 0.2, 0.18, 0.15, 0.12, 0.1])
    before = np.cumsum(sizes) - sizes
    kept = sizes[before < n_events]
    kept[-1] = n_events - kept[:-1].sum()
    return np.asarray(kept, dtype=np.int64)


def draw_session_starts(rng: np.random.Generator, n_sessions: int) -> Floats:
    """Seconds since START. A quarter of the gaps are minutes to hours, the rest days to weeks."""
    joins_early = rng.random() < 0.6
    first = DAY_SECONDS * (rng.uniform(0, 20) if joins_early else rng.uniform(20, 240))
    last = first + (YEAR_SECONDS - first) * rng.uniform(0.85, 0.999)
    short = np.exp(rng.uniform(np.log(600.0), np.log(8 * 3600.0), size=n_sessions - 1))
    long = np.exp(rng.standard_normal(n_sessions - 1))
    is_short = rng.random(n_sessions - 1) < 0.25
    scale = (last - first - short[is_short].sum()) / long[~is_short].sum()
    gaps = np.where(is_short, short, scale * long)
    return np.asarray(first + np.concatenate([[0.0], np.cumsum(gaps)]))


def draw_event_seconds(rng: np.random.Generator, sizes: Ints) -> Ints:
    """Seconds since START of every impression, strictly increasing, 5 to 90 s in a session."""
    starts = np.floor(draw_session_starts(rng, len(sizes))).astype(np.int64)
    within = [np.cumsum(rng.integers(5, 91, size=size)) for size in sizes]
    seconds = np.concatenate([s + w for s, w in zip(starts, within, strict=True)])
    if seconds[-1] >= YEAR_SECONDS or (np.diff(seconds) <= 0).any():
        raise RuntimeError("sessions overlap or leave the year: choose other session lengths")
    return seconds


def draw_shown_items(rng: np.random.Generator, sizes: Ints, items: Items) -> Ints:
    """Half popular, half uniform; no item twice within a session."""
    n = len(items.item_id)
    p = 0.5 * items.popularity + 0.5 / n
    return np.concatenate([rng.choice(n, size=size, replace=False, p=p) for size in sizes])


def draw_walk(rng: np.random.Generator, seconds: Ints) -> Floats:
    """The random walk, exact at the given times: [time, theme]."""
    elapsed_days = np.diff(seconds) / DAY_SECONDS
    steps = rng.standard_normal((len(seconds), len(THEMES)))
    steps[0] = INITIAL_MEAN + INITIAL_SD * steps[0]
    steps[1:] *= np.sqrt(elapsed_days)[:, None] * DRIFT_PER_SQRT_DAY
    return np.cumsum(steps, axis=0)


def probability(interest: Floats, item: Ints, items: Items) -> Floats:
    """P(value = 1) for each row of interest [row, theme] and the item beside it."""
    row = np.arange(len(item))
    own = interest[row, items.theme[item]]
    related = items.related_loading[item] * interest[row, items.related[item]]
    return np.asarray(1.0 / (1.0 + np.exp(-(INTERCEPT + own + related + items.quality[item]))))


def draw_user(user: int, items: Items) -> Draw:
    """One user's events, outcomes and weekly truth."""
    rng = np.random.default_rng([SEED, 1, user])
    sizes = draw_session_sizes(rng)
    seconds = draw_event_seconds(rng, sizes)
    item = draw_shown_items(rng, sizes, items)
    weeks = np.arange(YEAR_SECONDS, -1, -7 * DAY_SECONDS)[::-1]
    weeks = weeks[weeks >= seconds[0]]
    times = np.union1d(seconds, weeks)
    interest = draw_walk(rng, times)
    chance = probability(interest[np.searchsorted(times, seconds)], item, items)
    return Draw(
        user_id=f"u{user + 1:03d}",
        seconds=seconds,
        item=item,
        value=(rng.random(len(item)) < chance).astype(np.int64),
        weeks=weeks,
        weekly_interest=interest[np.searchsorted(times, weeks)],
        truth_item=np.sort(rng.choice(len(items.item_id), size=N_TRUTH_ITEMS, replace=False)),
    )


def to_timestamps(seconds: Ints) -> list[str]:
    """ISO 8601 in UTC, such as 2025-03-01T12:00:00Z."""
    moments = START + seconds.astype("timedelta64[s]")
    return [f"{text}Z" for text in np.datetime_as_string(moments, unit="s")]


def events_table(draws: list[Draw], items: Items) -> pd.DataFrame:
    """events.csv, sorted by time, then user."""
    parts = [
        pd.DataFrame(
            {
                "user_id": draw.user_id,
                "item_id": items.item_id[draw.item],
                "timestamp": to_timestamps(draw.seconds),
                "kind": "impression",
                "value": draw.value,
            }
        )
        for draw in draws
    ]
    return pd.concat(parts).sort_values(["timestamp", "user_id"], ignore_index=True)


def truth_table(draws: list[Draw], items: Items) -> pd.DataFrame:
    """truth.csv: interest probabilities at the end of the log."""
    parts = []
    for draw in draws:
        last = np.repeat(draw.weekly_interest[-1:], N_TRUTH_ITEMS, axis=0)
        columns = {
            "user_id": draw.user_id,
            "item_id": items.item_id[draw.truth_item],
            "at": to_timestamps(draw.weeks[-1:])[0],
            "probability": probability(last, draw.truth_item, items),
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def states_table(draws: list[Draw]) -> pd.DataFrame:
    """truth_states.csv: interest per theme at the end of the log."""
    table = pd.DataFrame([draw.weekly_interest[-1] for draw in draws], columns=THEME_NAMES)
    table.insert(0, "user_id", [draw.user_id for draw in draws])
    return table


def items_table(items: Items) -> pd.DataFrame:
    """truth_items.csv: loadings and quality."""
    return pd.DataFrame(
        {
            "item_id": items.item_id,
            "theme": [THEME_NAMES[k] for k in items.theme],
            "related_theme": [THEME_NAMES[k] for k in items.related],
            "related_loading": items.related_loading,
            "quality": items.quality,
        }
    )


def choose_typical_items(items: Items) -> Ints:
    """Per theme, the item whose quality is nearest to 0."""
    distance = np.abs(items.quality)
    return np.array(
        [int(np.argmin(np.where(items.theme == k, distance, np.inf))) for k in range(len(THEMES))]
    )


def choose_trajectory_users(draws: list[Draw], typical: Ints, items: Items) -> list[Draw]:
    """The three most active users who joined in January and whose typical item's probability
    moved by at least 0.6 in some theme, each in another theme."""
    chosen: dict[int, Draw] = {}
    for draw in sorted(draws, key=lambda draw: -len(draw.seconds)):
        start = np.repeat(draw.weekly_interest[:1], len(THEMES), axis=0)
        end = np.repeat(draw.weekly_interest[-1:], len(THEMES), axis=0)
        move = np.abs(probability(end, typical, items) - probability(start, typical, items))
        theme = int(np.argmax(move))
        joined_in_january = draw.seconds[0] < 31 * DAY_SECONDS
        if joined_in_january and move[theme] >= 0.6 and theme not in chosen and len(chosen) < 3:
            chosen[theme] = draw
    return list(chosen.values())


def trajectory_table(users: list[Draw], typical: Ints, items: Items) -> pd.DataFrame:
    """truth_trajectory.csv: interest per week and theme, and the typical item's probability."""
    parts = []
    for draw in users:
        n_weeks, n_themes = draw.weekly_interest.shape
        repeated = np.repeat(draw.weekly_interest, n_themes, axis=0)
        columns = {
            "user_id": draw.user_id,
            "at": np.repeat(to_timestamps(draw.weeks), n_themes),
            "theme": np.tile(THEME_NAMES, n_weeks),
            "interest": draw.weekly_interest.ravel(),
            "item_id": np.tile(items.item_id[typical], n_weeks),
            "probability": probability(repeated, np.tile(typical, n_weeks), items),
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def constants(users: list[Draw], typical: Ints, items: Items) -> dict[str, object]:
    """truth.json: everything about the truth that is not a table."""
    return {
        "formula": "probability = sigmoid(intercept + interest[theme]"
        " + related_loading * interest[related_theme] + quality)",
        "seed": SEED,
        "at": to_timestamps(np.array([YEAR_SECONDS]))[0],
        "intercept": INTERCEPT,
        "initial_sd": INITIAL_SD,
        "quality_sd": QUALITY_SD,
        "initial_mean": dict(zip(THEME_NAMES, INITIAL_MEAN.tolist(), strict=True)),
        "drift_per_sqrt_day": dict(zip(THEME_NAMES, DRIFT_PER_SQRT_DAY.tolist(), strict=True)),
        "trajectory_users": [draw.user_id for draw in users],
        "typical_items": dict(zip(THEME_NAMES, items.item_id[typical].tolist(), strict=True)),
    }


def make_files() -> dict[str, str]:
    """The text of every file that this script owns, by file name."""
    items = draw_items(pd.read_csv(FOLDER / "catalogue.csv"))
    draws = [draw_user(user, items) for user in range(N_USERS)]
    typical = choose_typical_items(items)
    users = choose_trajectory_users(draws, typical, items)
    tables = {
        "events.csv": (events_table(draws, items), None),
        "truth.csv": (truth_table(draws, items), "%.6f"),
        "truth_states.csv": (states_table(draws), "%.6f"),
        "truth_items.csv": (items_table(items), "%.4f"),
        "truth_trajectory.csv": (trajectory_table(users, typical, items), "%.6f"),
    }
    files = {
        name: table.to_csv(index=False, float_format=float_format, lineterminator="\n")
        for name, (table, float_format) in tables.items()
    }
    files["truth.json"] = json.dumps(constants(users, typical, items), indent=2) + "\n"
    return files


def differing_files(files: dict[str, str]) -> list[str]:
    """Names of the files that are missing here or differ from the given text."""
    return [
        name
        for name, text in files.items()
        if not (FOLDER / name).exists() or (FOLDER / name).read_text(encoding="utf-8") != text
    ]


def main() -> int:
    """Writes the files, or compares them with a fresh draw."""
    parser = argparse.ArgumentParser(description="Draw the bundled log and its truth.")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    files = make_files()
    if check:
        differing = differing_files(files)
        verdict = f"differ from a fresh draw: {', '.join(differing)}" if differing else "all equal"
        sys.stdout.write(f"{verdict}\n")
        return int(bool(differing))
    for name, text in files.items():
        (FOLDER / name).write_bytes(text.encode("utf-8"))
        sys.stdout.write(f"{name}: {len(text):,} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
