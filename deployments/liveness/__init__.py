"""How whoever calls a stage knows that its replica is there, however long an answer takes."""
