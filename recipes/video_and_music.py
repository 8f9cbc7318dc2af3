"""Video and music: taste drifts. When did it change, and how sure is that?"""

import numpy as np
import pandas as pd

import bayes_interest as bi

SHELVES = {
    "jazz": ["quartet at midnight", "brushes and double bass", "a ballad in blue"],
    "metal": ["wall of guitars", "double kick thunder", "an anthem for the pit"],
    "documentary": ["the last ferryman", "a year on the reef", "cities without cars"],
}
rng = np.random.default_rng(4)
items = pd.DataFrame(
    [(f"{s}-{n}", f"{s}: {text}") for s, texts in SHELVES.items() for n, text in enumerate(texts)],
    columns=["item_id", "text"],
)
shelf = items["item_id"].str.split("-").str[0].to_numpy()


def plays(user: str, early: str, late: str, n: int = 60) -> pd.DataFrame:
    """Offers over 180 days; value 1 is "played to the end". Taste moves half-way."""
    days = np.sort(rng.random(n)) * 180
    offered = rng.integers(len(items), size=n)
    loved = np.where(days < 90, early, late)
    finished = rng.random(n) < np.where(shelf[offered] == loved, 0.85, 0.15)
    when = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(days, unit="D")
    ids = items["item_id"].to_numpy()[offered]
    return pd.DataFrame(
        {"user_id": user, "item_id": ids, "timestamp": when, "value": finished.astype(float)}
    )


names = list(SHELVES)
log = pd.concat(
    [plays(f"u{n:02d}", names[n % 3], names[(n + n % 2) % 3]) for n in range(30)]
)  # odd users change, even ones do not
model = bi.InterestModel(bi.ModelConfig(state_dim=3), bi.HashingEncoder(32))
run = bi.FitConfig(max_epochs=25, holdout=0.0, n_members=1, progress=False)
model.fit(log, items, run)

themes = {name: items["item_id"][shelf == name].tolist() for name in names}
found = model.changes(["u01", "u00"], since="2026-03-01", themes=themes)
print(found[["user_id", "theme", "change", "lower", "upper", "p_risen"]].round(2))

# One alarm per user at most, and only where the interval leaves out zero.
alarms = model.changes(since="2026-03-01", themes=themes, top=40)
changed = sorted(alarms["user_id"].unique())
right = sum(int(user[1:]) % 2 for user in changed)
print(f"alarms for {len(changed)} users, of whom {right} have truly changed (15 have)")

path = model.trajectory(["u01"], ["metal-0", "documentary-0"], every_days=30)
print(path.pivot(index="timestamp", columns="item_id", values="mean").round(2))
