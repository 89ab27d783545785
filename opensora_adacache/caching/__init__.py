"""Caching policies and the state of a cached run. Needs torch alone and knows no model.

One noun per module: `codebook`, `distance` and `motion` are pure functions, `schedule` is the AdaCache rule of one
video, `policy` measures residuals for a batch of them, `residuals` stores, `session` is one run, `trace` tells what
happened. Import from the modules; this package imports nothing itself.
"""
