"""predict on models of timm: fused attention, in windows too, and stochastic depth are awake."""

import numpy as np
import pytest
import torch

from thinned.members import predict

timm = pytest.importorskip("timm", reason="timm is not installed", exc_type=ImportError)

VIT = {"model_name": "vit_tiny_patch16_224", "img_size": 16, "patch_size": 8, "depth": 2}
SWIN = {
    "model_name": "swin_tiny_patch4_window7_224", "img_size": 56, "embed_dim": 8,
    "depths": (2,), "num_heads": (2,),
}  # fmt: skip
HIDDEN = {
    "fused attention": {**VIT, "attn_drop_rate": 0.3},
    "fused windows": {**SWIN, "attn_drop_rate": 0.3, "drop_path_rate": 0.0},
    "stochastic depth": {**VIT, "drop_path_rate": 0.5},
}


def made(name):
    torch.manual_seed(0)
    timm.layers.set_fused_attn(True, experimental=True)
    try:
        model = timm.create_model(num_classes=3, **HIDDEN[name])
    finally:
        timm.layers.set_fused_attn(True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model.train()


@pytest.mark.parametrize("name", HIDDEN)
def test_what_hides_is_awake(name):
    size = HIDDEN[name]["img_size"]
    x = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    for share in ("member", "row"):
        whole = predict(made(name), x, members=4, keep=True, share=share)
        assert whole.not_reached == ()
        assert whole.std.max() > 1e-5
        got = predict(made(name), x, members=4, keep=True, share=share, batch_size=3)
        np.testing.assert_allclose(got.outputs, whole.outputs, atol=1e-5)
    alike = predict(made(name), x[:1].expand_as(x), members=4, keep=True).outputs
    np.testing.assert_allclose(alike, np.broadcast_to(alike[:, :1], alike.shape), atol=1e-5)
