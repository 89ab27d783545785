"""Caching policies and the state of a cached run. Depends on torch only and knows nothing about models.

`contract` holds the base classes that policies derive from and `registry` their names. `codebook`, `distance` and
`moreg` are pure functions, `adacache` is the policy of the paper, and `policies` and `forecast` hold the others.
`residuals` stores what is reused, `session` drives one run and `trace` records what happened. Import from the modules;
this package imports nothing on its own.
"""
