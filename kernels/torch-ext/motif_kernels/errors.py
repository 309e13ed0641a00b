# Made by make_package.py from motif_repro/core/errors.py; change it there.
"""One kind of error for what a user can get wrong, and a word for what was probably meant."""


__all__ = ['UserError', 'nearest']

import difflib
from collections.abc import Iterable

class UserError(ValueError):
    "What a user can mend: the message names file, row or key, what is wrong with it, and what to do."

def nearest(
    word:str,               # what the user wrote
    options:Iterable[str],  # what would have been valid
)->str:                     # "did you mean 'steps'?", or all options where none is near
    "A hint at the valid name closest to `word`."
    options = sorted(map(str, options))
    near = difflib.get_close_matches(str(word), options, n=1, cutoff=0.5)
    if near: return f"did you mean '{near[0]}'?"
    return f"valid: {', '.join(options)}" if options else "there is none"
