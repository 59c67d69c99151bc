"""Folders of features as TRIDENT and CLAM write them, made here: one row per chunk, their attributes, their places."""

from pathlib import Path

import h5py
import numpy as np


def save_h5(path: Path, arrays: dict, attrs: dict[str, dict] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            shape = array.shape
            stored = file.create_dataset(name, data=array, chunks=(1, *shape[1:]), maxshape=(None, *shape[1:]))
            stored.attrs.update((attrs or {}).get(name, {}))
    return path


def tiles_on(size: tuple[int, int], side: int) -> np.ndarray:
    """(n, 2) int64 corners side by side."""
    across, down = (np.arange(extent // side) * side for extent in size)
    return np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2).astype(np.int64)


def write_trident(
    job: Path, name: str, size: tuple[int, int], side: int, dim: int = 24, encoder: str = "uni_v1", seed: int = 0, **attrs
) -> Path:
    """One slide; gives the file of its features. attrs: other values for what stands on coords."""
    xy = tiles_on(size, side)
    features = np.random.default_rng(seed).standard_normal((len(xy), dim)).astype(np.float32)
    facts = {"patch_size": side // 2, "patch_size_level0": side, "level0_magnification": 20, "target_magnification": 10, "overlap": 0}
    facts |= {"name": name, "savetodir": "/somewhere/else", "level0_width": size[0], "level0_height": size[1]} | attrs
    facts = {key: value for key, value in facts.items() if value is not None}
    folder = job / f"10x_{side // 2}px_0px_overlap"
    save_h5(folder / "patches" / f"{name}_patches.h5", {"coords": xy}, {"coords": facts})
    told = {"features": {"name": encoder, "savetodir": "/somewhere/else"}, "coords": facts}
    return save_h5(folder / f"features_{encoder}" / f"{name}.h5", {"features": features, "coords": xy}, told)


def write_clam(
    folder: Path, name: str, size: tuple[int, int], side: int, dim: int = 24, seed: int = 0, pt: bool = True, h5: bool = True
) -> Path:
    """One slide; gives the file of its features. Tiles of side / 2 px on level 1, which is half as fine."""
    xy = tiles_on(size, side).astype(np.int32)
    features = np.random.default_rng(seed).standard_normal((len(xy), dim)).astype(np.float32)
    level = (size[0] // 2, size[1] // 2)
    facts = {"patch_size": side // 2, "patch_level": 1, "downsample": (2.0, 2.0), "level_dim": level, "downsampled_level_dim": level}
    save_h5(folder / "patches" / f"{name}.h5", {"coords": xy}, {"coords": facts | {"name": name, "save_path": "/somewhere"}})
    if h5:
        save_h5(folder / "h5_files" / f"{name}.h5", {"features": features, "coords": xy})
    if pt:
        import torch

        (folder / "pt_files").mkdir(parents=True, exist_ok=True)
        torch.save(torch.from_numpy(features), folder / "pt_files" / f"{name}.pt")
    return folder / ("h5_files" if h5 else "pt_files") / f"{name}{'.h5' if h5 else '.pt'}"
