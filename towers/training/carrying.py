"""The weights of a trained model as the start of towers with newer vocabularies."""

from __future__ import annotations

import torch
from torch import Tensor

from towers.features.vocabularies import Vocabulary
from towers.learning_data import Encoders
from towers.model import TrainedModel
from towers.training.tower_task import Towers


def carry_weights(model: TrainedModel, towers: Towers, encoders: Encoders) -> None:
    """Sets the towers' weights to the model's.

    A row of a vocabulary follows its value; one that the model did not know keeps the weights it has, as does what the
    model does not keep (the temperature).

    Args:
        model: whose weights are taken; its settings are the towers'.
        towers: built for `encoders`; changed in place.
        encoders: fitted later than the model's.
    """
    vocabularies = {"item.id_embedding.weight": (model.encoders.items.ids, encoders.items.ids)}
    for place, name in enumerate(encoders.contexts):
        vocabularies[f"user.contexts.{place}.weight"] = (model.encoders.contexts[name], encoders.contexts[name])
    old = {f"item.{name}": value for name, value in model.item_tower.state_dict().items()}
    old |= {f"user.{name}": value for name, value in model.user_tower.state_dict().items()}
    with torch.no_grad():
        for name, weight in towers.state_dict().items():
            if name in vocabularies:
                _carry_rows(old[name], weight, *vocabularies[name])
            elif name in old:
                weight.copy_(old[name])


def _carry_rows(old: Tensor, new: Tensor, known: Vocabulary, wanted: Vocabulary) -> None:
    """Copies the rows (codes, D) of the values that both know."""
    codes = torch.as_tensor(known.codes(wanted.values), dtype=torch.int64)  # (n,)
    places = torch.nonzero(codes).flatten()
    new[places.to(new.device) + 1] = old[codes[places].to(old.device)].to(new.device)
