"""The Hub kernel package: made from the library, up to date, and loaded by the `kernels` library where motif_repro cannot be imported."""
import ast, re, subprocess, sys, tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT/'kernels/torch-ext/motif_kernels'
sys.path.insert(0, str(ROOT/'kernels'))
import make_package

def test_the_package_is_what_the_library_makes():
    made = make_package.package_files()
    there = {path.name: path.read_text() for path in PACKAGE.glob('*.py') if path.name not in make_package.BY_HAND}
    assert there.keys() == made.keys(), 'run make kernel-package'
    assert not [name for name in made if made[name] != there[name]], 'run make kernel-package'

def test_it_needs_nothing_but_torch_and_triton():
    allowed = {'torch', 'triton', *sys.stdlib_module_names}
    for path in PACKAGE.glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert {name.split('.')[0] for name in names} <= allowed, (path.name, names)

@pytest.mark.parametrize('line', ['from motif_repro.model.motif import MotifConfig', 'from ..model.motif import MotifConfig', 'import motif_repro.core.rows'])
def test_an_import_that_leads_out_is_refused(line):
    with pytest.raises(SystemExit, match='leads out of the package'): make_package.packaged(f'import torch\n{line}\n', 'x.py', {'errors'})

@pytest.mark.parametrize('line, expected', [('from ..core.errors import UserError, nearest', 'from .errors import UserError, nearest'),
                                            ('    from motif_repro.kernels.polynorm import upcast', '    from .polynorm import upcast'),
                                            ('from . import polynorm', 'from . import polynorm'),
                                            ('from ..kernels import polynorm', 'from . import polynorm'), ('from triton import jit', 'from triton import jit')])
def test_imports_stay_inside(line, expected):
    text = make_package.packaged(f'if True:\n    pass\n{"if True:" if line.startswith(" ") else ""}\n{line}\n', 'x.py', {'errors', 'polynorm'})
    assert text.splitlines()[-1] == expected

LOADED = '''
import sys
sys.modules['motif_repro'] = None   # whoever imports it gets an error
import torch
from pathlib import Path
from kernels import LocalLayerRepository, get_local_kernel
package = get_local_kernel(Path(sys.argv[1]), backend='cpu')
assert package.__file__.startswith(sys.argv[1]), package.__file__
torch.manual_seed(0)
h, w, y = torch.randn(33, 16, requires_grad=True), torch.randn(301, 16, requires_grad=True), torch.randint(301, (33,))
got, want = (torch.autograd.grad(loss, (h, w)) + (loss,) for loss in (package.linear_cross_entropy(h, w, y), torch.nn.functional.cross_entropy(h @ w.T, y)))
for a, b in zip(got, want): torch.testing.assert_close(a, b)
logp, entropy = package.linear_logprob(h, w, y)
torch.testing.assert_close(entropy, torch.distributions.Categorical(logits=h @ w.T).entropy())
x, weight, bias = torch.tensor([[1., -2.]]), torch.tensor([3., 2., 1.]), torch.tensor([.5])
by_hand = torch.tensor([[3*1/32.5**.5 + 2*1/8.5**.5 + 1/2.5**.5 + .5, 3*-8/32.5**.5 + 2*4/8.5**.5 - 2/2.5**.5 + .5]])
torch.testing.assert_close(package.polynorm(x, weight, bias), by_hand)
torch.testing.assert_close(package.polynorm_mul(x, 2*x, weight, bias), by_hand*2*x)
layer = LocalLayerRepository(Path(sys.argv[1]), layer_name='PolyNorm').load()()
layer.weight, layer.bias, layer.eps = torch.nn.Parameter(weight), torch.nn.Parameter(bias), 1e-6
torch.testing.assert_close(layer(x), by_hand)
'''

def test_the_loader_takes_it_from_a_folder_without_the_library(tmp_path):
    make_package.write_variants(PACKAGE, tmp_path/'motif-kernels/build')
    done = subprocess.run([sys.executable, '-c', LOADED, tmp_path/'motif-kernels'], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]

def test_the_package_names_its_version_and_both_backends():
    general = tomllib.loads((ROOT/'kernels/build.toml').read_text())['general']
    assert isinstance(general['version'], int) and general['backends'] == ['cpu', 'cuda'] and re.fullmatch('[a-z][a-z0-9-]*[a-z0-9]', general['name'])
