"""A teacher's stored answers as a training looks them up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from toolkit.distil.labels import FEATURES, LOGITS, Arrays
from toolkit.distil.objectives import Outputs


@dataclass(frozen=True)
class Answers:
    """What a teacher says of every row: view by view, or the means over its views, which hold for any view."""

    views: Sequence[Arrays]
    any_view: bool = False

    def view(self, number: int) -> int:
        """The view to look at in pass `number` over the rows: one the teacher saw, unless its answers hold for any."""
        return number if self.any_view else number % len(self.views)

    def at(self, rows: Tensor, view: int) -> Outputs:
        """What the teacher says of `rows` [b] under `view`, in float32."""
        index = rows.numpy()
        taken = {
            name: torch.from_numpy(array[index].astype(np.float32))
            for name, array in self.views[0 if self.any_view else view].items()
        }
        return Outputs(taken[LOGITS], taken.get(FEATURES))

    def averaged(self) -> Answers:
        """Each row's mean over its views, in which what a teacher says of one crop is outweighed by the others."""
        means = {}
        for name, first in self.views[0].items():
            total = first.astype(np.float32)
            for view in self.views[1:]:
                total += view[name]
            means[name] = total / len(self.views)
        return Answers([means], any_view=True)

    @property
    def feature_width(self) -> int:
        """Dimensions of the features; 0 where there are none."""
        features = self.views[0].get(FEATURES)
        return 0 if features is None else int(features.shape[1])
