"A toy checkout: two notebooks that need nothing of each other, and one that joins them. As a program: run it."
import json, shutil, subprocess, sys
from pathlib import Path

from pydantic import Field

from motif_repro.pipeline.profiles import StageParams
from motif_repro.pipeline.stages import StageSpec

ROOT = Path(__file__).parents[1]

class LetterParams(StageParams):
    seed: int = Field(ge=0)
    size: int = Field(ge=1)
    pause_s: float = Field(ge=0)
    crash: bool

class JoinParams(StageParams): pass

TOYS = dict(left  = StageSpec(notebook='left.ipynb', params=LetterParams, outputs=('letters.txt',)),
            right = StageSpec(notebook='right.ipynb', params=LetterParams, outputs=('letters.txt',)),
            join  = StageSpec(notebook='join.ipynb', params=JoinParams, needs=('left', 'right'), outputs=('report.html', 'claims.json'),
                              publish=('report.html', 'claims.json')))

LETTERS = '''
import json, os, psutil, socket, sys, time
from motif_repro import toy
began = psutil.Process().create_time()   # a busy machine may take seconds from there to here
with (stage.work/'opened.txt').open('a') as f: print(os.getpid(), file=f)
if not stage.resumed: time.sleep(pause_s)
if crash: raise KeyError('a planted error')
'''
FINISH_LETTERS = '''
(stage.work/'letters.txt').write_text('x'*size)
seen = dict(threads=os.environ['OMP_NUM_THREADS'], networks=[name for _, name in socket.if_nameindex()], home=os.environ['HOME'],
            began=began, ended=time.time(), python=sys.executable)
(stage.work/'seen.json').write_text(json.dumps(seen))
stage.finish(f'{size} letters', dict(size=size))
'''
FINISH_JOIN = '''
import json
(stage.work/'report.html').write_text(''.join((folder/'letters.txt').read_text() for folder in stage.inputs.values()))
(stage.work/'claims.json').write_text(json.dumps([dict(id='A1', verdict='not run', effect=None, ci95=None, seeds=0, rule='toy')]))
stage.finish('joined')
'''
PARAMETERS = 'run_dir = ""     # the run to work in\nseed = 0\nsize = 3         # letters\npause_s = 0.5\ncrash = False'

def write_notebook(path:Path, parameters:str, *cells:str):
    texts = [('parameters', parameters), *((f'cell-{n}', text.strip()) for n, text in enumerate(cells))]
    code  = [dict(cell_type='code', id=key, source=text, metadata=dict(tags=[key]), outputs=[], execution_count=None)
             for key, text in texts]
    path.write_text(json.dumps(dict(cells=code, metadata={}, nbformat=4, nbformat_minor=5)))

def opening(name:str)->str:
    return f'from motif_repro.pipeline.stages import open_stage\nstage = open_stage("{name}", globals())'

def make_checkout(root:Path)->Path:
    (root/'nbs'/'profiles').mkdir(parents=True)
    shutil.copy(ROOT/'settings.ini', root)
    real = f'__version__ = "toy"\n__path__.append({str(ROOT/"motif_repro")!r})'   # the real library, and two modules more
    (root/'motif_repro').mkdir()
    for name, text in dict(__init__=real, toy='from . import toy_core', toy_core='x = 1').items():
        (root/'motif_repro'/f'{name}.py').write_text(text + '\n')
    for name in ('left', 'right'):
        write_notebook(root/'nbs'/f'{name}.ipynb', PARAMETERS, opening(name), LETTERS, FINISH_LETTERS)
    write_notebook(root/'nbs'/'join.ipynb', 'run_dir = ""', opening('join'), FINISH_JOIN)
    (root/'nbs'/'profiles'/'smoke.yaml').write_text('description: toys\nseed: 1\nworkers: 2\ndisk_mb: 0\n')
    return root

def command(root:Path, **arguments)->list[str]:
    "The command line that runs the toys in `root`; further arguments as of `run_pipeline`."
    return [sys.executable, __file__, str(root), json.dumps(arguments)]

def run_toys(root:Path, *, before:tuple=(), env:dict|None=None, **arguments)->subprocess.CompletedProcess:
    "Run them in a process of its own."
    return subprocess.run([*before, *command(root, **arguments)], capture_output=True, text=True, env=env, timeout=120)

if __name__ == '__main__':
    from motif_repro.core.errors import UserError
    from motif_repro.pipeline.runner import StageFailed, run_pipeline
    try: run_pipeline('smoke', stages=TOYS, root=sys.argv[1], **json.loads(sys.argv[2]))
    except (UserError, StageFailed) as e: sys.exit(f'{type(e).__name__}: {e}')
