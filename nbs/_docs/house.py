"The house that the notebooks live in: its rooms, what a module imports, and the order in which to read."
import ast
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


def imported_modules(module:Path, package:Path)->set[str]:
    "Dotted names below `package` that the file `module` imports anywhere, functions and `import_module('...')` included."
    tree, name = ast.parse(module.read_text()), package.name
    here = [name, *module.relative_to(package).parts[:-1]]  # what a leading dot refers to
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import): found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = '.'.join([*here[:len(here) - node.level + 1], *filter(None, [node.module])]) if node.level else node.module
            found |= {base, *(f'{base}.{alias.name}' for alias in node.names)}
        elif isinstance(node, ast.Call) and getattr(node.func, 'attr', getattr(node.func, 'id', '')) in ('import_module', '__import__'):
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return {dotted.removeprefix(f'{name}.') for dotted in found if str(dotted).startswith(f'{name}.')}


def reading_order(notebooks:list[Path], package:Path)->list[Path]:
    "What a notebook builds on comes before it, otherwise by name."
    module = {nb: package/nb.parent.name/f'{nb.stem}.py' for nb in notebooks}
    needs = {nb: imported_modules(file, package) if file.is_file() else set() for nb, file in module.items()}
    order, left = [], sorted(notebooks)
    while left:
        waiting = {f'{nb.parent.name}.{nb.stem}' for nb in left}
        free = next((nb for nb in left if not needs[nb] & waiting - {f'{nb.parent.name}.{nb.stem}'}), left[0])
        order.append(free)
        left.remove(free)
    return order
