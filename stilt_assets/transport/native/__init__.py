"""
How do the particles of many receptors move, all in one process over one decoded meteorology?

A model of our own with the same answers as `hycs_std`. Formulas come from the papers (Lin et al. 2003, Hanna 1982,
Thomson et al. 1997, Beljaars and Holtslag 1991, Draxler and Hess 1997) and from questions put to `hycs_std` itself.
"""
