"""Models of the past, judged from their recorders and tables as the monitor judges.

`recorders` finds and reads the files, `panels` joins scores and labels, `judging` computes,
`answers` and `page` format the results. Nothing is recorded, and no database of ours is needed.
"""

# The modules that other rooms may import.
__all__ = ["answers", "judging", "page", "panels", "recorders", "tables"]
