"""Memory attention's arithmetic, done in another order."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sam2vss_ros.sam2 import attention


@pytest.mark.parametrize("most_scores", [1, 100, 1 << 22], ids=["row by row", "parts", "at once"])
@pytest.mark.parametrize("images", [1, 3], ids=["shared queries", "queries of each"])
def test_narrow_values_mixed_before_they_are_projected(
    images: int, most_scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "MOST_SCORES", most_scores)
    torch.manual_seed(0)
    q, k, tokens = torch.randn(images, 7, 32), torch.randn(3, 31, 32), torch.randn(3, 31, 8)
    project = torch.nn.Linear(8, 32)
    with torch.inference_mode():
        ours = project(attention._mixed(q, k, tokens))
        theirs = F.scaled_dot_product_attention(q.expand(3, -1, -1), k, project(tokens))
    torch.testing.assert_close(ours, theirs)
