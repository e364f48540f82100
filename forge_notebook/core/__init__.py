"""What a session is: the log, the fold, the wire contract. Imports nothing else of ours."""
