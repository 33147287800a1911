"""Train the text models of test/fixtures, each in half a minute: `python test/support/
train_text_models.py [NAME ...]`.

They are tiny models of families of the library transformers, saved as any model of theirs is, with
a tokenizer of whole words, and know the colours of `colour_scenes`. Each learns as its family does:
`tipsv2` by patches inside masks, `siglip` and `clip` by whole images and captions.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from colour_scenes import BACKGROUND, COLOURS, SIDE, SYNONYMS, Scene, draw_scene
from sam2vss_ros.semantics.vocabulary.text_model import soft_masks, vector_of

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"

PATCH, WIDTH = 8, 48

STEPS, BATCH = 600, 24

WORDS = [*COLOURS, BACKGROUND, *SYNONYMS.values()]

SENTENCES = ("{}", "a photo of a {}")
"""Captions are written in both ways."""

LONGEST = 8
"""Tokens of a text, with those for its beginning and end."""


def write_tokenizer(folder: Path, family: str) -> Any:
    """A tokenizer of whole words; returns it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", "<s>", "</s>", "a", "photo", "of", *WORDS]
    ids = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=LONGEST,
        model_input_names=["input_ids"] if family == "siglip" else ["input_ids", "attention_mask"],
    )
    fast.save_pretrained(folder)
    return fast


def new_model(family: str, words: int) -> Any:
    """An untrained model for a tokenizer of so many words."""
    import transformers

    text = {
        "vocab_size": words,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "max_position_embeddings": LONGEST,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    vision = {
        "hidden_size": WIDTH,
        "num_hidden_layers": 2 if family == "tipsv2" else 1,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": PATCH,
    }
    if family == "tipsv2":
        config = transformers.Tipsv2Config(
            text_config=text, vision_config=vision | {"mlp_ratio": 2}, temperature_init_value=0.07
        )
        return transformers.Tipsv2Model(config)
    vision["intermediate_size"] = 2 * WIDTH
    if family == "siglip":
        config = transformers.SiglipConfig(text_config=text, vision_config=vision)
        model = transformers.SiglipModel(config)
        model.logit_scale.data.fill_(np.log(10.0))
        model.logit_bias.data.fill_(-5.0)
        return model
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)
    return transformers.CLIPModel(config)


def sentence(rng: np.random.Generator, name: str) -> str:
    """A caption of a colour, now and then by its other name."""
    if name in SYNONYMS and rng.random() < 0.4:
        name = SYNONYMS[name]
    return str(rng.choice(SENTENCES)).format(name)


def text_vectors(model: Any, tokenizer: Any, sentences: list[str]) -> Tensor:
    """(N, D) unit vectors."""
    tokens = tokenizer(
        sentences, padding="max_length", max_length=LONGEST, truncation=True, return_tensors="pt"
    )
    wanted = {k: v for k, v in tokens.items() if k in tokenizer.model_input_names}
    return F.normalize(vector_of(model.get_text_features(**wanted)), dim=-1)


def patch_loss(model: Any, tokenizer: Any, rng: np.random.Generator) -> Tensor:
    """Of patches, pooled inside each mask and on the wall, against the words of all colours."""
    scenes = [draw_scene(rng, int(rng.integers(1, 4))) for _ in range(BATCH)]
    seen = model.vision_model(pixel_values=pixels_of([s.image for s in scenes])).last_hidden_state
    patches = F.normalize(seen[:, 1 + model.config.vision_config.num_register_tokens :], dim=-1)
    names = [*COLOURS, BACKGROUND]
    vectors = text_vectors(model, tokenizer, [sentence(rng, name) for name in names])
    pooled, target = [], []
    for i, scene in enumerate(scenes):
        wall = ~np.any(scene.masks, 0)
        masks = torch.from_numpy(np.stack([*scene.masks, wall]))
        weights = soft_masks(masks, (SIDE // PATCH, SIDE // PATCH)).flatten(1)
        shown = weights.sum(1) > 0.5
        pooled.append((weights @ patches[i] / weights.sum(1, keepdim=True).clamp(min=1e-6))[shown])
        found = [names.index(name) for name in (*scene.names, BACKGROUND)]
        target.append(torch.tensor(found)[shown])
    cosines = F.normalize(torch.cat(pooled), dim=1) @ vectors.T
    return F.cross_entropy(cosines / model.temperature, torch.cat(target))


def image_loss(model: Any, tokenizer: Any, rng: np.random.Generator) -> Tensor:
    """Of whole images, whose captions name one of the boxes, or the wall where there is none,
    against the words of all colours."""
    scenes = [draw_scene(rng, int(rng.integers(0, 4))) for _ in range(BATCH)]
    images = F.normalize(
        vector_of(model.get_image_features(pixels_of([s.image for s in scenes]) * 2 - 1)), dim=-1
    )
    names = [*COLOURS, BACKGROUND]
    vectors = text_vectors(model, tokenizer, [sentence(rng, name) for name in names])
    target = torch.tensor([names.index(caption_of(rng, scene)) for scene in scenes])
    logits = images @ vectors.T * model.logit_scale.exp()
    if hasattr(model, "logit_bias"):
        signs = 2 * F.one_hot(target, len(names)) - 1
        return -F.logsigmoid(signs * (logits + model.logit_bias)).sum(1).mean()
    return F.cross_entropy(logits, target)


def caption_of(rng: np.random.Generator, scene: Scene) -> str:
    """The name of a box, the likelier the more is seen of it."""
    areas = np.array([mask.sum() for mask in scene.masks], float)
    return str(rng.choice(scene.names, p=areas / areas.sum())) if scene.names else BACKGROUND


def pixels_of(images: list[np.ndarray]) -> Tensor:
    """(N, 3, side, side) from 0 to 1."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def train(family: str, folder: Path) -> None:
    """Train a model of a family and save it in half precision."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = write_tokenizer(folder, family)
    model = new_model(family, len(tokenizer)).train()
    loss_of = patch_loss if family == "tipsv2" else image_loss
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, STEPS)
    for step in range(STEPS):
        loss = loss_of(model, tokenizer, rng)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"{family}: step {step + 1}, loss {loss.item():.3f}", flush=True)
    model.eval().half().save_pretrained(folder)
    middle, spread = (0.0, 1.0) if family == "tipsv2" else (0.5, 0.5)
    settings = {
        "size": {"height": SIDE, "width": SIDE},
        "image_mean": [middle] * 3,
        "image_std": [spread] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")


if __name__ == "__main__":
    for wanted in sys.argv[1:] or ["tipsv2", "siglip", "clip"]:
        train(wanted, FIXTURES / f"colours_{wanted}")
