"The house that the notebooks live in: its rooms, what a module imports, and the order in which to read."
import ast, json, re
from pathlib import Path

# A room imports only from rooms above it: tests/test_repository.py holds that, and the site keeps the order.
ROOMS = dict(
    core       = "What every other room stands on: errors that say what to do, settings, rows that are never lost, statistics.",
    kernels    = "Lesson 4: the operations whose memory decides what can be trained.",
    model      = "The Motif architecture, its tokenizer, loading and generation; any other causal language model works in its place.",
    tasks      = "Problems whose answers can be verified, and the verifiers.",
    evaluation = "How good is a model, and how sure are we?",
    alignment  = "Lesson 1: traces, the teachers that write them, and how well a style fits its student.",
    training   = "Lesson 2: packing, layouts and the trainer, from one process to many.",
    rl         = "Lesson 3: rollouts, rewards and the objective.",
    pipeline   = "Profiles, stages, claims, the report and the command line: what turns notebooks into a reproduction.",
)


def imported_modules(module:Path, package:Path, lazy:bool=True)->set[str]:
    "Dotted names below `package` that the file `module` imports; `lazy`: inside functions and by `import_module('...')`, too."
    tree, name = ast.parse(module.read_text()), package.name
    here = [name, *module.relative_to(package).parts[:-1]]  # what a leading dot refers to
    found = set()
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.Import): found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = '.'.join([*here[:len(here) - node.level + 1], *filter(None, [node.module])]) if node.level else node.module
            found |= {base, *(f'{base}.{alias.name}' for alias in node.names)}
        elif isinstance(node, ast.Call) and getattr(node.func, 'attr', getattr(node.func, 'id', '')) in ('import_module', '__import__'):
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return {dotted.removeprefix(f'{name}.') for dotted in found if str(dotted).startswith(f'{name}.')}


def next_notebooks(notebook:Path)->set[str]:
    "Names of the neighbours that a notebook's last cell sends its reader to."
    last = ''.join(json.loads(notebook.read_text())['cells'][-1]['source'])
    return set(re.findall(r'\]\((\w+)\.ipynb\)', last))


def reading_order(
    notebooks:list[Path],  # of one folder
    package:Path,          # the library they make
)->list[Path]:
    "A notebook comes after those it imports and those that name it as the next; else by name."
    module = {nb.stem: package/nb.parent.name/f'{nb.stem}.py' for nb in notebooks}
    follow = {nb.stem: next_notebooks(nb) for nb in notebooks}
    before = {name: {other for other in module if name in follow[other] or file.is_file() and
                     f'{file.parent.name}.{other}' in imported_modules(file, package, lazy=False)} - {name} for name, file in module.items()}
    order, left = [], sorted(notebooks)
    while left:
        free = [nb for nb in left if not before[nb.stem] & {other.stem for other in left}] or left
        named = [nb for nb in free if order and nb.stem in follow[order[-1].stem]]
        order.append((named or free)[0])
        left.remove(order[-1])
    return order
