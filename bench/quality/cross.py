"""A calibration that knows nothing of a set: fitted to the other one, by the recipe of the shipped.

Needs scikit-learn, as `scripts/fit_calibration` does.
"""

from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from bench.quality.sets import ROOT, MissingError
from index.calibration import AGREE, SHIPPED, Calibration, Seen
from index.eligibility import ineligible


def fitted(name: str, data: Path, cache: Path) -> Calibration:
    """To the train split of `clinc` or `banking`.

    Raises:
        MissingError: scikit-learn, or the data.
    """
    if find_spec("sklearn") is None:
        raise MissingError("scikit-learn is not installed")
    recipe = _recipe()
    try:
        rows = getattr(recipe, name)(data)
    except OSError as error:
        raise MissingError(str(error)) from error
    pairs = list(recipe.asked(rows, cache, 0))
    seen: dict[str, dict[str, list[int]]] = {}
    for half in (0, 1):
        model = recipe.fitted([pair for pair in pairs if pair.asked % 2 != half])
        others = [pair for pair in pairs if pair.asked % 2 == half]
        for stratum in SHIPPED:
            counts = recipe.counted(_counted(recipe, others, stratum, model), *model)
            seen[stratum] = recipe.added(seen[stratum], counts) if stratum in seen else counts
    intercept, weights = recipe.fitted(pairs)
    believed = {
        stratum: Seen(np.array(counts["right"], float), np.array(counts["wrong"], float))
        for stratum, counts in seen.items()
    }
    return Calibration(f"of {name}", intercept, tuple(weights.tolist()), believed)


def _counted(recipe: ModuleType, pairs: list[Any], stratum: str, model: Any) -> list[Any]:
    own = [pair for pair in pairs if pair.stratum == stratum]
    if stratum == AGREE:
        return [pair for pair in own if not any(map(ineligible, pair.texts))]
    chosen: list[Any] = recipe.chosen(own, *model)
    return chosen


def _recipe() -> ModuleType:
    loader = SourceFileLoader("fit_calibration", str(ROOT / "scripts" / "fit_calibration"))
    spec = spec_from_loader("fit_calibration", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module
