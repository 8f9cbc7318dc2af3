"""A social feed: most of what is shown is scrolled past, and some people just arrived."""

import numpy as np
import pandas as pd

import bayes_interest as bi

POSTS = {
    "cycling": ["gravel route in the hills", "new chain, old bike", "a tandem for two seasons"],
    "baking": ["sourdough after three fails", "grandmother's rye", "croissants, day two"],
    "chess": ["a draw from a lost endgame", "club night puzzles", "why I gave up the Sicilian"],
}
rng = np.random.default_rng(2)
items = pd.DataFrame(
    [(f"{t}-{n}", f"{t}: {text}") for t, texts in POSTS.items() for n, text in enumerate(texts)],
    columns=["item_id", "text"],
)
topic = items["item_id"].str.split("-").str[0].to_numpy()


def impressions(user: str, loves: str, n: int, first_day: float) -> pd.DataFrame:
    """What was shown: value 1 if it was opened or liked, 0 if it was scrolled past."""
    shown = rng.integers(len(items), size=n)
    opened = rng.random(n) < np.where(topic[shown] == loves, 0.6, 0.08)
    days = pd.to_timedelta(first_day + np.sort(rng.random(n)) * 30, unit="D")
    start = pd.Timestamp("2026-02-01", tz="UTC")
    return pd.DataFrame(
        {
            "user_id": user,
            "item_id": items["item_id"].to_numpy()[shown],
            "timestamp": start + days,
            "value": opened.astype(float),
        }
    )


topics = list(POSTS)
log = pd.concat([impressions(f"u{n:02d}", topics[n % 3], 60, 0.0) for n in range(36)])
model = bi.InterestModel(bi.ModelConfig(state_dim=3), bi.HashingEncoder(32))
run = bi.FitConfig(max_epochs=25, holdout=0.0, n_members=1, progress=False)
model.fit(log, items, run)

# Scrolling past is an event of value 0: three ignored chess posts lower chess, and only chess.
before = model.interest(["u02"], ["chess-0", "baking-0"])["mean"].to_numpy()
ignored = impressions("u02", "nothing", 3, 31.0)
model.update(ignored.assign(item_id=["chess-0", "chess-1", "chess-2"], value=0.0))
after = model.interest(["u02"], ["chess-0", "baking-0"])["mean"].to_numpy()
print("chess, baking before:", before.round(2), "after three ignored:", after.round(2))

# Somebody of whom too little is known gets the popular slate, and the table says so.
feed = model.rank(["u02", "arrived-today"], k=3, exclude_seen=False, abstain=0.6)
print(feed[["user_id", "item_id", "mean", "slate_certainty", "basis"]].round(2))
