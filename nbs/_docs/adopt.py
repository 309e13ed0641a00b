"Give each recipe notebook the outputs of its last run: `python nbs/_docs/adopt.py runs/smoke/notebooks`."
import sys
from pathlib import Path

from fastcore.nbio import read_nb, write_nb

NBS = Path(__file__).parents[1]


def adopt(executed:Path, notebook:Path):
    "Copy outputs cell by cell; the parameters that papermill injected have no cell to go to."
    ran, nb = {c.id: c for c in read_nb(executed).cells}, read_nb(notebook)
    for cell in nb.cells:
        if cell.cell_type != 'code': continue
        if cell.id not in ran or ran[cell.id].source != cell.source:
            sys.exit(f"{notebook}: cell {cell.id} is not the one that ran; run `make reproduce` first")
        cell.outputs = ran[cell.id].outputs
    write_nb(nb, notebook)


if __name__ == '__main__':
    for executed in sorted(Path(sys.argv[1]).glob('*.ipynb')):
        for notebook in NBS.glob(f'[!_]*/{executed.name}'): adopt(executed, notebook)
