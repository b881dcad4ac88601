"""The ledger of claims: what people argue about, measured over seeds and at each one's best rate.

``runs`` holds what is trained, a module a claim. ``ledger`` reads and judges what stands in
``reference/claims.toml``, ``interval`` is its arithmetic. ``measuring`` sweeps rates and repeats
seeds, ``records`` stores and draws, ``page`` writes ``reference/claims.md``.
"""
