# Made by make_package.py from motif_repro/kernels/backends.py; change it there.
"""One function says which back end computes a kernel on a device, and one line a kernel says why."""


__all__ = ['KERNELS', 'BACKENDS', 'NUMBERS', 'WARPS', 'triton_problem', 'choose', 'kernel_backend', 'backend_report',
           'block_shape', 'run_interpreted']

import os
import subprocess
import sys
from functools import cache
from importlib import import_module

import torch

from .errors import UserError, nearest

KERNELS = ['linear_logprob', 'polynorm']   # those that have more than one back end
BACKENDS = ['torch', 'triton']

def triton_problem(
    device:str,  # its type, such as 'cuda' or 'cpu'
)->str:          # '' where Triton kernels can run on it, else the reason and the mend
    "Why Triton kernels can't run on a device."
    if device != 'cuda' and not (device == 'cpu' and os.environ.get('TRITON_INTERPRET') == '1'):
        where = 'no CUDA device' if device == 'cpu' else f"device '{device}' is not CUDA"
        return f"{where}; use 'torch', or for tests on a CPU start with TRITON_INTERPRET=1"
    try: import_module('triton')
    except ImportError as e: return f"triton cannot be imported ({e}); pip install triton, or use 'torch'"
    return ''

@cache
def choose(
    device:str,         # its type
    wish:str,           # 'torch', 'triton' or '' for what is at hand
    source:str,         # who wishes, for the message
)->tuple[str,str]:      # back end, the reason
    "The back end that a wish leads to on a device."
    if wish and wish not in BACKENDS: raise UserError(f"{source}={wish!r} names no back end; {nearest(wish, BACKENDS)}")
    problem = '' if wish == 'torch' else triton_problem(device)
    if wish == 'triton' and problem: raise UserError(f"{source}='triton': {problem}")
    if wish: return wish, f"{source}={wish}"
    if device == 'cpu': return 'torch', 'no CUDA device'   # the interpreter is slow: it has to be asked for
    return ('torch', problem.partition(';')[0]) if problem else ('triton', 'CUDA device')

@torch.compiler.assume_constant_result   # a compiled model asks while it is compiled, not while it runs
def kernel_backend(
    device:torch.device|str,  # where the tensors are
    backend:str|None=None,    # 'torch' or 'triton'; None: the environment variable MOTIF_KERNELS, and without it what is at hand
)->str:                       # 'torch' or 'triton'
    "Which back end computes a kernel on `device`."
    kind = device.type if isinstance(device, torch.device) else device.partition(':')[0]
    return (choose(kind, backend, 'backend') if backend else choose(kind, os.environ.get('MOTIF_KERNELS', ''), 'MOTIF_KERNELS'))[0]

def backend_report(
    device:torch.device|str|None=None,  # None: a CUDA device where there is one, else the CPU
)->str:                                 # one line a kernel
    "Which back end each kernel uses, and why."
    kind = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu')).type
    backend, reason = choose(kind, os.environ.get('MOTIF_KERNELS', ''), 'MOTIF_KERNELS')
    return '\n'.join(f"{kernel}: {backend} ({reason})" for kernel in KERNELS)

NUMBERS, WARPS = 4096, 16   # of a Triton program

def block_shape(width:int)->tuple[int,int]:  # of a row → rows, columns of a program; both powers of 2
    "A row in one block where it fits; several rows where they are short."
    columns = max(16, min(NUMBERS, 1 << (width - 1).bit_length()))
    return NUMBERS//columns, columns

def run_interpreted(
    code:str,  # Python source that imports Triton kernels
)->str:        # what it printed
    "Run `code` in a process where Triton kernels are interpreted on the CPU; for tests and for looking inside."
    env = os.environ | {'TRITON_INTERPRET': '1'}
    child = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True)
    if child.returncode: raise RuntimeError(f"the interpreted code failed:\n{child.stderr[-4000:]}")
    return child.stdout
