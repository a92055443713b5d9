"""Run in the environment of datatrove: FOLDER, where to put what was read, options, the adapter's path."""

import importlib.util
import json
import sys
from importlib.metadata import version
from pathlib import Path

from datatrove.pipeline.tokens.tokenizer import TokenizedFile
from datatrove.utils.dataset import DatatroveFileDataset, DatatroveFolderDataset

folder, answer, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
spec = importlib.util.spec_from_file_location("adapter", sys.argv[4])
adapter = importlib.util.module_from_spec(spec)
spec.loader.exec_module(adapter)

reading = {"seq_len": options["width"] - 1, "token_size": options["token_size"], "return_positions": True}
file = f"{folder}/tokens_00000_unshuffled.ds"


def items(dataset):
    return [{name: value.tolist() for name, value in dataset[i].items()} for i in range(len(dataset))]


# What datatrove itself writes of the same windows.
own = TokenizedFile(
    str(Path(answer).parent / "own"),
    Path(file).name,
    save_loss_metadata=True,
    save_final_metadata=True,
    tokenizer_name_or_path=options["tokenizer"],
    token_size=options["token_size"],
)
for tokens, loss in options["pieces"]:
    own.write(tokens, loss)
own.close()
names = [Path(file).name + suffix for suffix in ("", ".index", ".loss", ".metadata")]
Path(answer).write_text(
    json.dumps(
        {
            "version": version("datatrove"),
            "file": items(DatatroveFileDataset(file, **reading)),
            "folder": items(DatatroveFolderDataset(folder, **reading)),
            "masked file": items(adapter.MaskedFileDataset(file, **reading)),
            "masked folder": items(adapter.MaskedFolderDataset(folder, **reading)),
            "equal bytes": {
                name: (Path(answer).parent / "own" / name).read_bytes() == (Path(folder) / name).read_bytes()
                for name in names
            },
        }
    )
)
