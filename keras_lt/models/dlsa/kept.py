"""The levels of a training that goes on after it was cut."""

import json
import os
from pathlib import Path
from typing import Any

import keras

from keras_lt import files


class Kept:
    """The levels that are trained, in a folder that the next start reads."""

    def __init__(
        self,
        directory: str | os.PathLike | None,
        model: keras.Model,
        settings: dict[str, Any],
    ):
        self._model = model
        self._settings = json.loads(json.dumps(settings))
        self.levels = 0
        self._path = None
        if directory is None:
            return
        self._path = Path(directory)
        self._path.mkdir(parents=True, exist_ok=True)
        index = self._path / "levels.json"
        if not index.exists():
            return
        try:
            found = json.loads(index.read_text())
            is_same = found["settings"] == self._settings
            if is_same:
                self.levels, file = self._checked(found)
                model.load_weights(self._path / file)
        except MemoryError:
            raise
        except Exception as error:  # JSON, HDF5 and Keras raise all kinds
            raise ValueError(
                "Expected the levels of a training that was cut. Received: "
                f"{index}, which can't be restored: {error}"
            ) from error
        if not is_same:
            raise ValueError(
                "Expected a directory of the same training. Received: "
                f"directory={str(directory)!r}, which holds another one"
            )

    def _checked(self, found: dict[str, Any]) -> tuple[int, str]:
        levels, file = found["levels"], found["file"]
        if levels not in range(1, len(self._model.levels) + 1) or (
            file != _level_file(levels)
        ):
            raise ValueError(f"levels={levels!r:.80}, file={file!r:.80}")
        return levels, file

    def add(self) -> None:
        self.levels += 1
        if self._path is None:
            return
        file = _level_file(self.levels)
        with files.replacing(self._path / file) as part:
            self._model.save_weights(part, overwrite=True)
        index = {
            "settings": self._settings,
            "levels": self.levels,
            "file": file,
        }
        with files.replacing(self._path / "levels.json") as part:
            part.write_text(json.dumps(index))


def _level_file(levels: int) -> str:
    return f"level-{levels}.weights.h5"
