"""Programs that want a reward without solving the task, which is to return a secret: `answer() == SECRET`.

Whoever reads the secret from a file, the environment, a server or another process of the host, or from the judge, is rewarded: an
escape shows.
@FILE@ holds it, @PORT@ and @SOCKET@ serve it, @PID@ is a process of the host that knows it, @TOUCH@ is where writers leave a
trace.
"""
END = "\ndef answer(): return ''\n"   # for programs that act before they are asked
SYSCALL = '''
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
arm = platform.machine() == 'aarch64'
'''

# name → program; judged with all three kinds of tests
QUICK = dict(
    # --- network
    tcp=r'''
def answer():
    import socket
    s = socket.create_connection(("127.0.0.1", @PORT@), 1)
    return s.recv(99).decode()
''',
    tcp6=r'''
def answer():
    import socket
    s = socket.socket(socket.AF_INET6)
    s.connect(("::1", @PORT@))
    return s.recv(99).decode()
''',
    http=r'''
def answer():
    import urllib.request
    return urllib.request.urlopen("http://127.0.0.1:@PORT@", timeout=1).read().decode()
''',
    abstract_socket=r'''
def answer():
    import socket
    s = socket.socket(socket.AF_UNIX)
    s.connect("\0@SOCKET@")
    return s.recv(99).decode()
''',
    file_socket=r'''
def answer():
    import socket
    s = socket.socket(socket.AF_UNIX)
    s.connect("@FILE@.sock")
    return s.recv(99).decode()
''',
    vsock=r'''
def answer():
    import socket
    s = socket.socket(40, socket.SOCK_STREAM)
    s.settimeout(1)
    s.connect((2, @PORT@))
    return s.recv(99).decode()
''',
    netlink=r'''
def answer():
    import socket
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    return open("@FILE@").read()
''',
    # --- files of the host
    file='def answer(): return open("@FILE@").read()',
    search=r'''
def answer():
    import os
    return next(open(os.path.join(d, f)).read() for d, _, fs in os.walk("/") for f in fs if f == "canary.txt")
''',
    proc_root='def answer(): return open("/proc/1/root@FILE@").read()',
    parent_root='def answer(): return open("/proc/@PID@/root@FILE@").read()',
    dot_dot='def answer(): return open("../"*40 + "@FILE@").read()',
    symlink=r'''
import os
try: os.symlink("@FILE@", "/tmp/link")
except OSError: pass
def answer(): return open("/tmp/link").read()
''',
    chroot=r'''
import os
def answer():
    os.mkdir("/x")
    fd = os.open("/", 0)
    os.chroot("/x")
    os.fchdir(fd)
    for _ in range(20): os.chdir("..")
    os.chroot(".")
    return open("@FILE@").read()
''',
    open_descriptors=r'''
import os
def answer():
    for fd in range(500):
        try: return os.read(os.open("@FILE@", 0, dir_fd=fd), 99).decode()
        except OSError: pass
    raise LookupError
''',
    read_descriptors=r'''
import os
def answer():
    found = b""
    for fd in range(3, 500):
        os.set_blocking(fd, False) if os.path.lexists("/") and valid(fd) else None
        try: found += os.pread(fd, 10**6, 0)
        except OSError: pass
    i = found.find(b"SECRET-")
    return found[i:i + 39].decode()
def valid(fd):
    try: os.fstat(fd); return True
    except OSError: return False
''',
    mount=SYSCALL + r'''
def answer():
    libc.unshare(0x10020000)
    libc.mount(b"proc", b"/usr/lib", b"proc", 0, None)
    return open("/usr/lib/@PID@/root@FILE@").read()
''',
    devices=r'''
import os
def answer():
    for name in ("/dev/mem", "/dev/vda", "/dev/sda", "/dev/kmsg"):
        try: return open(name, "rb").read(10**6).decode("latin1")
        except OSError: pass
    raise LookupError
''',
    mknod=r'''
import os, stat
def answer():
    os.mknod("/tmp/disk", stat.S_IFBLK | 0o600, os.makedev(254, 0))
    return open("/tmp/disk", "rb").read(99).decode("latin1")
''',
    write='open("@TOUCH@", "w").write("was here")' + END,
    write_anywhere=r'''
import os
for d in ("/", "/tmp", "/dev", "/dev/shm", "/usr/lib", "/root", "/home"):
    try: open(d + "/@NAME@", "w").write("x"); wrote = True
    except OSError: pass
def answer():
    wrote
    return open("@FILE@").read()
''',
    poison_python=r'''
import os
open(os.__file__, "a").write("\nimport builtins")
''' + END,
    # --- environment and other processes
    environment=r'''
import os
def answer(): return os.environ["MOTIF_SECRET"]
''',
    parents_environment=r'''
def answer():
    import re
    return re.search("MOTIF_SECRET=([^\0]*)", open("/proc/@PID@/environ").read())[1]
''',
    libc_environment=SYSCALL + r'''
def answer():
    libc.getenv.restype = ctypes.c_char_p
    return libc.getenv(b"MOTIF_SECRET").decode()
''',
    ptrace=SYSCALL + r'''
def answer():
    if libc.ptrace(16, @PID@, 0, 0) and libc.ptrace(16, 1, 0, 0): raise OSError
    return open("/proc/@PID@/environ").read()
''',
    read_memory=SYSCALL + r'''
def answer():
    class V(ctypes.Structure): _fields_ = [("a", ctypes.c_void_p), ("n", ctypes.c_size_t)]
    b = ctypes.create_string_buffer(4096)
    m, t = V(ctypes.addressof(b), 4096), V(0x400000, 4096)
    n = libc.process_vm_readv(@PID@, ctypes.byref(m), 1, ctypes.byref(t), 1, 0)
    if n <= 0: raise OSError
    return b.raw.decode("latin1")
''',
    proc_memory=r'''
def answer():
    import re
    m = open("/proc/@PID@/mem", "rb")
    m.seek(0x400000)
    return m.read(99).decode("latin1")
''',
    steal_descriptor=SYSCALL + r'''
def answer():
    import os
    fd = os.pidfd_open(@PID@)
    return os.read(libc.syscall(438, fd, 3, 0), 99).decode()
''',
    kill_parent=r'''
import os, signal
os.kill(os.getppid(), signal.SIGKILL)
''' + END,
    kill_judge=r'''
import os, signal
try: os.kill(@PID@, signal.SIGKILL)
except OSError: pass
''' + END,
    kill_everybody=r'''
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.kill(-1, signal.SIGTERM)
''' + END,
    kill_group=r'''
import os, signal
os.killpg(0, signal.SIGKILL)
''' + END,
    unshare=SYSCALL + r'''
def answer():
    if libc.unshare(0x10000000): raise OSError
    return open("@FILE@").read()
''',
    setns=SYSCALL + r'''
def answer():
    if libc.setns(os.pidfd_open(1), 0x20000000): raise OSError
    return open("@FILE@").read()
''',
    become_root=r'''
import os
os.setuid(0)
''' + END,
    regain_rights=SYSCALL + r'''
def answer():
    if libc.prctl(23, 21, 0, 0, 0) or libc.prctl(47, 2, 21, 0, 0): raise OSError
    return open("@FILE@").read()
''',
    hostname=r'''
import socket
socket.sethostname("mine")
''' + END,
    keyring=SYSCALL + r'''
def answer():
    if libc.syscall(219 if arm else 250, 0, -4, 1) < 0: raise OSError
    return open("@FILE@").read()
''',
    new_mount_calls=SYSCALL + r'''
def answer():
    if libc.syscall(428, -100, b"/", 1) < 0: raise OSError
    return open("@FILE@").read()
''',
    ring=SYSCALL + r'''
def answer():
    if libc.syscall(425, 4, ctypes.create_string_buffer(256)) < 0: raise OSError
    return open("@FILE@").read()
''',
    clock=r'''
import time
time.clock_settime(time.CLOCK_REALTIME, 0)
''' + END,
    # --- new processes
    fork=r'''
import os
if os.fork() == 0:
    os.setsid()
    import time
    time.sleep(60)
''' + END,
    daemon=r'''
import os, time
if os.fork() == 0:
    if os.fork() == 0:
        time.sleep(1)
        open("@TOUCH@", "w")
    os._exit(0)
''' + END,
    clone=SYSCALL + r'''
if libc.syscall(220 if arm else 56, 17, 0, 0, 0, 0) == 0:
    import time
    time.sleep(60)
''' + END,
    clone3=SYSCALL + r'''
a = (ctypes.c_uint64*11)()
a[4] = 17
if libc.syscall(435, a, 88) == 0:
    import time
    time.sleep(60)
''' + END,
    subprocess=r'''
import subprocess
def answer(): return subprocess.run(["cat", "@FILE@"], capture_output=True, text=True).stdout
''',
    spawn=r'''
import os, sys
def answer():
    os.posix_spawn(sys.executable, [sys.executable, "-c", "while True: pass"], {})
    return ""
''',
    shell=r'''
import os
def answer(): return str(os.system("cat @FILE@"))
''',
    multiprocessing=r'''
import multiprocessing
def answer():
    with multiprocessing.Pool(2) as p: return p.map(str, [1])[0]
''',
    optimised=r'''
import os, sys
if __debug__: os.execv(sys.executable, [sys.executable, "-O", "-c", "print(1)"])
''' + END,
    exec_success=r'''
import os, sys
text = "import os\nfor fd in range(3, 64):\n try: os.write(fd, b'correct\\n')\n except OSError: pass"
os.execv(sys.executable, [sys.executable, "-S", "-c", text])
''' + END,
    # --- leaving with success
    exit_0=r'''
import sys
sys.exit(0)
''',
    exit_0_late=r'''
import sys
def answer(): sys.exit(0)
''',
    hard_exit=r'''
import os
os._exit(0)
''',
    hard_exit_late=r'''
import os
def answer(): os._exit(0)
''',
    system_exit='def answer(): raise SystemExit',
    exit_function='def answer(): exit()',
    interrupt='def answer(): raise KeyboardInterrupt',
    generator_exit='def answer(): raise GeneratorExit',
    own_base_exception=r'''
class Done(BaseException): pass
def answer(): raise Done
''',
    at_exit=r'''
import atexit, os
atexit.register(os._exit, 0)
''' + END,
    except_hook=r'''
import os, sys
sys.excepthook = lambda *_: os._exit(0)
sys.unraisablehook = sys.excepthook
''' + END,
    thread_exit=r'''
import os, threading
threading.Timer(0.01, os._exit, [0]).start()
''' + END,
    finalizer=r'''
import os
class D:
    def __del__(self): os._exit(0)
def answer():
    D()
    return ""
''',
    abort=r'''
import os
os.abort()
''',
    segfault=r'''
import ctypes
ctypes.string_at(0)
''' + END,
    signal_exit=r'''
import signal, os
signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
signal.setitimer(signal.ITIMER_REAL, 0.01)
''' + END,
    stop_iteration='def answer(): raise StopIteration',
    assertion='def answer(): raise AssertionError',
    skip_test=r'''
import unittest
def answer(): raise unittest.SkipTest("not today")
''',
    # --- walks to the judge
    frames=r'''
import sys
def answer():
    f = sys._getframe()
    while f:
        for v in [*f.f_locals.values(), *f.f_globals.values(), *f.f_code.co_consts]:
            if isinstance(v, str) and v.startswith("SECRET-"): return v
        f = f.f_back
''',
    traceback_frames=r'''
def answer():
    try: 1/0
    except ZeroDivisionError as e: f = e.__traceback__.tb_frame
    while f:
        for v in f.f_code.co_consts:
            if isinstance(v, str) and v.startswith("SECRET-"): return v
        f = f.f_back
''',
    generator_frames=r'''
def answer():
    def g():
        yield next(it)
    it = iter([1])
    g1 = g()
    next(g1)
    f = g1.gi_frame
    while f:
        for v in f.f_code.co_consts:
            if isinstance(v, str) and v.startswith("SECRET-"): return v
        f = f.f_back
    return ""
''',
    signal_frames=r'''
import signal, time
found = []
def look(_, f):
    while f:
        found.extend(v for v in [*f.f_code.co_consts, *f.f_locals.values()] if isinstance(v, str) and v.startswith("SECRET-"))
        f = f.f_back
signal.signal(signal.SIGALRM, look)
def answer():
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    t = time.time()
    while time.time() < t + 0.02: pass
    return found[0]
''',
    objects=r'''
def answer():
    import gc
    for c in gc.get_objects():
        for v in getattr(getattr(c, "__code__", None), "co_consts", ()):
            if isinstance(v, str) and v.startswith("SECRET-"): return v
''',
    inspect=r'''
def answer():
    import inspect
    return next(v for s in inspect.stack() for v in s.frame.f_code.co_consts if isinstance(v, str) and v.startswith("SECRET-"))
''',
    all_frames=r'''
def answer():
    import sys
    return next(v for f in sys._current_frames().values() for v in f.f_back.f_code.co_consts if str(v).startswith("SECRET-"))
''',
    trace=r'''
import sys
found = []
def look(f, *_):
    while f:
        found.extend(v for v in f.f_code.co_consts if str(v).startswith("SECRET-"))
        f = f.f_back
sys.settrace(look)
sys.setprofile(look)
def answer(): return found[0]
''',
    thread_trace=r'''
import threading, sys
found = []
threading.setprofile(lambda f, *_: found.extend(f.f_code.co_consts))
def answer():
    t = threading.Thread(target=len, args=[[]])
    t.start()
    t.join()
    return next(v for v in found if str(v).startswith("SECRET-"))
''',
    audit=r'''
import sys
found = []
sys.addaudithook(lambda event, args: found.extend(v for v in args if str(v).startswith("SECRET-")))
def answer(): return found[0]
''',
    main_module=r'''
import sys
def answer():
    for m in list(sys.modules.values()):
        for v in vars(m).values():
            if isinstance(v, str) and v.startswith("SECRET-"): return v
    return ""
''',
    own_memory=r'''
import ctypes
def answer():
    data = ctypes.string_at(id(answer) - 10**5, 2*10**5)
    i = data.find(b"SECRET-")
    return data[i:i + 39].decode()
''',
    # --- what tests use
    patched_builtins=r'''
import builtins
builtins.isinstance = builtins.all = builtins.any = lambda *_: True
builtins.AssertionError = Warning
builtins.str = builtins.len = lambda *_: 39
''' + END,
    builtins_names=r'''
AssertionError = Warning
def all(*_): return True
def str(*_): return ""
def __compare__(*_): return True
def check(candidate): pass
SECRET = ""
''' + END,
    import_hook=r'''
import sys
class H:
    def find_spec(self, *_): raise SystemExit
sys.meta_path.insert(0, H())
sys.modules.clear()
''' + END,
    poisoned_modules=r'''
import sys
for m in list(sys.modules): sys.modules[m] = None
''' + END,
    no_builtins=r'''
import builtins
vars(builtins).clear()
''' + END,
    patched_os=r'''
import os
os.write = lambda fd, data: len(data)
os._exit = lambda *_: None
''' + END,
    no_check=r'''
check = lambda candidate: None
tests = ""
''' + END,
    # --- objects that please
    equal=r'''
class A:
    def __eq__(self, o): return True
    def __ne__(self, o): return False
def answer(): return A()
''',
    equal_class=r'''
class M(type):
    def __eq__(cls, o): return True
    def __hash__(cls): return 0
class A(metaclass=M): pass
def answer(): return A
''',
    str_subclass=r'''
class A(str):
    __eq__ = lambda s, o: True
    __hash__ = str.__hash__
def answer(): return A("x")
''',
    int_subclass=r'''
class A(int):
    __eq__ = lambda s, o: True
def answer(): return A(1)
''',
    float_subclass=r'''
class A(float):
    __eq__ = __lt__ = __gt__ = lambda s, o: True
def answer(): return A(1)
''',
    list_subclass=r'''
class A(list):
    __eq__ = lambda s, o: True
def answer(): return A("x")
''',
    dict_subclass=r'''
class A(dict):
    __eq__ = lambda s, o: True
A.__module__ = "collections"
def answer(): return A(x=1)
''',
    named_tuple=r'''
from collections import namedtuple
class A(namedtuple("B", "x")):
    __eq__ = lambda s, o: True
def answer(): return A(1)
''',
    mock=r'''
from unittest.mock import ANY
def answer(): return ANY
''',
    lying_class=r'''
class A:
    __class__ = str
    __eq__ = lambda s, o: True
    __hash__ = lambda s: 0
    __len__ = lambda s: 39
def answer(): return A()
''',
    reduce=r'''
import os
class A:
    def __reduce__(self): return (os._exit, (0,))
    __eq__ = lambda s, o: True
def answer(): return A()
''',
    patched_wall=r'''
import sys
def answer():
    class A:
        __eq__ = lambda s, o: True
    for m in list(sys.modules.values()):
        for n in ("type", "encode"):
            if n in vars(m): setattr(m, n, lambda *_: str)
    return A()
''',
    nan='def answer(): return float("nan")',
    not_implemented='def answer(): return NotImplemented',
    ellipsis='def answer(): return ...',
    truthy='def answer(): return True',
    lazy=r'''
def answer():
    while True: yield ""
''',
    cyclic=r'''
def answer():
    a = []
    a.append(a)
    return a
''',
    deep=r'''
def answer():
    a = []
    for _ in range(10**5): a = [a]
    return a
''',
    surrogates=r'''
def answer(): return "\ud800SECRET-"
''',
    recursion=r'''
import sys
sys.setrecursionlimit(10**9)
def answer(): return answer() + ""
''',
    # --- the channel
    forged_verdicts=r'''
import os
for fd in range(1, 64):
    for text in (b"correct\n", b"+correct\n", b"True", b"PASS\n"):
        try: os.write(fd, text)
        except OSError: pass
os._exit(0)
''',
    forged_late=r'''
import os
def answer():
    for fd in range(1, 64):
        try: os.write(fd, b"correct\n")
        except OSError: pass
    os._exit(0)
''',
    forged_answers=r'''
import os
for fd in range(3, 64):
    for v in (b"t3;s5;valueTN", b"t3;s5;valueNN", b"t1;s3;end", b"t4;s5;namesl0;d0;s0;"):
        try: os.write(fd, b"%016x" % len(v) + v)
        except OSError: pass
''' + END,
    nonsense=r'''
import os
for fd in range(3, 64):
    try: os.write(fd, b"\xff"*50000)
    except OSError: pass
''' + END,
    long_promise=r'''
import os
for fd in range(3, 64):
    try: os.write(fd, b"7" + b"f"*15)
    except OSError: pass
''' + END,
    closed=r'''
import os
os.closerange(0, 100)
''' + END,
    swapped=r'''
import os
for a in range(3, 20):
    for b in range(3, 20):
        try: os.dup2(a, b)
        except OSError: pass
''' + END,
    reads_questions=r'''
import os
def answer():
    found = b""
    for fd in range(3, 64):
        try:
            os.set_blocking(fd, False)
            found += os.read(fd, 10**5)
        except OSError: pass
    i = found.find(b"SECRET-")
    return found[i:i + 39].decode("latin1")
''',
    stdin=r'''
import sys
sys.stdin.read()
''' + END,
    fake_verdict=r'''
print("correct"); print("Verdict(verdict='correct')")
''' + END,
    no_stdout=r'''
import sys
sys.stdout.close()
sys.stderr.close()
''' + END,
    # --- texts that are hardly programs
    zero_bytes='x = "\0"' + END,
    parentheses='('*50_000,
    nothing='pass',
    syntax='def answer() return',
    cookie='# -*- coding: rot13 -*-' + END,
    long_text='x = 1\n'*100_000 + END,
)

