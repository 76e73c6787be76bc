"""Ensembles of replicas advanced by compiled code, one replica per SIMD lane.

The compiled part is optional: `library.available` tells whether this installation has it and
`library.why_unavailable` why not. It runs on the fastest instruction set of the machine; AVX2 and
AVX-512 give the same results bit for bit, the x86-64 baseline, which has no fused multiply-add,
gives them with other rounding.

Replicas come in blocks of `library.REPLICAS_PER_BLOCK`. Block ``b`` of a run draws from the seed
sequence ``SeedSequence(seed, spawn_key=(b, 0))`` and its start from ``spawn_key=(b, 1)``, and no
number depends on which other blocks are simulated beside it, on threads, or on how the steps are
divided over calls of ``advance``.
"""
