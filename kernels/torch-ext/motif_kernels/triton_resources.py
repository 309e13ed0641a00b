# Made by make_package.py from motif_repro/kernels/triton_resources.py; change it there.
"""Every Triton kernel compiled for two generations of GPU on a machine without one: registers, shared memory and spills."""


__all__ = ['KERNELS', 'TENSORS', 'INTEGERS', 'TARGETS', 'DTYPES', 'WIDTHS', 'argument_type', 'compile_kernel', 'resources',
           'compile_report', 'occupancy', 'write_report']

import csv
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas, sm_arch_from_capability
from triton.compiler import ASTSource, CompiledKernel

from . import linear_logprob_triton, polynorm_triton
from .backends import WARPS, block_shape

KERNELS = dict(fold=linear_logprob_triton.fold_kernel, differentiate=linear_logprob_triton.differentiate_kernel,
               polynorm_forward=polynorm_triton.forward_kernel, polynorm_backward=polynorm_triton.backward_kernel)
TENSORS = ('tile', 'x', 'up', 'grad', 'out', 'dx', 'dup', 'weight', 'bias')   # in the type of the model
INTEGERS = ('stride', 'x_stride', 'up_stride', 'grad_stride', 'num_rows', 'num_columns', 'first_row', 'first_column', 'width')

def argument_type(
    name:str,
    dtype:str,   # of the model's numbers: 'bf16' or 'fp32'
)->str:          # in Triton's words
    "What an argument of our kernels is, by its name."
    if name in ('ACC', 'ROWS', 'BLOCK'): return 'constexpr'
    if name in INTEGERS: return 'i32'
    if name in ('softcap', 'eps'): return 'fp32'
    return f'*{dtype}' if name in TENSORS else '*i64' if name == 'targets' else '*fp32'

def compile_kernel(
    kernel:triton.JITFunction,
    target:int,    # 80 for an A100, 90 for H100 and H200
    dtype:str,     # 'bf16' or 'fp32'
    width:int,     # of a row
)->CompiledKernel:
    "A kernel with all its options on, compiled for a GPU that need not be there."
    rows, columns = block_shape(width)
    types = {name: argument_type(name, dtype) for name in kernel.arg_names}
    constants = {name: value for name, value in dict(ACC=triton.language.float32, ROWS=rows, BLOCK=columns).items() if name in types}
    multiples = [i for i, (name, kind) in enumerate(types.items()) if kind[0] == '*' or kind == 'i32' and name not in kernel.do_not_specialize]
    source = ASTSource(kernel, types, constants, {(i,): [['tt.divisibility', 16]] for i in multiples})
    return triton.compile(source, target=GPUTarget('cuda', target, 32), options=dict(num_warps=WARPS, enable_fp_fusion=True))

def resources(
    compiled:CompiledKernel,
)->dict[str,int]:   # shared_bytes of a program, registers of a thread, bytes it spills
    "What the assembler reports of a kernel, run with Triton's own options."
    arch = compiled.metadata.target.arch
    command = [get_ptxas(arch).path, '-v', '--regAllocOptLevel=2', f'--gpu-name={sm_arch_from_capability(arch)}', '-', '-o', '/dev/null']
    said = subprocess.run(command, input=compiled.asm['ptx'], capture_output=True, text=True, check=True).stderr
    number = lambda pattern: int(re.search(pattern, said)[1])
    return dict(shared_bytes=compiled.metadata.shared, registers=number(r'Used (\d+) registers'),
                spill_stores=number(r'(\d+) bytes spill stores'), spill_loads=number(r'(\d+) bytes spill loads'))

TARGETS, DTYPES, WIDTHS = (80, 90), ('bf16', 'fp32'), (512, 16_384)   # short rows and long ones

def compile_report(
    **stamp,       # columns that every row gets: date, commit
)->list[dict]:     # a row a kernel, target, type and shape of a program
    "What every kernel takes of every GPU that we compile for."
    return [dict(kernel=name, target=f'sm_{target}', dtype=dtype, block='×'.join(map(str, block_shape(width))))
            | resources(compile_kernel(kernel, target, dtype, width)) | dict(triton=triton.__version__) | stamp
            for name, kernel in KERNELS.items() for target in TARGETS for dtype in DTYPES for width in WIDTHS]

def occupancy(
    registers:int,  # of a thread
)->float:           # share of a multiprocessor's threads
    "How full the registers let a multiprocessor of an A100, H100 or H200 be, with programs of ours."
    programs = 65_536//(WARPS*32*-(-registers//8)*8)
    return min(1., programs*WARPS*32/2048)

def write_report(folder:Path):
    "Compile everything and keep the rows, with date and commit."
    commit = subprocess.run(['git', 'describe', '--always', '--dirty'], capture_output=True, text=True).stdout.strip()
    rows = compile_report(date=date.today().isoformat(), commit=commit)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder/'triton_resources.csv').open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, rows[0], lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)

if __name__ == '__main__' and sys.argv[0].endswith('triton_resources.py'): write_report(Path(sys.argv[1]))
