"""The figures taken while training: right on cases with a known answer."""

from __future__ import annotations

import pytest
import torch

from minicourt import heldout
from minicourt.evaluate import describe
from minicourt.heldout import HELDOUT_SEEDS, detector_figures
from minicourt.samples import TRAINING_SEEDS
from minicourt.tiny import build


def test_heldout_scenes_are_never_trained_on():
    assert max(HELDOUT_SEEDS) < TRAINING_SEEDS


def test_box_around_a_mask():
    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[2:5, 4:8] = True
    assert heldout._around(mask).tolist() == pytest.approx([0.4, 0.2, 0.8, 0.5])
    assert heldout._around(torch.zeros(4, 4, dtype=torch.bool)).tolist() == [0, 0, 0, 0]


def test_each_true_box_is_found_once():
    truth = torch.tensor([[0.0, 0.0, 0.2, 0.4], [0.5, 0.0, 0.7, 0.4]])
    found = torch.tensor(
        [[0.0, 0.0, 0.2, 0.41], [0.0, 0.0, 0.2, 0.39], [0.5, 0.0, 0.7, 0.4], [0.8, 0.8, 0.9, 0.9]]
    )
    assert heldout._pairs(found, truth) == [(0, 0), (2, 1)]
    assert heldout._pairs(torch.zeros(0, 4), truth) == []


def test_a_model_that_finds_nothing_scores_nothing(monkeypatch):
    monkeypatch.setattr(heldout, "HELDOUT_SEEDS", range(500_000, 500_002))
    heldout._frames.cache_clear()
    model = build(0).eval()
    with torch.no_grad():
        model.detector_model.detr_decoder.presence_head.layer3.bias.fill_(-20.0)
    figures = detector_figures(model)
    heldout._frames.cache_clear()
    assert figures["everyone_recall"] == figures["mask_iou"] == figures["nobody_found"] == 0


def test_the_table_names_what_it_shows():
    assert "| referee | precision 0.5, recall None |" in describe(
        {"referee": {"precision": 0.5, "recall": None}}
    )
