"""Workers of a store on the machines of an engine that users have: Slurm, a cluster of Ray."""