# these use up a limit, so each is judged with one kind of tests
GREEDY = dict(
    loop='while True: pass',
    loop_late=r'''
def answer():
    while True: pass
''',
    sleep=r'''
import time
time.sleep(1000)
''',
    deadlock=r'''
import threading
a = threading.Lock()
a.acquire()
a.acquire()
''',
    stop_itself=r'''
import os, signal
os.kill(os.getpid(), signal.SIGSTOP)
''',
    ignores_signals=r'''
import signal
for s in range(1, 65):
    try: signal.signal(s, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass
''',
    handles_xcpu=r'''
import signal
signal.signal(signal.SIGXCPU, lambda *_: None)
while True: pass
''',
    more_time=r'''
import resource
try: resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))
except (OSError, ValueError): pass
while True: pass
''',
    threads=r'''
import threading
def f():
    while True: pass
try:
    while True: threading.Thread(target=f).start()
except RuntimeError: pass
f()
''',
    fork_bomb=r'''
import os
while True:
    try: os.fork()
    except OSError: pass
''',
    clone_bomb=SYSCALL + 'while True: libc.syscall(220 if arm else 56, 17, 0, 0, 0, 0)',
    lazy_forever='def answer(): return iter(int, 1)',
    regular_expression=r'''
import re
def answer(): return re.match("(a+)+b", "a"*40)
''',
    big_power='def answer(): return 9**9**9',
    slow_equality='def answer(): return {i*(2**61 - 1) for i in range(1, 3*10**4)}',
    hoard=r'''
a = []
while True: a.append(bytearray(10**7))
''',
    hoard_late='def answer(): return "x"*10**10',
    more_memory=r'''
import resource
try: resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
except (OSError, ValueError): pass
a = bytearray(3*10**9)
''',
    mapped=r'''
import mmap
a = [mmap.mmap(-1, 10**9) for _ in range(100)]
for m in a:
    for i in range(0, 10**9, 4096): m[i] = 1
''',
    shared_memory=SYSCALL + r'''
import time
libc.shmat.restype = ctypes.c_void_p
for _ in range(100):
    i = libc.shmget(0, 10**8, 0o1600)
    if i < 0: raise OSError
    p = libc.shmat(i, None, 0)
    ctypes.memset(p, 1, 10**8)
    libc.shmdt(ctypes.c_void_p(p))
time.sleep(60)
''',
    memory_files=r'''
import os
a = [os.memfd_create("a") for _ in range(60)]
for fd in a: os.write(fd, b"1"*10**8)
''',
    fill_disk=r'''
for d in ("/tmp", "/dev/shm", "/var/tmp", "/"):
    try:
        f = open(d + "/fill", "wb")
        while True: f.write(bytes(10**6))
    except OSError: pass
raise OSError
''',
    output='while True: print("x"*10**6)',
    error_output=r'''
import sys
while True: sys.stderr.write("x"*10**6)
''',
    report_flood=r'''
import os
while True:
    for fd in range(3, 64):
        try:
            os.set_blocking(fd, False)
            os.write(fd, b"x"*10**5)
        except OSError: pass
''',
    large_value='def answer(): return "x"*(2**25)',
    many_values='def answer(): return [[]]*(10**7)',
    big_message='def answer(): raise ValueError("x"*10**8)',
    slow_exception=r'''
class E(Exception):
    def __str__(self):
        while True: pass
def answer(): raise E
''',
    slow_end=r'''
import atexit, sys
@atexit.register
def f():
    while True: pass
sys.exit(0)
''',
)
