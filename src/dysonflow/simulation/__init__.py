"""Training of ensembles: blocks of replicas in torch or compiled, random numbers, resuming."""
