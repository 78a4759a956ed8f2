"""Models of the past: what their recorders and tables hold, judged as the monitor judges.

`recorders` finds and reads them, `panels` brings scores and labels together, `judging` computes,
`answers` and `page` show. Nothing is recorded, and no database of ours is needed.
"""

# The modules that other rooms may import.
__all__ = ["answers", "judging", "page", "panels", "recorders", "tables"]
