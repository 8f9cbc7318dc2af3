"""Agreement of the fast posterior with NUTS on the same Pyro program; writes AGREEMENT.md.

    python -m benchmarks.agreement

Finished cases are kept in `--work` and not sampled again. `--table` writes from what there is.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.agreement.joint import JointCase, run_joint
from benchmarks.agreement.page import page
from benchmarks.agreement.problems import Size
from benchmarks.agreement.states import StatesCase, run_states

OUT = Path(__file__).parents[1]
FAMILIES = ("bernoulli", "rating", "choice")
KNOWN, LONG = Size(24, 20, 3, 1_000, 200), Size(4, 500, 2, 400, 120)
FEWER_DIMS = [Size(24, 20, dim, 500, 150) for dim in (1, 2)]
MORE_DIMS = Size(24, 20, 16, 1_000, 300)  # as a model has by default
CASES: dict[str, StatesCase | JointCase] = {
    **{name: StatesCase(name, KNOWN) for name in FAMILIES},
    **{f"{name}, 500 steps": StatesCase(name, LONG) for name in FAMILIES},
    **{f"choice, {size.state_dim} dims": StatesCase("choice", size) for size in FEWER_DIMS},
    **{f"{name}, {MORE_DIMS.state_dim} dims": StatesCase(name, MORE_DIMS) for name in FAMILIES},
    **{f"{name}, joint": JointCase(name) for name in FAMILIES},
}


def kept(name: str, work: Path) -> Path:
    """Where a finished case lies."""
    return work / f"{name.replace(', ', '-').replace(' ', '-')}.json"


def finished(
    name: str, case: StatesCase | JointCase, work: Path, table: bool
) -> dict[str, Any] | None:
    """A case from its file if it has this setting, else run now; None if it may not be."""
    file = kept(name, work)
    if file.exists():
        found: dict[str, Any] = json.loads(file.read_text())
        if found["setting"] == json.loads(json.dumps(case.setting)):
            return found
    if table:
        return None
    run = run_joint(case) if isinstance(case, JointCase) else run_states(case)
    found = {"setting": case.setting, **run}
    work.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=1))
    print(name, f"{found['seconds']:.0f} s, R-hat {found['r_hat']:.3f}", flush=True)
    for row in found["rows"]:
        print("   ", {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", default="out/agreement")
    parser.add_argument("--out", default=str(OUT))
    parser.add_argument("--only", nargs="*", choices=list(CASES))
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: proves that it runs")
    options = parser.parse_args(arguments)
    Path(options.out).mkdir(parents=True, exist_ok=True)
    found = {}
    for name, case in CASES.items():
        wanted = not options.only or name in options.only
        case = case.smaller() if options.quick else case
        found[name] = finished(name, case, Path(options.work), options.table or not wanted)
    Path(options.out, "AGREEMENT.md").write_text(page(found))


if __name__ == "__main__":
    main()
